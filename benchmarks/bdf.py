"""Steps and errors of `BDF` at given tolerances, against those of SciPy's BDF and SUNDIALS' CVODE.

The absolute tolerance is proportional to the relative one. The error is that of the last state: the root mean square of
the components' errors, each relative to the larger of its size and the ratio of the two tolerances. No method is
informed of the jumps in Medical Akzo Nobel, EMEP and the Brusselator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.sparse

import rungax
from tests.problems.base import Problem, traits
from tests.problems.emep import EMEP
from tests.problems.grids import HEATING, brusselator, exact_heat, heat
from tests.problems.ivp_test_set import BEAM, RING_MODULATOR
from tests.problems.stiff import HIRES, MEDICAL_AKZO, POLLUTION, ROBERTSON_LATE

from .report import Report, Table
from .stiff_problems import sksundae

TOLERANCES = tuple(10.0**-k for k in range(3, 11))
MAX_STEPS = 1_000_000
BAR = 1.5
"""The largest error of ours, relative to the larger of the others'."""


class Case(NamedTuple):
    """A problem, the ratio of its tolerances, the pattern of a sparse Jacobian, and the tolerances of its runs.

    Where errors are decided by the stability of the formulas, `judged` is false, and no error is compared.
    """

    problem: Problem
    scale: float
    pattern: scipy.sparse.csc_array | None = None
    tolerances: tuple[float, ...] = TOLERANCES
    judged: bool = True

    def error(self, y: np.ndarray) -> float:
        reference = self.problem.final
        return float(np.sqrt(np.mean(((y - reference) / np.maximum(np.abs(reference), self.scale)) ** 2)))


class Run(NamedTuple):
    """The last state, the number of steps, and the number of rejected steps where the method states it."""

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
    table = report.table("Accepted steps and errors", columns, (20, 6, 8, 8, 7, 7, 8, 8, 8, 6, 5))
    for case in _cases(report.quick):
        _measure(case, table)


def _cases(quick: bool) -> list[Case]:
    """All problems; in a quick run two of them."""
    small = [Case(HIRES, 1e-4), Case(ROBERTSON_LATE, 1e-10)]
    if quick:
        return [case._replace(tolerances=TOLERANCES[:2]) for case in small]
    band = scipy.sparse.csc_array(scipy.sparse.diags_array([1.0] * 5, offsets=range(-2, 3), shape=(400, 400)))
    return [
        *small,
        Case(POLLUTION, 1e-6),
        Case(MEDICAL_AKZO, 1e-4, band),
        Case(EMEP, 1e4),
        Case(_heat(16), 1e-3, heat(16).pattern),
        Case(_brusselator(16), 1e-2, brusselator(16).pattern),
        Case(BEAM, 1e-2, judged=False, tolerances=TOLERANCES[:6]),
        Case(RING_MODULATOR, 1e-2, judged=False, tolerances=TOLERANCES[:4]),
    ]


def _heat(width: int) -> Problem:
    grid, t1 = heat(width), 0.1
    reference = tuple(exact_heat(width, t1, 1.0).tolist())
    return Problem("Heat, 16 x 16", grid.field, grid.y0, 0.0, t1, 1.0, reference=reference, traits=traits("stiff"))


def _brusselator(width: int) -> Problem:
    """The two-dimensional Brusselator with a reference by a method of another family."""
    grid, t1, args = brusselator(width), 11.5, (3.4, 10.0)
    controller = rungax.ClipStepSizeController(rungax.PIDController(1e-11, 1e-13), jump_ts=[HEATING])
    term = rungax.ODETerm(grid.field, sparsity=grid.pattern)
    solution = rungax.diffeqsolve(
        term,
        rungax.Rodas5P(),
        0.0,
        t1,
        None,
        jnp.asarray(grid.y0),
        args,
        stepsize_controller=controller,
        max_steps=None,
    )
    reference = tuple(np.asarray(solution.ys)[-1].tolist())
    name = f"Brusselator, {width} x {width}"
    return Problem(name, grid.field, grid.y0, 0.0, t1, args, reference=reference, traits=traits("stiff"))


