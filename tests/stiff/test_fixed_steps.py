"""With fixed steps and no tolerances, an implicit solver's iteration converges to the step of the method."""

from functools import cache
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import IMPLICIT, SPLIT, name, order, slow_unless, terms_for
from ..convergence.measure import TOLERANCE, slope
from ..problems.base import Problem
from ..problems.ordinary import CLOCKED_TORUS, SPRING
from ..problems.stiff import CLOCKED_KAPS, KAPS, LAMBERT, PROTHERO_ROBINSON

ITERATIVE = IMPLICIT + SPLIT

WAKING = Problem(
    name="waking: constant up to time 1/4, then y' = -40 (t - 1/4)^2 y^2",
    field=lambda t, y, args: -40 * jnp.maximum(t - 0.25, 0) ** 2 * y**2,
    y0=np.array([1.0]),
    t0=0.0,
    t1=1.0,
    exact=lambda t: np.array([1 / (1 + 40 / 3 * max(t - 0.25, 0.0) ** 3)]),
)
"""A rate of convergence from stages where the solution is constant must not be trusted where it is not."""

# The allowed error after 32 steps of a method of each order, relative to the largest entry of the solution.
ERRORS = {1: 0.5, 2: 2e-2, 3: 2e-3, 4: 2e-4, 5: 1e-4}


def final(solver: rungax.AbstractSolver[Any], problem: Problem, num_steps: Any, dtype: Any = "float64") -> Any:
    t0, t1 = (jnp.asarray(t, dtype) for t in (problem.t0, problem.t1))
    y0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), problem.y0)
    return rungax.diffeqsolve(
        terms_for(solver, problem.field, 0.0), solver, t0, t1, (t1 - t0) / num_steps, y0, problem.args, throw=False
    )


@cache
def compiled(solver: rungax.AbstractSolver[Any], problem: Problem, dtype: str = "float64") -> Any:
    """The solution as a function of the number of steps."""
    return jax.jit(lambda n: final(solver, problem, n, dtype))


def error(solution: rungax.Solution, problem: Problem) -> float:
    """The largest error, relative to the largest entry of each leaf."""
    assert solution.result == rungax.RESULTS.successful, solution.result
    errors = jax.tree.map(
        lambda found, exact: np.abs(np.asarray(found[-1], float) - exact).max() / np.abs(exact).max(),
        solution.ys,
        problem.final,
    )
    return max(jax.tree.leaves(errors))


def cases(problems: tuple[Problem, ...], often: set[tuple[str, Problem]]) -> list[Any]:
    """Every solver with every problem, slow unless named."""
    return [
        pytest.param(solver, problem, id=f"{name(solver)}-{problem.name[:12]}", marks=slow_unless(pair in often))
        for solver, problem in product(ITERATIVE, problems)
        for pair in [(name(solver), problem)]
    ]


LINEAR = cases(
    (SPRING, LAMBERT, PROTHERO_ROBINSON),
    {("KenCarp4", SPRING), ("Kvaerno5", LAMBERT)},
)
NONLINEAR = cases(
    (CLOCKED_TORUS, KAPS, CLOCKED_KAPS, WAKING),
    {("Kvaerno5", CLOCKED_TORUS), ("Kvaerno5", WAKING), ("KenCarp4", KAPS), ("Kvaerno5", CLOCKED_KAPS)},
)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("solver", "problem"), LINEAR)
def test_linear_equation(solver: rungax.AbstractSolver[Any], problem: Problem, dtype: str) -> None:
    rounding = 1e-4 if dtype == "float32" else 0.0
    solution = compiled(solver, problem, dtype)(jnp.asarray(32.0, dtype))
    assert error(solution, problem) <= ERRORS[order(solver)] + rounding


@pytest.mark.parametrize(("solver", "problem"), NONLINEAR)
def test_nonlinear_equation(solver: rungax.AbstractSolver[Any], problem: Problem) -> None:
    """With steps for which Newton's iteration converges easily, no stage fails, and none is accepted too early."""
    solve = compiled(solver, problem)
    for num_steps in (32, 37, 64, 128):
        limit = order(solver) if problem is not WAKING else min(order(solver), 2)  # it has two derivatives
        assert error(solve(jnp.asarray(float(num_steps))), problem) <= ERRORS[limit], num_steps


@pytest.mark.slow  # `conformance/test_solvers.py` has fixed steps in single precision too
@pytest.mark.parametrize("solver", [rungax.Kvaerno3(), rungax.KenCarp4()], ids=name)
def test_nonlinear_equation_in_single_precision(solver: rungax.AbstractSolver[Any]) -> None:
    for problem in (CLOCKED_TORUS, KAPS):
        solution = compiled(solver, problem, "float32")(jnp.float32(32))
        assert error(solution, problem) <= ERRORS[order(solver)] + 1e-4


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Kvaerno5"))
        for s in (rungax.Kvaerno5(), rungax.KenCarp5())
    ],
)
def test_order_holds_down_to_small_errors(solver: rungax.AbstractSolver[Any]) -> None:
    solve = compiled(solver, CLOCKED_TORUS)

    def error_after(num_steps: int) -> float:
        return error(solve(jnp.asarray(float(num_steps))), CLOCKED_TORUS)

    num_steps = np.array([45, 64, 91])
    errors = [error_after(n) for n in num_steps]
    assert abs(slope(1 / num_steps, errors) - order(solver)) <= TOLERANCE
    assert error_after(400) <= 5e-10


@pytest.mark.parametrize(
    "solver",
    [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Kvaerno3")) for s in ITERATIVE[1:]],
)
def test_a_waking_equation_is_solved_with_error_control(solver: rungax.AbstractSolver[Any]) -> None:
    controller = rungax.PIDController(rtol=1e-5, atol=1e-8)
    terms = terms_for(solver, WAKING.field, 0.0)
    solution = rungax.diffeqsolve(
        terms, solver, 0.0, 1.0, 0.25, np.ones(1), stepsize_controller=controller, throw=False
    )
    assert error(solution, WAKING) <= 1e-3
