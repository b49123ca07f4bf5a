"""Strong errors of a solver along the Brownian path of a reference, and the measured order with a bootstrap interval.

The reference is a closed form if there is one. Otherwise it is computed here: the Brownian path is replaced by
parabolas with the tree's `W` and `H` on a grid 16 times as fine as the solver's finest, and the resulting random
ordinary equation is solved. That gives the Stratonovich solution; for the Itô solution the drift is corrected.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from rungax import ControlTerm, MultiTerm, ODETerm, diffeqsolve
from rungax.brownian import SpaceTimeLevyArea, VirtualBrownianTree

from ..problems.stochastic import (
    ADDITIVE,
    COMMUTATIVE,
    DIAGONAL,
    GENERAL,
    SCALAR,
    Interpretation,
    NoisyProblem,
    stratonovich_drift,
)

TOLERANCE = 0.15
"""The largest allowed distance of a measured order, with its interval, from the stated one."""
STEPS = tuple(2.0**-k for k in (4, 5, 6, 7))
FINE = 2**11
PATHS = 1000
MOST_PATHS = 2000
RESAMPLES = 1000
SPAN = (0.0, 1.0)


class Order(NamedTuple):
    """A measured order and the ends of its 99 % bootstrap interval over paths."""

    low: float
    value: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def tree(key: jax.Array, shape: tuple[int, ...], levy_area=SpaceTimeLevyArea) -> VirtualBrownianTree:
    return VirtualBrownianTree(*SPAN, 0.5 / FINE, shape, key, levy_area=levy_area)


def keys(paths: int = PATHS, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), MOST_PATHS)[:paths]


def paths_for(problem: NoisyProblem) -> int:
    """How many paths the order is measured with: the errors of `SCALAR` have more outliers."""
    return MOST_PATHS if problem is SCALAR else PATHS


def terms(problem: NoisyProblem, path: VirtualBrownianTree) -> MultiTerm:
    return MultiTerm(ODETerm(problem.drift), ControlTerm(problem.diffusion, path))


def together(*problems: NoisyProblem) -> NoisyProblem:
    """Problems with two sources of noise as one problem along one path, for one program: their states in a row."""
    ends = np.cumsum([problem.y0.size for problem in problems])[:-1]

    def drift(t, y, args):
        return jnp.concatenate([p.drift(t, x, args) for p, x in zip(problems, jnp.split(y, ends), strict=True)])

    def diffusion(t, y, args):
        fields = [p.diffusion(t, x, args) for p, x in zip(problems, jnp.split(y, ends), strict=True)]
        return jnp.concatenate([f.as_matrix() if isinstance(f, lx.AbstractLinearOperator) else f for f in fields])

    return NoisyProblem("general", drift, diffusion, (2,), np.concatenate([problem.y0 for problem in problems]))


TWO_SOURCES = (ADDITIVE, DIAGONAL, COMMUTATIVE, GENERAL)
ALL_OF_TWO_SOURCES = together(*TWO_SOURCES)


@functools.cache
def reference(
    problem: NoisyProblem,
    interpretation: Interpretation,
    backwards: bool = False,
    use_exact: bool = True,
    paths: int | None = None,
) -> np.ndarray:
    """The solution at the end of the interval, for each of the first paths of `keys()`."""
    paths = paths_for(problem) if paths is None else paths
    if problem in TWO_SOURCES and not backwards:
        every = reference(ALL_OF_TWO_SOURCES, interpretation, paths=paths)
        return np.split(every, len(TWO_SOURCES), axis=1)[TWO_SOURCES.index(problem)]
    if problem.exact is not None and use_exact and not backwards:
        exact = problem.exact

        @jax.jit
        @jax.vmap
        def ends(key):
            return exact(interpretation, tree(key, problem.shape).evaluate(*SPAN))

        return np.asarray(ends(keys(paths)))
    every_path = jax.jit(jax.vmap(lambda key: _along_parabolas(problem, interpretation, key, backwards)))
    return np.asarray(every_path(keys(paths)))


def _along_parabolas(
    problem: NoisyProblem, interpretation: Interpretation, key: jax.Array, backwards: bool
) -> jax.Array:
    drift, path = stratonovich_drift(problem, interpretation), tree(key, problem.shape)
    width = (SPAN[1] - SPAN[0]) / FINE

    def piece(carry, index):
        y, branch = carry
        left = SPAN[0] + index * width
        increment, branch = path.increment_and_carry(branch, left, left + width)
        s0, ds = (1.0, -1.0) if backwards else (0.0, 1.0)

        def slope(s, y):
            """The slope of `y` with respect to `s`, the position in the piece from 0 to 1."""
            t = left + s * width
            speed = jax.tree.map(lambda w, h: w + (6.0 - 12.0 * s) * h, increment.W, increment.H)
            return width * drift(t, y) + ControlTerm(problem.diffusion, path).vf_prod(t, y, None, speed)

        k1 = slope(s0, y)
        k2 = slope(s0 + 0.5 * ds, y + 0.5 * ds * k1)
        k3 = slope(s0 + 0.5 * ds, y + 0.5 * ds * k2)
        k4 = slope(s0 + ds, y + ds * k3)
        return (y + ds * (k1 + 2.0 * k2 + 2.0 * k3 + k4) / 6.0, branch), None

    pieces = jnp.arange(FINE, dtype=float)
    pieces = pieces[::-1] if backwards else pieces
    return jax.lax.scan(piece, (jnp.asarray(problem.y0), path.initial_carry()), pieces)[0][0]


@functools.cache
def solutions(solver, problem: NoisyProblem, backwards: bool = False, steps: tuple[float, ...] = STEPS) -> np.ndarray:
    """The solver's final states, of shape (steps, paths, components), by one program for all step sizes."""
    t0, t1 = SPAN[::-1] if backwards else SPAN
    sign = -1.0 if backwards else 1.0

    def solve(key, dt):
        found = diffeqsolve(
            terms(problem, tree(key, problem.shape)), solver, t0, t1, sign * dt, jnp.asarray(problem.y0), throw=False
        )
        return found.ys[0]

    all_paths = jax.vmap(solve, in_axes=(0, None))
    return np.asarray(
        jax.jit(lambda keys, steps: jax.lax.map(lambda dt: all_paths(keys, dt), steps))(
            keys(paths_for(problem)), np.array(steps)
        )
    )