def _measure(case: Case, table: Table) -> None:
    ours, theirs = _ours(case), [_scipy(case)] + [_cvode(case)] * (sksundae is not None)
    for rtol in case.tolerances:
        mine, others = _attempt(ours, rtol), [_attempt(solve, rtol) for solve in theirs]
        error, errors = case.error(mine.y), [case.error(other.y) for other in others]
        largest = max((value for value in errors if np.isfinite(value)), default=np.nan)
        steps = [str(mine.num_steps), str(mine.num_rejected), *(str(other.num_steps) for other in others)]
        shown = [f"{value:.1e}" for value in (error, *errors)]
        blank = ["–"] * (sksundae is None)
        verdict = ("yes" if error <= BAR * largest else "NO") if case.judged else ""
        numbers = [*steps, *blank, *shown, *blank, f"{error / largest:.2f}"]
        table.add([case.problem.name, f"{rtol:.0e}", *numbers, verdict])


def _attempt(solve: Callable[[float], Run], rtol: float) -> Run:
    """The result, or no numbers where the solver has failed."""
    try:
        return solve(rtol)
    except RuntimeError:
        return Run(np.asarray(np.nan), -1)


def _ours(case: Case) -> Callable[[float], Run]:
    problem = case.problem

    @jax.jit
    def program(y0: jax.Array, rtol: jax.Array) -> rungax.Solution:
        term = rungax.ODETerm(problem.field, sparsity=case.pattern)
        controller = rungax.PIDController(rtol, case.scale * rtol)
        return rungax.diffeqsolve(
            term, rungax.BDF(), problem.t0, problem.t1, None, y0, problem.args, stepsize_controller=controller,
            max_steps=MAX_STEPS, throw=False,
        )  # fmt: skip

    def solve(rtol: float) -> Run:
        solution = program(jnp.asarray(problem.y0), jnp.asarray(rtol))
        y = np.where(bool(rungax.is_successful(solution.result)), np.asarray(solution.ys)[-1], np.nan)
        accepted, rejected = (int(solution.stats[f"num_{kind}_steps"]) for kind in ("accepted", "rejected"))
        return Run(y, accepted, rejected)

    return solve


def _numpy(case: Case) -> tuple[Callable[[float, np.ndarray], np.ndarray], Callable[[float, np.ndarray], np.ndarray]]:
    """The field and its Jacobian, a full matrix, for solvers that use NumPy."""
    field = lambda t, y: case.problem.field(t, y, case.problem.args)
    slope, jacobian = jax.jit(field), jax.jit(jax.jacfwd(field, argnums=1))
    return lambda t, y: np.asarray(slope(t, y)), lambda t, y: np.asarray(jacobian(t, y))


def _scipy(case: Case) -> Callable[[float], Run]:
    problem, (slope, jacobian) = case.problem, _numpy(case)
    matrix = {"jac": jacobian} if case.pattern is None else {"jac_sparsity": case.pattern}

    def solve(rtol: float) -> Run:
        options: dict[str, Any] = {"rtol": rtol, "atol": case.scale * rtol, **matrix}
        solved = scipy.integrate.solve_ivp(slope, (problem.t0, problem.t1), problem.y0, "BDF", **options)
        if not solved.success:
            raise RuntimeError(solved.message)
        return Run(solved.y[:, -1], solved.t.size - 1)

    return solve


def _cvode(case: Case) -> Callable[[float], Run]:
    assert sksundae is not None, "asked for only where it is installed"
    problem, (slope, jacobian) = case.problem, _numpy(case)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = slope(t, y)

    def fill(t: float, y: np.ndarray, yp: np.ndarray, matrix: np.ndarray) -> None:
        matrix[:] = jacobian(t, y)

    matrix = {"jacfn": fill} if case.pattern is None else {"linsolver": "sparse", "sparsity": case.pattern}

    def solve(rtol: float) -> Run:
        options: dict[str, Any] = {"rtol": rtol, "atol": case.scale * rtol, "max_num_steps": MAX_STEPS, **matrix}
        # Between two times, it returns the state at every step.
        solved = sksundae.cvode.CVODE(rhs, **options).solve(np.array([problem.t0, problem.t1]), problem.y0)
        if not solved.success:
            raise RuntimeError(solved.message)
        return Run(solved.y[-1], len(solved.t) - 1)

    return solve
