"""Implicit methods on Robertson's reactions, against Diffrax, SciPy and SUNDIALS' CVODE."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import rungax

from .explicit import jitted
from .report import Comparisons, Report, Table, show_seconds
from .stiff_problems import SCIPY, STIFF_ROBERTSON, Solve, cvode_solve, scipy_solve, sksundae
from .timing import run_times

PROBLEM = STIFF_ROBERTSON.problem
RTOL, ATOL = 1e-6, STIFF_ROBERTSON.atol(1e-6)
BATCH = 1000
Y0 = jnp.asarray(PROBLEM.y0)
RATES = tuple(jnp.asarray(rate) for rate in PROBLEM.args)
# Chosen so that the components contribute equally.
LOSS_WEIGHTS = jnp.array([1.0, 1e5, 1.0])
# The gradient with respect to relative changes of the rates, by differences of solutions with the method that computed
# the reference values of the tests.
LOSS_GRADIENT = np.array([-5.87550427731e-3, -6.56946153602e-3, 5.86421817680e-3])
MAX_STEPS, GRADIENT_MAX_STEPS = 100_000, 4096
ACCURATE = 1e-5

type Field = Callable[[Any, Any, Any], Any]
type Make = Callable[[ModuleType], Callable[..., Any]]


def run(report: Report) -> None:
    title = f"Robertson to {PROBLEM.t1:g}, rtol={RTOL:g}, atol={ATOL:g}, dt0={STIFF_ROBERTSON.dt0:g} in both"
    _comparisons(report.comparisons(title))
    columns = ("method", "accepted", "rejected", "error", f"≤ diffrax or {ACCURATE:g}", "of the gradient")
    widths = (24, 9, 9, 9, 18, 15)
    _errors(report.table("Steps, and the largest relative error of a component", columns, widths))
    _elsewhere(report, report.table("The same problem elsewhere", ("method", "time", "error", ""), (24, 9, 9, 0)))


def solve(library: ModuleType, solver: str, rates: Any, field: Field = PROBLEM.field, **options: Any) -> Any:
    """A solve by either library; a first step is given because Diffrax would otherwise take 0.01 everywhere."""
    controller = library.PIDController(rtol=RTOL, atol=ATOL)
    term, solver_ = library.ODETerm(field), getattr(library, solver)()
    options = {"max_steps": MAX_STEPS, "throw": False, "stepsize_controller": controller, **options}
    return library.diffeqsolve(term, solver_, PROBLEM.t0, PROBLEM.t1, STIFF_ROBERTSON.dt0, Y0, rates, **options)


def _comparisons(table: Comparisons) -> None:
    def compare(work: str, ours: str, make: Callable[[str], Make], *args: Any, bar: float | None) -> None:
        """Compare a solver of Rungax with Diffrax's Kvaerno5."""
        theirs = jitted(make("Kvaerno5"), diffrax, *args)
        table.run(work, jitted(make(ours), rungax, *args), theirs, against="diffrax Kvaerno5", bar=bar)

    def one(solver: str) -> Make:
        return lambda library: lambda rates: solve(library, solver, rates).ys

    def sweep(solver: str) -> Make:
        return lambda library: jax.vmap(lambda rates: solve(library, solver, rates).ys)

    def gradient(solver: str) -> Make:
        return lambda library: _gradient(library, solver)

    factors = np.random.default_rng(0).uniform(0.5, 2.0, (3, BATCH))
    batch = tuple(rate * jnp.asarray(factor) for rate, factor in zip(RATES, factors, strict=True))
    compare("one solve, Kvaerno5", "Kvaerno5", one, RATES, bar=0.2)
    compare("one solve, Rodas5P (aim: 0.1 ms)", "Rodas5P", one, RATES, bar=0.03)
    compare(f"vmap, {BATCH} rates, Rodas5P", "Rodas5P", sweep, batch, bar=0.1)
    compare(f"vmap, {BATCH} rates, Kvaerno5", "Kvaerno5", sweep, batch, bar=None)
    work = f"gradient by relative changes of the rates, max_steps={GRADIENT_MAX_STEPS}"
    compare(work, "Kvaerno5", gradient, jnp.ones(3), bar=0.3)
    table.build("trace + lower + compile, Kvaerno5", _maker(rungax), _maker(diffrax), bar=0.7)


def _gradient(library: ModuleType, solver: str) -> Callable[[jax.Array], jax.Array]:
    """The gradient of a weighted sum of the last state with respect to relative changes of the rates."""

    def loss(factors: jax.Array) -> jax.Array:
        rates = [rate * factor for rate, factor in zip(RATES, factors, strict=True)]
        return jnp.sum(LOSS_WEIGHTS * solve(library, solver, rates, max_steps=GRADIENT_MAX_STEPS).ys[0])

    return jax.grad(loss)


def _maker(library: ModuleType) -> Callable[[], Any]:
    def make() -> tuple[Callable[..., Any], tuple[Any, ...]]:
        field = lambda t, y, args: PROBLEM.field(t, y, args)
        return lambda rates: solve(library, "Kvaerno5", rates, field).ys, (RATES,)

    return make


def _errors(table: Table) -> None:
    theirs = _error(table, diffrax, "Kvaerno5", None)
    for solver in ("Kvaerno5", "Rodas5P"):
        _error(table, rungax, solver, theirs)


def _error(table: Table, library: ModuleType, solver: str, bar: float | None) -> float | None:
    """Add a row and return the error, which meets the bar if it is at most `bar` or `ACCURATE`."""
    name = f"{library.__name__} {solver}"
    try:
        solution = jax.jit(lambda rates: solve(library, solver, rates))(RATES)
        arrived = bool(library.is_successful(solution.result))
        gradient = np.asarray(jax.jit(_gradient(library, solver))(jnp.ones(3)))
    except Exception as error:
        table.add([name, "–", "–", "–", type(error).__name__, "–"])
        return None
    steps = [str(int(solution.stats[f"num_{kind}_steps"])) for kind in ("accepted", "rejected")]
    error = STIFF_ROBERTSON.relative_error(solution.ys[0]) if arrived else float("inf")
    verdict = "" if bar is None else ("yes" if error <= max(bar, ACCURATE) else "NO")
    gradient_error = float(np.max(np.abs(gradient / LOSS_GRADIENT - 1)))
    table.add([name, *steps, f"{error:.1e}", verdict, f"{gradient_error:.1e}"])
    return error


def _elsewhere(report: Report, table: Table) -> None:
    calls: dict[str, Solve] = {f"scipy {method}": scipy_solve(STIFF_ROBERTSON, method, RTOL) for method in SCIPY}
    if sksundae is not None:
        calls["CVODE"] = cvode_solve(STIFF_ROBERTSON, RTOL)
    for name, call in calls.items():
        try:
            error = STIFF_ROBERTSON.relative_error(call())
            table.add([name, show_seconds(run_times([call], report.budget / 3)[0]), f"{error:.1e}", ""])
        except Exception as problem:
            table.add([name, "–", "–", f"{type(problem).__name__}: {problem}".replace("|", "/")])
    if sksundae is None:
        table.add(["CVODE", "–", "–", "not installed: pip install scikit-sundae"])
    else:
        report.note(f"CVODE is that of scikit-sundae {sksundae.__version__}.")