def strong_errors(solver, problem: NoisyProblem, interpretation: Interpretation, backwards: bool = False) -> np.ndarray:
    """Squared distances from the reference at the end, of shape (steps, paths)."""
    found = solutions(solver, problem, backwards)
    return np.sum((found - reference(problem, interpretation, backwards)) ** 2, axis=2)


def order_of(squares: np.ndarray, steps: tuple[float, ...] = STEPS) -> Order:
    """The slope of the root mean square error over all step sizes, with its bootstrap interval."""
    paths = squares.shape[1]
    means = np.concatenate([squares.mean(axis=1)[:, None], squares @ _resampled(paths) / paths], axis=1)
    slopes = np.polyfit(np.log(steps), 0.5 * np.log(means), 1)[0]
    low, high = np.quantile(slopes[1:], [0.005, 0.995])
    return Order(float(low), float(slopes[0]), float(high))


@functools.cache
def _resampled(paths: int) -> np.ndarray:
    """The number of times that each path is drawn in each resample."""
    drawn = np.random.default_rng(0).multinomial(paths, np.full(paths, 1 / paths), size=RESAMPLES)
    return drawn.T.astype(float)


def shows(order: Order, claimed: float) -> bool:
    """True if the whole interval is within `TOLERANCE` of the claim."""
    return claimed - TOLERANCE <= order.low and order.high <= claimed + TOLERANCE
