"""Time against achieved error on stiff problems, for implicit methods of Rungax and of other libraries.

Every method is timed at rtol = 1e-4, ..., 1e-8, with a proportional absolute tolerance. The error is that of the last
state, each component relative to its size. The time for a given error is interpolated between the fastest points, on
logarithmic scales. No method is informed of the jump in the Medical Akzo Nobel problem. E5 ends at 1e9, because later
its solution depends on digits that double precision does not have.
"""

import math
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import rungax

from .report import FIGURES, Report, show_seconds
from .stiff_problems import SCIPY, WORK_PRECISION, Stiff, cvode_solve, scipy_solve, sksundae
from .timing import run_times, seconds
from .work_precision import Point, time_to_reach

ERRORS = [10.0**-k for k in range(3, 9)]
TOLERANCES = [10.0**-k for k in range(4, 9)]
QUICK_TOLERANCES = TOLERANCES[:2]
IMPLICIT = ("Kvaerno3", "Kvaerno4", "Kvaerno5", "ROS3P", "Rodas4", "Rodas5P", "Auto")
SPLIT = ("KenCarp3", "KenCarp4", "KenCarp5")
THEIRS = ("Kvaerno3", "Kvaerno4", "Kvaerno5")
LIBRARIES = ("rungax", "diffrax", "scipy", "CVODE")

# A method that takes longer than this many seconds is not run at tighter tolerances. Methods in JAX also have a limit
# of steps, because they cannot be interrupted; it is lower for a large system.
PATIENCE = 10.0
TOO_SLOW = "too slow"
MAX_STEPS, MAX_STEPS_LARGE = 100_000, 3_000

type Solve = Callable[[], Any]


class Run(NamedTuple):
    """The result of one method at one tolerance: a point, or the reason why there is none."""

    point: Point | None
    failure: str = ""
    message: str = ""

    def show(self) -> str:
        if self.point is None:
            return self.failure
        return f"{show_seconds(self.point.seconds)}, {self.point.error:.0e}"


def run(report: Report) -> None:
    if sksundae is None:
        report.note("CVODE: not installed (pip install scikit-sundae)")
    else:
        report.note(f"CVODE is that of scikit-sundae {sksundae.__version__}.")
    curves = {stiff.problem.name: _measure(stiff, report) for stiff in WORK_PRECISION}
    if not report.quick:
        _plot(curves)


def _measure(stiff: Stiff, report: Report) -> dict[str, list[Point]]:
    """The points of every method; the tables of the problem are added to the report."""
    problem = stiff.problem
    tolerances = QUICK_TOLERANCES if report.quick else TOLERANCES
    columns = ["method", *(f"rtol {rtol:.0e}" for rtol in tolerances)]
    title = f"{problem.name} to {problem.t1:g}, {len(problem.y0)} states: time and error"
    table = report.table(title, columns, [24, *[18] * len(tolerances)])
    curves: dict[str, list[Point]] = {}
    failures: dict[str, None] = {}
    for name, solve_at in _methods(stiff):
        runs = _runs(stiff, solve_at, tolerances, report.budget / 10)
        curves[name] = [run.point for run in runs if run.point is not None]
        table.add([name, *(run.show() for run in runs)])
        failures |= dict.fromkeys(f"{name}: {run.message}" for run in runs if run.message)
    for failure in failures:
        report.note(f"- {failure}")
    _compare(report, problem.name, curves)
    return curves


def _runs(stiff: Stiff, solve_at: Callable[[float], Solve], tolerances: list[float], budget: float) -> list[Run]:
    runs: list[Run] = []
    for rtol in tolerances:
        if runs and runs[-1].failure == TOO_SLOW:
            runs.append(runs[-1])
            continue
        try:
            runs.append(_run(stiff, solve_at(rtol), budget))
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            runs.append(Run(None, type(error).__name__, lines[0].replace("|", "/")))
    return runs


def _run(stiff: Stiff, solve: Solve, budget: float) -> Run:
    start = time.perf_counter()
    error = stiff.error(solve())
    if time.perf_counter() - start > 2 * PATIENCE:  # it may have compiled
        return Run(None, TOO_SLOW)
    if not math.isfinite(error):
        return Run(None, "did not arrive")
    taken = seconds(solve)
    if taken > PATIENCE:
        return Run(None, TOO_SLOW)
    taken = taken if taken > budget else run_times([solve], budget)[0]
    return Run(Point(max(error, 1e-17), taken))


# ---------------------------------------------------------------------------------------------------------- comparison


def _compare(report: Report, problem: str, curves: dict[str, list[Point]]) -> None:
    """Add a table of the best method of each library for each error, and a sentence for each other library."""
    columns = ["best of", *(f"{error:.0e}" for error in ERRORS)]
    table = report.table(f"{problem}: time to reach an error of", columns, [24, *[22] * len(ERRORS)])
    best = {library: [_best(curves, library, error) for error in ERRORS] for library in LIBRARIES}
    for library in LIBRARIES:
        table.add([library, *(f"{show_seconds(taken)} {name}".strip() for taken, name in best[library])])
    ours, *others = LIBRARIES
    for library in others:
        pairs = zip(best[ours], best[library], strict=True)
        ratios = [a / b for (a, _), (b, _) in pairs]
        table.add([f"{ours} / {library}", *("–" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)])
    for library in others:
        report.note(f"- {problem}: {_verdict(best[ours], best[library], library)}")


