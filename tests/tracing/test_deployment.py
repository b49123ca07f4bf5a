"""A compiled solve can be exported, cached on disk, spread over devices and asked to raise, with the same values.

The first three need a program without host callbacks, which `throw=False` promises; raising needs one.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

import rungax

from .solves import DAMPING, Y0, adaptive, counted_pendulum, solve

FIELD = counted_pendulum()
TS = np.asarray([0.25, 0.5, 1.0])
ELEMENTS = np.stack([Y0 * scale for scale in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)])

SAVES: dict[str, rungax.SaveAt] = {
    "t1": rungax.SaveAt(t1=True),
    "ts": rungax.SaveAt(ts=TS),
    "steps": rungax.SaveAt(t0=True, steps=True),
    "dense": rungax.SaveAt(dense=True),
}
EVERYTHING = rungax.SaveAt(subs=[SAVES[name].subs for name in ("t1", "ts", "steps")], dense=True)
CONTROLS: dict[str, dict[str, Any]] = {"adaptive": {"dt0": None, **adaptive()}, "fixed": {}}
OFTEN = [pytest.param(CONTROLS["adaptive"], id="adaptive"), pytest.param({}, id="fixed", marks=pytest.mark.slow)]


def outputs(y0: Any, **options: Any) -> Any:
    """What a solve returns, except what is an object of its own class; a dense solution is evaluated."""
    solution = solve(FIELD, y0, throw=False, max_steps=64, **options)
    dense = None if solution.interpolation is None else solution.evaluate(0.3)
    return solution.ts, solution.ys, dense, solution.stats["num_steps"], rungax.is_okay(solution.result)


def assert_same(found: Any, expected: Any) -> None:
    """Equal but for rounding: another program may add in another order, which changes the step sizes after it."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-7, atol=1e-9)


# ------------------------------------------------------------------------------------------------------------- export


@pytest.fixture
def serialization() -> None:
    pytest.importorskip("flatbuffers", reason="jax.export writes programs with flatbuffers")


@pytest.mark.usefixtures("serialization")
@pytest.mark.parametrize("options", OFTEN)
def test_an_exported_solve_gives_the_same_values(options: dict[str, Any]) -> None:
    def function(y0: jax.Array, t1: jax.Array) -> Any:
        return outputs(y0, t1=t1, saveat=rungax.SaveAt(t0=True, ts=TS, t1=True), **options)

    exported = jax.export.export(jax.jit(function))(Y0, 1.0)
    revived = jax.export.deserialize(exported.serialize())
    assert_same(revived.call(2 * Y0, 1.5), function(2 * Y0, 1.5))


@pytest.mark.usefixtures("serialization")
def test_a_batch_of_unknown_size_is_exported() -> None:
    (size,) = jax.export.symbolic_shape("n")
    batch = jax.ShapeDtypeStruct((size, 2), np.dtype(float))
    function = jax.vmap(lambda y0: outputs(y0, saveat=SAVES["ts"], **CONTROLS["adaptive"]))
    exported = jax.export.export(jax.jit(function))(batch)
    revived = jax.export.deserialize(exported.serialize())
    assert_same(revived.call(ELEMENTS), jax.jit(function)(ELEMENTS))


