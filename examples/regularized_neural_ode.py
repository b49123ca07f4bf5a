r"""A neural ODE that is cheap to solve: the solver's own error estimate as part of the training loss.

$$\text{loss} = \text{mean}\,(\text{model} - \text{data})^2
+ \text{weight} \cdot \sum |h|\,\lVert \text{err} \rVert$$

A spiral is observed, with noise, at its start and two time units later. Many vector fields fit these data equally
well, and a loss that measures only the fit does not distinguish between them: the learnt field may be one for which the
solver must take small steps. At each step h the solver estimates the local error err in order to choose the next step.
The sum of |h| ‖err‖ over the steps is differentiable, so it can be part of the loss, and training then prefers fields
for which it is small. It needs no further evaluation of the field.

`SaveAt(..., internals=True)` returns that sum as `solution.internals.error_estimate`; its neighbour,
`stiffness_estimate`, penalises stiffness in the same way. See A. Pal, Y. Ma, V. Shah and C. Rackauckas, "Opening the
blackbox: accelerating neural differential equations by regularizing internal solver heuristics", ICML 2021.

Only accepted steps enter the sum, and the step times are constants under differentiation: their dependence on the
weights of the network is ignored. The weight of the regulariser must be found by trial: of 10, 100 and 1000, the
smallest has little effect, and with the largest the fit suffers. The saving here is modest, about a tenth of the
evaluations, because with a method of order five the number of steps depends only weakly on the error.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

from rungax import ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

TS = np.array([0.0, 2.0])
FINE_TS = np.linspace(0.0, 2.0, 101)
NOISE = 0.02
TOLERANCE = 1e-5
# Evaluations of the field in a step of Tsit5: the last stage is the first of the next
# step.
STAGES = 6
WEIGHT = 100.0
SPIRAL = np.array([[-0.15, 2.0], [-2.0, -0.15]])


type VectorField = Callable[[jax.Array, jax.Array, None], jax.Array]


class Field(eqx.Module):
    """The field to learn, a function of the state and of time."""

    network: eqx.nn.MLP

    def __init__(self, key: jax.Array):
        self.network = eqx.nn.MLP(
            3, 2, width_size=32, depth=2, activation=jnp.tanh, key=key
        )

    def __call__(self, t: jax.Array, y: jax.Array, args: None) -> jax.Array:
        return self.network(jnp.append(y, t))


class Trained(NamedTuple):
    """A trained field, the mean square of model - data, and the mean number of steps of
    a trajectory."""

    field: Field
    loss: float
    steps: float


class Comparison(NamedTuple):
    """The results of training without and with the regulariser."""

    plain: Trained
    regularized: Trained


def spiral(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
    return SPIRAL @ y


def solve(
    field: VectorField, y0: jax.Array, ts: np.ndarray = TS, tolerance: float = TOLERANCE
) -> Solution:
    return diffeqsolve(
        ODETerm(field),
        Tsit5(),
        t0=ts[0],
        t1=ts[-1],
        dt0=0.05,
        y0=y0,
        saveat=SaveAt(ts=ts, internals=True),
        stepsize_controller=PIDController(rtol=tolerance, atol=tolerance),
        max_steps=256,
    )


def loss(field: Field, data: jax.Array, weight: float) -> tuple[jax.Array, jax.Array]:
    """The loss, and the mean square of model - data in it."""
    solutions = jax.vmap(lambda y0: solve(field, y0))(data[:, 0])
    mismatch = jnp.mean((solutions.ys - data) ** 2)
    return mismatch + weight * jnp.mean(solutions.internals.error_estimate), mismatch


def count(field: Field, starts: jax.Array) -> float:
    """The mean number of attempted steps of a trajectory."""
    solutions = eqx.filter_jit(jax.vmap(lambda y0: solve(field, y0)))(starts)
    return float(jnp.mean(solutions.stats["num_steps"]))


def train(field: Field, data: jax.Array, steps: int, weight: float) -> Trained:
    """Train with Adam and cosine decay of the learning rate."""
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

    @eqx.filter_jit
    def step(field: Field, state: optax.OptState) -> tuple[Field, optax.OptState]:
        gradient, _ = eqx.filter_grad(loss, has_aux=True)(field, data, weight)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(field, updates), state

    state = optimiser.init(eqx.filter(field, eqx.is_array))
    for _ in range(steps):
        field, state = step(field, state)
    return Trained(field, float(loss(field, data, weight)[1]), count(field, data[:, 0]))


def observe(key: jax.Array, trajectories: int) -> jax.Array:
    """True trajectories with noise, shape (trajectories, times, 2)."""
    start_key, noise_key = jax.random.split(key)
    angles = jax.random.uniform(start_key, (trajectories,), maxval=2 * np.pi)
    starts = 1.5 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    ys = jax.vmap(lambda y0: solve(spiral, y0, tolerance=1e-8).ys)(starts)
    return ys + NOISE * jax.random.normal(noise_key, ys.shape)


def main(steps: int = 200, trajectories: int = 16, seed: int = 0) -> Comparison:
    """Make the data, and train the same network twice."""
    data_key, field_key = jax.random.split(jax.random.key(seed))
    data, initial = observe(data_key, trajectories), Field(field_key)
    comparison = Comparison(
        *(train(initial, data, steps, weight) for weight in (0.0, WEIGHT))
    )
    for name, trained in zip(("without", "with"), comparison, strict=True):
        evaluations = STAGES * trained.steps
        print(
            f"{name:>7} the regulariser: loss {trained.loss:.2e}, "
            f"{trained.steps:.2f} steps, ",
            end="",
        )
        print(f"{evaluations:.1f} evaluations of the field for each trajectory")
    truth = jax.vmap(lambda y0: solve(spiral, y0).ys)(data[:, 0])
    print(f"the true field's loss, noise alone: {jnp.mean((truth - data) ** 2):.2e}")
    draw(np.asarray(data), comparison)
    return comparison


def draw(data: np.ndarray, comparison: Comparison) -> None:
    """Draw some trajectories of each field in the plane."""
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 5), sharex=True, sharey=True, layout="constrained"
    )
    for axis, name, trained in zip(axes, ("Without", "With"), comparison, strict=True):
        for start, end in data[:5]:
            axis.plot(
                *solve(spiral, start, FINE_TS).ys.T, color="lightgray", linewidth=6
            )
            axis.plot(*solve(trained.field, start, FINE_TS).ys.T, color="tab:blue")
            axis.plot(*start, "o", color="white", markeredgecolor="black")
            axis.plot(*end, "o", color="black")
        axis.set(
            title=f"{name} the regulariser: {trained.steps:.2f} steps",
            xlabel="x",
            ylabel="y",
            aspect="equal",
        )
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "regularized_neural_ode.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
