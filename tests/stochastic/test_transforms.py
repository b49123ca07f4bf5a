"""Stochastic solves under transformations: `vmap` equals a loop, `jit` changes nothing, dtypes are preserved."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import rungax
from rungax import (
    ConstantStepSize,
    ControlTerm,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    UnsafeBrownianPath,
    VirtualBrownianTree,
)

from ..compare import assert_trees_close

KEYS = jax.random.split(jax.random.key(2), 4)
TS = np.array([0.1, 0.45, 0.9])
SOLVER = rungax.SPaRK()
CONTROLLERS: dict[str, Any] = {
    "fixed": ConstantStepSize(),
    "adaptive": PIDController(rtol=1e-3, atol=1e-3, pcoeff=0.1, icoeff=0.3),
}
ADAPTIVE_OFTEN = ["adaptive", pytest.param("fixed", marks=pytest.mark.slow)]
"""Fixed steps are in `conformance/test_solvers.py`."""
# Step sizes are powers in single precision, which may be rounded differently in another program.
RTOL = {"fixed": 1e-13, "adaptive": 1e-5}


def solve(
    key: Any, kind: str = "fixed", y0: Any = 1.0, shape: Any = (), solver: Any = SOLVER, **options: Any
) -> rungax.Solution:
    y0 = jnp.asarray(y0)
    path = VirtualBrownianTree(0.0, 1.0, 2.0**-10, shape, key, levy_area=rungax.SpaceTimeLevyArea)
    terms = MultiTerm(ODETerm(lambda t, y, args: jnp.sin(y)), ControlTerm(lambda t, y, args: 0.5 * jnp.cos(y), path))
    options = {"saveat": SaveAt(ts=TS, t1=True), "stepsize_controller": CONTROLLERS[kind], **options}
    return rungax.diffeqsolve(terms, solver, 0.0, 1.0, 0.05, y0, **options)


@functools.partial(jax.jit, static_argnames="kind")
def compiled(key: Any, y0: Any, kind: str) -> rungax.Solution:
    return solve(key, kind, y0)


@pytest.mark.parametrize("kind", ADAPTIVE_OFTEN)
def test_vmap_over_keys_and_states_is_a_loop(kind: str) -> None:
    y0s = jnp.linspace(0.5, 2.0, 4)
    together = jax.jit(jax.vmap(lambda key, y0: solve(key, kind, y0)))(KEYS, y0s)
    for i, (key, y0) in enumerate(zip(KEYS, y0s, strict=True)):
        alone = compiled(key, y0, kind)
        np.testing.assert_allclose(together.ys[i], alone.ys, rtol=RTOL[kind])
        for name in ("num_steps", "num_accepted_steps"):
            assert int(jnp.broadcast_to(together.stats[name], 4)[i]) == int(alone.stats[name])


def test_batch_elements_share_their_times_if_steps_are_fixed() -> None:
    """Times are then not computed for each element."""
    shapes = jax.eval_shape(jax.vmap(lambda key: solve(key).stats["num_steps"], out_axes=None), KEYS)
    assert shapes.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ADAPTIVE_OFTEN)
def test_jit_changes_nothing(kind: str) -> None:
    y0 = jnp.asarray(0.5)
    assert_trees_close(compiled(KEYS[0], y0, kind).ys, solve(KEYS[0], kind, y0).ys, rtol=RTOL[kind])


def test_tol_and_ends_may_be_traced() -> None:
    def end(t1: Any, tol: Any) -> Any:
        path = VirtualBrownianTree(0.0, t1, tol, (), KEYS[0])
        term = ControlTerm(lambda t, y, args: jnp.ones(()), path)
        return rungax.diffeqsolve(term, rungax.Euler(), 0.0, t1, t1 / 8, jnp.array(0.0)).ys[0]

    batch = jnp.array([0.5, 2.0]), jnp.array([0.1, 0.01])
    together = jax.jit(jax.vmap(end))(*batch)
    known = functools.partial(end, *(float(x[1]) for x in batch))
    np.testing.assert_allclose(together[1], jax.jit(known)(), rtol=1e-12)


@pytest.mark.parametrize("kind", ADAPTIVE_OFTEN)
def test_single_precision_stays_single(kind: str) -> None:
    single = jax.ShapeDtypeStruct((), jnp.float32)
    ys = solve(KEYS[0], kind, np.float32(1.0), single).ys
    assert ys.dtype == jnp.float32
    assert np.isfinite(ys).all()


def test_trees_of_states_with_leaves_of_any_kind() -> None:
    y0 = {"wide": jnp.ones(2), "narrow": (jnp.ones((), jnp.float32),), "complex": jnp.ones((), complex)}
    shapes = jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape, y.dtype), y0)
    path = UnsafeBrownianPath(shapes, KEYS[0], levy_area=rungax.SpaceTimeLevyArea)

    def diffusion(t: Any, y: Any, args: Any) -> Any:
        size = jax.tree.map(lambda x: 0.5 * jnp.cos(x), y)
        return {**size, "wide": jnp.diag(size["wide"])}

    terms = MultiTerm(ODETerm(lambda t, y, args: jax.tree.map(jnp.negative, y)), ControlTerm(diffusion, path))
    for solver in (rungax.Euler(), rungax.SPaRK()):
        found = jax.eval_shape(lambda s=solver: rungax.diffeqsolve(terms, s, 0.0, 1.0, 0.1, y0).ys)
        assert jax.tree.map(lambda x: (x.shape[1:], x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), y0)
    # A leaf of the pytree is solved as if it were alone.
    alone = MultiTerm(
        ODETerm(lambda t, y, args: -y),
        ControlTerm(lambda t, y, args: 0.5 * jnp.cos(y), lambda t0, t1: path.evaluate(t0, t1)["narrow"][0]),
    )

    def by_heun(terms: Any, y0: Any) -> Any:
        return rungax.diffeqsolve(terms, rungax.Heun(), 0.0, 1.0, 0.1, y0).ys

    together = jax.jit(lambda: by_heun(terms, y0))()
    narrow = jax.jit(lambda: by_heun(alone, y0["narrow"][0]))()
    np.testing.assert_allclose(together["narrow"][0], narrow, rtol=1e-5)


@pytest.mark.slow  # `distribution/test_carried_branch.py` has the path inside `shard_map`
def test_inside_shard_map() -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    options = {"solver": rungax.Heun(), "saveat": SaveAt(t1=True), "max_steps": 32, "throw": False}

    def value_and_slope(data: Any, y0: Any) -> Any:
        key = jax.random.wrap_key_data(data)
        return jax.value_and_grad(lambda y0: solve(key, "fixed", y0, **options).ys[-1])(y0)

    spec = PartitionSpec("batch")
    sharded = jax.jit(jax.shard_map(jax.vmap(value_and_slope), mesh=mesh, in_specs=spec, out_specs=spec))
    batch = jax.random.key_data(KEYS), jnp.linspace(0.5, 2.0, 4)
    assert_trees_close(sharded(*batch), jax.jit(jax.vmap(value_and_slope))(*batch), rtol=1e-12)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(lambda y: jnp.diag(jnp.cos(y)), marks=pytest.mark.slow),
        lambda y: lx.DiagonalLinearOperator(jnp.cos(y)),
    ],
    ids=["matrix", "operator"],
)
def test_saving_between_steps_and_dense_output(field: Callable[[Any], Any]) -> None:
    path = VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), KEYS[0])
    terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(lambda t, y, args: field(y), path))
    saveat = SaveAt(ts=TS, dense=True)

    @jax.jit
    def saved_and_evaluated() -> tuple[Any, Any]:
        solution = rungax.diffeqsolve(terms, rungax.Heun(), 0.0, 1.0, 0.1, jnp.ones(2), saveat=saveat, max_steps=16)
        return solution.ys, jax.vmap(solution.evaluate)(TS)

    saved, evaluated = saved_and_evaluated()
    np.testing.assert_allclose(evaluated, saved, rtol=1e-12)
