"""Comparisons and sums of times: the only place that deals with rounding in time.

Inside a solve time always increases: integrating backwards happens in `s = -t` (see `terms.directed`).
"""

import jax
import jax.numpy as jnp
from jax import lax

from .types import BoolScalar, IntScalar, RealScalar


def resolution(t: jax.Array) -> jax.Array:
    """Distance from `t` to the next larger floating-point number, up to a factor of two."""
    info = jnp.finfo(t.dtype)
    return jnp.maximum(jnp.abs(t) * float(info.eps), float(info.tiny))


def clip_to_end(end: jax.Array, t: jax.Array) -> jax.Array:
    """`t`, or exactly `end` where `t` is past it or so near that a step from `t` to `end` would be rounding only."""
    return jnp.where(t > end - 4 * resolution(end), end, t)


def clip_next_end(accepted: BoolScalar, end: jax.Array, t_next: jax.Array) -> jax.Array:
    """The end of the next attempt, `t_next`, clipped to `end`, after an attempt that was `accepted` or rejected.

    Clipping may lengthen a step by a few roundings. A rejected step must become shorter, or it is retried for ever.
    """
    return jnp.where(accepted, clip_to_end(end, t_next), jnp.minimum(end, t_next))


def is_stuck(t: jax.Array, t_next: jax.Array) -> jax.Array:
    """True if a step from `t` to `t_next` does not advance: if it has size zero, or goes backwards, or is NaN."""
    return ~(t_next > t)


def is_at_most(t0: jax.Array, t1: jax.Array, length: RealScalar) -> jax.Array:
    """True if a step from `t0` to `t1` has at most this length, up to the rounding of the times."""
    return t1 - t0 <= length + 4 * (resolution(t0) + resolution(t1))


def number_of_steps(t0: jax.Array, t1: jax.Array, dt: RealScalar) -> jax.Array:
    """The number of steps of size `dt` from `t0` to `t1`, the last of which is shortened; infinite if `t1` is."""
    ratio = (t1 - t0) / dt
    # 10 / 0.1 must be 100 steps, however the quotient was rounded.
    return jnp.where(jnp.isfinite(ratio), jnp.ceil(ratio - _rounding(t0, t1, dt, ratio)), ratio)


def is_in_grid_step(t0: jax.Array, dt: RealScalar, i: IntScalar, t: jax.Array) -> jax.Array:
    """True if `t` lies in the `i`-th step of the fixed grid `t0 + i dt`: at its start up to rounding, or later."""
    ratio, index = (t - t0) / dt, jnp.asarray(i).astype(t0.dtype)
    return (ratio >= index - 1 - _rounding(t0, t, dt, ratio)) & (t < t0 + index * dt)


def _rounding(t0: jax.Array, t: jax.Array, dt: RealScalar, ratio: jax.Array) -> jax.Array:
    """A bound on the rounding error of `(t - t0) / dt`, where `t0` and `t` are rounded themselves."""
    return 4 * (resolution(t0) + resolution(t)) / dt + 4 * resolution(ratio)


def grid_time(t0: jax.Array, t1: jax.Array, dt: RealScalar, i: IntScalar) -> jax.Array:
    """The `i`-th time of the fixed grid `t0 + i dt`, which ends exactly at `t1`; rounding errors do not accumulate."""
    index = jnp.asarray(i).astype(t0.dtype)
    return jnp.where(index >= number_of_steps(t0, t1, dt), t1, t0 + index * dt)


def just_before(t: jax.Array) -> jax.Array:
    """The floating-point number before `t`; around zero, where processors drop smaller ones, a normal number."""
    return _neighbour(t, -1.0)


def just_after(t: jax.Array) -> jax.Array:
    """The floating-point number after `t`; around zero, where processors drop smaller ones, a normal number."""
    return _neighbour(t, 1.0)


def _neighbour(t: jax.Array, side: float) -> jax.Array:
    tiny = float(jnp.finfo(t.dtype).tiny)
    # JAX 0.11 has no derivative of `nextafter`, and none is used.
    neighbour = jnp.nextafter(lax.stop_gradient(t), jnp.full_like(t, side * jnp.inf))
    neighbour = jnp.where(jnp.abs(neighbour) < tiny, side * tiny, neighbour)
    # Written so that its derivative is one. The difference is exact, as is the sum; infinity has no neighbour.
    offset = lax.stop_gradient(jnp.where(jnp.isfinite(t), neighbour - t, 0.0))
    return t + offset
