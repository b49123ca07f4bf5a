r"""A neural controlled equation: spirals are classified by their direction from incomplete observations.

$$\mathrm{d}z = \text{network}(z)\,\mathrm{d}x$$

The first observation gives z(0), and z(T) the odds that the spiral turns anticlockwise. The state z is driven by the
data x as an ordinary equation is driven by time. Here x consists of time and a point in the plane, observed at
irregular times, with half of the coordinates missing; each series has its own times and gaps.
`backward_hermite_coefficients` treats NaN as missing and interpolates each entry between its observations, with slopes
that depend on the past alone. `CubicInterpolation` makes a path of the coefficients, and `ControlTerm(field, path)` the
equation.

The direction of a spiral is the sign of the area that it sweeps. Such an equation can compute an area, the integral of
u dv - v du along the path. The model does not depend on the number and the times of the observations: it is tested on
series with more gaps than any in the training data.
"""

import pathlib
import time
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from matplotlib import pyplot as plt

from rungax import (
    ControlTerm,
    CubicInterpolation,
    PIDController,
    SaveAt,
    Tsit5,
    backward_hermite_coefficients,
    diffeqsolve,
)

FIGURES = pathlib.Path(__file__).parent / "figures"

DURATION, TIMES, NOISE = 4.0, 24, 0.1
MISSING, MORE_MISSING = 0.5, 0.75
CHANNELS = 3  # time, u and v


class Data(NamedTuple):
    """Series: times (n, times), points (n, times, 2) with NaN where missing, and 1 for
    anticlockwise, else 0."""

    ts: jax.Array
    points: jax.Array
    is_anticlockwise: jax.Array


class Model(eqx.Module):
    """Three networks: for the initial state, for the vector field, and for the log-odds
    from the final state."""

    start: eqx.nn.MLP
    field: eqx.nn.MLP
    readout: eqx.nn.Linear

    def __init__(self, size: int, key: jax.Array):
        start_key, field_key, readout_key = jax.random.split(key, 3)
        self.start = eqx.nn.MLP(CHANNELS, size, 16, depth=1, key=start_key)
        # The final tanh bounds the vector field, which keeps the steps long.
        self.field = eqx.nn.MLP(
            size,
            size * CHANNELS,
            16,
            depth=1,
            activation=jax.nn.softplus,
            final_activation=jnp.tanh,
            key=field_key,
        )
        self.readout = eqx.nn.Linear(size, "scalar", key=readout_key)

    def __call__(self, ts: jax.Array, points: jax.Array, at: jax.Array) -> jax.Array:
        """The log-odds, at each of the times `at`, that one series is an anticlockwise
        spiral."""
        path = interpolate(ts, points)

        def moved_by(t: jax.Array, z: jax.Array, args: None) -> jax.Array:
            return self.field(z).reshape(-1, CHANNELS)

        solution = diffeqsolve(
            ControlTerm(moved_by, path).to_ode(),
            Tsit5(),
            t0=ts[0],
            t1=ts[-1],
            dt0=0.3,
            y0=self.start(path.evaluate(ts[0])),
            saveat=SaveAt(ts=at),
            stepsize_controller=PIDController(rtol=1e-2, atol=1e-3),
        )
        return jax.vmap(self.readout)(solution.ys)


class Training(NamedTuple):
    """The model, its loss before and after, its accuracy, also with more gaps, and the
    time of the training."""

    model: Model
    before: float
    after: float
    accuracy: float
    sparse_accuracy: float
    seconds: float


def interpolate(ts: jax.Array, points: jax.Array) -> CubicInterpolation:
    """The path of one series: time, which is never missing, and the point."""
    values = jnp.concatenate([ts[:, None], points], axis=1)
    # A coordinate that is missing at first is replaced by zero, the centre of the
    # plane.
    return CubicInterpolation(
        ts,
        backward_hermite_coefficients(
            ts, values, replace_nans_at_start=0.0, fill_forward_nans_at_end=True
        ),
    )


@partial(jax.jit, static_argnames=("series", "missing"))
def observe(key: jax.Array, series: int, missing: float) -> Data:
    """Spirals from random points that turn either way, at random times, with noise and
    with gaps."""
    keys = jax.random.split(key, 5)
    gaps = jax.random.uniform(keys[0], (series, TIMES - 1), minval=0.5, maxval=1.5)
    ts = jnp.cumsum(jnp.pad(gaps, ((0, 0), (1, 0))), axis=1)
    ts = DURATION * (ts / ts[:, -1:])
    is_anticlockwise = jnp.arange(series) % 2
    angle = 2 * jnp.pi * jax.random.uniform(keys[1], (series, 1)) + 1.5 * ts * (
        2 * is_anticlockwise[:, None] - 1
    )
    points = jnp.exp(-0.3 * ts)[:, :, None] * jnp.stack(
        [jnp.cos(angle), jnp.sin(angle)], axis=2
    )
    points = points + NOISE * jax.random.normal(keys[2], points.shape)
    is_missing = jax.random.bernoulli(keys[3], missing, points.shape)
    return Data(ts, jnp.where(is_missing, jnp.nan, points), is_anticlockwise)


