"""Increments computed from a carried branch equal those from the root, in any order of times."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.brownian import BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea, VirtualBrownianTree

from ..catalogue import slow_unless
from ..compare import assert_trees_close

AREAS = [
    pytest.param(area, marks=slow_unless(area is SpaceTimeLevyArea))
    for area in (BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea)
]
GRID = np.linspace(0.0, 2.0, 33)
RNG = np.random.default_rng(1)
ORDERS = {
    "forwards": np.stack([GRID[:-1], GRID[1:]], 1),
    "backwards": np.stack([GRID[:0:-1], GRID[-2::-1]], 1),
    # Each step is first attempted with twice its length.
    "rejected": np.array([x for s in np.linspace(0, 1.8, 16) for x in ((s, min(s + 0.22, 2.0)), (s, s + 0.11))]),
    "random": RNG.uniform(0, 2, (32, 2)),
    "close": 1.0 + RNG.uniform(0, 1e-3, (32, 2)),
    "empty": np.repeat(RNG.uniform(0, 2, 32)[:, None], 2, 1),
}


def tree(key, area, tol=1e-2, t1=2.0, shape=(2,)):
    return VirtualBrownianTree(0.0, t1, tol, shape, key, levy_area=area)


@jax.jit
def carried(path, intervals):
    """The increments over `intervals`, computed in order with one carried branch."""

    def step(branch, interval):
        increment, branch = path.increment_and_carry(branch, interval[0], interval[1])
        return branch, increment

    return jax.lax.scan(step, path.initial_carry(), intervals)[1]


@jax.jit
def rooted(path, intervals):
    return jax.vmap(lambda interval: path.evaluate(interval[0], interval[1], use_levy=True))(intervals)


def one(increments, i):
    return jax.tree.map(lambda x: x[i], increments)


@pytest.mark.parametrize("area", AREAS)
def test_carried_increments_equal_those_from_the_root(area, key):
    path = tree(key, area)
    for intervals in map(jnp.asarray, ORDERS.values()):
        assert_trees_close(carried(path, intervals), rooted(path, intervals), atol=2e-15)


@pytest.mark.parametrize(
    "area",
    [
        SpaceTimeLevyArea,
        *(pytest.param(area, marks=pytest.mark.slow) for area in (BrownianIncrement, SpaceTimeTimeLevyArea)),
    ],
)
def test_batch_elements_with_different_times(area, key):
    """Under `vmap` the descent of all elements starts at the same level, though their common levels differ."""
    keys = jax.random.split(key, 6)
    intervals = jnp.asarray(np.stack([RNG.permutation(ORDERS["rejected"]) for _ in keys]))
    found = jax.jit(jax.vmap(lambda k, i: carried(tree(k, area), i)))(keys, intervals)
    for i, k in enumerate(keys):
        assert_trees_close(one(found, i), rooted(tree(k, area), intervals[i]), atol=2e-15)


@pytest.mark.slow
def test_times_known_only_at_run_time(key):
    """With `t1` and `tol` traced, and different in each batch element, the path is that of a tree with known ones."""
    ends, tols = jnp.asarray([1.9, 2.0]), jnp.asarray([0.9, 1e-2])
    intervals = jnp.asarray([[0.1, 0.3], [0.3, 0.9], [0.3, 0.5]])

    def both(t1, tol):
        path = tree(key, BrownianIncrement, tol, t1)
        return carried(path, intervals), rooted(path, intervals)

    by_branch, from_root = jax.jit(jax.vmap(both))(ends, tols)
    for i in range(2):
        expected = rooted(tree(key, BrownianIncrement, float(tols[i]), float(ends[i])), intervals)
        assert_trees_close(one(by_branch, i), expected, atol=2e-15)
        assert_trees_close(one(from_root, i), expected, atol=2e-15)


@pytest.mark.slow
def test_pytrees_of_narrow_floats(key):
    shape = {"a": jax.ShapeDtypeStruct((2,), jnp.float16), "b": jax.ShapeDtypeStruct((), jnp.complex64)}
    path, intervals = tree(key, SpaceTimeLevyArea, shape=shape), jnp.asarray(ORDERS["rejected"])
    assert_trees_close(carried(path, intervals), rooted(path, intervals), atol=1e-6)


def test_derivatives_of_functions_of_increments(key):
    """Forward and reverse mode agree with finite differences through a loop that carries a branch."""

    def end(theta, k):
        path = tree(k, SpaceTimeLevyArea)

        def step(carry, interval):
            y, branch = carry
            increment, branch = path.increment_and_carry(branch, interval[0], interval[1])
            return (y + theta * y * increment.W[0] + increment.H[1], branch), None

        start = jnp.asarray(1.0), path.initial_carry()
        return jax.lax.scan(step, start, jnp.asarray(ORDERS["forwards"]))[0][0]

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def values(theta, k):
        return *jax.jvp(lambda theta: end(theta, k), (theta,), (1.0,)), jax.grad(end)(theta, k)

    keys = jax.random.split(key, 3)
    (_, forward, reverse), (ahead, *_), (behind, *_) = (values(theta, keys) for theta in (0.3, 0.3001, 0.2999))
    assert_trees_close(reverse, forward, rtol=1e-12)
    assert_trees_close(reverse, (ahead - behind) / 2e-4, rtol=1e-6)


def test_a_tree_of_one_leaf(key):
    path = tree(key, SpaceTimeLevyArea, tol=5.0)
    intervals = jnp.asarray([[0.0, 0.7], [0.7, 2.0], [0.0, 2.0]])
    assert path.known_depth == 0
    assert_trees_close(carried(path, intervals), rooted(path, intervals), atol=2e-15)


def test_time_outside_is_nan_and_the_branch_stays_usable(key):
    path = tree(key, SpaceTimeLevyArea)
    inside = np.repeat([[0.0, 0.5], [0.5, 1.5], [0.5, 1.0]], 11, axis=0)[:32]
    outside = np.where(inside == 1.5, 2.5, inside)
    found, expected = carried(path, jnp.asarray(outside)), rooted(path, jnp.asarray(inside))
    is_inside = inside[:, 1] != 1.5
    assert np.isnan(found.W[~is_inside]).all()
    assert_trees_close(found.W[is_inside], expected.W[is_inside], atol=2e-15)


def test_inside_shard_map(key):
    """With the default checks of `shard_map`, for a batch over several devices."""
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("batch")
    keys, intervals = jax.random.split(key, 4), jnp.asarray(ORDERS["rejected"])
    for drive in (carried, rooted):
        batch = jax.vmap(lambda k, drive=drive: drive(tree(k, BrownianIncrement), intervals))
        found = jax.jit(jax.shard_map(batch, mesh=mesh, in_specs=spec, out_specs=spec))(keys)
        for i, k in enumerate(keys):
            assert_trees_close(one(found, i), rooted(tree(k, BrownianIncrement), intervals), atol=2e-15)
