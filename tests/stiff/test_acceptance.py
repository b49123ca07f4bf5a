"""With ordinary tolerances and no other options, every method for stiff equations solves the standard problems."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import MULTISTEP, STIFF, name, order, slow_unless, terms_for
from ..problems.base import Problem
from ..problems.stiff import HIRES, OREGONATOR, ROBERTSON_LONG, VAN_DER_POL

PROBLEMS = (HIRES, OREGONATOR, VAN_DER_POL, ROBERTSON_LONG)
RTOL, ATOL = 1e-6, 1e-10
ACCURACY, NEGLIGIBLE = 6e-3, 1e-8
"""Relative error allowed for each component, and the absolute value below which it counts as zero."""

OFTEN = {
    *(("Kvaerno3", VAN_DER_POL), ("Kvaerno5", HIRES), ("Sil3", OREGONATOR), ("KenCarp3", VAN_DER_POL)),
    *(("Rosenbrock23", OREGONATOR), ("Rodas4", ROBERTSON_LONG)),
}
"""Each problem by some method, and two methods of each family; the other pairs are slow."""
CASES = [
    pytest.param(
        solver, problem, id=f"{name(solver)}-{problem.name}", marks=slow_unless((name(solver), problem) in OFTEN)
    )
    for solver in STIFF + MULTISTEP
    for problem in PROBLEMS
    if order(solver) >= 2 or problem is HIRES
]


@pytest.mark.parametrize(("solver", "problem"), CASES)
def test_standard_problem_is_solved(solver: rungax.AbstractSolver[Any], problem: Problem) -> None:
    """A solver for two terms gets the whole field as its implicit one."""
    terms = terms_for(solver, problem.field, 0.0)

    @jax.jit
    def solve(t1: jax.Array, y0: jax.Array) -> rungax.Solution:
        controller = rungax.PIDController(rtol=RTOL, atol=ATOL)
        return rungax.diffeqsolve(
            terms,
            solver,
            problem.t0,
            t1,
            None,
            y0,
            problem.args,
            stepsize_controller=controller,
            max_steps=200_000,
            throw=False,
        )

    solution = solve(jnp.asarray(problem.t1), jnp.asarray(problem.y0))
    assert solution.result == rungax.RESULTS.successful
    error = np.abs(np.asarray(solution.ys[-1]) - problem.final) / (np.abs(problem.final) + NEGLIGIBLE)
    assert error.max() <= ACCURACY, error
