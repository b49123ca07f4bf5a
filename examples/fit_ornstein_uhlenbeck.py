r"""A fit with noise: an Ornstein-Uhlenbeck process is fitted to data by the gradient of simulated paths.

$$\mathrm{d}X = \text{rate}\,(\text{level} - X)\,\mathrm{d}t + \text{volatility}\,\mathrm{d}W$$

The data are series observed at ten times. The model simulates an ensemble from the same initial values, and its three
parameters are changed until means, variances and covariances of neighbouring times agree. The random paths are
functions of their keys. With fixed keys an ensemble is therefore a differentiable function of the parameters, and
`jax.grad` differentiates the solve. The fit does not use the known law of the process. The fitted parameters are
compared with those from which the data were drawn.
"""

import pathlib
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

from rungax import (
    ControlTerm,
    MultiTerm,
    ODETerm,
    SaveAt,
    ShARK,
    SpaceTimeLevyArea,
    VirtualBrownianTree,
    diffeqsolve,
)

jax.config.update("jax_enable_x64", True)

FIGURES = pathlib.Path(__file__).parent / "figures"

TRUE = {"rate": 1.2, "level": 0.5, "volatility": 0.4}
TIMES = np.linspace(0.3, 3.0, 10)
START, STEP = 1.5, 0.1
SERIES, PATHS, ITERATIONS = 2000, 400, 200


type Logs = dict[str, jax.Array]
"""The logarithms of the parameters."""


class Statistics(NamedTuple):
    """The statistics that are compared, of shape `(times,)`; there is one covariance
    less."""

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array


def data(rng: np.random.Generator) -> np.ndarray:
    """Series drawn from the exact law, from one time to the next."""
    rate, level, volatility = TRUE.values()
    x, columns = np.full(SERIES, START), list[np.ndarray]()
    for dt in np.diff(TIMES, prepend=0.0):
        shrink = np.exp(-rate * dt)
        spread = volatility * np.sqrt((1 - shrink**2) / (2 * rate))
        x = level + (x - level) * shrink + spread * rng.standard_normal(SERIES)
        columns.append(x)
    return np.stack(columns, axis=1)


def simulated(parameters: dict[str, jax.Array], keys: jax.Array) -> jax.Array:
    """An ensemble of the model, at the times of the data."""

    def one(key: jax.Array) -> jax.Array:
        noise = VirtualBrownianTree(
            0.0, TIMES[-1], tol=STEP / 2, shape=(), key=key, levy_area=SpaceTimeLevyArea
        )
        drift = ODETerm(lambda t, x, p: p["rate"] * (p["level"] - x))
        diffusion = ControlTerm(lambda t, x, p: p["volatility"], noise)
        saveat = SaveAt(ts=TIMES)
        terms = MultiTerm(drift, diffusion)
        return diffeqsolve(
            terms,
            ShARK(),
            0.0,
            TIMES[-1],
            STEP,
            jnp.array(START),
            parameters,
            saveat=saveat,
        ).ys

    return jax.vmap(one)(keys)


def statistics(xs: jax.Array) -> Statistics:
    centred = xs - xs.mean(axis=0, keepdims=True)
    return Statistics(
        xs.mean(axis=0),
        (centred**2).mean(axis=0),
        (centred[:, 1:] * centred[:, :-1]).mean(axis=0),
    )


def positive(logs: Logs) -> dict[str, jax.Array]:
    """The parameters, which are positive, from their logarithms."""
    return jax.tree.map(jnp.exp, logs)


def main(iterations: int = ITERATIONS) -> dict[str, float]:
    """Fit the parameters, compare and draw the statistics, and return the
    parameters."""
    observed = data(np.random.default_rng(0))
    target = statistics(jnp.asarray(observed))

    def loss(logs: Logs, key: jax.Array) -> jax.Array:
        found = statistics(simulated(positive(logs), jax.random.split(key, PATHS)))
        parts = jax.tree.map(lambda a, b: jnp.mean((a - b) ** 2), found, target)
        return parts.mean + 10 * (parts.variance + parts.covariance)

    optimiser = optax.adam(0.05)
    logs = {
        name: jnp.log(jnp.array(guess))
        for name, guess in (("rate", 0.5), ("level", 1.0), ("volatility", 1.0))
    }
    state = optimiser.init(logs)

    @jax.jit
    def improve(
        logs: dict[str, jax.Array], state: optax.OptState, key: jax.Array
    ) -> tuple[dict, optax.OptState, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(logs, key)
        updates, state = optimiser.update(gradient, state)
        return cast(Logs, optax.apply_updates(logs, updates)), state, value

    history: list[float] = []
    visited: list[Logs] = []
    for key in jax.random.split(jax.random.key(1), iterations):
        logs, state, value = improve(logs, state, key)
        history.append(float(value))
        visited.append(logs)
    # The mean over the last steps reduces the noise.
    last = visited[-iterations // 4 :]
    fitted = {
        name: float(np.exp(np.mean([float(x[name]) for x in last]))) for name in TRUE
    }
    for name, value in fitted.items():
        print(f"{name}: {value:.3f} (data drawn with {TRUE[name]})")
    draw(observed, fitted, history)
    return fitted


def draw(observed: np.ndarray, fitted: dict[str, float], history: list[float]) -> None:
    figure, (fit, losses) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    model = np.asarray(
        simulated(
            jax.tree.map(jnp.array, fitted), jax.random.split(jax.random.key(2), SERIES)
        )
    )
    for xs, name, style in ((observed, "data", "o"), (model, "fitted model", "x")):
        fit.errorbar(
            TIMES, xs.mean(axis=0), xs.std(axis=0), fmt=style, capsize=3, label=name
        )
    fit.set(xlabel="t", ylabel="X", title="Mean and standard deviation")
    fit.legend()
    losses.semilogy(history)
    losses.set(xlabel="iteration", title="Loss")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "fit_ornstein_uhlenbeck.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
