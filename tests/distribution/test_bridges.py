"""The formulas of the bridges have the covariances of integrals of Brownian motion, checked without sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.brownian import BrownianBridge, SpaceTimeBridge, SpaceTimeTimeBridge

BRIDGES = (BrownianBridge(), SpaceTimeBridge(), SpaceTimeTimeBridge())
FRACTIONS = (1e-9, 1e-3, 0.2, 1 / 3, 0.5, 0.7, 0.999, 1 - 1e-9)


def variances(bridge, h: float) -> np.ndarray:
    return h * np.array([1, 1 / 12, 1 / 720])[: len(bridge.deviations)]


def join_matrix(l: float, r: float, kinds: int) -> np.ndarray:
    """The matrix that maps W, H, K of the parts to those of the whole, by quadrature of their kernels.

    It does not use the formulas under test. A kernel `k` stands for the integral of `k dB`. The kernels of the parts
    are orthogonal to each other. They are Legendre polynomials, so on each part they span the kernels of the whole.
    """

    def kernel(kind: int, y: np.ndarray) -> np.ndarray:
        return (np.ones_like(y), 0.5 - y, (6 * y**2 - 6 * y + 1) / 12)[kind]

    y, weights = np.polynomial.legendre.leggauss(6)
    y, weights = (y + 1) / 2, weights / 2
    columns = []
    for start, length in ((0.0, l), (l, r)):
        for kind in range(kinds):
            part = kernel(kind, y)
            whole = [kernel(k, (start + length * y) / (l + r)) for k in range(kinds)]
            columns.append([np.sum(weights * w * part) / np.sum(weights * part**2) for w in whole])
    return np.array(columns).T


def apply(function, *blocks: int) -> np.ndarray:
    """The matrix of a linear function of stacked tuples of numbers; `blocks` are their lengths."""
    identity = np.eye(sum(blocks))
    outputs = []
    for column in identity:
        parts = np.split(column, np.cumsum(blocks)[:-1])
        out = function(*(tuple(jnp.asarray([x]) for x in part) for part in parts))
        outputs.append(np.concatenate([np.asarray(x) for x in jax.tree.leaves(out)]))
    return np.array(outputs).T


def test_kernels_are_the_integrals_of_the_definition():
    """`H` and `K` as integrals of the path have the kernels that `join_matrix` uses."""
    h, n = 1.7, 20000
    v = (np.arange(n) + 0.5) * h / n
    for s in (0.11, 0.8, 1.3):
        # The path whose noise is a unit impulse at s.
        B, W = (v > s).astype(float), 1.0
        bridge = B - v / h * W
        H, K = bridge.sum() / n, (bridge * (h / 2 - v)).sum() / (n * h)
        y = s / h
        assert abs(H - (0.5 - y)) < 1e-4
        assert abs(K - (6 * y**2 - 6 * y + 1) / 12) < 1e-4


@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("a", [0.2, 1 / 3, 0.5, 0.9])
def test_joining_is_an_identity_between_integrals(bridge, a):
    kinds, h = len(bridge.deviations), 1.7
    l, r = a * h, (1 - a) * h
    found = apply(lambda x, y: bridge.join(x, y, l, r), kinds, kinds)
    np.testing.assert_allclose(found, join_matrix(l, r, kinds), atol=1e-14)


@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("a", FRACTIONS)
def test_parts_have_the_law_of_brownian_motion(bridge, a):
    """The parts are independent, have the right variances, and join to the whole, even if one is very short."""
    kinds, h = len(bridge.deviations), 1.7
    b = 1 - a
    split = apply(lambda whole, noise: bridge.split(whole, noise, np.sqrt(h), a, b), kinds, kinds)
    scale = np.sqrt(np.concatenate([variances(bridge, h), np.ones(kinds)]))
    deviations = np.sqrt(np.concatenate([variances(bridge, a * h), variances(bridge, b * h)]))
    correlations = (split * scale) / deviations[:, None]
    np.testing.assert_allclose(correlations @ correlations.T, np.eye(2 * kinds), atol=1e-13)
    joined = join_matrix(a * h, b * h, kinds) @ split
    np.testing.assert_allclose(joined, np.eye(kinds, 2 * kinds), atol=1e-14)


@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda b: type(b).__name__)
def test_halves_are_the_split_in_the_middle(bridge):
    kinds, root_h = len(bridge.deviations), 1.3
    halves = apply(lambda whole, noise: bridge.halves(whole, noise, root_h), kinds, kinds)
    split = apply(lambda whole, noise: bridge.split(whole, noise, root_h, 0.5, 0.5), kinds, kinds)
    np.testing.assert_allclose(halves, split, atol=1e-15)


@pytest.mark.parametrize("bridge", BRIDGES, ids=lambda b: type(b).__name__)
def test_parts_of_length_zero_are_zero(bridge):
    whole = tuple(jnp.asarray([x]) for x in (0.7, -0.2, 0.1)[: len(bridge.deviations)])
    noise = tuple(jnp.asarray([x]) for x in (1.0, -2.0, 0.5)[: len(bridge.deviations)])
    empty, rest = bridge.split(whole, noise, 1.0, 0.0, 1.0)
    assert all(x == 0 for x in empty)
    assert rest == whole
    assert bridge.join(empty, rest, 0.0, 1.0) == whole
    assert bridge.join(empty, empty, 0.0, 0.0) == empty
