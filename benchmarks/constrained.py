"""Differential-algebraic equations, against SUNDIALS' IDA and the BDF of Diffsol, both called from Python."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rungax
from tests.problems.constrained import AKZO_RATES, CHEMICAL_AKZO, ROBERTSON_DAE, Constrained

from .report import Report
from .stiff_problems import sksundae

try:
    import pydiffsol  # pyright: ignore[reportMissingImports]
except ImportError:
    pydiffsol = None

BATCH = 1000
RTOL = 1e-6
ROBERTSON_ATOL, AKZO_ATOL = 1e-8, 1e-10
RATES = jnp.asarray(ROBERTSON_DAE.problem.args)

DIFFSL = """
in_i { k1 = 0.04, k2 = 3e7, k3 = 1e4 }
u_i { a = 1, b = 0, c = 0 }
dudt_i { dadt = 0, dbdt = 0, dcdt = 0 }
M_i { dadt, dbdt, 0 }
F_i { k3 * b * c - k1 * a, k1 * a - k3 * b * c - k2 * b * b, a + b + c - 1 }
"""
"""Robertson's reactions in the language of Diffsol, which compiles them."""

type Solve = Callable[[], Any]


def run(report: Report) -> None:
    if sksundae is None:
        report.note("IDA: not installed (pip install scikit-sundae)")
    if pydiffsol is None:
        report.note("Diffsol: not installed (pip install pydiffsol)")
    solves = _robertson(report)
    akzo = {"rungax Rodas5P": lambda: of_akzo(jnp.asarray(AKZO_RATES))}
    table = report.comparisons(f"Chemical Akzo Nobel as a DAE, rtol={RTOL:g}, atol={AKZO_ATOL:g}, state at the end")
    if sksundae is not None:
        akzo["IDA"] = ida_solve(CHEMICAL_AKZO, _akzo_residual, _akzo_jacobian, AKZO_ATOL)
        table.run("one solve, Rodas5P", akzo["rungax Rodas5P"], akzo["IDA"], against="IDA", bar=0.02)
    _errors(report, (ROBERTSON_DAE, solves), (CHEMICAL_AKZO, akzo))


def _robertson(report: Report) -> dict[str, Solve]:
    """Compare one solve and a batch; return the calls by their names."""
    title = f"Robertson as a DAE to {ROBERTSON_DAE.problem.t1:g}, rtol={RTOL:g}, atol={ROBERTSON_ATOL:g}"
    table, ours = report.comparisons(f"{title}, state at the end"), lambda: of_robertson(RATES)
    solves: dict[str, Solve] = {"rungax Rodas5P": ours}
    if pydiffsol is not None:
        solves["Diffsol BDF"] = diffsol_solve()
        table.run("one solve, Rodas5P", ours, solves["Diffsol BDF"], against="Diffsol BDF", bar=0.2)
    if sksundae is not None:
        solves["IDA"] = ida_solve(ROBERTSON_DAE, _robertson_residual, _robertson_jacobian, ROBERTSON_ATOL)
        table.run("one solve, Rodas5P", ours, solves["IDA"], against="IDA", bar=0.006)
    rates = RATES * jnp.asarray(np.random.default_rng(0).uniform(0.5, 2.0, (BATCH, 3)))
    lanes, separate = jax.jit(jax.vmap(_program(ROBERTSON_DAE, ROBERTSON_ATOL))), [*rates]
    one_by_one = lambda: jnp.stack([of_robertson(x) for x in separate])
    table.run(f"vmap, {BATCH} rates", lambda: lanes(rates), one_by_one, against=f"{BATCH} × one", bar=0.6)
    return solves


def _errors(report: Report, *solved: tuple[Constrained, dict[str, Solve]]) -> None:
    columns = ("problem", "solver", "largest relative error of a component", "≤ IDA")
    table = report.table("Errors", columns, (52, 16, 38, 6))
    for case, solves in solved:
        errors = {name: float(np.max(np.abs(solve() / case.problem.final - 1))) for name, solve in solves.items()}
        for name, error in errors.items():
            compared = name.startswith("rungax") and "IDA" in errors
            verdict = ("yes" if error <= errors["IDA"] else "NO") if compared else ""
            table.add([case.name, name, f"{error:.1e}", verdict])


def _program(case: Constrained, atol: float) -> Callable[[jax.Array], jax.Array]:
    """The last state of a solve, as a function of the rates."""
    problem, term = case.problem, case.term()
    controller = rungax.PIDController(RTOL, atol)

    def solve(rates: jax.Array) -> jax.Array:
        solution = rungax.diffeqsolve(
            term,
            rungax.Rodas5P(),
            problem.t0,
            problem.t1,
            None,
            jnp.asarray(problem.y0),
            tuple(rates),
            stepsize_controller=controller,
            throw=False,
        )
        return solution.ys[-1]

    return solve


of_robertson = jax.jit(_program(ROBERTSON_DAE, ROBERTSON_ATOL))
of_akzo = jax.jit(_program(CHEMICAL_AKZO, AKZO_ATOL))


