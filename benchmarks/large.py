"""Large stiff systems: the two-dimensional Brusselator on grids, against SciPy and SUNDIALS' CVODE."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.integrate

import rungax
from tests.problems.grids import brusselator

from .report import Comparisons, Report, Table, show_seconds
from .stiff_problems import sksundae
from .timing import build_times, run_times

RTOL, ATOL, T1, DT0 = 1e-5, 1e-7, 11.5, 1e-6
ARGS = (jnp.asarray(3.4), jnp.asarray(10.0))
BDF = rungax.BDF()
KRYLOV_SIZE = 5
"""Number of vectors of GMRES, the default of CVODE."""


def run(report: Report) -> None:
    widths = (16,) if report.quick else (16, 32, 64)
    table = report.comparisons(f"Brusselator to {T1:g}, rtol={RTOL:g}, atol={ATOL:g}, BDF with the pattern")
    bars = {32: (0.3, 0.6), 64: (0.3, 0.3)}
    for width in widths:
        of_scipy, of_cvode = bars.get(width, (None, None))
        work, ours = f"N={width} ({2 * width**2} states)", lambda width=width: ours_of(width)(ARGS).ys[-1]
        theirs = lambda width=width: scipy_of(width).y[:, -1]
        table.run(work, ours, theirs, against="scipy BDF", bar=of_scipy)
        if sksundae is not None:
            table.run(work, ours, cvode_of(width), against="CVODE, sparse", bar=of_cvode)
    _others(report, table, widths)
    width = min(32, widths[-1])
    gradient, solution = (lambda: gradient_of(width)(ARGS)), (lambda: ours_of(width)(ARGS).ys[-1])
    work = f"N={width}, gradient by A and alpha"
    table.run(work, gradient, solution, against="the solve", bar=6, same_values=False)
    _steps(report.table("Steps", ("N", "accepted", "rejected", "scipy", "difference"), (6, 9, 9, 9, 12)), widths)
    _costs(report, report.table("Growth and compilation", ("what", "value", "bar"), (40, 12, 10)), widths)


def _others(report: Report, table: Comparisons, widths: tuple[int, ...]) -> None:
    """Solves with nothing given, and one of 32 768 states by GMRES with the preconditioner that CVODE's has too."""
    for width in widths:
        nothing = lambda width=width: nothing_given(width)(ARGS).ys[-1]
        theirs = lambda width=width: scipy_of(width).y[:, -1]
        bar = 3 if width == 32 else None
        table.run(f"N={width}, nothing given", nothing, theirs, against="scipy BDF, pattern", bar=bar)
    if sksundae is not None:
        width = 16 if report.quick else 128
        ours = lambda width=width: krylov_of(width)(ARGS).ys[-1]
        table.run(f"N={width}, GMRES, preconditioner", ours, cvode_gmres_of(width), against="CVODE GMRES", bar=0.7)


def solve(width: int, args: Any, solver: Any = BDF, *, has_pattern: bool = True, **options: Any) -> Any:
    problem = brusselator(width)
    term = rungax.ODETerm(problem.field, sparsity=problem.pattern if has_pattern else None)
    options = {"max_steps": None, "throw": False} | options
    controller = rungax.PIDController(RTOL, ATOL)
    return rungax.diffeqsolve(
        term, solver, 0.0, T1, DT0, jnp.asarray(problem.y0), args, stepsize_controller=controller, **options
    )


@functools.cache
def nothing_given(width: int) -> Callable[[Any], rungax.Solution]:
    return jax.jit(lambda args: solve(width, args, None, has_pattern=False))


@functools.cache
def krylov_of(width: int) -> Callable[[Any], rungax.Solution]:
    r"""GMRES with the matrix of diffusion alone, $1 - \gamma \alpha \Delta$, inverted by Fourier transforms."""
    divisors = rates_of_diffusion(width)

    def preconditioner(t: Any, y: Any, args: Any, gamma: Any) -> Callable[[Any], Any]:
        del t, y
        weights = 1 / (1 + gamma * args[1] * divisors)

        def apply(residual: Any) -> Any:
            waves = jnp.fft.rfft2(residual.reshape(2, width, width)) * weights
            return jnp.fft.irfft2(waves, s=(width, width)).reshape(-1)

        return apply

    linear_solver = rungax.Krylov(restart=KRYLOV_SIZE, preconditioner=preconditioner)
    return jax.jit(lambda args: solve(width, args, rungax.BDF(linear_solver=linear_solver), has_pattern=False))


