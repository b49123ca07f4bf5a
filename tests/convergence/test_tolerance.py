"""The error that step size control achieves is proportional to the tolerance; the first step is Hairer's.

A pair of orders p and p - 1 that goes on with the better solution holds an estimate of order h^p below the tolerance,
and its error after a fixed time is of order h^p as well: so a tenth of the tolerance gives a tenth of the error,
whatever the method. Every DETEST problem is solved with every tolerance, by one compiled program for each method.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rungax

from ..catalogue import error_order, name, slow_unless
from ..problems.base import Problem
from ..problems.detest import DETEST
from ..problems.ordinary import BELL, CLOCKED_TORUS, COMPLEX_OSCILLATOR, KEPLER, SPRING
from .measure import slope

SIZE = max(problem.y0.size for problem in DETEST)
TIMES = np.arange(1.0, 21.0)
TOLERANCES = {
    rungax.Bosh3(): 10.0 ** -np.arange(4, 7.6, 0.5),
    rungax.Tsit5(): 10.0 ** -np.arange(4, 9.1, 0.5),
    rungax.Dopri5(): 10.0 ** -np.arange(4, 9.1, 0.5),
    rungax.Vern7(): 10.0 ** -np.arange(4, 9.1, 0.5),
}


def padded(problem: Problem) -> Callable[[Any, Any], Any]:
    """The field of `problem` on as many components as the largest problem has, those beyond its own at rest."""
    size = problem.y0.size

    def field(t: Any, y: Any) -> Any:
        slope = problem.field(t, y[:size], problem.args)
        return jnp.concatenate([slope, jnp.zeros(SIZE - size)])

    return field


FIELDS = [padded(problem) for problem in DETEST]


def any_field(t: Any, y: Any, index: Any) -> Any:
    return jax.lax.switch(index, FIELDS, t, y)


def largest(tree: Any) -> jax.Array:
    """Unlike the root mean square, blind to components at rest."""
    return jnp.max(jnp.abs(tree))


def solve_with(solver: rungax.AbstractSolver[Any]) -> Callable[[int, float], np.ndarray]:
    """`states(index, tolerance)`, those at `TIMES`; compiled once."""

    @jax.jit
    def solve(index: jax.Array, y0: jax.Array, tolerance: jax.Array) -> rungax.Solution:
        controller = rungax.PIDController(rtol=tolerance, atol=tolerance, norm=largest)
        return rungax.diffeqsolve(
            any_field,
            solver,
            0.0,
            20.0,
            None,
            y0,
            index,
            saveat=rungax.SaveAt(ts=TIMES),
            stepsize_controller=controller,
            max_steps=None,
            throw=False,
        )

    def states(index: int, tolerance: float) -> np.ndarray:
        y0 = DETEST[index].y0
        solution = solve(jnp.asarray(index), jnp.pad(jnp.asarray(y0), (0, SIZE - y0.size)), jnp.asarray(tolerance))
        assert solution.result == rungax.RESULTS.successful
        return np.asarray(solution.ys[:, : y0.size])

    return states


def error(problem: Problem, states: np.ndarray) -> float:
    """The largest error, absolute for small and relative for large components, at all times where it is known."""
    if problem.exact is None:
        expected, states = problem.final[None], states[-1:]
    else:
        expected = np.array([problem.exact(t) for t in TIMES])
    return float(np.max(np.abs(states - expected) / (1 + np.abs(expected))))


def slopes(solver: rungax.AbstractSolver[Any], tolerances: np.ndarray) -> dict[str, float]:
    """Of log error against log tolerance, for every problem."""
    states = solve_with(solver)
    errors = [[error(problem, states(i, tol)) for tol in tolerances] for i, problem in enumerate(DETEST)]
    return {problem.name: round(slope(tolerances, row), 2) for problem, row in zip(DETEST, errors, strict=True)}


def assert_proportional(slopes: dict[str, float]) -> None:
    """All slopes are one, more or less.

    Where the leading error is small or oscillates, other powers of the step tilt a single problem; they do so in both
    directions, so what holds for each of 25 problems is loose and what holds for the typical one is tight.
    """
    found = np.array(list(slopes.values()))
    assert found.min() > 0.7, slopes
    assert found.max() < 1.4, slopes
    assert abs(np.median(found) - 1) < 0.1, slopes


@pytest.mark.parametrize(
    ("solver", "tolerances"),
    [pytest.param(*item, id=name(item[0]), marks=slow_unless(name(item[0]) == "Tsit5")) for item in TOLERANCES.items()],
)
def test_error_is_proportional_to_tolerance(solver: rungax.AbstractSolver[Any], tolerances: np.ndarray) -> None:
    assert_proportional(slopes(solver, tolerances))


class Flatterer(rungax.Bosh3):
    """Bosh3 with an estimate one order too small: then the error is of order 3/4 in the tolerance."""

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        y1, y_error, *rest = super().step(terms, t0, t1, y0, args, solver_state, made_jump)
        return y1, y_error * (t1 - t0), *rest


def test_an_estimate_of_the_wrong_order_is_caught() -> None:
    found = slopes(Flatterer(), 10.0 ** -np.arange(4.0, 7.1))
    with pytest.raises(AssertionError):
        assert_proportional(found)


# ------------------------------------------------------------------------------------------------------- the first step


def hairers_step(problem: Problem, direction: int, span: float, rtol: float, atol: float, order: float) -> float:
    """Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, II.4, p. 169, where `order` is p + 1."""
    y0, unravel = ravel_pytree(problem.y0)

    def field(t: float, y: np.ndarray) -> np.ndarray:
        return direction * np.asarray(ravel_pytree(problem.field(jnp.asarray(t), unravel(y), problem.args))[0])

    def norm(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.abs(x / (atol + rtol * np.abs(y0))) ** 2)))

    slope = field(problem.t0, y0)
    d0, d1 = norm(np.asarray(y0)), norm(slope)
    h0 = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, span)
    d2 = norm(field(problem.t0 + direction * h0, y0 + h0 * slope) - slope) / h0
    h1 = max(1e-6, 1e-3 * h0) if max(d1, d2) <= 1e-15 else (0.01 / max(d1, d2)) ** (1 / order)
    return min(100 * h0, h1, span)


AT_REST = Problem("at rest: no slope, no curvature", lambda t, y, args: 0 * y, np.array([1.0, 2.0]), 0.0, 1.0)
FROM_ZERO = Problem("from zero: no size", lambda t, y, args: 1 - y, np.array([0.0, 0.0]), 0.0, 1.0)


@pytest.mark.parametrize("direction", [1, -1], ids=["forwards", "backwards"])
@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(problem, id=problem.name[:12], marks=slow_unless(problem not in (BELL, KEPLER)))
        for problem in (BELL, COMPLEX_OSCILLATOR, SPRING, CLOCKED_TORUS, KEPLER, AT_REST, FROM_ZERO)
    ],
)
def test_first_step_is_hairers(problem: Problem, direction: int) -> None:
    solver = rungax.Bosh3()

    @jax.jit
    def first_step(t1: jax.Array, rtol: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = rungax.diffeqsolve(
            problem.field,
            solver,
            problem.t0,
            t1,
            None,
            problem.y0,
            problem.args,
            saveat=rungax.SaveAt(t1=True),
            stepsize_controller=rungax.PIDController(rtol=rtol, atol=1e-8),
            max_steps=1,
            throw=False,
        )
        return solution.ts[-1] - problem.t0, solution.stats["num_accepted_steps"]

    for span in (2.0, 1e-7):
        for rtol in (1e-3, 1e-6):
            step, accepted = first_step(jnp.asarray(problem.t0 + direction * span), jnp.asarray(rtol))
            expected = hairers_step(problem, direction, span, rtol, 1e-8, error_order(solver))
            assert accepted == 1, "a rejected step says nothing about the first one"
            np.testing.assert_allclose(direction * step, expected, rtol=1e-9)


def test_first_step_follows_the_order() -> None:
    """With the error order 3 of Bosh3 and 7 of Vern7, the same problem starts with different steps."""
    assert hairers_step(KEPLER, 1, 2.0, 1e-6, 1e-8, 3) < 0.5 * hairers_step(KEPLER, 1, 2.0, 1e-6, 1e-8, 7)
    for solver in (rungax.Bosh3(), rungax.Vern7()):
        solution = rungax.diffeqsolve(
            KEPLER.field,
            solver,
            0.0,
            2.0,
            None,
            KEPLER.y0,
            saveat=rungax.SaveAt(steps=True),
            stepsize_controller=rungax.PIDController(rtol=1e-6, atol=1e-8),
        )
        expected = hairers_step(KEPLER, 1, 2.0, 1e-6, 1e-8, error_order(solver))
        np.testing.assert_allclose(solution.ts[0], expected, rtol=1e-9)