@functools.cache
def diffsol_solve() -> Solve:
    assert pydiffsol is not None, "asked for only where it is installed"
    ode = pydiffsol.Ode(DIFFSL, matrix_type=pydiffsol.nalgebra_dense, ode_solver=pydiffsol.bdf)
    ode.rtol, ode.atol = RTOL, ROBERTSON_ATOL
    rates, times = np.asarray(RATES), np.array([ROBERTSON_DAE.problem.t1])
    return lambda: ode.solve_dense(rates, times).ys[:, -1]


# ---------------------------------------------------------------------------------- IDA: residuals and their Jacobians

type Residual = Callable[[float, np.ndarray, np.ndarray, np.ndarray], None]
type Jacobian = Callable[[float, np.ndarray, np.ndarray, np.ndarray, float, np.ndarray], None]


def ida_solve(case: Constrained, residual: Residual, jacobian: Jacobian, atol: float) -> Solve:
    """A call that returns the last state by IDA with an exact Jacobian, which starts from consistent slopes."""
    assert sksundae is not None, "asked for only where it is installed"
    problem, y0 = case.problem, np.asarray(case.problem.y0)
    slopes = case.matrix(problem.t0, y0) @ np.asarray(problem.field(problem.t0, jnp.asarray(y0), problem.args))
    options = {"rtol": RTOL, "atol": atol, "jacfn": jacobian, "max_num_steps": 100_000}
    solver = sksundae.ida.IDA(residual, **options)
    # With only two times, it would return the state at every step.
    times = np.array([problem.t0, 0.5 * (problem.t0 + problem.t1), problem.t1])

    def call() -> np.ndarray:
        solved = solver.solve(times, y0, slopes)
        if not solved.success:
            raise RuntimeError(solved.message)
        return solved.y[-1]

    return call


def _robertson_residual(t: float, y: np.ndarray, yp: np.ndarray, out: np.ndarray) -> None:
    a, b, c = y.tolist()
    k1, k2, k3 = ROBERTSON_DAE.problem.args
    slow, fast, back = k1 * a, k2 * b * b, k3 * b * c
    out[0], out[1], out[2] = yp[0] - back + slow, yp[1] - slow + back + fast, a + b + c - 1


def _robertson_jacobian(
    t: float, y: np.ndarray, yp: np.ndarray, residual: np.ndarray, shift: float, out: np.ndarray
) -> None:
    _, b, c = y.tolist()
    k1, k2, k3 = ROBERTSON_DAE.problem.args
    out[0] = shift + k1, -k3 * c, -k3 * b
    out[1] = -k1, shift + k3 * c + 2 * k2 * b, k3 * b
    out[2] = 1.0, 1.0, 1.0


def _akzo_residual(t: float, y: np.ndarray, yp: np.ndarray, out: np.ndarray) -> None:
    y1, y2, y3, y4, y5, y6 = y.tolist()
    k1, k2, k3, k4 = AKZO_RATES
    root = max(y2, 0.0) ** 0.5
    r1, r2, r3, r4, r5 = k1 * y1**4 * root, k2 * y3 * y4, k2 / 34.4 * y1 * y5, k3 * y1 * y4**2, k4 * y6**2 * root
    out[0] = yp[0] + 2 * r1 - r2 + r3 + r4
    out[1] = yp[1] + 0.5 * r1 + r4 + 0.5 * r5 - 3.3 * (0.9 / 737 - y2)
    out[2] = yp[2] - r1 + r2 - r3
    out[3] = yp[3] + r2 - r3 + 2 * r4
    out[4] = yp[4] - r2 + r3 - r5
    out[5] = y6 - 115.83 * y1 * y4


def _akzo_jacobian(
    t: float, y: np.ndarray, yp: np.ndarray, residual: np.ndarray, shift: float, out: np.ndarray
) -> None:
    y1, y2, y3, y4, y5, y6 = y.tolist()
    k1, k2, k3, k4 = AKZO_RATES
    root = max(y2, 1e-30) ** 0.5
    r1 = np.array([4 * k1 * y1**3 * root, k1 * y1**4 / (2 * root), 0, 0, 0, 0])
    r2 = np.array([0, 0, k2 * y4, k2 * y3, 0, 0])
    r3 = np.array([k2 / 34.4 * y5, 0, 0, 0, k2 / 34.4 * y1, 0])
    r4 = np.array([k3 * y4**2, 0, 0, 2 * k3 * y1 * y4, 0, 0])
    r5 = np.array([0, k4 * y6**2 / (2 * root), 0, 0, 0, 2 * k4 * y6 * root])
    out[0] = 2 * r1 - r2 + r3 + r4
    out[1] = 0.5 * r1 + r4 + 0.5 * r5
    out[1, 1] += 3.3
    out[2] = -r1 + r2 - r3
    out[3] = r2 - r3 + 2 * r4
    out[4] = -r2 + r3 - r5
    out[5] = [-115.83 * y4, 0, 0, -115.83 * y1, 0, 1]
    for i in range(5):
        out[i, i] += shift
