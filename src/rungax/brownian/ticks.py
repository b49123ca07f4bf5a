"""Times of a tree as integers: its interval is divided into a power of two of equal ticks.

Comparisons and lengths are exact. Every program that asks for the same time finds the same leaf and the same position
in it, however it was compiled. The first `k` bits of a time in ticks give the node at level `k` that holds it.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..jaxkit import BoolScalar, Condition, IntScalar, RealScalar, as_array, is_traced, require

type Ticks = Int[Array, ""]


def tick_bits() -> int:
    """The binary logarithm of the number of ticks: they are finer than rounding in times, and fit into an integer."""
    return 62 if jnp.result_type(float) == jnp.float64 else 30


class LeafPosition(NamedTuple):
    """The position of a time in the leaf that holds it.

    Attributes
    ----------
    ticks
        The time in ticks. For the end of the interval it is one less, because the last leaf holds the end.
    before, after
        The lengths of the parts of the leaf before and after the time, as fractions of the leaf.
    """

    ticks: Ticks
    before: Float[Array, ""]
    after: Float[Array, ""]


class Grid(eqx.Module):
    """The interval `[t0, t1]`, halved repeatedly until its parts, the leaves, are no longer than `tol`.

    Attributes
    ----------
    known_depth
        The number of halvings, or `None` if it is known only at run time.
    """

    t0: RealScalar
    t1: RealScalar
    tol: RealScalar
    known_depth: int | None = eqx.field(static=True)

    @property
    def ends(self) -> tuple[jax.Array, jax.Array]:
        """`t0` and `t1` as arrays, constants under differentiation; `t1` is NaN unless `t0 < t1`."""
        dtype = jnp.result_type(float)
        t0, t1 = (lax.stop_gradient(jnp.asarray(t).astype(dtype)) for t in (self.t0, self.t1))
        return t0, jnp.where(t0 < t1, t1, jnp.nan)

    @property
    def depth(self) -> IntScalar:
        """The number of halvings: the level of the leaves."""
        if self.known_depth is not None:
            return self.known_depth
        t0, t1 = self.ends
        tol = lax.stop_gradient(jnp.asarray(self.tol).astype(t0.dtype))
        too_long = t1 - t0 > tol * jnp.asarray(2.0 ** np.arange(self.capacity), t0.dtype)
        return jnp.sum(too_long, dtype=jnp.int32)

    @property
    def capacity(self) -> int:
        """An upper bound of `depth` that is known at trace time."""
        return self.known_depth if self.known_depth is not None else tick_bits() - 8

    def ticks(self, t: jax.Array) -> tuple[Ticks, BoolScalar]:
        """The time `t` in ticks, and whether it lies in the interval, up to rounding; 0 if it does not."""
        t0, t1 = self.ends
        bits = tick_bits()
        length = t1 - t0
        x = (t - t0) / length
        slack = _slack() + 4 * float(jnp.finfo(t.dtype).eps) * jnp.maximum(jnp.abs(t0), jnp.abs(t1)) / length
        inside = (x >= -slack) & (x <= 1 + slack)
        x = jnp.where(inside, jnp.clip(x, 0.0, 1.0), 0.0)
        # No addition follows the division, so no compiler can fuse the two, which would round differently in another
        # program.
        ticks = jnp.round(x * 2.0**bits).astype(_ticks_dtype())
        return self._on_boundary(ticks), inside

    def leaf_position(self, ticks: Ticks) -> LeafPosition:
        """The position of `ticks` in the leaf that holds it."""
        inner = jnp.minimum(ticks, 2 ** tick_bits() - 1)
        shift = self._leaf_bits(ticks)
        width = jnp.left_shift(jnp.ones_like(ticks), shift)
        before = ticks - jnp.left_shift(jnp.right_shift(inner, shift), shift)
        dtype = jnp.result_type(float)
        scale = 1 / width.astype(dtype)
        return LeafPosition(inner, before.astype(dtype) * scale, (width - before).astype(dtype) * scale)

    def common_level(self, a: Ticks, b: Ticks) -> Int[Array, ""]:
        """The level of the smallest node that holds both `a` and `b`; the depth if both lie in one leaf.

        It is -1 if one of them is negative, as for a branch that does not lead to a time yet.
        """
        leading = lax.clz(jnp.bitwise_xor(a, b)).astype(jnp.int32) - (jnp.iinfo(a.dtype).bits - tick_bits())
        return jnp.clip(leading, -1, self.depth)

    def check_inside(self, t: RealScalar, name: str) -> None:
        """Raise a `ValueError` if `t` is known and lies outside the interval by more than rounding.

        While a program is staged, nothing is raised, and the increment is NaN.
        """
        if is_traced(t, self.t0, self.t1) or as_array(t, f"`{name}`", "a scalar").ndim != 0:
            return
        dtype = np.dtype(jnp.result_type(float))
        t0, t1, time = (float(np.asarray(x, dtype)) for x in (self.t0, self.t1, t))
        slack = _slack() * (t1 - t0) + 4 * float(np.finfo(dtype).eps) * max(abs(t0), abs(t1))
        is_inside = t0 - slack <= time <= t1 + slack
        claim = f"`{name}` must lie in the tree's interval [{t0}, {t1}]"
        require([Condition((t, t0, t1), lambda: is_inside, claim, lambda: f"; found {time}.")])

    def _leaf_bits(self, ticks: Ticks) -> jax.Array:
        """The number of bits of a time that give its position in the leaf."""
        return jnp.asarray(tick_bits() - self.depth, ticks.dtype)

    def _on_boundary(self, ticks: Ticks) -> Ticks:
        """The nearest boundary between leaves if rounding may have moved `ticks` away from it, else `ticks`.

        The path is only Hölder continuous, so a distance of 1e-16 from the boundary would become 1e-8 in the value.
        """
        shift = self._leaf_bits(ticks)
        rounding = tick_bits() - jnp.finfo(jnp.result_type(float)).nmant + 1
        reach = jnp.left_shift(jnp.ones_like(ticks), jnp.minimum(rounding, jnp.maximum(shift - 6, 0)))
        half = jnp.left_shift(jnp.ones_like(ticks), jnp.maximum(shift - 1, 0))
        nearest = jnp.left_shift(jnp.right_shift(ticks + half, shift), shift)
        return jnp.where(jnp.abs(ticks - nearest) < reach, nearest, ticks)


def node_at(ticks: Ticks, level: IntScalar) -> Ticks:
    """The number of the node at `level` that holds `ticks`; nodes are numbered by level: 1, 2 to 3, 4 to 7, ..."""
    level = jnp.asarray(level, ticks.dtype)
    return jnp.left_shift(jnp.ones_like(ticks), level) | jnp.right_shift(ticks, tick_bits() - level)


def turns_right(ticks: Ticks, level: IntScalar) -> Bool[Array, ""]:
    """True if `ticks` lies in the right child of the node at `level` that holds it."""
    shift = jnp.asarray(tick_bits() - 1 - level, ticks.dtype)
    return jnp.bitwise_and(jnp.right_shift(ticks, shift), 1) == 1


def depth_of(t0: float, t1: float, tol: float) -> int | None:
    """The number of halvings of `[t0, t1]` for `tol`; `None` unless `t0 < t1`, both are finite, and `tol > 0`."""
    if not (t0 < t1 and math.isfinite(t1 - t0) and tol > 0):
        return None
    depth = 0
    while depth < tick_bits() - 2 and t1 - t0 > tol * 2.0**depth:
        depth += 1
    return depth


def _ticks_dtype() -> type[np.signedinteger]:
    return np.int64 if tick_bits() == 62 else np.int32


def _slack() -> float:
    """The tolerance for rounding in a time, relative to the tree's interval."""
    return 8 * float(jnp.finfo(jnp.result_type(float)).eps)
