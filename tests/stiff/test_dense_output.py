"""Inside steps much longer than the fast time scales, dense output is close to the solution and does not overshoot.

At every time the error is compared with the tolerances there. Stages are less accurate for fast components than the
ends of steps, and so is dense output. A slope at the end of a step contains the remaining error of the fast components
times the stiffness. So the limit is some hundred tolerances, and more for one method.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import MULTISTEP, STIFF, name, order, slow_unless, terms_for
from ..problems.base import Problem
from ..problems.stiff import HIRES, ROBERTSON

RTOL, ATOL = 1e-6, 1e-10
TIMES = {
    ROBERTSON.name: np.logspace(-4, 5, 200),
    HIRES.name: np.append(np.logspace(-2, np.log10(320), 200), HIRES.t1),
}
LIMIT = 500
# ROS3P does not damp the fast errors that its slopes amplify.
LIMITS = {"ROS3P": 3e3}
KINDS = ("Kvaerno5", "KenCarp5", "Rodas5P")
CASES = [
    pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in KINDS))
    for solver in STIFF + MULTISTEP
    if order(solver) >= 2
]


def values(solver: rungax.AbstractSolver[Any], problem: Problem, rtol: float, atol: float) -> np.ndarray:
    terms = terms_for(solver, problem.field, 0.0)

    @jax.jit
    def solve(y0: jax.Array) -> Any:
        return rungax.diffeqsolve(
            terms,
            solver,
            problem.t0,
            problem.t1,
            None,
            y0,
            problem.args,
            saveat=rungax.SaveAt(ts=TIMES[problem.name]),
            stepsize_controller=rungax.PIDController(rtol=rtol, atol=atol),
            max_steps=200_000,
        ).ys

    return np.asarray(solve(jnp.asarray(problem.y0)))


@pytest.fixture(
    scope="module",
    params=[pytest.param(p, id=p.name, marks=slow_unless(p is ROBERTSON)) for p in (ROBERTSON, HIRES)],
)
def solved(request: pytest.FixtureRequest) -> tuple[Problem, np.ndarray]:
    """A problem and its solution, to nine digits."""
    found = values(rungax.Rodas5P(), request.param, 1e-9, 1e-14)
    np.testing.assert_allclose(found[-1], request.param.final, rtol=1e-8)
    return request.param, found


@pytest.mark.parametrize("solver", CASES)
def test_dense_output_stays_near_the_solution(
    solver: rungax.AbstractSolver[Any], solved: tuple[Problem, np.ndarray]
) -> None:
    problem, expected = solved
    found = values(solver, problem, RTOL, ATOL)
    error = np.abs(found - expected) / (ATOL + RTOL * np.abs(expected))
    assert error.max() <= LIMITS.get(name(solver), LIMIT), error.max(axis=0)
    # Concentrations are not negative, and do not exceed their maximum.
    assert found.min() >= -ATOL
    assert (found.max(axis=0) / expected.max(axis=0)).max() <= 1 + 1e-2
