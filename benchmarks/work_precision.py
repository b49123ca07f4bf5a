"""Time against achieved error, from 1e-4 to 1e-12, for explicit methods of Rungax and of other libraries.

The error is that of the last state, relative to its norm. Every method is timed at rtol = atol = 1e-3, ..., 1e-14. The
time for a given error is interpolated between the fastest points, on logarithmic scales.
"""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate

import rungax

from . import hand_written
from .problems import LORENZ, LOTKA_VOLTERRA, PLEIADES, Problem
from .report import FIGURES, Report, show_seconds
from .timing import run_times

try:
    import heyoka
except ImportError:
    heyoka = None

ERRORS = [10.0**-k for k in range(4, 13)]
TOLERANCES = [10.0**-k for k in range(3, 15)]
OURS = ("Tsit5", "Dopri8", "Vern7", "Vern9")
THEIRS = ("Tsit5", "Dopri8")
BAR = 2.0

type Solve = Callable[[], Any]


class Point(NamedTuple):
    error: float
    seconds: float


def run(report: Report) -> None:
    curves = {problem.name: _measure(problem, report) for problem in (LORENZ, LOTKA_VOLTERRA, PLEIADES)}
    if not report.quick:
        _plot(curves)


def _measure(problem: Problem, report: Report) -> dict[str, list[Point]]:
    """The points of every method; their table is added to the report."""
    title = f"{problem.name}, T={problem.t1:g}: time to reach a relative error of"
    columns = ["method", *(f"{error:.0e}" for error in ERRORS)]
    table = report.table(title, columns, [24, *[9] * len(ERRORS)])
    tolerances = TOLERANCES[::4] if report.quick else TOLERANCES
    curves: dict[str, list[Point]] = {}
    for name, solve_at in _methods(problem):
        points = [_point(problem, solve_at(tol), report.budget / 10) for tol in tolerances]
        curves[name] = [point for point in points if math.isfinite(point.error)]
        table.add([name, *(show_seconds(time_to_reach(curves[name], error)) for error in ERRORS)])
    if heyoka is not None:
        ratios = [_best_of_ours(curves, error) / time_to_reach(curves["heyoka"], error) for error in ERRORS]
        cells = ["–" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios]
        table.add([f"ours / heyoka (aim: {BAR:g})", *cells])
    return curves


def _point(problem: Problem, solve: Solve, budget: float) -> Point:
    reference = np.asarray(problem.reference)
    error = float(np.linalg.norm(np.asarray(solve()) - reference) / np.linalg.norm(reference))
    # At least 1e-17, because the logarithm of zero is infinite.
    return Point(max(error, 1e-17), run_times([solve], budget)[0])


def _best_of_ours(curves: dict[str, list[Point]], error: float) -> float:
    times = [time_to_reach(curves[f"rungax {name}"], error) for name in OURS]
    return min((time for time in times if not math.isnan(time)), default=math.nan)


