"""Explicit methods on ordinary differential equations, against Diffrax and against a loop written by hand."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import rungax

from . import hand_written
from .problems import LORENZ, LOTKA_VOLTERRA, PLEIADES, linear, lorenz, mlp, mlp_parameters, stable_matrix
from .report import Comparisons, Report

BATCH = 1000
FIXED_STEPS = 2000
LORENZ_Y0 = jnp.array(LORENZ.y0)
LORENZ_ARGS = tuple(jnp.asarray(p) for p in LORENZ.args)
RHOS = jnp.linspace(0.0, 21.0, BATCH)

type Make = Callable[[ModuleType], Callable[..., Any]]


def run(report: Report) -> None:
    _lorenz(report.comparisons("Lorenz, T=10, Tsit5, PIDController(1e-8, 1e-8)"))
    _building(report.comparisons("Calling"))
    _fixed_steps(report.comparisons(f"Lorenz, {FIXED_STEPS} fixed steps of Tsit5"))
    _other_problems(report.comparisons("Other problems, Tsit5, adaptive"))


def solve(library: ModuleType, field: Callable[..., Any], y0: Any, args: Any, t1: float = 10.0, **options: Any) -> Any:
    """A solve by either library; `tol` is both tolerances."""
    tol = options.pop("tol", 1e-8)
    controller = library.PIDController(tol, tol)
    term, solver = library.ODETerm(field), library.Tsit5()
    return library.diffeqsolve(term, solver, 0.0, t1, 0.01, y0, args, stepsize_controller=controller, **options)


def jitted(make: Make, library: ModuleType, *args: Any) -> Callable[[], Any]:
    """`make(library)`, compiled, as a call without arguments."""
    function = jax.jit(make(library))
    return lambda: function(*args)


def _compare(table: Comparisons, work: str, make: Make, *args: Any, bar: float | None = None) -> None:
    table.run(work, jitted(make, rungax, *args), jitted(make, diffrax, *args), bar=bar)


def _lorenz(table: Comparisons) -> None:
    ts_100, ts_50 = jnp.linspace(0.0, 10.0, 100), jnp.linspace(0.0, 10.0, 50)

    def at_end(library: ModuleType, **options: Any) -> Callable[..., Any]:
        return lambda y0, args: solve(library, lorenz, y0, args, **options).ys

    def at_times(library: ModuleType) -> Callable[..., Any]:
        return lambda y0, args, ts: solve(library, lorenz, y0, args, saveat=library.SaveAt(ts=ts)).ys

    def dense(library: ModuleType) -> Callable[..., Any]:
        def evaluated(y0: jax.Array, args: Any, ts: jax.Array) -> jax.Array:
            solution = solve(library, lorenz, y0, args, saveat=library.SaveAt(dense=True))
            return jax.vmap(solution.evaluate)(ts)

        return evaluated

    def sweep(library: ModuleType, saveat: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def one(rho: jax.Array, ts: Any) -> jax.Array:
            args = (LORENZ_ARGS[0], rho, LORENZ_ARGS[2])
            return solve(library, lorenz, LORENZ_Y0, args, saveat=saveat(library, ts), **options).ys

        return jax.vmap(one, in_axes=(0, None))

    def end(library: ModuleType, ts: Any) -> Any:
        return library.SaveAt(t1=True)

    def times(library: ModuleType, ts: Any) -> Any:
        return library.SaveAt(ts=ts)

    one = LORENZ_Y0, LORENZ_ARGS
    quiet = {"throw": False}
    _compare(table, "one solve, t1", at_end, *one, bar=0.4)
    _compare(table, "one solve, t1, throw=False", lambda lib: at_end(lib, **quiet), *one, bar=0.4)
    _compare(table, "one solve, 100 ts", at_times, *one, ts_100, bar=0.5)
    _compare(table, "one solve, dense output at 100 times", dense, *one, ts_100, bar=0.6)
    _compare(table, f"vmap, {BATCH} rho, t1", lambda lib: sweep(lib, end), RHOS, None, bar=0.25)
    _compare(table, f"vmap, {BATCH} rho, t1, throw=False", lambda lib: sweep(lib, end, **quiet), RHOS, None, bar=0.25)
    _compare(table, f"vmap, {BATCH} rho, 50 ts", lambda lib: sweep(lib, times), RHOS, ts_50, bar=0.3)

    lean = jax.jit(lambda y0, args: hand_written.adaptive_steps(lorenz, y0, args, 10.0, 1e-8))
    ours = jitted(lambda lib: at_end(lib, **quiet), rungax, *one)
    table.run("one solve, t1, throw=False", ours, lambda: lean(*one), against="adaptive loop by hand")


def new_lorenz() -> Callable[..., Any]:
    """The Lorenz system as a new function, of which JAX has no trace yet."""
    return lambda t, y, args: lorenz(t, y, args)


def _building(table: Comparisons) -> None:
    def maker(library: ModuleType) -> Callable[[], Any]:
        def make() -> tuple[Callable[..., Any], tuple[Any, ...]]:
            field = new_lorenz()
            return lambda y0, args: solve(library, field, y0, args).ys, (LORENZ_Y0, LORENZ_ARGS)

        return make

    def eager(library: ModuleType) -> Callable[[], Any]:
        return lambda: solve(library, lorenz, LORENZ_Y0, LORENZ_ARGS).ys

    table.build("trace + lower + compile of one solve (aim at 0.5)", maker(rungax), maker(diffrax), bar=0.8)
    table.run("one solve without an outer jit, from the second call", eager(rungax), eager(diffrax), bar=0.6)


def _fixed_steps(table: Comparisons) -> None:
    def fixed(library: ModuleType) -> Callable[..., Any]:
        def call(y0: jax.Array, args: Any) -> jax.Array:
            term, solver = library.ODETerm(lorenz), library.Tsit5()
            return library.diffeqsolve(term, solver, 0.0, 10.0, 10.0 / FIXED_STEPS, y0, args).ys[0]

        return call

    def by_hand(barrier: hand_written.Barrier) -> Callable[[], Any]:
        function = jax.jit(lambda y0, args: hand_written.fixed_steps(lorenz, y0, args, 10.0, FIXED_STEPS, barrier))
        return lambda: function(LORENZ_Y0, LORENZ_ARGS)

    ours = jitted(fixed, rungax, LORENZ_Y0, LORENZ_ARGS)
    table.run("fixed steps (aim at 1.1)", ours, by_hand(hand_written.no_barrier), against="fori_loop by hand", bar=1.3)
    table.run("fixed steps", ours, by_hand(hand_written.optimization_barrier), against="the same + barriers", bar=1.3)
    table.run("fixed steps", ours, jitted(fixed, diffrax, LORENZ_Y0, LORENZ_ARGS))


def _other_problems(table: Comparisons) -> None:
    rng = np.random.default_rng(0)

    def compare(work: str, field: Callable[..., Any], y0: Any, args: Any, t1: float, tol: float) -> None:
        def make(library: ModuleType) -> Callable[..., Any]:
            return lambda y0, args: solve(library, field, y0, args, t1, tol=tol).ys

        _compare(table, work, make, jnp.asarray(y0), jax.tree.map(jnp.asarray, args), bar=1.0)

    compare("Lotka–Volterra, T=20, 1e-8", *LOTKA_VOLTERRA[1:5], 1e-8)
    compare("Pleiades (28 states), T=3, 1e-8", *PLEIADES[1:5], 1e-8)
    compare("MLP 3-32-3, T=10, 1e-8", mlp, rng.normal(size=3), mlp_parameters([3, 32, 3]), 10.0, 1e-8)
    compare("linear, 1000 states, dense, T=1, 1e-6", linear, rng.normal(size=1000), stable_matrix(1000), 1.0, 1e-6)

    heavy = mlp_parameters([64] * 11)
    y0 = jnp.asarray(rng.normal(size=64))
    compare("MLP of 10 layers, width 64, T=10, 1e-6: run", mlp, y0, heavy, 10.0, 1e-6)

    def maker(library: ModuleType) -> Callable[[], Any]:
        def make() -> tuple[Callable[..., Any], tuple[Any, ...]]:
            field = lambda t, y, args: mlp(t, y, args)
            return lambda y0, args: solve(library, field, y0, args, tol=1e-6).ys, (y0, heavy)

        return make

    table.build("MLP of 10 layers, width 64: trace + lower + compile", maker(rungax), maker(diffrax), bar=1.0)