@eqx.filter_jit
def log_odds(model: Model, data: Data) -> jax.Array:
    """The log-odds of the model for each complete series."""
    return jax.vmap(lambda ts, points: model(ts, points, ts[-1:])[0])(
        data.ts, data.points
    )


def loss(model: Model, data: Data) -> jax.Array:
    """The mean negative log-likelihood."""
    return jnp.mean(
        optax.sigmoid_binary_cross_entropy(log_odds(model, data), data.is_anticlockwise)
    )


def accuracy(model: Model, data: Data) -> float:
    return float(jnp.mean((log_odds(model, data) > 0) == (data.is_anticlockwise == 1)))


def train(
    model: Model, data: Data, steps: int, batch: int
) -> tuple[Model, list[float]]:
    """Train with Adam, batch by batch; return the model and the loss before each
    step."""
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

    @eqx.filter_jit
    def step(
        model: Model, state: optax.OptState, data: Data
    ) -> tuple[Model, optax.OptState, jax.Array]:
        value, gradient = eqx.filter_value_and_grad(loss)(model, data)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(model, updates), state, value

    state = optimiser.init(eqx.filter(model, eqx.is_array))
    losses: list[float] = []
    for i in range(steps):
        first = i * batch % len(data.ts)
        model, state, value = step(
            model, state, Data(*(x[first : first + batch] for x in data))
        )
        losses.append(float(value))
    return model, losses


def main(
    steps: int = 200, batches: int = 8, batch: int = 32, size: int = 6, seed: int = 0
) -> Training:
    """Make the series, train, and test the model on new series."""
    data_key, unseen_key, sparse_key, model_key = jax.random.split(
        jax.random.key(seed), 4
    )
    data = observe(data_key, batches * batch, MISSING)
    unseen, sparse = (
        observe(unseen_key, 256, MISSING),
        observe(sparse_key, 256, MORE_MISSING),
    )
    initial = Model(size, model_key)
    began = time.perf_counter()
    model, losses = train(initial, data, steps, batch)
    seconds = time.perf_counter() - began
    before, after = float(loss(initial, unseen)), float(loss(model, unseen))
    right, right_of_sparse = accuracy(model, unseen), accuracy(model, sparse)
    print(
        f"loss on unseen series {before:.3f} before and {after:.3f} "
        f"after {steps} steps of {batch} series each"
    )
    print(
        f"{right:.1%} of them are classified correctly, with {MISSING:.0%} "
        "of all coordinates missing as in training"
    )
    print(f"{right_of_sparse:.1%} with {MORE_MISSING:.0%} missing")
    print(f"trained in {seconds:.1f} s, compilation included")
    draw(model, unseen, losses)
    return Training(model, before, after, right, right_of_sparse, seconds)


def draw(model: Model, data: Data, losses: list[float]) -> None:
    """Draw two series with their paths, the log-odds of twelve series over time, and
    the loss."""
    figure, (plane, belief, training) = plt.subplots(
        1, 3, figsize=(13, 4), layout="constrained"
    )
    colors = ("tab:blue", "tab:orange")
    fine_ts = jnp.linspace(0.0, DURATION, 201)
    for i in range(2):
        u, v = jax.vmap(interpolate(data.ts[i], data.points[i]).evaluate)(fine_ts)[
            :, 1:
        ].T
        label = ("clockwise", "anticlockwise")[i]
        plane.plot(u, v, color=colors[i], label=f"{label}: the path")
        plane.plot(
            *data.points[i].T,
            "o",
            color=colors[i],
            label="where both coordinates are seen",
        )
    plane.set(
        title="Data with gaps, and the paths through them",
        aspect="equal",
        xlabel="u",
        ylabel="v",
    )
    plane.legend(
        fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2
    )
    follow = jax.jit(
        jax.vmap(lambda ts, points: model(ts, points, jnp.linspace(ts[0], ts[-1], 201)))
    )
    for i, odds in enumerate(follow(data.ts[:12], data.points[:12])):
        belief.plot(fine_ts, jax.nn.sigmoid(odds), color=colors[i % 2])
    belief.set(
        xlabel="time",
        title="Probability of anticlockwise, as data come in",
        ylim=(-0.02, 1.02),
    )
    training.semilogy(losses, color="black")
    training.set(xlabel="step", title="Loss on the batch")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "neural_cde.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
