"""Tsit5 in hand-written loops without any features, as a lower bound for the time of a solve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import rungax

TSIT5 = rungax.Tsit5.tableau
A = [[float(a) for a in row] for row in TSIT5.a_lower]
C = [float(c) for c in TSIT5.c]
ERROR = [float(e) for e in TSIT5.b_error]

type Barrier = Callable[[jax.Array], jax.Array]


def no_barrier(x: jax.Array) -> jax.Array:
    return x


def optimization_barrier(x: jax.Array) -> jax.Array:
    """Keep XLA from recomputing everything before `x` wherever `x` is used."""
    return lax.optimization_barrier(x)


def tsit5_step(
    field: Callable[..., Any],
    t: jax.Array,
    y: jax.Array,
    k1: jax.Array,
    h: jax.Array,
    args: Any,
    barrier: Barrier,
) -> tuple[jax.Array, list[jax.Array]]:
    """The state after a step `h`, and the seven stages, of which the last is the first of the next step."""
    stages = [k1]
    for c, row in zip(C, A, strict=True):
        y1 = optimization_barrier(y + h * sum(a * k for a, k in zip(row, stages, strict=True)))
        stages.append(field(t + c * h, y1, args))
    return y1, stages


def fixed_steps(
    field: Callable[..., Any], y0: jax.Array, args: Any, t1: float, steps: int, barrier: Barrier = no_barrier
) -> jax.Array:
    """The state at `t1` after `steps` equal steps from 0."""
    h = jnp.asarray(t1 / steps)

    def advance(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        y, k1 = carry
        y, stages = tsit5_step(field, i * h, y, k1, h, args, barrier)
        return y, stages[-1]

    y, _ = lax.fori_loop(0, steps, advance, (y0, field(jnp.asarray(0.0), y0, args)))
    return y


def adaptive_steps(
    field: Callable[..., Any], y0: jax.Array, args: Any, t1: float, tol: jax.Array | float, dt0: float = 0.01
) -> jax.Array:
    """The state at `t1` with `rtol = atol = tol` and an integral controller, without any other feature of a solve."""

    def advance(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        t, y, h, k1 = carry
        h = jnp.minimum(h, t1 - t)
        y1, stages = tsit5_step(field, t, y, k1, h, args, optimization_barrier)
        error = h * sum(e * k for e, k in zip(ERROR, stages, strict=True))
        error = jnp.sqrt(jnp.mean((error / (tol + tol * jnp.maximum(jnp.abs(y), jnp.abs(y1)))) ** 2))
        accept = error < 1
        t_next = jnp.where(h < t1 - t, t + h, t1)
        return (
            jnp.where(accept, t_next, t),
            jnp.where(accept, y1, y),
            h * jnp.clip(0.9 * error**-0.2, 0.2, 10.0),
            jnp.where(accept, stages[-1], k1),
        )

    t0 = jnp.asarray(0.0)
    init = (t0, y0, jnp.asarray(dt0), field(t0, y0, args))
    return lax.while_loop(lambda carry: carry[0] < t1, advance, init)[1]
