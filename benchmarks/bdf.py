"""Steps and errors of `BDF` at given tolerances, against those of SciPy's BDF and SUNDIALS' CVODE.

The absolute tolerance is proportional to the relative one. The error is that of the last state: the root mean square of
the components' errors, each relative to the larger of its size and the ratio of the two tolerances. No method is
informed of the jumps in Medical Akzo Nobel and the Brusselator. In EMEP each of them restarts at sunrise and sunset. In
Beam and Ring modulator the stability of the formulas decides the step sizes, and no error is compared.

A whole run with CVODE writes the steps and errors of the other solvers for the tests.
"""

import csv
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate

import rungax
from tests.problems.references import MAX_STEPS, NAMES, TABLE, TOLERANCES, Case, Reference, case

from .report import Report, Table
from .stiff_problems import sksundae

BAR = 1.5
"""The largest error of ours, relative to the larger of the others'."""


class Run(NamedTuple):
    """The last state, the number of accepted steps, and that of rejected steps where the solver states it."""

    y: np.ndarray
    num_steps: int
    num_rejected: int | None = None


def run(report: Report) -> None:
    if sksundae is None:
        report.note("CVODE: not installed (pip install scikit-sundae)")
    columns = (
        "problem",
        "rtol",
        "accepted",
        "rejected",
        "scipy",
        "CVODE",
        "error",
        "scipy",
        "CVODE",
        "ratio",
        f"≤ {BAR}",
    )
    table = report.table("Accepted steps and errors", columns, (16, 6, 8, 8, 7, 7, 8, 8, 8, 6, 5))
    rows: list[list[Any]] = []
    for name in ("HIRES", "Robertson") if report.quick else NAMES:
        problem = case(name)
        for rtol, reference in _measure(name, problem, TOLERANCES[:2] if report.quick else problem.tolerances, table):
            errors = (f"{error:.2e}" for error in (reference.scipy_error, reference.cvode_error))
            rows.append([name, f"{rtol:.0e}", reference.scipy_steps, reference.cvode_steps, *errors])
    if not report.quick and sksundae is not None:
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            header = ["case", "rtol", "SciPy's steps", "CVODE's steps", "SciPy's error", "CVODE's error"]
            csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _measure(name: str, problem: Case, tolerances: tuple[float, ...], table: Table) -> list[tuple[float, Reference]]:
    ours, scipys, cvode, found = _ours(problem), _scipy(problem), _cvode(problem), list[tuple[float, Reference]]()
    for rtol in tolerances:
        mine, others = _attempt(ours, rtol), [_attempt(solve, rtol) for solve in (scipys, cvode)]
        error, errors = problem.error(mine.y), [problem.error(other.y) for other in others]
        reference = Reference(others[0].num_steps, others[1].num_steps, errors[0], errors[1])
        ratio = error / reference.largest_error
        verdict = "" if problem.oscillates else "yes" if ratio <= BAR else "NO"
        steps = [mine.num_steps, mine.num_rejected, *(other.num_steps for other in others)]
        shown = [*map(str, steps), *(f"{value:.1e}" for value in (error, *errors)), f"{ratio:.2f}"]
        table.add([name, f"{rtol:.0e}", *shown, verdict])
        found.append((rtol, reference))
    return found


def _attempt(solve: Callable[[float], Run], rtol: float) -> Run:
    """The result, or no numbers where the solver has failed or is not installed."""
    try:
        return solve(rtol)
    except RuntimeError:
        return Run(np.asarray(np.nan), 0)


def _ours(problem: Case) -> Callable[[float], Run]:
    program = jax.jit(lambda rtol: problem.solve(rungax.BDF(), rtol))

    def solve(rtol: float) -> Run:
        solution = program(jnp.asarray(rtol))
        y = np.where(bool(rungax.is_successful(solution.result)), np.asarray(solution.ys)[-1], np.nan)
        accepted, rejected = (int(solution.stats[f"num_{kind}_steps"]) for kind in ("accepted", "rejected"))
        return Run(y, accepted, rejected)

    return solve


type NumpyField = Callable[[float, np.ndarray], np.ndarray]


def _numpy(problem: Case) -> tuple[NumpyField, NumpyField]:
    """The field and its Jacobian, a full matrix, for solvers that use NumPy."""
    field = lambda t, y: problem.problem.field(t, y, problem.problem.args)
    slope, jacobian = jax.jit(field), jax.jit(jax.jacfwd(field, argnums=1))
    return lambda t, y: np.asarray(slope(t, y)), lambda t, y: np.asarray(jacobian(t, y))


def _scipy(problem: Case) -> Callable[[float], Run]:
    slope, jacobian = _numpy(problem)
    matrix = {"jac": jacobian} if problem.pattern is None else {"jac_sparsity": problem.pattern}

    def solve(rtol: float) -> Run:
        options: dict[str, Any] = {"rtol": rtol, "atol": problem.scale * rtol, **matrix}
        y, num_steps = problem.problem.y0, 0
        for piece in problem.pieces:
            solved = scipy.integrate.solve_ivp(slope, piece, y, "BDF", **options)
            if not solved.success:
                raise RuntimeError(solved.message)
            y, num_steps = solved.y[:, -1], num_steps + solved.t.size - 1
        return Run(y, num_steps)

    return solve


def _cvode(problem: Case) -> Callable[[float], Run]:
    slope, jacobian = _numpy(problem)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = slope(t, y)

    def fill(t: float, y: np.ndarray, yp: np.ndarray, matrix: np.ndarray) -> None:
        del yp
        matrix[:] = jacobian(t, y)

    sparse = {"linsolver": "sparse", "sparsity": problem.pattern}
    matrix = {"jacfn": fill} if problem.pattern is None else sparse

    def solve(rtol: float) -> Run:
        if sksundae is None:
            raise RuntimeError("CVODE is not installed")
        options: dict[str, Any] = {"rtol": rtol, "atol": problem.scale * rtol, "max_num_steps": MAX_STEPS, **matrix}
        y, num_steps = problem.problem.y0, 0
        for piece in problem.pieces:
            # Between two times, it returns the state at every step.
            solved = sksundae.cvode.CVODE(rhs, **options).solve(np.array(piece), y)
            if not solved.success:
                raise RuntimeError(solved.message)
            y, num_steps = solved.y[-1], num_steps + len(solved.t) - 1
        return Run(y, num_steps)

    return solve
