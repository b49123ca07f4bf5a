"""Large stiff systems: the two-dimensional Brusselator on grids, against SciPy and SUNDIALS' CVODE."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.sparse

import rungax

from .report import Report, Table, show_seconds
from .stiff_problems import sksundae
from .timing import run_times

RTOL, ATOL, T1, DT0 = 1e-5, 1e-7, 11.5, 1e-6
ARGS = (jnp.asarray(3.4), jnp.asarray(10.0))


class Brusselator(NamedTuple):
    """The equation on a periodic grid.

    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.10, problem BRUSS-2D.
    """

    field: Callable[[Any, Any, Any], Any]
    y0: jax.Array
    pattern: scipy.sparse.csc_array


@functools.cache
def brusselator(width: int) -> Brusselator:
    x = np.linspace(0.0, 1.0, width)
    x, y = np.meshgrid(x, x, indexing="ij")
    heated = jnp.asarray((x - 0.3) ** 2 + (y - 0.6) ** 2 <= 0.01)

    def spread(u: Any) -> Any:
        return jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1) - 4 * u

    def field(t: Any, state: Any, args: Any) -> Any:
        (feed, alpha), (u, v) = args, state.reshape(2, width, width)
        rate, reaction = alpha * (width - 1) ** 2, u * u * v
        heat = jnp.where(t >= 1.1, 5.0, 0.0) * heated
        slopes = [1.0 + reaction - (feed + 1) * u + rate * spread(u) + heat, feed * u - reaction + rate * spread(v)]
        return jnp.stack(slopes).reshape(-1)

    eye = scipy.sparse.eye_array(width)
    ring = scipy.sparse.csr_array(sum(np.roll(np.eye(width), shift, axis=1) for shift in (-1, 0, 1)))
    grid, same = scipy.sparse.kron(ring, eye) + scipy.sparse.kron(eye, ring), scipy.sparse.eye_array(width**2)
    start = np.stack([22 * (y * (1 - y)) ** 1.5, 27 * (x * (1 - x)) ** 1.5]).reshape(-1)
    return Brusselator(
        field, jnp.asarray(start), scipy.sparse.csc_array(scipy.sparse.block_array([[grid, same], [same, grid]]))
    )


def run(report: Report) -> None:
    widths = (16,) if report.quick else (16, 32, 64)
    table = report.comparisons(f"Brusselator to {T1:g}, rtol={RTOL:g}, atol={ATOL:g}, BDF with the pattern")
    for width in widths:
        bars = (None, None) if width == 16 else (0.3, 0.6 if width == 32 else 0.3)
        ours = ours_of(width)
        table.run(f"N={width} ({2 * width**2} states)", ours, scipy_of(width), against="scipy BDF", bar=bars[0])
        if sksundae is not None:
            table.run(f"N={width}", ours, cvode_of(width), against="CVODE, sparse", bar=bars[1])
    width = widths[-1] if report.quick else 32
    table.run(
        f"N={width}, gradient by A and alpha",
        gradient_of(width),
        ours_of(width),
        against="the solve",
        bar=6,
        same_values=False,
    )
    _steps(
        report, report.table("Steps", ("N", "accepted", "rejected", "scipy", "difference"), (6, 9, 9, 9, 12)), widths
    )
    _costs(report, report.table("Growth and compilation", ("what", "value", "bar"), (40, 12, 10)), widths)


def solve(width: int, args: Any, **options: Any) -> Any:
    problem = brusselator(width)
    term = rungax.ODETerm(problem.field, sparsity=problem.pattern)
    options = {"max_steps": None, "throw": False} | options
    controller = rungax.PIDController(RTOL, ATOL)
    return rungax.diffeqsolve(
        term, rungax.BDF(), 0.0, T1, DT0, problem.y0, args, stepsize_controller=controller, **options
    )


def ours_of(width: int) -> Callable[[], Any]:
    program = jax.jit(lambda args: solve(width, args))
    return lambda: program(ARGS).ys[-1]


def gradient_of(width: int) -> Callable[[], Any]:
    loss = lambda args: jnp.mean(solve(width, args, max_steps=4096).ys[-1] ** 2)
    program = jax.jit(jax.grad(loss))
    return lambda: program(ARGS)


def _numpy_field(width: int) -> Callable[[float, np.ndarray], np.ndarray]:
    program = jax.jit(lambda t, y: brusselator(width).field(t, y, ARGS))
    return lambda t, y: np.asarray(program(t, y))


@functools.cache
def scipy_of(width: int) -> Callable[[], Any]:
    problem, field = brusselator(width), _numpy_field(width)
    return lambda: scipy.integrate.solve_ivp(
        field, (0.0, T1), np.asarray(problem.y0), method="BDF", rtol=RTOL, atol=ATOL, jac_sparsity=problem.pattern
    ).y[:, -1]


@functools.cache
def cvode_of(width: int) -> Callable[[], Any]:
    assert sksundae is not None, "asked for only where it is installed"
    problem, field = brusselator(width), _numpy_field(width)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = field(t, y)

    options = {"rtol": RTOL, "atol": ATOL, "linsolver": "sparse", "sparsity": problem.pattern, "max_num_steps": 100_000}
    solver = sksundae.cvode.CVODE(rhs, **options)
    return lambda: solver.solve(np.array([0.0, T1]), np.array(problem.y0)).y[-1]


def _steps(report: Report, table: Table, widths: tuple[int, ...]) -> None:
    """The steps of both, and the largest difference of their solutions."""
    for width in widths:
        problem, ours = brusselator(width), jax.jit(lambda args, width=width: solve(width, args))(ARGS)
        theirs = scipy.integrate.solve_ivp(
            _numpy_field(width), (0.0, T1), np.asarray(problem.y0), method="BDF", rtol=RTOL, atol=ATOL,
            jac_sparsity=problem.pattern,
        )  # fmt: skip
        difference = np.max(np.abs(theirs.y[:, -1] - np.asarray(ours.ys[-1])))
        counts = [str(int(ours.stats[f"num_{kind}_steps"])) for kind in ("accepted", "rejected")]
        table.add([str(width), *counts, str(theirs.t.size - 1), f"{difference:.1e}"])
    del report


def _costs(report: Report, table: Table, widths: tuple[int, ...]) -> None:
    """The growth of the run time with the grid, the time to compile, and the memory of a gradient."""
    times = [run_times([ours_of(width)], report.budget)[0] for width in widths]
    for width, seconds in zip(widths, times, strict=True):
        table.add([f"solve, N={width}", show_seconds(seconds), ""])
    if len(widths) > 1:
        power = math.log(times[-1] / times[0]) / math.log(widths[-1] / widths[0])
        table.add([f"growth from N={widths[0]} to {widths[-1]}", f"N^{power:.2f}", "≤ N^2.6"])
    traced = jax.jit(lambda args: solve(widths[-1], args)).lower(ARGS)
    start = time.perf_counter()
    traced.compile()
    table.add([f"compile, N={widths[-1]}", show_seconds(time.perf_counter() - start), "≤ 3 s"])
    width = min(32, widths[-1])
    loss = lambda args: jnp.mean(solve(width, args, max_steps=4096).ys[-1] ** 2)
    analysis: Any = jax.jit(jax.grad(loss)).lower(ARGS).compile().memory_analysis()
    table.add([f"memory of the gradient, N={width}", f"{analysis.temp_size_in_bytes / 1e6:.0f} MB", ""])
