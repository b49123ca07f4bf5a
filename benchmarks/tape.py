"""Memory and time of a gradient, as functions of the bound on the number of steps and of the steps made.

The memory is the compiled program's own estimate for intermediate values and outputs. It depends on the bound alone,
both in Diffrax and for the tape; they differ in how fast it grows.
"""

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp

import rungax

from .report import Report, Table, relative_difference, show_seconds
from .timing import seconds

SIZES = {"3 floats": 3, "10⁴ floats": 10**4}
COUNTS = (10**2, 10**3, 10**4, 10**5, 10**6)
FEW_STEPS = 100
SUPERSCRIPTS = dict(zip(COUNTS, "²³⁴⁵⁶", strict=True))

LONGEST_RUN = 1.0
"""The longest expected time of a call, in seconds; longer ones are not made."""
MOST_BYTES = 2**31
"""The largest memory of a program; larger ones are not run."""
WRONG = 1e-3
"""The relative error above which a gradient is marked."""
TIME_FOR_POINT = 0.2
"""The time for the repetitions of one point, in seconds."""

ADJOINTS: dict[str, tuple[ModuleType, Callable[[], Any]]] = {
    "default": (rungax, rungax.RecursiveCheckpointAdjoint),
    "checkpoints=64": (rungax, lambda: rungax.RecursiveCheckpointAdjoint(checkpoints=64)),
    "ReversibleAdjoint()": (rungax, rungax.ReversibleAdjoint),
    "Diffrax's default": (diffrax, diffrax.RecursiveCheckpointAdjoint),
}
COLUMNS = ("state", "max_steps", "steps made", *(f"{name}, {what}" for name in ADJOINTS for what in ("memory", "time")))
WIDTHS = (10, 9, 10, *(max(len(name) for name in COLUMNS[3:]) for _ in COLUMNS[3:]))


def run(report: Report) -> None:
    began = time.perf_counter()
    counts = COUNTS[:2] if report.quick else COUNTS
    against_bound = [(bound, FEW_STEPS) for bound in counts]
    against_steps = [(steps, steps) for steps in counts]
    title = "Gradient of sum(y(t1)) with respect to y0, y' = y (1 - y) on [0, 1], fixed steps of Heun"
    _measure(report.table(f"{title}: {FEW_STEPS} steps against max_steps", COLUMNS, WIDTHS), against_bound)
    _measure(report.table(f"{title}: as many steps as max_steps", COLUMNS, WIDTHS), against_steps)
    report.note(
        "Memory: temporary and output bytes by `compiled.memory_analysis()`. Time: the median call, forward solve "
        f"included. “> n s”: not run, because at the rate of the point before it would take n > {LONGEST_RUN:g} s; "
        f"“too large”: not run, because it would need more than {show_bytes(MOST_BYTES)}; “off by”: the gradient's "
        "relative error (rounding errors in `ReversibleAdjoint` grow like 0.99⁻ⁿ over n steps; see its docstring)."
    )
    print(f"in {time.perf_counter() - began:.0f} s")


def gradient(library: ModuleType, adjoint: Any, max_steps: int) -> Callable[..., jax.Array]:
    """The gradient of the sum of the last state, as a function of `y0`, `t1` and `dt0`."""

    def loss(y0: jax.Array, t1: jax.Array, dt0: jax.Array) -> jax.Array:
        term, solver = library.ODETerm(_logistic), library.Heun()
        options = {"max_steps": max_steps, "adjoint": adjoint, "throw": False}
        return library.diffeqsolve(term, solver, 0.0, t1, dt0, y0, **options).ys.sum()

    return jax.grad(loss)


def _logistic(t: Any, y: jax.Array, args: Any) -> jax.Array:
    del t, args
    return y * (1.0 - y)


def _exact(y0: jax.Array, t1: jax.Array) -> jax.Array:
    """The gradient of the closed-form solution."""
    growth = jnp.exp(t1)
    return growth / (1.0 + y0 * (growth - 1.0)) ** 2


def _measure(table: Table, points: list[tuple[int, int]]) -> None:
    for name, size in SIZES.items():
        series = [_series(library, make(), size, points) for library, make in ADJOINTS.values()]
        for (max_steps, steps), *cells in zip(points, *series, strict=True):
            pairs = [text for cell in cells for text in cell]
            table.add([name, _power(max_steps), _power(steps), *pairs])


def _series(library: ModuleType, adjoint: Any, size: int, points: list[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """The memory and the time at each point, as text."""
    y0 = jnp.linspace(0.5, 1.5, size)
    per_step, known = 0.0, 0
    for max_steps, steps in points:
        # The end is half a step before 1, so that both libraries make exactly `steps` steps despite rounding.
        args = y0, jnp.asarray(1.0 - 0.5 / steps), jnp.asarray(1.0 / steps)
        program = jax.jit(gradient(library, adjoint, max_steps)).lower(*args).compile()
        memory = program.memory_analysis()
        total = memory.temp_size_in_bytes + memory.output_size_in_bytes
        expected = per_step * steps if steps > known else 0.0
        if total > MOST_BYTES:
            taken = "too large"
        elif expected > LONGEST_RUN:
            taken = f"> {show_seconds(expected)}"
        else:
            median = _median_seconds(lambda program=program, args=args: program(*args))
            error = relative_difference(program(*args), _exact(*args[:2]))
            per_step, known = median / steps, steps
            taken = show_seconds(median) + ("" if error < WRONG else f", off by {error:.0e}")
        yield show_bytes(total), taken


def _median_seconds(call: Callable[[], Any]) -> float:
    """The median time of a few calls, or the time of a single one if it is long."""
    times = [seconds(call)]
    while sum(times) < TIME_FOR_POINT and len(times) < 50:
        times.append(seconds(call))
    warm = sorted(times[1:] or times)
    return warm[len(warm) // 2]


def show_bytes(size: float) -> str:
    for unit, bytes_of in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= 0.9995 * bytes_of:
            return f"{size / bytes_of:.3g} {unit}"
    return f"{size:.0f} B"


def _power(count: int) -> str:
    return f"10{SUPERSCRIPTS[count]}"
