"""Standard normals as a function of a key and a number, each at the cost of one hash and a short formula.

With `jax.random`, the number would first be hashed into a key, which makes two hashes, and the inverse error function
would take three quarters of the time of a draw. Here, every entry of a vector has its own key. Its normals come from

- Threefry-2x32 with 20 rounds, the generator of `jax.random`: 64 random bits for each number;
- the inverse of the normal distribution function, in operations that compilers vectorise.

For uniform `p` in `(0, 1/2)`, a normal deviate is plus or minus

    (s - s0) P(s) / Q(s),    s = sqrt(-2 log p),    s0 = sqrt(2 log 2),

a variant of Abramowitz and Stegun 26.2.23 with the zero at `p = 1/2` as a factor, so that rounding errors are small
there. The coefficients were computed for this file by least squares with 50 digits, reweighted until the largest error
was minimal: 4e-16 for `p >= 2**-54`.

References
----------
J. Salmon, M. Moraes, R. Dror, D. Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC '11: rotations in table 2.
M. Abramowitz, I. Stegun, *Handbook of Mathematical Functions*, 26.2.23.
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import log, sqrt
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from ..jaxkit import optimization_barrier

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))

# Coefficients from the lowest power to the highest.
P = (
    3.2613958291478668697,
    50.077163135750666843,
    168.82193866951176896,
    208.17176587148110979,
    119.55756584292368301,
    35.916212221915486008,
    5.4895051635341863455,
    0.3499761072500903096,
    0.0062845774936675791887,
)
Q = (
    1.0,
    21.671293240487285574,
    94.375263087748509029,
    141.63979364942225896,
    93.310751305630407117,
    30.884768849053889438,
    5.1140608774225053584,
    0.34263314803471950997,
    0.0062843851223144482812,
)


class Words(NamedTuple):
    """64 bits, as two 32-bit words."""

    high: UInt32[Array, "..."]
    low: UInt32[Array, "..."]


class NormalSource(eqx.Module):
    """A source of vectors of independent standard normals, one vector for every number from 0 to 2**64 - 1.

    Attributes
    ----------
    keys
        The key of each entry of the vectors.
    """

    keys: Words
    dtype: np.dtype[Any] = eqx.field(static=True)

    def __init__(self, key: jax.Array, size: int, dtype: np.dtype[Any]):
        self.keys = Words(*jr.bits(key, (2, size), jnp.uint32))
        self.dtype = dtype

    def draw(self, number: Int[Array, ""]) -> Float[Array, " size"]:
        """The vector with this number."""
        high, low = (jnp.broadcast_to(word, self.keys.low.shape) for word in _words(number))
        return _draw_in(self.dtype)(self.keys, Words(high, low))


def vector_of_times(
    key: jax.Array, times: Sequence[Float[Array, ""]], size: int, dtype: np.dtype[Any]
) -> Float[Array, " size"]:
    """The vector of independent standard normals that belongs to a sequence of times."""
    state = Words(*jr.bits(key, (2,), jnp.uint32))
    for t in times:
        # 0.0 and -0.0 must give the same key.
        words = lax.bitcast_convert_type(jnp.where(t == 0, 0.0, t), jnp.uint32).reshape(-1)
        state = threefry(state, Words(words[-1], words[0]))
    keys = Words(*(jnp.broadcast_to(word, size) for word in optimization_barrier(state)))
    entries = jnp.arange(size, dtype=jnp.uint32)
    return _draw_in(dtype)(keys, Words(jnp.zeros_like(entries), entries))


def threefry(key: Words, counter: Words) -> Words:
    """The 64 random bits of each key and counter."""
    schedule = (*key, key.high ^ key.low ^ np.uint32(0x1BD11BDA))
    x, y = counter.high + schedule[0], counter.low + schedule[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return Words(x, y)


def normals(bits: Words, dtype: np.dtype[Any]) -> jax.Array:
    """Standard normals from random bits, of which the first is the sign."""
    mantissa = jnp.finfo(dtype).nmant
    if jnp.finfo(dtype).bits == 64:
        fraction = (bits.high.astype(jnp.uint64) << np.uint64(32)) | bits.low.astype(jnp.uint64)
    else:
        fraction = bits.low
    unsigned = fraction.dtype.type
    one = np.ones((), dtype).view(unsigned)
    fraction = fraction & unsigned(2**mantissa - 1)
    # The midpoints of 2**mantissa equal parts of [0, 1], all exact.
    uniform = lax.bitcast_convert_type(fraction | one, dtype) - (1 - 0.5 ** (mantissa + 1))
    s = jnp.sqrt(2 * log(2) - 2 * _log(uniform))
    x = (s - sqrt(2 * log(2))) * (_polynomial(P, s) / _polynomial(Q, s))
    return jnp.where(bits.high >> np.uint32(31) == 0, x, -x)


def _log(x: jax.Array) -> jax.Array:
    """The logarithm of floats `x = 2**n m` that are not subnormal, with `m` between `sqrt(1/2)` and `sqrt(2)`."""
    dtype, mantissa = np.dtype(x.dtype), jnp.finfo(x.dtype).nmant
    one = np.ones((), dtype).view(f"u{dtype.itemsize}")
    least = np.sqrt(np.asarray(0.5, dtype)).view(one.dtype)
    unsigned = one.dtype.type
    shifted = lax.bitcast_convert_type(x, one.dtype) + (one - least)
    # The last bits of the float `2**mantissa + k` are the integer k. Vector instructions that convert 64-bit integers
    # do not exist.
    big = np.asarray(2.0**mantissa, dtype)
    bias = 2.0**mantissa + (int(one) >> mantissa)
    n = lax.bitcast_convert_type((shifted >> unsigned(mantissa)) | big.view(one.dtype), dtype) - bias
    m = lax.bitcast_convert_type((shifted & unsigned(2**mantissa - 1)) + least, dtype)
    z = (m - 1) / (m + 1)
    # log m = 2 artanh z, |z| < 0.172.
    return n * log(2) + z * _polynomial([2 / (2 * k + 1) for k in range(10)], z * z)


def _polynomial(coefficients: Any, x: jax.Array) -> jax.Array:
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def _words(number: Int[Array, ""]) -> Words:
    low = number.astype(jnp.uint32)
    high = (number >> 32).astype(jnp.uint32) if number.dtype.itemsize == 8 else jnp.zeros_like(low)
    return Words(high, low)


@cache
def _draw_in(dtype: np.dtype[Any]) -> Callable[[Words, Words], jax.Array]:
    """The function that draws normals for vectors of keys and counters; under `vmap` it flattens the batch.

    Without flattening, the compiler's innermost loop would run over the last axis only, which may have three entries.
    """

    @jax.custom_batching.custom_vmap
    def draw(keys: Words, counters: Words) -> jax.Array:
        # Without the outer barrier, the normals would be drawn again in every fused loop that uses them. Without the
        # inner one, the loop body is too long for LLVM to vectorise, and takes twice the time.
        return optimization_barrier(normals(optimization_barrier(threefry(keys, counters)), dtype))

    @draw.def_vmap
    def _(axis_size: int, in_batched: list[Any], keys: Words, counters: Words) -> tuple[jax.Array, bool]:
        def over_batch(x: jax.Array, batched: bool) -> jax.Array:
            return (x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))).reshape(-1)

        size = keys.low.shape[-1]
        drawn = draw(*jax.tree.map(over_batch, (keys, counters), tuple(in_batched)))
        return drawn.reshape(axis_size, size), True

    return draw
