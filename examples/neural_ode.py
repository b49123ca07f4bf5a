r"""A neural ODE: a damped oscillator is learnt from noisy observations, without a model of it.

$$\dot y = \text{network}(y), \qquad\text{where the truth is}\qquad \ddot x = -0.3\,\dot x - 4 x$$

and $y = (x, \dot x)$ is observed with noise.

The vector field is an Equinox module, and a module is a pytree of its weights. `ODETerm(field)` makes them inputs of
the solve, so `eqx.filter_value_and_grad` differentiates the loss with respect to them, as for any other function.
`jax.vmap` over the initial states solves for a batch; every trajectory has its own steps.

The gradient is exactly that of the discrete steps of the solver, for any tolerance; a tolerance that is small compared
with the noise is enough. Long trajectories make training hard: over several oscillations the loss is flat where the
phase is wrong. The first third of the training therefore uses only the first third of each trajectory.
"""

import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

DAMPING, STIFFNESS, NOISE = 0.3, 4.0, 0.03
TS = np.linspace(0.0, 6.0, 31)
LONGER_TS = np.linspace(0.0, 12.0, 301)
UNSEEN = np.array(
    [0.8, 0.0]
)  # the initial state of a trajectory that is not in the training data

type VectorField = Callable[[jax.Array, jax.Array, None], jax.Array]


class Field(eqx.Module):
    """The vector field to learn, a function of two numbers with two values."""

    network: eqx.nn.MLP

    def __init__(self, key: jax.Array):
        self.network = eqx.nn.MLP(
            2, 2, width_size=32, depth=2, activation=jnp.tanh, key=key
        )

    def __call__(self, t: jax.Array, y: jax.Array, args: None) -> jax.Array:
        return self.network(y)


class Training(NamedTuple):
    """The learnt field, the loss before and after, the error on the unseen trajectory,
    and the training time."""

    field: Field
    before: float
    after: float
    unseen_error: float
    seconds: float


def oscillator(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    position, velocity = y
    return jnp.stack([velocity, -DAMPING * velocity - STIFFNESS * position])


def trajectory(
    field: VectorField, y0: jax.Array, ts: np.ndarray, tolerance: float
) -> jax.Array:
    """Position and velocity at each of `ts`, shape (times, 2)."""
    solution = diffeqsolve(
        ODETerm(field),
        Tsit5(),
        t0=ts[0],
        t1=ts[-1],
        dt0=0.05,
        y0=y0,
        saveat=SaveAt(ts=ts),
        stepsize_controller=PIDController(rtol=tolerance, atol=tolerance),
    )
    return solution.ys


def observe(key: jax.Array, trajectories: int) -> jax.Array:
    """True trajectories from random states, with noise: shape (trajectories, times,
    2)."""
    start_key, noise_key = jax.random.split(key)
    y0 = jax.random.uniform(
        start_key, (trajectories, 2), minval=-1.0, maxval=1.0
    ) * jnp.array([[1.0, 2.0]])
    ys = jax.vmap(lambda y0: trajectory(oscillator, y0, TS, 1e-8))(y0)
    return ys + NOISE * jax.random.normal(noise_key, ys.shape)


def loss(field: VectorField, data: jax.Array) -> jax.Array:
    """The mean square of model - data. The model starts from the first observation,
    noise included."""
    ts = TS[: data.shape[1]]
    model = jax.vmap(lambda y0: trajectory(field, y0, ts, 1e-4))(data[:, 0])
    return jnp.mean((model - data) ** 2)


def train(field: Field, data: jax.Array, steps: int) -> tuple[Field, list[float]]:
    """Train with Adam and cosine decay of the learning rate; return the field and the
    loss before each step."""
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

    @eqx.filter_jit
    def step(
        field: Field, state: optax.OptState, data: jax.Array
    ) -> tuple[Field, optax.OptState, jax.Array]:
        value, gradient = eqx.filter_value_and_grad(loss)(field, data)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(field, updates), state, value

    state = optimiser.init(eqx.filter(field, eqx.is_array))
    losses: list[float] = []
    for i in range(steps):
        seen = data if i >= steps // 3 else data[:, : len(TS) // 3]
        field, state, value = step(field, state, seen)
        losses.append(float(value))
    return field, losses


def main(steps: int = 200, trajectories: int = 16, seed: int = 0) -> Training:
    """Make the data, train, and solve for an unseen trajectory, for twice the length of
    those in the data."""
    data_key, field_key = jax.random.split(jax.random.key(seed))
    data, initial = observe(data_key, trajectories), Field(field_key)
    began = time.perf_counter()
    field, losses = train(initial, data, steps)
    seconds = time.perf_counter() - began
    before, after = float(loss(initial, data)), float(loss(field, data))
    unseen, expected = (
        trajectory(f, UNSEEN, LONGER_TS, 1e-6) for f in (field, oscillator)
    )
    error = float(jnp.sqrt(jnp.mean((unseen - expected) ** 2)))
    print(
        f"loss {before:.3g} before and {after:.3g} after {steps} "
        f"steps, {before / after:.0f} times less"
    )
    print(
        "an unseen trajectory, twice as long, is followed to "
        f"{error:.3f}; the noise of the data is {NOISE}"
    )
    print(f"trained in {seconds:.1f} s, compilation included")
    draw(np.asarray(data[0]), field, losses, float(loss(oscillator, data)))
    return Training(field, before, after, error, seconds)


def draw(data: np.ndarray, field: Field, losses: list[float], best: float) -> None:
    """Draw one of the training trajectories, the unseen one, and the loss."""
    figure, (seen, unseen, training) = plt.subplots(
        1, 3, figsize=(13, 4), layout="constrained"
    )
    for axis, y0, ts in ((seen, data[0], TS), (unseen, UNSEEN, LONGER_TS)):
        fine_ts = np.linspace(ts[0], ts[-1], 301)
        axis.plot(
            fine_ts,
            trajectory(oscillator, y0, fine_ts, 1e-6),
            color="lightgray",
            linewidth=6,
        )
        axis.plot(
            fine_ts,
            trajectory(field, y0, fine_ts, 1e-6),
            label=["position, fit", "velocity, fit"],
        )
        axis.set_prop_cycle(None)
        axis.set(xlabel="time")
    seen.plot(TS, data, "o", markersize=3, label=["position, data", "velocity, data"])
    seen.legend()
    seen.set_title("Learnt from this and others")
    unseen.set_title("Not seen; the truth is gray")
    training.semilogy(losses, color="black")
    training.axhline(best, color="gray", linestyle="--", label="the true field's")
    training.set(xlabel="step", title="Mean square of model - data")
    training.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "neural_ode.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
