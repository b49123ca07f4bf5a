"""In one step from exact data, the error estimate and the dense output have the orders that a solver states.

Dense output of order q has a local error of order q + 1. Measured so, the order of the solver does not enter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rungax
from rungax.solvers.tableaus.types.butcher import ContinuousExtension

from ..catalogue import (
    ADAPTIVE,
    SOLVERS,
    dense_order,
    error_order,
    name,
    own_interpolant_weights,
    rounding,
    stage_sums,
    steps_of_graded,
)
from ..problems.ordinary import GRADED, LEVELS
from .graded import THETAS, GradedStep, each, one_step
from .measure import TOLERANCE, graded_order

# From a whole number on, so that a step of the graded problem starts on a state that is not zero.
START = 1.0
STEPS = np.array([1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8, 1 / 16, 1 / 32, 1 / 64])


def exact(t: Any) -> np.ndarray:
    assert GRADED.exact is not None
    return GRADED.exact(t)


def step_of_length(solver: rungax.AbstractSolver[Any], h: float) -> GradedStep:
    return one_step(solver, START, h, exact(START))


def measured_order(solver: rungax.AbstractSolver[Any], errors: Callable[[float], np.ndarray], rounding: float) -> float:
    """The exponent at which errors vanish with the step, relative to the state at its start."""
    steps = steps_of_graded(solver, STEPS)
    # Component w grows like t^w, and rounding in a stage is relative to what it has grown to there.
    stage_sizes = (1 + steps[:, None]) ** np.arange(LEVELS)
    relative = np.array([errors(h) for h in steps]) / np.abs(exact(START))
    return graded_order(steps, relative, rounding * stage_sizes)


# ---------------------------------------------------------------------------------------------------------- estimate


def assert_error_order_is_as_stated(solver: rungax.AbstractSolver[Any]) -> None:
    measured = measured_order(solver, lambda h: np.abs(step_of_length(solver, h).y_error), rounding(solver))
    stated = error_order(solver)
    assert abs(measured - stated) <= TOLERANCE, f"{name(solver)} states error order {stated}: {measured:.3f}"


@pytest.mark.parametrize("solver", each(ADAPTIVE))
def test_error_order(solver: rungax.AbstractSolver[Any]) -> None:
    assert_error_order_is_as_stated(solver)


@pytest.mark.parametrize("stated", [4, 6])
def test_mislabelled_error_order_is_caught(stated: int) -> None:
    mislabelled = type("Mislabelled", (rungax.Tsit5,), {"error_order": lambda self, terms: stated})()
    with pytest.raises(AssertionError, match=r": 5\.0"):
        assert_error_order_is_as_stated(mislabelled)


# ------------------------------------------------------------------------------------------------------ dense output


def assert_dense_order_is_as_stated(solver: rungax.AbstractSolver[Any]) -> None:
    def errors(h: float) -> np.ndarray:
        """The largest error inside the step, component by component."""
        expected = np.array([exact(START + h * theta) for theta in THETAS])
        return np.abs(np.asarray(step_of_length(solver, h).inside) - expected).max(axis=0)

    measured, stated = measured_order(solver, errors, dense_rounding(solver)) - 1, dense_order(solver)
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


@pytest.mark.parametrize("solver", each(SOLVERS))
def test_dense_order(solver: rungax.AbstractSolver[Any]) -> None:
    assert_dense_order_is_as_stated(solver)


@pytest.mark.parametrize("solver", each(SOLVERS))
def test_dense_output_ends_at_the_step(solver: rungax.AbstractSolver[Any]) -> None:
    assert THETAS[-1] == 1
    step = step_of_length(solver, 1.0)
    np.testing.assert_array_equal(np.asarray(step.inside)[-1], step.y1)


def test_mislabelled_dense_output_is_caught() -> None:
    true = rungax.Tsit5.extension
    assert true is not None
    wrong = ContinuousExtension(true.c, true.a_lower, true.weights, order=5)
    mislabelled = type("Mislabelled", (rungax.Tsit5,), {"extension": wrong})()
    with pytest.raises(AssertionError, match=r"states dense order 5: 4\.0"):
        assert_dense_order_is_as_stated(mislabelled)
