"""The normals of a key and a number come from Threefry bits by the inverse distribution function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rungax.brownian.normals import NormalSource, Words, normals, threefry

from .laws import assert_standard_normal

COUNT = 20000
EXTREMES = np.array([0, 1, 2, 2**20 - 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)


def random_words() -> Words:
    """Random words, all pairs of extreme words, and many words with leading zeros, which give the far tails."""
    rng = np.random.default_rng(0)
    high, low = rng.integers(0, 2**32, (2, COUNT), dtype=np.uint32)
    pairs = np.array(np.meshgrid(EXTREMES, EXTREMES)).reshape(2, -1)
    small = (rng.integers(0, 2**20, COUNT) >> rng.integers(0, 20, COUNT)).astype(np.uint32)
    high, low = np.concatenate([high, pairs[0], small]), np.concatenate([low, pairs[1], low])
    return Words(jnp.asarray(high), jnp.asarray(low))


def test_the_generator_is_threefry():
    """`jax.random.fold_in` applies Threefry once to a key and a number."""
    key = jax.random.key(5, impl="threefry2x32")
    found = threefry(Words(*jax.random.key_data(key)), Words(jnp.uint32(0), jnp.uint32(7)))
    np.testing.assert_array_equal(jnp.stack(found), jax.random.key_data(jax.random.fold_in(key, 7)))


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 5e-15), (np.float32, 2e-6)])
def test_the_transform_is_the_inverse_distribution_function(dtype, atol):
    words, bits = random_words(), np.finfo(dtype).nmant
    high, low = (np.asarray(w, np.uint64) for w in words)
    fraction = ((high << np.uint64(32)) | low) & np.uint64(2**bits - 1)
    # The first bit is the sign; the last ones give the position in the remaining half of the distribution.
    tail = (fraction.astype(np.float64) + 0.5) * 0.5 ** (bits + 1)
    expected = np.where(high >= 2**31, stats.norm.ppf(tail), stats.norm.isf(tail))
    found = jax.jit(lambda w: normals(w, np.dtype(dtype)))(words)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_numbers_and_entries_are_independent(key):
    """The test includes numbers that differ only in the high word, and neighbours along either axis."""
    source = NormalSource(key, COUNT, np.dtype(np.float64))
    numbers = jnp.asarray([0, 1, 2, 2**32, 2**33, 2**61 + 1])
    drawn = np.asarray(jax.jit(jax.vmap(source.draw))(numbers))
    assert_standard_normal(np.concatenate([drawn, drawn[:2, ::-1]]))
    neighbours = np.stack([drawn[0, :-1], drawn[0, 1:]])
    assert_standard_normal(neighbours)


def test_under_vmap_draws_are_the_same(key):
    keys, numbers = jax.random.split(key, (2, 3)), jnp.arange(2)

    @jax.jit
    def draw(k, number):
        return NormalSource(k, 3, np.dtype(np.float64)).draw(number)

    found = jax.jit(jax.vmap(jax.vmap(draw, (0, None))))(keys, numbers)
    expected = [[draw(k, n) for k in row] for row, n in zip(keys, numbers, strict=True)]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-14)
