"""A carried branch gives the increments that the tree gives from its root, in whatever order times come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.brownian import BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea, VirtualBrownianTree

from ..compare import assert_trees_close

AREAS = (BrownianIncrement, SpaceTimeLevyArea, pytest.param(SpaceTimeTimeLevyArea, marks=pytest.mark.slow))
GRID = np.linspace(0.0, 2.0, 33)
RNG = np.random.default_rng(1)
ORDERS = {
    "forwards": np.stack([GRID[:-1], GRID[1:]], 1),
    "backwards": np.stack([GRID[:0:-1], GRID[-2::-1]], 1),
    # Each step is tried with twice its length first.
    "rejected": np.array([x for s in np.linspace(0, 1.8, 16) for x in ((s, min(s + 0.22, 2.0)), (s, s + 0.11))]),
    "random": RNG.uniform(0, 2, (32, 2)),
    "close": 1.0 + RNG.uniform(0, 1e-3, (32, 2)),
    "nowhere": np.repeat(RNG.uniform(0, 2, 32)[:, None], 2, 1),
}


def tree(key, area, tol=1e-2, t1=2.0, shape=(2,)):
    return VirtualBrownianTree(0.0, t1, tol, shape, key, levy_area=area)


@jax.jit
def carried(path, intervals):
    """All increments by one branch, in order."""

    def step(branch, interval):
        increment, branch = path.move(branch, interval[0], interval[1], use_levy=True)
        return branch, increment

    return jax.lax.scan(step, path.initial_carry(), intervals)[1]


@jax.jit
def rooted(path, intervals):
    return jax.vmap(lambda interval: path.evaluate(interval[0], interval[1], use_levy=True))(intervals)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("area", AREAS)
def test_carried_is_from_the_root(area, order, key):
    path, intervals = tree(key, area), jnp.asarray(ORDERS[order])
    assert_trees_close(carried(path, intervals), rooted(path, intervals), atol=2e-15)


@pytest.mark.parametrize("area", AREAS)
def test_lanes_with_times_of_their_own(area, key):
    """Under `vmap` all lanes share the level they are at, whatever the level at which each parts from its past."""
    keys = jax.random.split(key, 6)
    intervals = jnp.asarray(np.stack([RNG.permutation(ORDERS["rejected"])[:12] for _ in keys]))

    def of(drive):
        return jax.jit(jax.vmap(lambda k, i: drive(tree(k, area), i)))(keys, intervals)

    assert_trees_close(of(carried), of(rooted), atol=2e-15)


def test_times_that_only_the_program_knows(key):
    """With `t1` and `tol` traced, and different in each lane, the path is that of the tree made by hand."""
    ends, tols = jnp.asarray([1.0, 1.9, 2.0]), jnp.asarray([1e-1, 0.9, 1e-3])
    intervals = jnp.asarray([[0.1, 0.3], [0.3, 0.9], [0.3, 0.5]])

    def of(drive):
        lane = lambda t1, tol: drive(tree(key, SpaceTimeLevyArea, tol, t1), intervals)
        return jax.jit(jax.vmap(lane))(ends, tols)

    by_hand = [
        rooted(tree(key, SpaceTimeLevyArea, float(o), float(e)), intervals) for e, o in zip(ends, tols, strict=True)
    ]
    expected = jax.tree.map(lambda *xs: jnp.stack(xs), *by_hand)
    assert_trees_close(of(carried), expected, atol=2e-15)
    assert_trees_close(of(rooted), expected, atol=2e-15)


def test_a_tree_of_one_leaf(key):
    path, intervals = tree(key, SpaceTimeTimeLevyArea, tol=5.0), jnp.asarray([[0.0, 0.7], [0.7, 2.0], [0.0, 2.0]])
    assert path.known_depth == 0
    assert_trees_close(carried(path, intervals), rooted(path, intervals), atol=2e-15)


def test_time_outside_is_nan_and_the_branch_stays_usable(key):
    path = tree(key, SpaceTimeLevyArea)
    increments = carried(path, jnp.asarray([[0.0, 0.5], [0.5, 2.5], [0.5, 1.0]]))
    assert np.isnan(increments.W[1]).all()
    assert_trees_close(increments.W[2], path.evaluate(0.5, 1.0), atol=2e-15)


def test_inside_shard_map(key):
    """With its default checks, over lanes on several devices."""
    mesh = jax.make_mesh((4,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("lanes")
    keys, intervals = jax.random.split(key, 4), jnp.asarray(ORDERS["rejected"][:6])

    def of(drive):
        return jax.vmap(lambda k: drive(tree(k, SpaceTimeLevyArea), intervals))

    for drive in (carried, rooted):
        sharded = jax.jit(jax.shard_map(of(drive), mesh=mesh, in_specs=spec, out_specs=spec))
        assert_trees_close(sharded(keys), of(rooted)(keys), atol=2e-15)
