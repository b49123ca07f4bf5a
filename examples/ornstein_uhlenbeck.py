r"""An ensemble with noise: Ornstein-Uhlenbeck processes, compared with their exact distribution.

$$\mathrm{d}X = \text{rate}\,(\text{level} - X)\,\mathrm{d}t + \text{volatility}\,\mathrm{d}W, \qquad
X(0) = \text{start}$$

At every time X is normal with known mean and variance, and the correlation between two times is known too. The noise is
additive, for which `ShARK` has strong order 1.5. Each path of the ensemble has its own key, and `jax.vmap` solves all
of them at once; a `VirtualBrownianTree` is a function of its key alone.
"""

import pathlib
from math import exp, sqrt

import jax
import jax.numpy as jnp
import numpy as np
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

RATE, LEVEL, VOLATILITY = 0.8, 1.0, 0.6
START, END, STEP = 3.0, 6.0, 0.1
TIMES = np.linspace(0.0, END, 31)
PATHS = 4000


@jax.jit
@jax.vmap
def path(key: jax.Array) -> jax.Array:
    """One path at all saved times."""
    noise = VirtualBrownianTree(
        0.0, END, tol=STEP / 2, shape=(), key=key, levy_area=SpaceTimeLevyArea
    )
    drift = ODETerm(lambda t, x, args: RATE * (LEVEL - x))
    diffusion = ControlTerm(lambda t, x, args: jnp.array(VOLATILITY), noise)
    terms = MultiTerm(drift, diffusion)
    solution = diffeqsolve(
        terms, ShARK(), 0.0, END, STEP, jnp.array(START), saveat=SaveAt(ts=TIMES)
    )
    return solution.ys


def mean(t: np.ndarray) -> np.ndarray:
    return LEVEL + (START - LEVEL) * np.exp(-RATE * t)


def variance(t: np.ndarray) -> np.ndarray:
    return VOLATILITY**2 / (2 * RATE) * (1 - np.exp(-2 * RATE * t))


def correlation(s: float, t: float) -> float:
    """The correlation between two times s < t."""
    return exp(-RATE * (t - s)) * sqrt(
        (1 - exp(-2 * RATE * s)) / (1 - exp(-2 * RATE * t))
    )


def main(paths: int = PATHS) -> tuple[float, ...]:
    """Solve, draw, and return the largest error of each statistic over all times, in
    standard errors."""
    xs = np.asarray(path(jax.random.split(jax.random.key(0), paths)))
    later, reference = slice(1, None), TIMES.size // 2
    off_mean = (xs.mean(axis=0) - mean(TIMES))[later] / np.sqrt(
        variance(TIMES)[later] / paths
    )
    off_variance = (xs.var(axis=0, ddof=1) / variance(TIMES).clip(1e-300) - 1)[
        later
    ] * sqrt(paths / 2)
    found = np.array(
        [
            np.corrcoef(xs[:, reference], xs[:, i])[0, 1]
            for i in range(reference + 1, TIMES.size)
        ]
    )
    exact = np.array([correlation(TIMES[reference], t) for t in TIMES[reference + 1 :]])
    off_correlation = (np.arctanh(found) - np.arctanh(exact)) * sqrt(paths - 3)
    worst = tuple(
        float(np.abs(off).max()) for off in (off_mean, off_variance, off_correlation)
    )
    print(
        f"{paths} paths of {round(END / STEP)} steps; largest deviations "
        f"in standard errors, over {TIMES.size} times:"
    )
    print(
        f"mean {worst[0]:.1f}, variance {worst[1]:.1f}, correlation with "
        f"t = {TIMES[reference]:.0f} {worst[2]:.1f}"
    )
    draw(xs, found, exact, reference)
    return worst


def draw(xs: np.ndarray, found: np.ndarray, exact: np.ndarray, reference: int) -> None:
    figure, (in_time, correlations) = plt.subplots(
        1, 2, figsize=(10, 4), layout="constrained"
    )
    in_time.plot(TIMES, xs[:40].T, color="tab:blue", alpha=0.25, linewidth=0.8)
    centre, spread = mean(TIMES), 2 * np.sqrt(variance(TIMES))
    in_time.plot(
        TIMES, centre, color="black", label="exact mean, two standard deviations"
    )
    in_time.fill_between(
        TIMES, centre - spread, centre + spread, color="black", alpha=0.15
    )
    in_time.plot(
        TIMES, xs.mean(axis=0), ".", color="tab:red", label="mean of the ensemble"
    )
    in_time.set(xlabel="t", ylabel="X", title="Forty paths")
    in_time.legend()
    lags = TIMES[reference + 1 :] - TIMES[reference]
    correlations.plot(lags, exact, color="black", label="exact")
    correlations.plot(lags, found, ".", color="tab:red", label="ensemble")
    correlations.set(xlabel="lag", title=f"Correlation with X({TIMES[reference]:.0f})")
    correlations.legend()
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "ornstein_uhlenbeck.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
