"""The times of a tree: whole numbers of ticks, of which its interval has a power of two.

Comparisons and lengths are exact, and every program that asks for the same time, compiled however, finds the same leaf
and the same place in it. The node of level `k` that holds a time is given by the first `k` bits of its ticks.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..jaxkit import BoolScalar, IntScalar, RealScalar, is_traced

type Ticks = Int[Array, ""]


def tick_bits() -> int:
    """The interval has 2 to this power of ticks: finer than rounding in times, and an integer holds them all."""
    return 62 if jnp.result_type(float) == jnp.float64 else 30


class Place(NamedTuple):
    """Where a time is: in which leaf, and how far from its ends.

    Attributes
    ----------
    position
        The ticks; at the very end one less, for the last leaf holds it.
    before, after
        The parts of the leaf before and after the time, as fractions.
    """

    position: Ticks
    before: Float[Array, ""]
    after: Float[Array, ""]


class Grid(eqx.Module):
    """The interval `[t0, t1]`, halved until pieces, the leaves, are no longer than `tol`.

    Attributes
    ----------
    known_depth
        How often it is halved; None if that is known only at run time.
    """

    t0: RealScalar
    t1: RealScalar
    tol: RealScalar
    known_depth: int | None = eqx.field(static=True)

    @property
    def ends(self) -> tuple[jax.Array, jax.Array]:
        """`t0` and `t1` as arrays, constants to differentiation; NaN for an interval that is none."""
        dtype = jnp.result_type(float)
        t0, t1 = (lax.stop_gradient(jnp.asarray(t).astype(dtype)) for t in (self.t0, self.t1))
        return t0, jnp.where(t0 < t1, t1, jnp.nan)

    @property
    def depth(self) -> IntScalar:
        """How often the interval is halved."""
        if self.known_depth is not None:
            return self.known_depth
        t0, t1 = self.ends
        tol = lax.stop_gradient(jnp.asarray(self.tol).astype(t0.dtype))
        too_long = t1 - t0 > tol * jnp.asarray(2.0 ** np.arange(self.capacity), t0.dtype)
        return jnp.sum(too_long, dtype=jnp.int32)

    @property
    def capacity(self) -> int:
        """The largest depth there may be."""
        return self.known_depth if self.known_depth is not None else tick_bits() - 8

    def ticks(self, t: jax.Array) -> tuple[Ticks, BoolScalar]:
        """A time in ticks, and whether it is inside; outside, the nearer end, or the beginning for NaN."""
        t0, t1 = self.ends
        bits = tick_bits()
        length = t1 - t0
        x = (t - t0) / length
        slack = _slack() + 4 * float(jnp.finfo(t.dtype).eps) * jnp.maximum(jnp.abs(t0), jnp.abs(t1)) / length
        inside = (x >= -slack) & (x <= 1 + slack)
        x = jnp.where(inside, jnp.clip(x, 0.0, 1.0), 0.0)
        # No addition follows the division, so no compiler can fuse the two and round otherwise in another program.
        ticks = jnp.round(x * 2.0**bits).astype(_ticks_dtype())
        return self._on_boundary(ticks), inside

    def place(self, ticks: Ticks) -> Place:
        """Where `ticks` are."""
        position = jnp.minimum(ticks, 2 ** tick_bits() - 1)
        shift = self._leaf_bits(ticks)
        width = jnp.left_shift(jnp.ones_like(ticks), shift)
        before = ticks - jnp.left_shift(jnp.right_shift(position, shift), shift)
        dtype = jnp.result_type(float)
        scale = 1 / width.astype(dtype)
        return Place(position, before.astype(dtype) * scale, (width - before).astype(dtype) * scale)

    def parting(self, a: Ticks, b: Ticks) -> Int[Array, ""]:
        """The level of the smallest node that holds both positions; the depth if they are in one leaf.

        It is -1 if one of them is negative, and so no position.
        """
        leading = lax.clz(jnp.bitwise_xor(a, b)).astype(jnp.int32) - (jnp.iinfo(a.dtype).bits - tick_bits())
        return jnp.clip(leading, -1, self.depth)

    def check_inside(self, t: RealScalar, name: str) -> None:
        """Refuse a time outside the interval, by more than rounding, if it is known."""
        if is_traced(t, self.t0, self.t1) or jnp.ndim(t) != 0:
            return
        dtype = np.dtype(jnp.result_type(float))
        t0, t1, time = (float(np.asarray(x, dtype)) for x in (self.t0, self.t1, t))
        slack = _slack() * (t1 - t0) + 4 * float(np.finfo(dtype).eps) * max(abs(t0), abs(t1))
        if not t0 - slack <= time <= t1 + slack:
            raise ValueError(f"`{name}` must lie in the tree's interval [{t0}, {t1}]; found {time}.")

    def _leaf_bits(self, ticks: Ticks) -> jax.Array:
        """How many bits of a time tell the place in its leaf."""
        return jnp.asarray(tick_bits() - self.depth, ticks.dtype)

    def _on_boundary(self, ticks: Ticks) -> Ticks:
        """`ticks`, but the boundary of leaves from which rounding may have moved it.

        A path that is only Hölder continuous turns a distance of 1e-16 there into 1e-8.
        """
        shift = self._leaf_bits(ticks)
        rounding = tick_bits() - jnp.finfo(jnp.result_type(float)).nmant + 1
        reach = jnp.left_shift(jnp.ones_like(ticks), jnp.minimum(rounding, jnp.maximum(shift - 6, 0)))
        half = jnp.left_shift(jnp.ones_like(ticks), jnp.maximum(shift - 1, 0))
        nearest = jnp.left_shift(jnp.right_shift(ticks + half, shift), shift)
        return jnp.where(jnp.abs(ticks - nearest) < reach, nearest, ticks)


def node_at(position: Ticks, level: IntScalar) -> Ticks:
    """The number of the node at `level` that holds `position`, among all nodes of a tree: 1, 2 and 3, 4 to 7, ..."""
    level = jnp.asarray(level, position.dtype)
    return jnp.left_shift(jnp.ones_like(position), level) | jnp.right_shift(position, tick_bits() - level)


def turns_right(position: Ticks, level: IntScalar) -> Bool[Array, ""]:
    """Whether the way to `position` takes the right child of its node at `level`."""
    shift = jnp.asarray(tick_bits() - 1 - level, position.dtype)
    return jnp.bitwise_and(jnp.right_shift(position, shift), 1) == 1


def checked_depth(t0: float, t1: float, tol: float) -> int:
    """How often `[t0, t1]` is halved, if that makes sense."""
    if not (t0 < t1 and math.isfinite(t1 - t0)):
        raise ValueError(f"`t0` must be less than `t1`, both finite; found t0 = {t0}, t1 = {t1}.")
    if not tol > 0:
        raise ValueError(f"`tol` must be positive; found {tol}. Half the length of the shortest step is small enough.")
    depth = 0
    while depth < tick_bits() - 2 and t1 - t0 > tol * 2.0**depth:
        depth += 1
    return depth


def _ticks_dtype() -> type[np.signedinteger]:
    return np.int64 if tick_bits() == 62 else np.int32


def _slack() -> float:
    """Rounding in a time, relative to the tree's interval."""
    return 8 * float(jnp.finfo(jnp.result_type(float)).eps)
