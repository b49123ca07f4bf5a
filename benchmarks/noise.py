"""Stochastic equations: Brownian paths and their solvers, against Diffrax and a loop written by hand."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax import lax

import rungax

from .explicit import jitted
from .report import Comparisons, Report, Table

STEPS = 1000
PATHS = 1000
KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, PATHS)
Y0 = jnp.array(1.0)

# SRA1, with its space-time Lévy area
AREA_STEPS = 100

# The double well, with the number of paths, the tolerance and the time of a typical simulation.
WELL_PATHS, WELL_TIME, WELL_TOL = 200, 4.0, 1e-3

type Make = Callable[[ModuleType], Callable[[jax.Array], jax.Array]]


def run(report: Report) -> None:
    table = report.comparisons(f"dy = -y dt + 0.5 dW to 1, Euler–Maruyama, {STEPS} fixed steps")
    _compare(table, "one path, VirtualBrownianTree(tol=5e-4)", euler("tree"), KEY, bar=0.15)
    _compare(table, f"{PATHS} paths under vmap", swept(euler("tree")), KEYS, bar=0.08)
    _against_loop(table, "the same", swept(euler("tree")), bar=6.0)
    _against_loop(table, "the same, UnsafeBrownianPath", swept(euler("fresh")), bar=1.4)
    _compare(table, "the same, UnsafeBrownianPath", swept(euler("fresh")), KEYS, bar=None)
    _compare(table, "gradient, 1000 paths", swept(gradient(euler("tree"))), KEYS, bar=None)
    _build(table, euler("tree"))
    table = report.comparisons(f"the same by SRA1 with SpaceTimeLevyArea, {AREA_STEPS} fixed steps")
    _compare(table, "one path", sra1, KEY, bar=None)
    _compare(table, f"{PATHS} paths under vmap", swept(sra1), KEYS, bar=0.15)
    _build(table, sra1)
    title = f"dy = (y - y³) dt + 0.3 √(1 + y²) ∘ dW to {WELL_TIME:g}, adaptive SPaRK, rtol=atol={WELL_TOL:g}"
    table = report.comparisons(title)
    _compare(table, "one path", double_well, KEY, bar=None)
    _compare(table, f"{WELL_PATHS} paths under vmap", swept(double_well), KEYS[:WELL_PATHS], bar=0.4)
    _build(table, double_well)
    columns = ("paths", "mean of ours", "theirs", "variance of ours", "theirs", "exact")
    _laws(report.table("The laws of Euler–Maruyama's last state", columns, (36, 14, 9, 16, 9, 18)))


def decay(library: ModuleType, path: Any) -> Any:
    drift = library.ODETerm(lambda t, y, args: -y)
    return library.MultiTerm(drift, library.ControlTerm(lambda t, y, args: jnp.array(0.5), path))


def euler(kind: str) -> Make:
    """Euler–Maruyama with a tree or with an unsafe path."""

    def make(library: ModuleType) -> Callable[[jax.Array], jax.Array]:
        def solve(key: jax.Array, y0: jax.Array = Y0) -> jax.Array:
            tree = kind == "tree"
            fresh = library.UnsafeBrownianPath
            path = library.VirtualBrownianTree(0.0, 1.0, 5e-4, (), key) if tree else fresh((), key)
            return _fixed(library, library.Euler(), decay(library, path), STEPS, y0, tree)

        return solve

    return make


def sra1(library: ModuleType) -> Callable[[jax.Array], jax.Array]:
    """A solver that needs the space-time Lévy area."""

    def solve(key: jax.Array) -> jax.Array:
        area = library.SpaceTimeLevyArea
        path = library.VirtualBrownianTree(0.0, 1.0, 0.5 / AREA_STEPS, (), key, levy_area=area)
        return _fixed(library, library.SRA1(), decay(library, path), AREA_STEPS, Y0, True)

    return solve


def _fixed(library: ModuleType, solver: Any, terms: Any, steps: int, y0: jax.Array, reverse: bool) -> jax.Array:
    # Diffrax's default adjoint refuses unsafe Brownian paths.
    adjoint = library.RecursiveCheckpointAdjoint() if reverse else library.DirectAdjoint()
    solution = library.diffeqsolve(
        terms, solver, 0.0, 1.0, 1 / steps, y0, max_steps=steps + 1, throw=False, adjoint=adjoint
    )
    return solution.ys[-1]


def double_well(library: ModuleType) -> Callable[[jax.Array], jax.Array]:
    """Adaptive steps; both libraries retry rejected times."""

    def solve(key: jax.Array) -> jax.Array:
        area = library.SpaceTimeLevyArea
        path = library.VirtualBrownianTree(0.0, WELL_TIME, 2.0**-12, (), key, levy_area=area)
        drift = library.ODETerm(lambda t, y, args: y - y**3)
        diffusion = library.ControlTerm(lambda t, y, args: 0.3 * jnp.sqrt(1 + y**2), path)
        pid = library.PIDController(rtol=WELL_TOL, atol=WELL_TOL)
        solution = library.diffeqsolve(
            library.MultiTerm(drift, diffusion),
            library.SPaRK(),
            0.0,
            WELL_TIME,
            0.05,
            Y0,
            stepsize_controller=library.ClipStepSizeController(pid, store_rejected_steps=100),
            max_steps=4096,
            throw=False,
        )
        return solution.ys[-1]

    return solve


def gradient(make: Callable[[ModuleType], Callable[..., jax.Array]]) -> Make:
    """The derivative of the last state's cosine with respect to the first state, with the default adjoint."""

    def slope(library: ModuleType) -> Callable[[jax.Array], jax.Array]:
        solve = make(library)
        return jax.grad(lambda y0, key: jnp.cos(solve(key, y0)))

    return lambda library: lambda key: slope(library)(Y0, key)