def cvode_gmres_of(width: int) -> Callable[[], Any]:
    assert sksundae is not None, "asked for only where it is installed"
    problem, field, divisors = brusselator(width), numpy_field(width), rates_of_diffusion(width)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = field(t, y)

    # Its signature is checked: `t, y, yp, residual, correction, gamma, delta, side`.
    def invert(t: Any, y: Any, yp: Any, residual: Any, correction: Any, gamma: float, delta: Any, side: Any) -> None:
        del t, y, yp, delta, side
        waves = np.asarray(scipy.fft.rfft2(residual.reshape(2, width, width)))
        waves = waves / (1 + gamma * float(ARGS[1]) * divisors)
        correction[:] = np.asarray(scipy.fft.irfft2(waves, s=(width, width))).reshape(-1)

    options = {"rtol": RTOL, "atol": ATOL, "linsolver": "gmres", "krylov_dim": KRYLOV_SIZE, "max_num_steps": 100_000}
    solver = sksundae.cvode.CVODE(rhs, precond=sksundae.cvode.CVODEPrecond(None, invert), **options)
    return lambda: solver.solve(np.array([0.0, T1]), problem.y0).y[-1]


def rates_of_diffusion(width: int) -> np.ndarray:
    """The eigenvalues of the negative Laplacian on the periodic grid, by wave number."""
    rates = 2 - 2 * np.cos(2 * np.pi * np.arange(width) / width)
    return (width - 1) ** 2 * (rates[:, None] + rates[None, : width // 2 + 1])


@functools.cache
def ours_of(width: int) -> Callable[[Any], rungax.Solution]:
    return jax.jit(lambda args: solve(width, args))


@functools.cache
def gradient_of(width: int) -> Any:
    return jax.jit(jax.grad(lambda args: jnp.mean(solve(width, args, max_steps=4096).ys[-1] ** 2)))


@functools.cache
def numpy_field(width: int) -> Callable[[float, np.ndarray], np.ndarray]:
    program = jax.jit(lambda t, y: brusselator(width).field(t, y, ARGS))
    return lambda t, y: np.asarray(program(t, y))


def scipy_of(width: int) -> Any:
    problem = brusselator(width)
    options: dict[str, Any] = {"rtol": RTOL, "atol": ATOL, "jac_sparsity": problem.pattern}
    return scipy.integrate.solve_ivp(numpy_field(width), (0.0, T1), problem.y0, "BDF", **options)


def cvode_of(width: int) -> Callable[[], Any]:
    assert sksundae is not None, "asked for only where it is installed"
    problem, field = brusselator(width), numpy_field(width)

    def rhs(t: float, y: np.ndarray, yp: np.ndarray) -> None:
        yp[:] = field(t, y)

    options = {"rtol": RTOL, "atol": ATOL, "linsolver": "sparse", "sparsity": problem.pattern, "max_num_steps": 100_000}
    solver = sksundae.cvode.CVODE(rhs, **options)
    return lambda: solver.solve(np.array([0.0, T1]), problem.y0).y[-1]


def _steps(table: Table, widths: tuple[int, ...]) -> None:
    """The steps of both, and the largest difference of their solutions."""
    for width in widths:
        ours, theirs = ours_of(width)(ARGS), scipy_of(width)
        difference = np.max(np.abs(theirs.y[:, -1] - np.asarray(ours.ys)[-1]))
        counts = [str(int(ours.stats[f"num_{kind}_steps"])) for kind in ("accepted", "rejected")]
        table.add([str(width), *counts, str(theirs.t.size - 1), f"{difference:.1e}"])


def _costs(report: Report, table: Table, widths: tuple[int, ...]) -> None:
    """The growth of the run time with the grid, the time to compile, and the memory of a gradient."""
    times = [run_times([functools.partial(ours_of(width), ARGS)], report.budget)[0] for width in widths]
    for width, seconds in zip(widths, times, strict=True):
        table.add([f"solve, N={width}", show_seconds(seconds), ""])
    if len(widths) > 1:
        power = math.log(times[-1] / times[0]) / math.log(widths[-1] / widths[0])
        table.add([f"growth from N={widths[0]} to {widths[-1]}", f"N^{power:.2f}", "≤ N^2.6"])
    for width in widths:
        (seconds,) = build_times([lambda width=width: (lambda args: solve(width, args), (ARGS,))], 1)
        table.add([f"trace + lower + compile, N={width}", show_seconds(seconds), "≤ 3 s" if width == 64 else ""])
    width = min(32, widths[-1])
    analysis = gradient_of(width).lower(ARGS).compile().memory_analysis()
    table.add([f"memory of the gradient, N={width}", f"{analysis.temp_size_in_bytes / 1e6:.0f} MB", ""])
