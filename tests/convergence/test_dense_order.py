"""Dense output has the order it states at every point of a step, and is one function whichever way it is asked.

Orders are those of the local error: one step from exact data, of order q + 1 for dense output of order q. Measured so,
the order of the solver does not enter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax.solvers.tableaus.types.butcher import ContinuousExtension

from ..catalogue import (
    SOLVERS,
    dense_order,
    name,
    own_interpolant_weights,
    rounding,
    solved_exactly,
    stage_sums,
    steps_of_graded,
    terms_for,
)
from ..problems.base import Problem
from ..problems.ordinary import CLOCKED_TORUS, GRADED, LEVELS, SPRING
from .measure import TOLERANCE, graded_order, slope

# From a whole number on, so that a step of the graded problem starts on a state that is not zero.
START = 1.0
STEPS = np.array([1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8, 1 / 16, 1 / 32, 1 / 64])
THETAS = np.linspace(0, 1, 12)[1:]  # none of them 1/2, where some interpolants are better than elsewhere


def local_errors(solver: rungax.AbstractSolver[Any], problem: Problem, steps: np.ndarray) -> np.ndarray:
    """The largest error inside a single step, shape (steps, components), relative as fits the problem."""
    assert problem.exact is not None
    start = problem.exact(START)
    terms, method = terms_for(solver, problem.field), solved_exactly(solver)

    @jax.jit
    def inside(h: jax.Array) -> jax.Array:
        end = START + h
        saveat = rungax.SaveAt(dense=True)
        solution = rungax.diffeqsolve(
            terms, method, START, end, h, start, problem.args, saveat=saveat, max_steps=1, throw=False
        )
        return jax.vmap(solution.evaluate)(START + h * jnp.asarray(THETAS))

    values = np.array([inside(jnp.asarray(h)) for h in steps])
    expected = np.array([[problem.exact(START + h * theta) for theta in THETAS] for h in steps])
    scale = np.abs(start) if problem is GRADED else np.abs(start).max()
    return (np.abs(values - expected) / scale).max(axis=1)


def assert_dense_order_is_as_stated(solver: rungax.AbstractSolver[Any]) -> None:
    steps = steps_of_graded(solver, STEPS)
    # Component w grows like t^w, and rounding in a stage is relative to what it has grown to there.
    stage_sizes = (1 + steps[:, None]) ** np.arange(LEVELS)
    measured = graded_order(steps, local_errors(solver, GRADED, steps), dense_rounding(solver) * stage_sizes) - 1
    stated = dense_order(solver)
    assert abs(measured - stated) <= TOLERANCE, f"{name(solver)} states dense order {stated}: {measured:.3f}"


def dense_rounding(solver: rungax.AbstractSolver[Any]) -> float:
    """As `rounding`, for the interpolant's coefficients and its stages."""
    eps, own = float(np.finfo(float).eps), own_interpolant_weights(solver)
    if own is not None:
        return eps * (1 + stage_sums(solver, np.abs(own).sum(axis=1)))
    if not isinstance(solver, rungax.AbstractERK) or solver.extension is None:
        return rounding(solver)
    rows = [np.abs(row).sum() for row in ([0.0], *solver.tableau.a_lower, *solver.extension.a_lower)]
    weights = np.abs(solver.extension.weights).sum(axis=1)
    return eps * (1 + float(weights @ (1 + np.array(rows))))


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_dense_order(solver: rungax.AbstractSolver[Any]) -> None:
    assert_dense_order_is_as_stated(solver)


def test_mislabelled_dense_output_is_caught() -> None:
    true = rungax.Tsit5.extension
    assert true is not None
    wrong = ContinuousExtension(true.c, true.a_lower, true.weights, order=5)
    mislabelled = type("Mislabelled", (rungax.Tsit5,), {"extension": wrong})()
    with pytest.raises(AssertionError, match=r"states dense order 5: 4\.0"):
        assert_dense_order_is_as_stated(mislabelled)


