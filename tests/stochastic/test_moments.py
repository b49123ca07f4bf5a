"""Moments of the Ornstein–Uhlenbeck process and of geometric Brownian motion agree with their exact values.

The seeds are fixed. A comparison fails beyond five standard errors, which are known exactly: a correct solver would
fail one comparison for 6e-7 of all seeds, and any of this file for less than 1e-4. Steps are so small that the bias of
the solvers is less than one standard error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import ControlTerm, Euler, MultiTerm, ODETerm, SaveAt, SPaRK, diffeqsolve
from rungax.brownian import SpaceTimeLevyArea, VirtualBrownianTree

from ..catalogue import slow_unless
from ..problems.stochastic import Interpretation
from .test_strong_order import SOLVERS, name_of, own_interpretation

LIMIT = 5.0
PATHS = 10_000
STEP = 1 / 64
TIMES = np.array([0.5, 1.5])

RATE, LEVEL, SIGMA, START = 1.0, 0.4, 0.8, 1.5
GROWTH, VOLATILITY = 0.3, 0.4


@functools.cache
def program(solver, drift, noise, y0: tuple[float, ...]):
    """A function of keys and of a step size that returns the states at `TIMES`, of shape (entries, times, paths)."""

    def solve(key, dt):
        path = VirtualBrownianTree(0.0, 1.5, STEP / 2, (), key, levy_area=SpaceTimeLevyArea)
        terms = MultiTerm(ODETerm(drift), ControlTerm(noise, path))
        return diffeqsolve(terms, solver, 0.0, TIMES[-1], dt, jnp.asarray(y0), saveat=SaveAt(ts=TIMES), throw=False).ys

    return jax.jit(lambda keys, dt: jax.vmap(solve, in_axes=(0, None), out_axes=2)(keys, dt).swapaxes(0, 1))


KEYS = jax.random.split(jax.random.key(0), PATHS)


def to_level(t, y, args):
    return RATE * (LEVEL - y)


def constant(t, y, args):
    return jnp.full_like(y, SIGMA)


def of_both(t, y, args):
    return jnp.stack([to_level(t, y[0], args), GROWTH * y[1]])


def noise_of_both(t, y, args):
    """One source of noise for both processes."""
    return jnp.stack([constant(t, y[0], args), VOLATILITY * y[1]])


@functools.cache
def both(solver, dt: float = STEP) -> np.ndarray:
    """An Ornstein–Uhlenbeck process and a geometric Brownian motion along the same paths, in one solve."""
    return np.asarray(program(solver, of_both, noise_of_both, (START, 1.0))(KEYS, dt))


def ornstein_uhlenbeck(solver, dt: float = STEP) -> np.ndarray:
    if solver.noise == "additive":
        return np.asarray(program(solver, to_level, constant, (START,))(KEYS, dt))[0]
    return both(solver, dt)[0]


def geometric(solver) -> np.ndarray:
    return both(solver)[1]


def ornstein_uhlenbeck_scores(values: np.ndarray) -> dict[str, np.ndarray]:
    """The errors of means, variances and autocovariance, in standard errors."""
    count = values.shape[1]
    means = LEVEL + (START - LEVEL) * np.exp(-RATE * TIMES)
    variances = SIGMA**2 / (2 * RATE) * (1 - np.exp(-2 * RATE * TIMES))
    covariance = variances[0] * np.exp(-RATE * (TIMES[1] - TIMES[0]))
    off = values - means[:, None]
    return {
        "mean": off.mean(axis=1) / np.sqrt(variances / count),
        "variance": ((off**2).mean(axis=1) - variances) / (variances * np.sqrt(2 / count)),
        "autocovariance": ((off[0] * off[1]).mean() - covariance) / np.sqrt((variances.prod() + covariance**2) / count),
    }


def geometric_scores(values: np.ndarray, interpretation: Interpretation) -> dict[str, np.ndarray]:
    """The errors of the mean and of the mean of squares, in standard errors."""
    log_mean = (GROWTH - (0.5 * VOLATILITY**2 if interpretation == "Itô" else 0.0)) * TIMES

    def moment(k):
        return np.exp(k * log_mean + 0.5 * k**2 * VOLATILITY**2 * TIMES)

    def score(k):
        return ((values**k).mean(axis=1) - moment(k)) / np.sqrt((moment(2 * k) - moment(k) ** 2) / values.shape[1])

    return {"mean": score(1), "square": score(2)}


def worst(scores: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(x).max()) for x in scores.values())


OFTEN = ("Euler", "DRI1")
"""The simplest, and the one of weak order two; `test_strong_order.py` has solvers of both interpretations."""
EVERY = [pytest.param(solver, id=name_of(solver), marks=slow_unless(name_of(solver) in OFTEN)) for solver, _ in SOLVERS]


@pytest.mark.parametrize("solver", EVERY)
def test_ornstein_uhlenbeck(solver):
    scores = ornstein_uhlenbeck_scores(ornstein_uhlenbeck(solver))
    assert worst(scores) < LIMIT, scores


@pytest.mark.parametrize("solver", [case for case in EVERY if case.values[0].noise != "additive"])
def test_geometric_brownian_motion(solver):
    scores = geometric_scores(geometric(solver), own_interpretation(solver))
    assert worst(scores) < LIMIT, scores


def test_a_biased_variance_is_detected():
    """Euler's method with steps of 1/4 has a stationary variance that is 1/7 too large."""
    assert ornstein_uhlenbeck_scores(ornstein_uhlenbeck(Euler(), 0.25))["variance"][-1] > LIMIT


@pytest.mark.parametrize(
    ("solver", "interpretation"), [(Euler(), "Stratonovich"), (SPaRK(), "Itô")], ids=["Euler", "SPaRK"]
)
def test_the_other_interpretation_is_detected(solver, interpretation):
    assert worst(geometric_scores(geometric(solver), interpretation)) > 2 * LIMIT
