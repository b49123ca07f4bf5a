"""Brownian paths: shapes, dtypes, the ends of the interval, transformations, and every error message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.brownian import (
    AbstractSpaceTimeLevyArea,
    BrownianIncrement,
    SpaceTimeLevyArea,
    SpaceTimeTimeLevyArea,
    UnsafeBrownianPath,
    VirtualBrownianTree,
)

from ..compare import assert_trees_close

S = jax.ShapeDtypeStruct
ENDS = (-1.0, 0.7)
SHORTEST_AND_LONGEST = (
    BrownianIncrement,
    pytest.param(SpaceTimeLevyArea, marks=pytest.mark.slow),
    SpaceTimeTimeLevyArea,
)
"""Every area; the one between the other two is marked slow."""
MIXED = {"a": S((2, 3), jnp.float32), "b": (S((), jnp.float64), S((0,), jnp.float16)), "c": S((2,), jnp.complex64)}


def tree(key, shape=(), area=BrownianIncrement, t0=0.0, t1=1.0, tol=1e-2):
    return VirtualBrownianTree(t0, t1, tol, shape, key, levy_area=area)


def coarse_tree(key, area):
    return tree(key, area=area, t0=ENDS[0], t1=ENDS[1], tol=0.3)


def unsafe(key, shape=(), area=BrownianIncrement):
    return UnsafeBrownianPath(shape, key, levy_area=area)


@pytest.mark.parametrize(
    ("make", "area"),
    [
        # Both kinds of path and each area; the other combinations are marked slow.
        (tree, BrownianIncrement),
        (tree, SpaceTimeTimeLevyArea),
        (unsafe, SpaceTimeLevyArea),
        pytest.param(tree, SpaceTimeLevyArea, marks=pytest.mark.slow),
        pytest.param(unsafe, BrownianIncrement, marks=pytest.mark.slow),
        pytest.param(unsafe, SpaceTimeTimeLevyArea, marks=pytest.mark.slow),
    ],
)
def test_shapes_and_dtypes_are_as_requested(make, area, key):
    shape = {k: v for k, v in MIXED.items() if k != "c"} if area is SpaceTimeTimeLevyArea else MIXED
    path = make(key, shape, area)
    assert path.shape == shape
    increment = path.evaluate(0.1, 0.4, use_levy=True)
    assert type(increment) is area
    for name in ("W", "H", "K"):
        if hasattr(increment, name):
            assert jax.tree.map(lambda x: S(x.shape, x.dtype), getattr(increment, name)) == shape
    dts, leaves = jax.tree.leaves(increment.dt), jax.tree.leaves(shape)
    assert [(x.shape, x.dtype) for x in dts] == [((), jnp.finfo(leaf.dtype).dtype) for leaf in leaves]
    np.testing.assert_allclose([float(x) for x in dts], 0.3, rtol=1e-3)
    assert_trees_close(path.evaluate(0.1, 0.4), increment.W)
    traced = jax.eval_shape(lambda p: p.evaluate(0.1, 0.4, use_levy=True), path)
    assert jax.tree.map(lambda x: S(x.shape, x.dtype), increment) == traced


def test_old_keys_are_keys():
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    assert tree(old).evaluate(0.3) == tree(new).evaluate(0.3)


@jax.jit
def increments_between(path, starts, ends):
    return jax.vmap(lambda s, t: path.evaluate(s, t, use_levy=True))(starts, ends)


@jax.jit
def values_at(path, times):
    """The values of the path, with and without Lévy area."""
    return jax.vmap(lambda t: (path.evaluate(t, use_levy=True), path.evaluate(t)))(times)


@pytest.mark.parametrize("area", SHORTEST_AND_LONGEST)
def test_the_ends_of_the_interval(area, key):
    path = coarse_tree(key, area)
    # Six intervals, so that `increments_between` is the program of the test below.
    increments = increments_between(path, np.array([ENDS[0], *[-0.2] * 5]), np.array([ENDS[1], *[-0.2] * 5]))
    whole, (from_start, values) = jax.tree.map(lambda x: x[0], increments), values_at(path, np.array(ENDS))
    assert from_start.W[0] == values[0] == 0
    assert_trees_close(whole, jax.tree.map(lambda x: x[1], from_start), atol=1e-15)
    for x in jax.tree.leaves(increments):
        assert (x[1:] == 0).all()


@pytest.mark.parametrize("tol", [*(pytest.param(tol, marks=pytest.mark.slow) for tol in (1e-1, 1e-9)), 1e-30])
def test_values_are_continuous_where_nodes_meet(tol, key):
    """At a dyadic time the value is that at the boundary of the nodes, from both sides and despite rounding."""
    path = tree(key, area=SpaceTimeTimeLevyArea, t0=0.1, t1=1.1, tol=tol)
    evaluate = jax.jit(lambda t: path.evaluate(t))
    for t in (0.35, 0.6, 0.85):
        around = [float(evaluate(x)) for x in (np.nextafter(t, 0), t, np.nextafter(t, 1))]
        np.testing.assert_allclose(around, around[1], atol=1e-6)


@pytest.mark.parametrize("area", SHORTEST_AND_LONGEST)
def test_increments_shorter_than_tol_are_finite_and_add_up(area, key):
    path = coarse_tree(key, area)
    ts = 0.6 + np.array([0, 1e-12, 1e-9, 1e-4, 0.01, 0.06])
    starts, ends = np.append(ts[:-1], ts[0]), np.append(ts[1:], ts[-1])  # the last is the whole
    increments = increments_between(path, starts, ends)
    whole = jax.jit(lambda s, t: path.evaluate(s, t))(ts[0], ts[-1])
    np.testing.assert_allclose(increments.W[:-1].sum(), whole, atol=1e-15)
    np.testing.assert_allclose(increments.W[-1], whole, atol=1e-15)
    for name in ("H", "K"):
        if hasattr(increments, name):
            assert (np.abs(getattr(increments, name)) <= 5 * np.sqrt(ends - starts)).all()


def test_vmap_over_times_and_keys_is_a_loop(key):
    keys, ts = jax.random.split(key, 3), jnp.asarray([0.0, 0.2, 0.77, 1.0])
    one = jax.jit(lambda k, t: tree(k, (2,)).evaluate(t))
    found = jax.jit(jax.vmap(lambda k: jax.vmap(lambda t: one(k, t))(ts)))(keys)
    expected = jnp.stack([jnp.stack([one(k, t) for t in ts]) for k in keys])
    assert_trees_close(found, expected, atol=2e-15)


def test_the_path_depends_on_the_key_and_the_levy_area(key):
    keys = jax.random.split(key)
    assert tree(keys[0]).evaluate(0.3) == tree(keys[0]).evaluate(0.3)
    assert tree(keys[0]).evaluate(0.3) != tree(keys[1]).evaluate(0.3)
    assert tree(keys[0]).evaluate(0.3) != tree(keys[0], area=SpaceTimeLevyArea).evaluate(0.3)


def test_the_space_time_time_area_includes_the_space_time_area():
    assert issubclass(SpaceTimeTimeLevyArea, AbstractSpaceTimeLevyArea)


def test_unsafe_draws_depend_on_key_and_times_alone(key):
    path = unsafe(key)
    assert (path.t0, path.t1) == (-np.inf, np.inf)
    draws = [path.evaluate(*i) for i in ((0.0, 0.5), (0.0, 1.0), (0.5, 1.0))]
    assert len({float(x) for x in draws}) == 3
    assert path.evaluate(0.0, 0.5) == draws[0] == path.evaluate(-0.0, 0.5) == path.evaluate(0.5)
    assert unsafe(key).evaluate(0.0, 0.5) == draws[0]
    assert path.evaluate(0.3, 0.3) == 0
    assert np.isnan(path.evaluate(0.5, 0.3))


def test_mistakes_found_at_run_time_give_nan(key):
    @jax.jit
    def value(t0, t1, tol, t):
        path = VirtualBrownianTree(t0, t1, tol, (), key, levy_area=SpaceTimeLevyArea)
        increment = path.evaluate(t, use_levy=True)
        return increment.W, increment.H

    assert np.isfinite(value(0.0, 1.0, 0.1, 0.5)).all()
    for bad in ((1.0, 1.0, 0.1, 1.0), (1.0, 0.0, 0.1, 0.5), (0.0, 1.0, 0.1, 1.1), (0.0, 1.0, 0.1, np.nan)):
        assert np.isnan(value(*bad)).all(), bad
    assert np.isnan(value(0.0, 1.0, 0.0, 0.5)).all()
    assert np.isnan(value(0.0, 1.0, -1.0, 0.5)).all()


MESSAGES = {
    "ends": (lambda k: tree(k, t0=1.0, t1=1.0), "`t0` must be less than `t1`"),
    "nan": (lambda k: tree(k, t1=np.nan), "`t0` must be less than `t1`"),
    "infinite": (lambda k: tree(k, t1=np.inf), "both finite"),
    "tol": (lambda k: tree(k, tol=0.0), "`tol` must be positive; found 0.0"),
    "integers": (lambda k: tree(k, S((2,), jnp.int32)), "`shape` must have a real or complex .* found int32"),
    "nested": (lambda k: unsafe(k, {"a": S((2,), bool)}), r"`shape\['a'\]` must have"),
    "shape": (lambda k: unsafe(k, 3), "must be a tuple of integers or a pytree"),
    "area": (lambda k: tree(k, area=float), "`levy_area` must be one of .*; found float"),
    "complex": (lambda k: tree(k, S((), jnp.complex128), SpaceTimeTimeLevyArea), "needs real leaves .* complex128"),
    "key": (lambda k: tree(7), "`key` must be a random key.*found int"),
    "key dtype": (lambda k: tree(jnp.zeros(2)), "`key` must be a random key.*float"),
    "keys": (lambda k: unsafe(jax.random.split(k)), "`key` must be one key"),
    "before": (lambda k: tree(k).evaluate(-0.1), r"`t0` must lie in the tree's interval \[0.0, 1.0\]; found -0.1"),
    "after": (lambda k: tree(k).evaluate(0.5, 1.1), "`t1` must lie in the tree's interval"),
    "vector": (lambda k: tree(k).evaluate(jnp.zeros(3)), "must be a scalar"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case, key):
    call, message = MESSAGES[case]
    with pytest.raises(ValueError, match=message):
        call(key)


@pytest.mark.parametrize("make", [tree, unsafe])
def test_no_derivative_with_respect_to_time(make, key):
    path = make(key)
    for derivative in (jax.grad, jax.jacfwd):
        with pytest.raises(RuntimeError, match="cannot be differentiated with respect to the times"):
            derivative(lambda t: path.evaluate(0.1, t))(0.3)
    # Other derivatives of functions of the path exist.
    assert jax.grad(lambda a: a * path.evaluate(0.1, 0.3))(2.0) == path.evaluate(0.1, 0.3)
    with pytest.raises(NotImplementedError):
        path.derivative(0.3)
