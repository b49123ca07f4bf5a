"""Increments of the tree have the law of Brownian motion and its integrals, and a wrong law is detected."""

from itertools import pairwise
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.brownian import (
    BrownianIncrement,
    SpaceTimeLevyArea,
    SpaceTimeTimeBridge,
    SpaceTimeTimeLevyArea,
    UnsafeBrownianPath,
    VirtualBrownianTree,
)

from ..catalogue import slow_unless
from .laws import LIMIT, assert_standard_normal, rows, standardised, worst_score

AREAS = [
    pytest.param(area, marks=slow_unless(area is SpaceTimeLevyArea))
    for area in (BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea)
]
SAMPLES = 20000
# An interval that does not start at 0 and whose length is not a power of two.
T0, T1, TOL = 0.3, 2.0, 0.02
# Random times, neighbours at least TOL apart.
TIMES = np.array([0.3, 0.3741, 0.5228, 0.8093, 1.15, 1.1873, 1.7011, 1.9633, 2.0])


def trees(key, area, shape=(), tol=TOL):
    return jax.vmap(lambda k: VirtualBrownianTree(T0, T1, tol, shape, k, levy_area=area))(
        jax.random.split(key, SAMPLES)
    )


def unsafes(key, area, shape=()):
    return jax.vmap(lambda k: UnsafeBrownianPath(shape, k, levy_area=area))(jax.random.split(key, SAMPLES))


@jax.jit
def _sample(paths, s, t):
    return jax.vmap(lambda path: path.evaluate(s, t, use_levy=True))(paths)


def sample(paths, s, t):
    return _sample(paths, np.float64(s), np.float64(t))  # one program, for Python's numbers too


@jax.jit
def values(paths, t):
    return jax.vmap(lambda path: path.evaluate(t, use_levy=True))(paths)


@pytest.mark.parametrize("area", AREAS)
def test_increments_over_disjoint_intervals_are_independent_and_normal(area, key):
    paths = trees(key, area)
    parts = [standardised(sample(paths, s, t), t - s) for s, t in pairwise(TIMES)]
    assert_standard_normal(np.concatenate(parts))


@pytest.mark.parametrize("area", AREAS)
def test_values_from_the_start_are_normal(area, key):
    paths = trees(key, area)
    for t in (0.3501, 1.15, 1.7, 2.0):
        assert_standard_normal(standardised(values(paths, t), t - T0))


@pytest.mark.parametrize("area", AREAS)
def test_increments_backwards_in_time_are_normal(area, key):
    found, expected = (rows(sample(trees(key, area), *times)) for times in ((1.7, 0.9), (0.9, 1.7)))
    np.testing.assert_array_equal(found, expected * np.array([-1, 1, -1])[: len(found), None])


@pytest.mark.parametrize("area", AREAS)
def test_joined_and_nested_intervals_fit_together(area, key):
    """W, H and K over an interval equal those joined from its two parts, up to rounding."""
    paths = trees(key, area)
    bridge = paths.layout.bridge
    rng = np.random.default_rng(0)
    for _ in range(4):
        s, t, u = np.sort(rng.uniform(T0, T1, 3))
        left, right, whole = (rows(sample(paths, *times)) for times in ((s, t), (t, u), (s, u)))
        joined = np.stack(bridge.join(tuple(left), tuple(right), t - s, u - t))
        np.testing.assert_allclose(whole, joined, atol=1e-12)
        np.testing.assert_allclose(whole[0], rows(sample(paths, T0, u))[0] - rows(sample(paths, T0, s))[0], atol=1e-12)


@pytest.mark.parametrize("area", AREAS)
def test_unsafe_path_is_normal_and_independent(area, key):
    paths = unsafes(key, area)
    intervals = ((0.0, 0.1), (0.1, 0.4), (-3.0, 2.0), (0.0, 0.4))
    assert_standard_normal(np.concatenate([standardised(sample(paths, *i), i[1] - i[0]) for i in intervals]))


@pytest.mark.parametrize("unsafe", [False, True])
def test_parts_of_complex_increments_have_half_the_variance(unsafe, key):
    shape = jax.ShapeDtypeStruct((), jnp.complex128)
    make = unsafes if unsafe else trees
    parts = standardised(sample(make(key, SpaceTimeLevyArea, shape), 0.55, 1.3), 0.75) * sqrt(2)
    assert_standard_normal(np.concatenate([parts.real, parts.imag]))


def test_float32_leaves_keep_the_law_on_short_intervals_far_from_the_start(key):
    """Increments are not computed as differences of values from the start, which would lose all digits of K."""
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    paths = trees(key, SpaceTimeTimeLevyArea, shape, tol=1e-5)
    assert_standard_normal(standardised(sample(paths, 1.90001, 1.90101), 1e-3).astype(np.float64))


class _Wrong(SpaceTimeTimeBridge):
    """A bridge with plausible mistakes, each scaled by a factor from 0 (correct) to 1."""

    # The noise of W at the midpoint is too large by this fraction.
    variance: jax.Array
    # W at the midpoint does not depend on H.
    ignored_H: jax.Array
    # H of the halves does not depend on the noise of W.
    correlation: jax.Array
    # Halving is correct, but a leaf is split as if K were not known.
    split_without_K: jax.Array

    def halves(self, whole, noise, root_h):
        without_noise = super().halves(whole, (0 * noise[0], *noise[1:]), root_h)
        pair = super().halves(whole, ((1 + self.variance) * noise[0], *noise[1:]), root_h)
        shift = 1.5 * self.ignored_H * whole[1]
        return tuple(
            (W + sign * shift, H + self.correlation * (H_without - H), K)
            for (W, H, K), (_, H_without, _), sign in zip(pair, without_noise, (-1, 1), strict=True)
        )

    def split(self, whole, noise, root_h, a, b):
        return super().split((*whole[:2], (1 - self.split_without_K) * whole[2]), noise, root_h, a, b)


@jax.jit
def _drawn_wrongly(keys, mistakes):
    """Increments between all `TIMES` of paths whose bridge makes the mistakes."""

    def draw(key):
        path = VirtualBrownianTree(T0, T1, TOL, (), key, levy_area=SpaceTimeTimeLevyArea)
        layout = type(path.layout)(path.layout.space, path.layout.levy_area, _Wrong(*mistakes))
        object.__setattr__(path, "layout", layout)
        return jax.lax.map(lambda times: path.evaluate(*times, use_levy=True), jnp.stack([TIMES[:-1], TIMES[1:]], 1))

    return jax.vmap(draw)(keys)


def test_a_wrong_bridge_is_caught(key):
    """The tests above have power: the same statistic, for as many samples, rejects each of these mistakes."""

    def score(mistakes):
        found = _drawn_wrongly(jax.random.split(key, SAMPLES), mistakes)
        parts = [jax.tree.map(lambda x, i=i: x[:, i], found) for i in range(len(TIMES) - 1)]
        spans = np.diff(TIMES)
        return worst_score(np.concatenate([standardised(p, h) for p, h in zip(parts, spans, strict=True)]))

    assert score(np.zeros(4)) < LIMIT
    for mistakes in np.diag([0.1, 1.0, 1.0, 1.0]):
        assert score(mistakes) > LIMIT
