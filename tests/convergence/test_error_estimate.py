"""A solver's error estimate vanishes with the step at the order it states, and is the error of an embedded method."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import (
    ADAPTIVE,
    SOLVERS,
    error_order,
    estimates_error,
    name,
    rounding,
    solved_exactly,
    steps_of_graded,
    terms_for,
)
from ..problems.base import Problem
from ..problems.ordinary import CLOCKED_TORUS, GRADED, LEVELS
from .measure import TOLERANCE, graded_order

START = 1.0
STEPS = np.array([1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8, 1 / 16, 1 / 32, 1 / 64])


def estimates(solver: rungax.AbstractSolver[Any], problem: Problem, steps: np.ndarray) -> np.ndarray:
    """The estimate in a single step from exact data, made by hand, shape (steps, components)."""
    assert problem.exact is not None
    start = jnp.asarray(problem.exact(START))
    term, method = terms_for(solver, problem.field), solved_exactly(solver)

    @jax.jit
    def estimate(h: jax.Array) -> Any:
        t0 = jnp.asarray(START)
        state = method.init(term, t0, t0 + h, start, problem.args)
        _, y_error, _, _, _ = method.step(term, t0, t0 + h, start, problem.args, state, False)
        return y_error

    return np.abs(np.array([estimate(jnp.asarray(h)) for h in steps])) / np.abs(start)


def measured_order(solver: rungax.AbstractSolver[Any]) -> float:
    # Component w grows like t^w, and rounding in a stage is relative to what it has grown to there.
    steps = steps_of_graded(solver, STEPS)
    stage_sizes = (1 + steps[:, None]) ** np.arange(LEVELS)
    return graded_order(steps, estimates(solver, GRADED, steps), rounding(solver) * stage_sizes)


def assert_error_order_is_as_stated(solver: rungax.AbstractSolver[Any]) -> None:
    measured, stated = measured_order(solver), error_order(solver)
    assert abs(measured - stated) <= TOLERANCE, f"{name(solver)} states error order {stated}: {measured:.3f}"


@pytest.mark.parametrize("solver", ADAPTIVE, ids=name)
def test_error_order(solver: rungax.AbstractSolver[Any]) -> None:
    assert_error_order_is_as_stated(solver)


@pytest.mark.parametrize("stated", [4, 6])
def test_mislabelled_error_order_is_caught(stated: int) -> None:
    mislabelled = type("Mislabelled", (rungax.Tsit5,), {"error_order": lambda self, terms: stated})()
    with pytest.raises(AssertionError, match=r": 5\.0"):
        assert_error_order_is_as_stated(mislabelled)


EMBEDDED = (
    rungax.Heun(),
    rungax.Bosh3(),
    rungax.Tsit5(),
    rungax.Vern7(),
    rungax.Kvaerno3(),
    rungax.KenCarp3(),
    rungax.Rodas4(),
)


@pytest.mark.parametrize("solver", EMBEDDED, ids=name)
def test_estimate_is_of_the_size_of_the_error_of_the_embedded_method(solver: rungax.AbstractSolver[Any]) -> None:
    """Of lower order than the solution, the embedded method has nearly all of the difference as its own error."""
    assert CLOCKED_TORUS.exact is not None
    h = 1 / 8
    start, end = (jnp.asarray(CLOCKED_TORUS.exact(t)) for t in (START, START + h))
    term, t0, t1 = terms_for(solver, CLOCKED_TORUS.field), jnp.asarray(START), jnp.asarray(START + h)
    state = solver.init(term, t0, t1, start, None)
    y1, y_error, _, _, _ = jax.jit(lambda: solver.step(term, t0, t1, start, None, state, False))()
    np.testing.assert_allclose(jnp.linalg.norm(y1 - y_error - end), jnp.linalg.norm(y_error), rtol=0.5)
    assert jnp.linalg.norm(y1 - end) < jnp.linalg.norm(y_error)


def test_solvers_without_an_estimate_return_none() -> None:
    start = jnp.ones(2)
    for solver in SOLVERS:
        if not estimates_error(solver):
            term, t0, t1 = terms_for(solver, lambda t, y, args: -y), jnp.asarray(0.0), jnp.asarray(0.1)
            state = solver.init(term, t0, t1, start, None)
            assert solver.step(term, t0, t1, start, None, state, False)[1] is None