DENSE = (
    rungax.Bosh3(),
    rungax.Tsit5(),
    rungax.Vern7(),
    rungax.Vern9(),
    rungax.Kvaerno4(),
    rungax.KenCarp4(),
    rungax.ROS3P(),
    rungax.Rodas5P(),
)


@pytest.mark.parametrize("solver", DENSE, ids=name)
def test_dense_order_is_reached_on_a_nonlinear_problem(solver: rungax.AbstractSolver[Any]) -> None:
    steps = 2 ** np.arange(0, -6.1, -0.25)
    errors = local_errors(solver, CLOCKED_TORUS, steps).max(axis=1)
    clean = np.flatnonzero(errors > 1e-13)[-5:]
    assert slope(steps[clean], errors[clean]) - 1 >= dense_order(solver) - TOLERANCE


# ------------------------------------------------------------------------------------------------ one function of time


class Dense(NamedTuple):
    """What a solve of `SPRING` with eight steps says at two times, and where two steps meet."""

    start: Any
    end: Any
    increment: Any
    slope: Any
    left_slope: Any
    right_slope: Any


ASKED = (rungax.Euler(), rungax.Tsit5(), rungax.Dopri8(), rungax.ROS3P(), rungax.KenCarp3())


@pytest.fixture(scope="module", params=ASKED, ids=name)
def ask(request: pytest.FixtureRequest) -> Callable[..., Dense]:
    """`ask(t0, t1, a, b, meeting)`: compiled once for each solver."""

    terms = terms_for(request.param, SPRING.field)

    @jax.jit
    def ask(t0: jax.Array, t1: jax.Array, a: jax.Array, b: jax.Array, meeting: jax.Array) -> Dense:
        saveat = rungax.SaveAt(dense=True)
        dt0 = (t1 - t0) / 8
        solution = rungax.diffeqsolve(
            terms, request.param, t0, t1, dt0, SPRING.y0, SPRING.args, saveat=saveat, max_steps=8, throw=False
        )
        return Dense(
            start=solution.evaluate(a),
            end=solution.evaluate(b),
            increment=solution.evaluate(a, b),
            slope=solution.derivative(a),
            left_slope=solution.derivative(meeting, left=True),
            right_slope=solution.derivative(meeting, left=False),
        )

    return lambda *times: ask(*(jnp.asarray(float(t)) for t in times))


def assert_close(found: Any, expected: Any, **tolerances: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), found, expected)


def quotient(ask: Callable[..., Dense], t0: float, t1: float, t: float, width: float) -> Any:
    """The difference quotient of the dense output between `t - width` and `t + width`."""
    increment = ask(t0, t1, t - width, t + width, 0.5).increment
    return jax.tree.map(lambda x: x / (2 * width), increment)


@pytest.mark.slow
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_dense_output_is_one_function(ask: Callable[..., Dense], t0: float, t1: float) -> None:
    a, b, width = 0.3, 0.8, 1e-4
    found = ask(t0, t1, a, b, 0.5)
    assert_close(found.increment, jax.tree.map(jnp.subtract, found.end, found.start), rtol=0, atol=0)
    assert_close(found.slope, quotient(ask, t0, t1, a, width), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_left_picks_the_earlier_of_two_steps(ask: Callable[..., Dense], t0: float, t1: float) -> None:
    meeting, width = 0.5, 1e-4
    earlier, later = (meeting - width, meeting + width) if t1 > t0 else (meeting + width, meeting - width)
    found = ask(t0, t1, meeting, meeting, meeting)
    # The quotients are slopes at a distance `width`, which differ by so much times the curvature, at most 16.
    assert_close(found.left_slope, quotient(ask, t0, t1, earlier, width), rtol=0, atol=20 * width)
    assert_close(found.right_slope, quotient(ask, t0, t1, later, width), rtol=0, atol=20 * width)


def test_dense_output_is_not_a_number_outside(ask: Callable[..., Dense]) -> None:
    found = ask(0.0, 1.0, -0.01, 1.01, 0.5)
    for leaf in jax.tree.leaves((found.start, found.end, found.slope)):
        assert np.isnan(leaf).all()