# ------------------------------------------------------------------------------------------------- compilation cache


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty compilation cache of this test's own that keeps everything."""
    own = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_enable_compilation_cache": True,
    }
    before = {name: getattr(jax.config, name) for name in own}
    for values in (own, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is own:
            yield tmp_path


@pytest.fixture
def hits() -> Iterator[list[str]]:
    """One entry for each program that was found in the cache."""
    found: list[str] = []

    def listen(event: str, **details: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)


def entries(cache: pathlib.Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.name.endswith("-cache")}


def program(throw: bool) -> Callable[[Any], Any]:
    """A function that JAX has not compiled before, of the same text every time."""

    def function(y0: Any) -> Any:
        return solve(FIELD, y0, throw=throw, **adaptive()).ys

    return jax.jit(function)


def test_the_persistent_cache_keeps_a_solve(cache: pathlib.Path, hits: list[str]) -> None:
    y1 = program(throw=False)(Y0)
    written = entries(cache)
    assert any("function" in name for name in written)
    assert hits == []
    y1_again = program(throw=False)(Y0)
    assert entries(cache) == written
    assert hits != []
    assert jnp.array_equal(y1, y1_again)


def test_the_persistent_cache_keeps_an_eager_solve(cache: pathlib.Path, hits: list[str]) -> None:
    """Even with `throw=True`: called eagerly, the result is read on the host, and no callback is needed."""
    ys = solve(counted_pendulum()).ys
    assert entries(cache) != set()
    hits.clear()
    assert jnp.array_equal(ys, solve(counted_pendulum()).ys)
    assert hits != []


def test_throwing_under_jit_is_what_needs_a_callback() -> None:
    assert "callback" not in program(throw=False).lower(Y0).as_text()
    assert "callback" in program(throw=True).lower(Y0).as_text()


# ---------------------------------------------------------------------------------------------------------- shard_map


def sharded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of a batch, a quarter of which goes to each of four devices."""
    assert jax.device_count() >= 4, "tests/conftest.py asks for four"
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P("batch"), out_specs=P("batch")))


@pytest.mark.parametrize("options", OFTEN)
@pytest.mark.parametrize(
    "saveat",
    [
        pytest.param(EVERYTHING, id="everything"),
        *(pytest.param(saveat, id=name, marks=pytest.mark.slow) for name, saveat in SAVES.items()),
    ],
)
def test_shard_map_equals_vmap(saveat: rungax.SaveAt, options: dict[str, Any]) -> None:
    batch = jax.vmap(lambda y0: outputs(y0, saveat=saveat, **options))
    expected = jax.jit(batch)(ELEMENTS)
    assert_same(sharded(batch)(ELEMENTS), expected)
    assert all(expected[-1])


def test_shard_map_with_one_element_on_each_device() -> None:
    """No `vmap` inside, and another argument that is the same everywhere."""

    def one(y0: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[None], outputs(y0[0], saveat=SAVES["ts"], **CONTROLS["adaptive"]))

    batch = jax.vmap(lambda y0: outputs(y0, saveat=SAVES["ts"], **CONTROLS["adaptive"]))
    assert_same(sharded(one)(ELEMENTS[:4]), jax.jit(batch)(ELEMENTS[:4]))


@pytest.mark.parametrize(
    "varying", ["args", *(pytest.param(name, marks=pytest.mark.slow) for name in ("t1", "ts", "rtol")), "closure"]
)
def test_shard_map_over_something_else_than_the_state(varying: str) -> None:
    values = np.linspace(0.5, 1.0, 4)

    def one(value: jax.Array) -> Any:
        options: dict[str, Any] = adaptive()
        if varying == "closure":
            return solve(lambda t, y, args: FIELD(t, y, value), Y0, throw=False, **options).ys
        if varying == "ts":
            options["saveat"] = rungax.SaveAt(ts=value * TS)
        elif varying == "rtol":
            options["stepsize_controller"] = rungax.PIDController(rtol=1e-5 * value, atol=1e-6)
        else:
            options[varying] = value
        return outputs(Y0, **options)

    batch = jax.vmap(one)
    assert_same(sharded(batch)(values), jax.jit(batch)(values))


def test_shard_map_of_a_solve_that_is_the_same_on_all_devices() -> None:
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    found = jax.jit(jax.shard_map(outputs, mesh=mesh, in_specs=P(), out_specs=P()))(Y0)
    assert_same(found, outputs(Y0))


def robertson(t: Any, y: Any, rates: Any) -> Any:
    slow, fast, back = rates[0] * y[0], rates[1] * y[1] ** 2, rates[2] * y[1] * y[2]
    return jnp.stack([back - slow, slow - fast - back, fast])


@pytest.mark.slow
@pytest.mark.parametrize("solver", [rungax.Rodas5P(), rungax.Kvaerno5()], ids=["Rodas5P", "Kvaerno5"])
def test_shard_map_of_a_stiff_solve_and_its_gradient(solver: Any) -> None:
    rates = np.array([0.04, 3e7, 1e4]) * np.linspace(0.5, 2.0, 8)[:, None]

    def final(rates: jax.Array) -> jax.Array:
        options = {"solver": solver, "t1": 10.0, "dt0": 1e-4, "throw": False, **adaptive()}
        return solve(robertson, np.array([1.0, 0.0, 0.0]), rates, **options).ys[-1][0]

    both = jax.vmap(jax.value_and_grad(final))
    assert_same(sharded(both)(rates), jax.jit(both)(rates))


def test_shard_map_of_an_implicit_solve_of_one_state_on_each_device() -> None:
    """The norm of the tolerances is traced for a state that does not vary over devices."""
    field = lambda t, y, args: 100 * (jnp.roll(y, 1) - 2 * y + jnp.roll(y, -1))
    final = lambda y0: solve(field, y0[0], None, solver=rungax.Kvaerno3(), t1=0.01, throw=False, **adaptive()).ys[-1][
        None
    ]
    y0 = np.linspace(0.5, 1.5, 16).reshape(4, 4)
    assert_same(sharded(final)(y0), jnp.concatenate([final(y[None]) for y in y0]))


# ------------------------------------------------------------------------------------------------------ explicit axes


@pytest.fixture(params=["set", "of the arguments"])
def explicit(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """A mesh as `jax.make_mesh` makes it, set for the test or not."""
    mesh = jax.make_mesh((4,), ("batch",), devices=jax.devices()[:4])
    assert mesh.axis_types == (AxisType.Explicit,)
    with jax.set_mesh(mesh) if request.param == "set" else contextlib.nullcontext():
        yield mesh


def spread(x: Any, mesh: Mesh) -> jax.Array:
    return jax.device_put(x, NamedSharding(mesh, P("batch")))


def with_gradient(y0: Any, **options: Any) -> Any:
    def weighed(y0: Any) -> Any:
        found = outputs(y0, saveat=SAVES["ts"], **options)
        return jnp.sum(found[1]), found

    return jax.value_and_grad(weighed, has_aux=True)(y0)


STIFF = {"solver": rungax.Kvaerno5(), **CONTROLS["adaptive"]}


@pytest.mark.parametrize("options", [*OFTEN, pytest.param(STIFF, id="stiff", marks=pytest.mark.slow)])
@pytest.mark.parametrize("explicit", [pytest.param("set", marks=pytest.mark.slow), "of the arguments"], indirect=True)
def test_a_batch_over_an_explicit_axis_equals_one_on_a_device(explicit: Mesh, options: dict[str, Any]) -> None:
    batch = jax.jit(jax.vmap(lambda y0: with_gradient(y0, **options)))
    found = batch(spread(ELEMENTS, explicit))
    assert jax.typeof(found[1]).sharding.spec[0] == "batch"
    assert_same(jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, batch(ELEMENTS)))


def test_a_state_over_an_explicit_axis_is_solved(explicit: Mesh) -> None:
    field = lambda t, y, args: -args * y

    def final(y0: Any, rates: Any) -> Any:
        return solve(field, y0, rates, throw=False, **adaptive()).ys[-1]

    rates, y0 = np.linspace(0.5, 2.0, 8), np.linspace(1.0, 2.0, 8)
    both = jax.jit(jax.value_and_grad(lambda y0, rates: jnp.sum(final(y0, rates) ** 2)))
    assert_same(both(spread(y0, explicit), spread(rates, explicit)), both(y0, rates))


@pytest.mark.usefixtures("explicit")
def test_values_that_are_not_spread_are_solved_with_an_explicit_mesh() -> None:
    assert jax.hessian(lambda y0: jnp.sum(outputs(y0, t1=0.2)[1]))(Y0).shape == (2, 2)


# -------------------------------------------------------------------------------------------------------------- throw


def explode(t: Any, y: Any, args: Any) -> Any:
    """Reaches infinity at t = 1/y0."""
    return y**2


def final(y0: Any, throw: bool = True) -> Any:
    return solve(explode, y0, throw=throw, t1=2.0, max_steps=64, **adaptive(1e-3)).ys


def blow_up(function: Callable[..., Any], *args: Any) -> str:
    """The message of the error that a program compiled for this raises."""
    with pytest.raises(RuntimeError) as error:
        jax.block_until_ready(function(*args))
    # The errors of other devices would be raised in a later test.
    with contextlib.suppress(Exception):
        jax.effects_barrier()
    return str(error.value)


def test_an_eager_failure_raises() -> None:
    assert "max_steps" in blow_up(final, 1.0)
    assert final(0.25)[0] == pytest.approx(0.5, rel=1e-2)


def test_a_failure_under_jit_raises() -> None:
    assert "max_steps" in blow_up(jax.jit(final), 1.0)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_one_bad_element_raises(transform: Callable[..., Any]) -> None:
    assert "max_steps" in blow_up(transform(jax.vmap(final)), np.asarray([0.25, 1.0]))


@pytest.mark.parametrize("has_batch", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shard_map_raises_and_keeps_values_and_gradients(has_batch: bool) -> None:
    both = jax.value_and_grad(lambda y0: final(y0)[0])
    on_each = jax.vmap(both) if has_batch else lambda y0: jax.tree.map(lambda x: x[None], both(y0[0]))
    good = np.linspace(0.1, 0.25, 8 if has_batch else 4)
    found = sharded(on_each)(good)
    np.testing.assert_allclose(found[0], good / (1 - 2 * good), rtol=1e-2)
    np.testing.assert_allclose(found[1], 1 / (1 - 2 * good) ** 2, rtol=5e-2)
    bad = np.where(np.arange(len(good)) == 2, 1.0, good)
    assert "max_steps" in blow_up(sharded(on_each), bad)


def test_a_program_that_has_worked_before_raises_too() -> None:
    function = jax.jit(jax.vmap(final))
    good = np.asarray([0.25, 0.125])
    assert np.asarray(function(good)[:, 0]) == pytest.approx([0.5, 1 / 6], rel=1e-2)
    # Of a program that has run before, JAX raises a callback's error as ValueError (jax-ml/jax#34083). Once that is
    # solved, `RuntimeError` alone.
    with pytest.raises((RuntimeError, ValueError), match="max_steps"):
        jax.block_until_ready(function(np.asarray([0.25, 1.0])))
    assert np.asarray(function(good)[:, 0]) == pytest.approx([0.5, 1 / 6], rel=1e-2)


def test_without_throw_nothing_is_raised_and_the_good_elements_are_right() -> None:
    ys = jax.jit(jax.vmap(lambda y0: final(y0, throw=False)))(np.asarray([0.25, 1.0]))
    assert ys[0, 0] == pytest.approx(0.5, rel=1e-2)
    failed = jax.jit(lambda y0: solve(explode, y0, throw=False, t1=2.0, max_steps=64).result)(1.0)
    assert not rungax.is_okay(failed)


def test_invalid_values_raise_under_jit_and_eagerly() -> None:
    with pytest.raises(ValueError, match="dt0"):
        solve(FIELD, Y0, DAMPING, dt0=-0.1)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(jax.jit(lambda dt0: solve(FIELD, Y0, dt0=dt0).ys)(-0.1))
    ys = jax.jit(lambda dt0: solve(FIELD, Y0, dt0=dt0, throw=False).ys)(-0.1)
    assert np.isnan(ys).all()
