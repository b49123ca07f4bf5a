"""Events: the cost of detecting one, a batch whose elements end at different events, and a bouncing ball."""

from types import ModuleType
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import optimistix as optx

import rungax

from .report import Comparisons, Report

BATCH = 1000
Y0 = jnp.array([1.0, 1.0, 1.0])
FINDER = optx.Newton(rtol=1e-8, atol=1e-8)
HEIGHT, GRAVITY, BOUNCES = 10.0, 9.81, 50


def run(report: Report) -> None:
    table = report.comparisons("Lorenz to 10, Tsit5, rtol=atol=1e-8, and an event")
    _lorenz(table)
    table = report.comparisons(f"A batch of {BATCH} solves, each ending at its own event")
    _batch(table)
    title = f"A ball that bounces {BOUNCES} times, and the derivative of its height by restitution"
    _ball(report, report.comparisons(title))


def lorenz(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]])


def solve(library: ModuleType, y0: jax.Array, **options: Any) -> Any:
    controller = library.PIDController(rtol=1e-8, atol=1e-8)
    term, solver = library.ODETerm(lorenz), library.Tsit5()
    return library.diffeqsolve(
        term, solver, 0.0, 10.0, 0.01, y0, stepsize_controller=controller, throw=False, **options
    )


def _lorenz(table: Comparisons) -> None:
    def with_event(library: ModuleType) -> Any:
        never = library.Event(lambda t, y, args, **kwargs: y[0] + 100, FINDER)
        return jax.jit(lambda y0: solve(library, y0, event=never).ys)

    plain, ours, theirs = jax.jit(lambda y0: solve(rungax, y0).ys), with_event(rungax), with_event(diffrax)
    work = "a real event that never fires"
    table.run(work, lambda: ours(Y0), lambda: plain(Y0), against="rungax without", bar=1.15)
    table.run(work, lambda: ours(Y0), lambda: theirs(Y0))


def _batch(table: Comparisons) -> None:
    y0s = jnp.stack([jnp.linspace(1.0, 2.0, BATCH), jnp.ones(BATCH), jnp.ones(BATCH)], axis=1)
    # From a level reached at the first peak to one that is reached late or never.
    levels = jnp.linspace(25.0, 45.0, BATCH)

    def ends(library: ModuleType) -> Any:
        def end(y0: jax.Array, level: jax.Array) -> jax.Array:
            event = library.Event(lambda t, y, args, **kwargs: y[2] - level, FINDER, direction=True)
            return solve(library, y0, event=event).ts[0]

        return jax.jit(jax.vmap(end))

    ours, theirs = ends(rungax), ends(diffrax)
    table.run("the times of the events", lambda: ours(y0s, levels), lambda: theirs(y0s, levels), bar=0.3)


def bounce(restitution: jax.Array, t1: float) -> jax.Array:
    """The height at `t1`."""

    def rebound(t: Any, y: Any, restitution: Any) -> Any:
        return jnp.stack([jnp.zeros_like(y[0]), -restitution * y[1]])

    ground = rungax.Event(lambda t, y, args, **kwargs: y[0], FINDER, direction=False, effect=rebound)
    solution = rungax.diffeqsolve(
        lambda t, y, args: jnp.stack([y[1], jnp.full_like(y[1], -GRAVITY)]),
        rungax.Tsit5(),
        0.0,
        t1,
        0.1,
        jnp.array([HEIGHT, 0.0]),
        restitution,
        event=ground,
        stepsize_controller=rungax.PIDController(rtol=1e-8, atol=1e-8),
        max_steps=1024,
        throw=False,
    )
    return solution.ys[0, 0]


def bounce_times(restitution: Any) -> jax.Array:
    """The times at which the ball meets the ground."""
    first = jnp.sqrt(2 * HEIGHT / GRAVITY)
    flights = 2 * first * restitution ** jnp.arange(1, BOUNCES + 1)
    return first + jnp.append(0.0, jnp.cumsum(flights))


def height(restitution: Any, t: float) -> jax.Array:
    """The height at `t`, between the last of the `BOUNCES` and the next."""
    start = bounce_times(restitution)[BOUNCES - 1]
    speed = jnp.sqrt(2 * GRAVITY * HEIGHT) * restitution**BOUNCES
    return speed * (t - start) - GRAVITY * (t - start) ** 2 / 2


def _ball(report: Report, table: Comparisons) -> None:
    restitution = jnp.array(0.95)
    t1 = float(bounce_times(restitution)[BOUNCES - 1 :][:2].mean())
    both = jax.jit(jax.value_and_grad(lambda e: bounce(e, t1)))
    table.run("value and gradient (bar: 5 ms)", lambda: both(restitution), None, same_values=False)
    found, exact = both(restitution), jax.value_and_grad(height)(restitution, t1)
    errors = [float(a / b - 1) for a, b in zip(found, exact, strict=True)]
    report.note(f"Relative errors: height {errors[0]:.1e}, derivative {errors[1]:.1e} (bar: 1e-6).")