def time_to_reach(points: list[Point], error: float) -> float:
    """The time in which a method reaches `error`, interpolated between its best points; NaN beyond the last one."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: point.seconds):
        if not front or point.error < front[-1].error:
            front.append(point)
    reached = [i for i, point in enumerate(front) if point.error <= error]
    if not reached:
        return math.nan
    right = reached[0]
    if right == 0:
        return front[0].seconds
    a, b = front[right - 1], front[right]
    weight = math.log(a.error / error) / math.log(a.error / b.error)
    return a.seconds * (b.seconds / a.seconds) ** weight


# ------------------------------------------------------------------------------------------------------------- methods


def _methods(problem: Problem) -> Iterator[tuple[str, Callable[[float], Solve]]]:
    """The name of every method, and a function from a tolerance to a call without arguments."""
    for name in OURS:
        yield f"rungax {name}", _jax_method(problem, rungax, name)
    for name in THEIRS:
        yield f"diffrax {name}", _jax_method(problem, diffrax, name)
    yield "Tsit5 loop by hand", _by_hand(problem)
    for name in ("DOP853", "LSODA"):
        yield f"scipy {name}", _scipy(problem, name)
    if heyoka is not None:
        yield "heyoka", _heyoka(problem)


def _jax_method(problem: Problem, library: ModuleType, name: str) -> Callable[[float], Solve]:
    def call(y0: jax.Array, args: Any, tol: jax.Array) -> jax.Array:
        solution = library.diffeqsolve(
            library.ODETerm(problem.field),
            getattr(library, name)(),
            0.0,
            problem.t1,
            0.01,
            y0,
            args,
            stepsize_controller=library.PIDController(tol, tol),
            max_steps=100_000,
            throw=False,
        )
        return solution.ys[0]

    return _compiled_once(problem, call)


def _by_hand(problem: Problem) -> Callable[[float], Solve]:
    return _compiled_once(
        problem, lambda y0, args, tol: hand_written.adaptive_steps(problem.field, y0, args, problem.t1, tol)
    )


def _compiled_once(problem: Problem, call: Callable[..., jax.Array]) -> Callable[[float], Solve]:
    """A solve in JAX, one program for all tolerances."""
    jitted = jax.jit(call)
    y0, args = jnp.asarray(problem.y0), jax.tree.map(jnp.asarray, problem.args)

    def at(tol: float) -> Solve:
        tolerance = jnp.asarray(tol)
        return lambda: jitted(y0, args, tolerance)

    return at


def _scipy(problem: Problem, method: str) -> Callable[[float], Solve]:
    field = _NUMPY_FIELDS[problem.name]
    y0, span = np.asarray(problem.y0), (0.0, problem.t1)

    def at(tol: float) -> Solve:
        rtol = max(tol, 3e-14)  # SciPy warns below
        return lambda: scipy.integrate.solve_ivp(field, span, y0, method=method, rtol=rtol, atol=tol).y[:, -1]

    return at


def _heyoka(problem: Problem) -> Callable[[float], Solve]:
    system = _HEYOKA_SYSTEMS[problem.name]()

    def at(tol: float) -> Solve:
        integrator = heyoka.taylor_adaptive(system, list(problem.y0), tol=tol)

        def call() -> np.ndarray:
            integrator.time = 0.0
            integrator.state[:] = problem.y0
            integrator.propagate_until(problem.t1)
            return integrator.state

        return call

    return at


# --------------------------------------------------------------------------------- the problems in other languages


def _numpy_lorenz(t: float, y: np.ndarray) -> list[float]:
    sigma, rho, beta = LORENZ.args
    a, b, c = y
    return [sigma * (b - a), a * (rho - c) - b, a * b - beta * c]


def _numpy_lotka_volterra(t: float, y: np.ndarray) -> list[float]:
    birth, hunt, grow, death = LOTKA_VOLTERRA.args
    hare, lynx = y
    return [birth * hare - hunt * hare * lynx, grow * hare * lynx - death * lynx]


def _numpy_pleiades(t: float, y: np.ndarray) -> np.ndarray:
    position = y[:14].reshape(2, 7)
    apart = position[:, None, :] - position[:, :, None]
    square = np.sum(apart**2, axis=0) + np.eye(7)
    pull = np.arange(1.0, 8.0) / (square * np.sqrt(square))
    acceleration = np.sum(pull * apart, axis=2)
    return np.concatenate([y[14:], acceleration.reshape(14)])


def _heyoka_lorenz() -> list[tuple[Any, Any]]:
    sigma, rho, beta = LORENZ.args
    x, y, z = heyoka.make_vars("x", "y", "z")
    return [(x, sigma * (y - x)), (y, x * (rho - z) - y), (z, x * y - beta * z)]


def _heyoka_lotka_volterra() -> list[tuple[Any, Any]]:
    birth, hunt, grow, death = LOTKA_VOLTERRA.args
    hare, lynx = heyoka.make_vars("hare", "lynx")
    return [(hare, birth * hare - hunt * hare * lynx), (lynx, grow * hare * lynx - death * lynx)]


def _heyoka_pleiades() -> list[tuple[Any, Any]]:
    stars = range(7)
    xs, ys, us, vs = (heyoka.make_vars(*(f"{name}{i}" for i in stars)) for name in "xyuv")
    square = {(i, j): (xs[i] - xs[j]) ** 2 + (ys[i] - ys[j]) ** 2 for i in stars for j in stars if i < j}
    pull = {pair: distance ** (-1.5) for pair, distance in square.items()}
    system = [(place, speed) for place, speed in zip([*xs, *ys], [*us, *vs], strict=True)]
    for places, speeds in ((xs, us), (ys, vs)):
        for i in stars:
            terms = [(j + 1.0) * (places[j] - places[i]) * pull[min(i, j), max(i, j)] for j in stars if j != i]
            system.append((speeds[i], heyoka.sum(terms)))
    return system


_NUMPY_FIELDS = {
    LORENZ.name: _numpy_lorenz,
    LOTKA_VOLTERRA.name: _numpy_lotka_volterra,
    PLEIADES.name: _numpy_pleiades,
}
_HEYOKA_SYSTEMS = {
    LORENZ.name: _heyoka_lorenz,
    LOTKA_VOLTERRA.name: _heyoka_lotka_volterra,
    PLEIADES.name: _heyoka_pleiades,
}


# -------------------------------------------------------------------------------------------------------------- figure


def _plot(curves: dict[str, dict[str, list[Point]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    styles = {"rungax": "o-", "diffrax": "s--", "scipy": "^:", "heyoka": "D-.", "Tsit5": "x-"}
    figure, axes = plt.subplots(1, len(curves), figsize=(5 * len(curves), 4.5), layout="constrained")
    for axis, (problem, methods) in zip(axes, curves.items(), strict=True):
        for name, points in methods.items():
            errors, seconds = zip(*points, strict=True)
            axis.loglog(errors, np.asarray(seconds) * 1e3, styles[name.split()[0]], label=name, markersize=4)
        axis.invert_xaxis()
        axis.set(title=problem, xlabel="relative error at the end", ylabel="time in ms")
    axes[-1].legend(fontsize="small")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "work_precision.png", dpi=100)
    plt.close(figure)