def swept(make: Make) -> Make:
    return lambda library: jax.vmap(make(library))


def by_hand(key: jax.Array) -> jax.Array:
    """Euler–Maruyama without a Brownian path: one normal with a key of its own for each step."""

    def step(i: Any, y: jax.Array) -> jax.Array:
        noise = jax.random.normal(jax.random.fold_in(key, i), (), Y0.dtype)
        return y - y / STEPS + 0.5 * STEPS**-0.5 * noise

    return lax.fori_loop(0, STEPS, step, Y0)


def _compare(table: Comparisons, work: str, make: Make, keys: jax.Array, bar: float | None) -> None:
    table.run(work, jitted(make, rungax, keys), jitted(make, diffrax, keys), bar=bar, same_values=False)


def _against_loop(table: Comparisons, work: str, make: Make, bar: float) -> None:
    loop = jitted(lambda _: jax.vmap(by_hand), rungax, KEYS)
    table.run(work, jitted(make, rungax, KEYS), loop, against="a loop by hand", bar=bar, same_values=False)


def _build(table: Comparisons, make: Make) -> None:
    def maker(library: ModuleType) -> Callable[[], Any]:
        return lambda: (lambda key: make(library)(key), (KEY,))

    table.build("trace + lower + compile", maker(rungax), maker(diffrax), bar=0.8)


def _laws(table: Table) -> None:
    shrink = 1 - 1 / STEPS
    mean = shrink**STEPS
    variance = 0.25 / STEPS * (1 - shrink ** (2 * STEPS)) / (1 - shrink**2)
    for name, kind in (("VirtualBrownianTree", "tree"), ("UnsafeBrownianPath", "fresh")):
        ours, theirs = (jax.jit(jax.vmap(euler(kind)(library)))(KEYS) for library in (rungax, diffrax))
        cells = [f"{x:.3f}" for x in (ours.mean(), theirs.mean(), ours.var(), theirs.var())]
        table.add([f"{name}, {PATHS} paths", *cells, f"{mean:.3f}, {variance:.3f}"])
