"""A Brownian path without memory: every interval asked gets its own draw."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import RealScalar, compiled
from .base import AbstractBrownianPath, Layout, layout_of, query_time, shape_of, typed_key
from .increments import AbstractBrownianIncrement, BrownianIncrement


class UnsafeBrownianPath(AbstractBrownianPath):
    """A Brownian path whose increments are drawn for the interval asked, independently of all others.

    That is right for fixed steps that each ask for their own interval, once, and cheapest there. It is wrong
    where intervals overlap, for increments over them do not add up: not with steps that may be rejected, nor
    with solvers that look at parts of their step.

    The draw is a function of the key and the two times, so the same interval gives the same increment again.

    Parameters
    ----------
    shape
        A tuple of integers, or a pytree of `jax.ShapeDtypeStruct` of real or complex floating-point dtypes.
    key
        The random key.
    levy_area
        `BrownianIncrement`, `SpaceTimeLevyArea` or `SpaceTimeTimeLevyArea`: what the path can be asked for.

    Attributes
    ----------
    t0, t1
        Minus and plus infinity.

    Raises
    ------
    ValueError
        If a shape, the key or `levy_area` is not as said above.

    Differentiability
    -----------------
    With respect to the times asked: none, a `RuntimeError`.

    Cost
    ----
    One draw.

    Examples
    --------
    >>> import jax
    >>> from rungax.brownian import UnsafeBrownianPath
    >>> path = UnsafeBrownianPath((), jax.random.key(0))
    >>> bool(path.evaluate(0.0, 0.1) == path.evaluate(0.0, 0.1))
    True
    >>> bool(path.evaluate(0.0, 0.1) + path.evaluate(0.1, 0.2) == path.evaluate(0.0, 0.2))
    False
    """

    t0: RealScalar
    t1: RealScalar
    key: jax.Array
    levy_area: type[AbstractBrownianIncrement] = eqx.field(static=True)
    layout: Layout

    def __init__(
        self,
        shape: tuple[int, ...] | PyTree[jax.ShapeDtypeStruct],
        key: jax.Array,
        levy_area: type[AbstractBrownianIncrement] = BrownianIncrement,
    ):
        self.layout = layout_of(shape, levy_area)
        self.t0, self.t1 = -float("inf"), float("inf")
        self.key, self.levy_area = typed_key(key), levy_area

    @property
    def shape(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the path's values."""
        return shape_of(self.layout)

    @property
    def remembers(self) -> bool:
        """No."""
        return False

    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """A draw for the interval from `t0` to `t1`, with `t0` alone from 0 to `t0`; NaN if it ends before it begins.

        Parameters
        ----------
        t0, t1
            Times, scalars.
        left
            Ignored.
        use_levy
            Whether to return all of `levy_area` instead of `W` alone.
        """
        del left
        return _drawn(self, 0.0, t0, use_levy) if t1 is None else _drawn(self, t0, t1, use_levy)


@compiled
def _drawn(
    path: UnsafeBrownianPath, t0: RealScalar, t1: RealScalar, use_levy: bool
) -> PyTree[Any] | AbstractBrownianIncrement:
    start, end = query_time(t0, "t0"), query_time(t1, "t1")
    dt = end - start
    noise = path.layout.noise(_key_of(path.key, start, end))
    values = path.layout.bridge.fresh(noise, jnp.sqrt(dt).astype(path.layout.dtype))
    return path.layout.increment(values, dt, use_levy)


def _key_of(key: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """A key for an interval: one step of the generator, on a digest of 64 bits of both times."""
    # Zero has two signs and must have one key.
    words = [
        w for t in (start, end) for w in lax.bitcast_convert_type(jnp.where(t == 0, 0.0, t), jnp.uint32).reshape(-1)
    ]
    first, second = _digest(words, 0x9747B28C), _digest(words, 0x3C6EF372)
    data = jr.key_data(key)
    turned = data.at[0].set(data[0] ^ first)
    return jr.fold_in(jr.wrap_key_data(turned, impl=jr.key_impl(key)), second)


def _digest(words: list[jax.Array], seed: int) -> jax.Array:
    """A digest of some words that differs in about half its bits when any bit of them does.

    References
    ----------
    A. Appleby, MurmurHash3 (2011), its 32-bit variant: the multipliers, rotations and shifts.
    """
    digest = jnp.uint32(seed)
    for word in words:
        word = _rotated(word * jnp.uint32(0xCC9E2D51), 15) * jnp.uint32(0x1B873593)
        digest = _rotated(digest ^ word, 13) * jnp.uint32(5) + jnp.uint32(0xE6546B64)
    digest = (digest ^ (digest >> 16)) * jnp.uint32(0x85EBCA6B)
    digest = (digest ^ (digest >> 13)) * jnp.uint32(0xC2B2AE35)
    return digest ^ (digest >> 16)


def _rotated(x: jax.Array, by: int) -> jax.Array:
    return (x << by) | (x >> (32 - by))