def _best(curves: dict[str, list[Point]], library: str, error: float) -> tuple[float, str]:
    """The time of a library's fastest method for an error, and the name of the method."""
    names = [name for name in curves if name.split()[0] == library]
    times = [(time_to_reach(curves[name], error), name.removeprefix(library).strip()) for name in names]
    return min((pair for pair in times if not math.isnan(pair[0])), default=(math.nan, ""))


def _verdict(ours: list[tuple[float, str]], theirs: list[tuple[float, str]], library: str) -> str:
    """The comparison in words; a library that alone reaches an error counts as ahead there."""
    pairs = [(a, b) for (a, _), (b, _) in zip(ours, theirs, strict=True) if not (math.isnan(a) and math.isnan(b))]
    if not pairs:
        return f"neither rungax nor {library} reaches any of these errors"
    ahead = sum(math.isnan(b) or a < b for a, b in pairs)
    if ahead == len(pairs):
        return f"rungax is ahead of {library} at every error that one of the two reaches"
    return f"rungax is ahead of {library} at {ahead} of {len(pairs)} errors"


# ------------------------------------------------------------------------------------------------------------- methods


def _methods(stiff: Stiff) -> Iterator[tuple[str, Callable[[float], Solve]]]:
    """The name of every method, and a function from a relative tolerance to a call without arguments."""
    for name in (*IMPLICIT, *SPLIT):
        yield f"rungax {name}", _jax_method(stiff, rungax, name)
    for name in THEIRS:
        yield f"diffrax {name}", _jax_method(stiff, diffrax, name)
    for name in SCIPY:
        yield f"scipy {name}", lambda rtol, name=name: scipy_solve(stiff, name, rtol)
    if sksundae is not None:
        yield "CVODE", lambda rtol: cvode_solve(stiff, rtol)


def _jax_method(stiff: Stiff, library: ModuleType, name: str) -> Callable[[float], Solve]:
    """A solve in JAX, one program for all tolerances; its state is NaN if the end was not reached."""
    problem = stiff.problem
    max_steps = MAX_STEPS if len(problem.y0) < 100 or library is rungax else MAX_STEPS_LARGE
    # CVODE and LSODA can use a banded Jacobian as well, Diffrax cannot.
    banded = stiff.band is not None and library is rungax
    structure = {"tags": rungax.Banded(stiff.band, stiff.band)} if banded else {}

    def call(y0: jax.Array, rtol: jax.Array, atol: jax.Array) -> jax.Array:
        term = library.ODETerm(problem.field, **structure)
        if name in SPLIT:
            term = library.MultiTerm(library.ODETerm(lambda t, y, args: jnp.zeros_like(y)), term)
        solution = library.diffeqsolve(
            term,
            _solver(library, name),
            problem.t0,
            problem.t1,
            stiff.dt0,
            y0,
            problem.args,
            stepsize_controller=library.PIDController(rtol=rtol, atol=atol),
            max_steps=max_steps,
            throw=False,
        )
        return jnp.where(library.is_successful(solution.result), solution.ys[0], jnp.nan)

    jitted = jax.jit(call)
    y0 = jnp.asarray(problem.y0)

    def at(rtol: float) -> Solve:
        tolerances = jnp.asarray(rtol), jnp.asarray(stiff.atol(rtol))
        return lambda: jitted(y0, *tolerances)

    return at


def _solver(library: ModuleType, name: str) -> Any:
    if name == "Auto":
        return library.Auto(library.Tsit5(), library.Rodas5P())
    return getattr(library, name)()


# -------------------------------------------------------------------------------------------------------------- figure


def _plot(curves: dict[str, dict[str, list[Point]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    styles = {"rungax": "o-", "diffrax": "s--", "scipy": "^:", "CVODE": "D-."}
    names = list(dict.fromkeys(name for methods in curves.values() for name in methods))
    colours = {name: plt.get_cmap("tab20")(i % 20) for i, name in enumerate(names)}
    figure, axes = plt.subplots(2, 3, figsize=(15, 9), layout="constrained")
    for axis, (problem, methods) in zip(axes.flat, curves.items(), strict=True):
        for name, points in methods.items():
            if points:
                errors, taken = zip(*points, strict=True)
                style = {"color": colours[name], "label": name, "markersize": 4}
                axis.loglog(errors, np.asarray(taken) * 1e3, styles[name.split()[0]], **style)
        axis.invert_xaxis()
        axis.set(title=problem, xlabel="error at the end", ylabel="time in ms")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "stiff_work_precision.png", dpi=100)
    plt.close(figure)
