"""The tree has the law of Brownian motion and its integrals, whatever is asked, and a wrong one is seen."""

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

from .laws import LIMIT, assert_standard_normal, rows, standardised, worst_score

AREAS = (BrownianIncrement, SpaceTimeLevyArea, pytest.param(SpaceTimeTimeLevyArea, marks=pytest.mark.slow))
SAMPLES = 20000
# The interval starts elsewhere than at 0 and has no length that halving would like.
T0, T1, TOL = 0.3, 2.0, 0.02
# Random; consecutive ones at least TOL apart.
TIMES = np.array([0.3, 0.3741, 0.5228, 0.8093, 1.15, 1.1873, 1.7011, 1.9633, 2.0])


def trees(key, area, shape=(), tol=TOL):
    return jax.vmap(lambda k: VirtualBrownianTree(T0, T1, tol, shape, k, levy_area=area))(
        jax.random.split(key, SAMPLES)
    )


@jax.jit
def sample(paths, s, t):
    return jax.vmap(lambda path: path.evaluate(s, t, use_levy=True))(paths)


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
def test_increments_asked_backwards_are_normal(area, key):
    found, expected = (rows(sample(trees(key, area), *times)) for times in ((1.7, 0.9), (0.9, 1.7)))
    np.testing.assert_array_equal(found, expected * np.array([-1, 1, -1])[: len(found), None])


@pytest.mark.parametrize("area", AREAS)
def test_joined_and_nested_intervals_fit_together(area, key):
    """W, H and K over an interval are those that the integrals over its two parts make, to rounding."""
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
    paths = jax.vmap(lambda k: UnsafeBrownianPath((), k, levy_area=area))(jax.random.split(key, SAMPLES))
    intervals = ((0.0, 0.1), (0.1, 0.4), (-3.0, 2.0), (0.0, 0.4))
    assert_standard_normal(np.concatenate([standardised(sample(paths, *i), i[1] - i[0]) for i in intervals]))


@pytest.mark.parametrize("unsafe", [False, True])
def test_parts_of_complex_increments_have_half_the_variance(unsafe, key):
    shape = jax.ShapeDtypeStruct((), jnp.complex128)

    def draw(k):
        path = UnsafeBrownianPath(shape, k, SpaceTimeLevyArea)
        path = path if unsafe else VirtualBrownianTree(T0, T1, TOL, shape, k, SpaceTimeLevyArea)
        return path.evaluate(0.55, 1.3, use_levy=True)

    parts = standardised(jax.vmap(draw)(jax.random.split(key, SAMPLES)), 0.75) * sqrt(2)
    assert_standard_normal(np.concatenate([parts.real, parts.imag]))


def test_float32_leaves_keep_the_law_on_short_intervals_far_from_the_start(key):
    """An increment is not a difference of values from the start, which would leave no digit of K."""
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    paths = trees(key, SpaceTimeTimeLevyArea, shape, tol=1e-5)
    assert_standard_normal(standardised(sample(paths, 1.90001, 1.90101), 1e-3).astype(np.float64))


class _WrongVariance(SpaceTimeTimeBridge):
    """The noise of `W` in the middle is 10 % too large."""

    def halves(self, whole, noise, root_h):
        return super().halves(whole, (1.1 * noise[0], *noise[1:]), root_h)


class _ForgetsH(SpaceTimeTimeBridge):
    """As if W in the middle did not depend on H."""

    def halves(self, whole, noise, root_h):
        left, right = super().halves(whole, noise, root_h)
        return (left[0] - 1.5 * whole[1], *left[1:]), (right[0] + 1.5 * whole[1], *right[1:])


class _WrongCorrelation(SpaceTimeTimeBridge):
    """H of the halves does not move with the noise of W."""

    def halves(self, whole, noise, root_h):
        still = super().halves(whole, (0 * noise[0], *noise[1:]), root_h)
        left, right = super().halves(whole, noise, root_h)
        return (left[0], still[0][1], left[2]), (right[0], still[1][1], right[2])


class _WrongSplit(SpaceTimeTimeBridge):
    """Right in the middle, but a leaf is split as if K were not known."""

    def split(self, whole, noise, root_h, a, b):
        return super().split((*whole[:2], 0 * whole[2]), noise, root_h, a, b)


@pytest.mark.parametrize("wrong", [_WrongVariance, _ForgetsH, _WrongCorrelation, _WrongSplit])
def test_a_wrong_bridge_is_caught(wrong, key):
    """The power of the tests above: the same statistic, on the same number of samples, refuses each of these."""

    def tree(k):
        path = VirtualBrownianTree(T0, T1, TOL, (), k, levy_area=SpaceTimeTimeLevyArea)
        layout = type(path.layout)(path.layout.space, path.layout.levy_area, wrong())
        object.__setattr__(path, "layout", layout)
        return path

    paths = jax.vmap(tree)(jax.random.split(key, SAMPLES))
    parts = [standardised(sample(paths, s, t), t - s) for s, t in pairwise(TIMES)]
    assert worst_score(np.concatenate(parts)) > LIMIT
