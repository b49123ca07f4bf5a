"""Numbers of accepted and rejected steps on standard problems are those of a committed table, within a tenth.

A release of a dependency, or a change here, that makes solvers take other steps is noticed. `step_counts.csv` has a
line for each problem, solver and relative tolerance. It is made anew, in about ten minutes, by

    python -m tests.stiff.test_step_counts > tests/stiff/step_counts.csv
"""

import csv
import itertools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import rungax

from ..catalogue import MULTISTEP, STIFF, name, slow_unless, terms_for
from ..problems.base import Problem
from ..problems.stiff import HIRES, OREGONATOR, ROBERTSON_LONG, VAN_DER_POL

TABLE = pathlib.Path(__file__).with_name("step_counts.csv")
COLUMNS = ("problem", "solver", "rtol", "accepted", "rejected")
PROBLEMS = (ROBERTSON_LONG, HIRES, OREGONATOR, VAN_DER_POL)
TOLERANCES = ("1e-3", "1e-6", "1e-9")
ATOL = 1e-4
"""Absolute tolerance relative to the relative one: small against every component that matters."""
MAX_STEPS = 10_000_000

OFTEN = {("Kvaerno5", VAN_DER_POL), ("KenCarp4", OREGONATOR), ("TRBDF2", HIRES), ("Rodas5P", ROBERTSON_LONG)}
CASES = [
    pytest.param(s, p, id=f"{name(s)}-{p.name}", marks=slow_unless((name(s), p) in OFTEN))
    for s, p in itertools.product(STIFF + MULTISTEP, PROBLEMS)
]


def counter(solver: rungax.AbstractSolver[Any], problem: Problem) -> Callable[[str], tuple[int, int]]:
    """The numbers of accepted and of rejected steps, as a function of the relative tolerance."""
    terms = terms_for(solver, problem.field, 0.0)

    @jax.jit
    def solve(rtol: jax.Array, t1: jax.Array) -> rungax.Solution:
        return rungax.diffeqsolve(
            terms, solver, problem.t0, t1, None, jnp.asarray(problem.y0), problem.args,
            stepsize_controller=rungax.PIDController(rtol=rtol, atol=ATOL * rtol), max_steps=MAX_STEPS, throw=False,
        )  # fmt: skip

    def count(rtol: str) -> tuple[int, int]:
        solution = solve(jnp.asarray(float(rtol)), jnp.asarray(problem.t1))
        assert solution.result == rungax.RESULTS.successful, (name(solver), problem.name, rtol)
        return int(solution.stats["num_accepted_steps"]), int(solution.stats["num_rejected_steps"])

    return count


def print_table() -> None:
    """Print the table of all solvers."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(COLUMNS)
    for problem, solver in itertools.product(PROBLEMS, STIFF + MULTISTEP):
        count = counter(solver, problem)
        for rtol in TOLERANCES:
            lines.writerow((problem.name, name(solver), rtol, *count(rtol)))


def committed(solver: rungax.AbstractSolver[Any], problem: Problem) -> dict[str, tuple[int, int]]:
    """The lines of the table for a solver and a problem: the two numbers by the tolerance."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["problem"] == problem.name]
    lines = [line for line in lines if line["solver"] == name(solver)]
    return {line["rtol"]: (int(line["accepted"]), int(line["rejected"])) for line in lines}


@pytest.mark.parametrize(("solver", "problem"), CASES)
def test_steps_are_as_many_as_ever(solver: rungax.AbstractSolver[Any], problem: Problem) -> None:
    expected, count = committed(solver, problem), counter(solver, problem)
    assert tuple(expected) == TOLERANCES
    for rtol, (accepted, rejected) in expected.items():
        found = count(rtol)
        # Small numbers may differ by a few; the number of rejected steps alone says less than that of all attempts.
        np.testing.assert_allclose(found[0], accepted, rtol=0.1, atol=2, err_msg=f"accepted at {rtol}")
        np.testing.assert_allclose(sum(found), accepted + rejected, rtol=0.1, atol=2, err_msg=f"attempts at {rtol}")


# ---------------------------------------------------------------------------------------- against another implicit code


def _van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    x, v = y
    return jnp.stack([v, mu * ((1 - x * x) * v - x)])


@jax.jit
def _attempts(mu: jax.Array) -> tuple[jax.Array, jax.Array]:
    solution = rungax.diffeqsolve(
        _van_der_pol, rungax.Kvaerno5(), 0.0, 2.0, None, jnp.asarray([2.0, 0.0]), mu,
        stepsize_controller=rungax.PIDController(rtol=1e-3, atol=1e-6),
    )  # fmt: skip
    return solution.stats["num_steps"], solution.stats["num_rejected_steps"]


@pytest.mark.parametrize("mu", [1e3, 1e4, 1e5, 1e6])
def test_kvaerno5_takes_about_as_many_steps_as_radau(mu: float) -> None:
    """At a loose tolerance: attempts against the accepted steps of SciPy's Radau, of the same order."""
    field = lambda t, y: [y[1], mu * ((1 - y[0] ** 2) * y[1] - y[0])]
    radau = solve_ivp(field, (0.0, 2.0), [2.0, 0.0], method="Radau", rtol=1e-3, atol=1e-6)
    attempts, rejected = _attempts(jnp.asarray(mu))
    assert int(attempts) <= 1.5 * (len(radau.t) - 1)
    assert int(rejected) <= 0.35 * int(attempts)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print_table()
