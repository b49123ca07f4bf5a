"""A gradient has the same value eagerly, under `jit`, under `vmap`, on one device of many, and once exported."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P

import rungax
from rungax import RK4, Bosh3, ConstantStepSize, Euler, Heun, ODETerm, PIDController, SaveAt, StepTo, diffeqsolve

from ..compare import assert_trees_close
from ..problems.fields import ARGS, pendulum
from .measure import weigh

Y0 = np.asarray([1.0, 0.5])
PID = PIDController(rtol=1e-4, atol=1e-5)
TS = np.asarray([0.2, 0.7])

SAVES: dict[str, SaveAt] = {
    "t1": SaveAt(t1=True),
    "ts, steps": SaveAt(ts=TS, steps=True),
    "dense": SaveAt(dense=True),
}
CONTROLS: dict[str, dict[str, Any]] = {
    "adaptive": {"solver": Bosh3(), "dt0": None, "stepsize_controller": PID},
    "fixed": {"solver": Heun(), "dt0": 0.15, "stepsize_controller": ConstantStepSize()},
}


def loss(inputs: Any, save: str = "t1", control: str = "fixed", **options: Any) -> jax.Array:
    """A real function of a solve; under `inputs` is all that it depends on."""
    y0, args, t1 = inputs
    settings: dict[str, Any] = {"saveat": SAVES[save], "max_steps": 32, "throw": False, **CONTROLS[control], **options}
    field = settings.pop("field", pendulum)
    solution = diffeqsolve(ODETerm(field), t0=0.0, t1=t1, y0=y0, args=args, **settings)
    if save == "dense":
        return weigh(jax.vmap(solution.evaluate)(jnp.asarray(TS)))
    return weigh(solution.ys)


compiled_gradient = jax.jit(jax.grad(loss))


def end(y0: Any, rest: Any) -> jax.Array:
    """What second derivatives are taken of, by the method with the smallest program."""
    return loss((y0, *rest), solver=Euler(), max_steps=16)


compiled_hessian = jax.jit(jax.hessian(end))


def hessian(inputs: Any) -> jax.Array:
    """By the state, of one program that tests of several transforms compare with."""
    return compiled_hessian(inputs[0], inputs[1:])


@cache
def compiled_loss(save: str, control: str) -> Callable[[Any], Any]:
    """Value and gradient."""
    return jax.jit(jax.value_and_grad(lambda inputs: loss(inputs, save, control)))


def elements_of(count: int) -> Any:
    """Inputs that make batch elements take different numbers of steps."""
    scale = np.linspace(0.5, 2.5, count)
    args = jax.tree.map(lambda x: x * scale, ARGS)
    return Y0 * scale[:, None], args, 0.8 + 0.3 * scale


def one_by_one(function: Callable[[Any], Any], elements: Any) -> Any:
    count = len(jax.tree.leaves(elements)[0])
    results = [function(jax.tree.map(lambda x, i=i: x[i], elements)) for i in range(count)]
    return jax.tree.map(lambda *xs: np.stack(xs), *results)


# Batch elements share a program but not its rounding, which reaches the step sizes where an error decides about them.
ROUNDING = {"fixed": {"rtol": 1e-11, "atol": 1e-12}, "adaptive": {"rtol": 1e-5, "atol": 1e-6}}


@pytest.mark.slow
@pytest.mark.parametrize(("save", "control"), [("ts, steps", "adaptive"), ("dense", "fixed")])
def test_vmap_of_the_gradient_is_a_loop(save: str, control: str) -> None:
    """With every run, where elements fail, below; of a stiff equation, in `test_stiff.py`."""
    gradient = lambda inputs: compiled_loss(save, control)(inputs)[1]
    elements = elements_of(3)
    expected = one_by_one(gradient, elements)
    assert_trees_close(jax.jit(jax.vmap(gradient))(elements), expected, **ROUNDING[control])


@pytest.mark.slow
def test_the_gradient_of_a_sum_over_elements_is_the_gradients_of_its_terms() -> None:
    """What batch elements share gets the sum of their gradients; what they do not, each its own."""
    y0, _, t1 = elements_of(3)

    def total(y0: Any, args: Any) -> jax.Array:
        return jnp.sum(jax.vmap(lambda y0, t1: loss((y0, args, t1)))(y0, t1))

    each = one_by_one(lambda element: compiled_gradient((element[0], ARGS, element[1])), (y0, t1))
    own, shared = jax.jit(jax.grad(total, (0, 1)))(y0, ARGS)
    assert_trees_close(own, each[0], **ROUNDING["fixed"])
    assert_trees_close(shared, jax.tree.map(lambda x: x.sum(0), each[1]), **ROUNDING["fixed"])


@pytest.mark.slow
def test_nested_vmap_over_one_input_at_a_time() -> None:
    y0, args, t1 = elements_of(2)
    inner = jax.vmap(compiled_gradient, ((None, None, 0),))
    middle = jax.vmap(inner, ((None, 0, None),), out_axes=1)
    nested = jax.jit(jax.vmap(middle, ((0, None, None),)))((y0, args, t1))

    def by_loops(i: int, j: int, k: int) -> Any:
        return compiled_gradient((y0[i], jax.tree.map(lambda x: x[j], args), t1[k]))

    for i, j, k in np.ndindex(2, 2, 2):
        found = jax.tree.map(lambda x, i=i, j=j, k=k: x[i, k, j], nested)
        assert_trees_close(found, by_loops(i, j, k), **ROUNDING["fixed"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_vmap_of_a_second_derivative_is_a_loop(mode: Callable[..., Any]) -> None:
    """With every run, `vmap` inside `shard_map`, below."""
    elements = elements_of(2)
    second = mode(jax.grad(end))
    found = jax.jit(jax.vmap(lambda inputs: second(inputs[0], inputs[1:])))(elements)
    assert_trees_close(found, one_by_one(hessian, elements), **ROUNDING["fixed"])
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_jit_is_eager(control: str) -> None:
    """With every run, a second eager gradient below; an adaptive eager gradient is in `test_complex_states.py`."""
    inputs = (Y0, ARGS, np.asarray(1.1))
    function = lambda inputs: loss(inputs, "ts, steps", control, throw=True)
    expected = compiled_loss("ts, steps", control)(inputs)
    assert_trees_close(jax.value_and_grad(function)(inputs), expected, **ROUNDING[control])


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_jit_is_eager_in_forward_mode(control: str) -> None:
    """With every run, a second eager derivative below."""
    inputs = (Y0, ARGS, np.asarray(1.1))
    found = jax.jacfwd(lambda inputs: loss(inputs, "ts, steps", control, throw=True))(inputs)
    assert_trees_close(found, compiled_loss("ts, steps", control)(inputs)[1], **ROUNDING[control])


# ----------------------------------------------------------------------------------------------------- recompilation

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The names of all programs compiled during the test."""
    names: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == COMPILED:
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def closing_over(inputs: Any) -> jax.Array:
    """Its field captures what is differentiated."""
    y0, args, t1 = inputs
    return loss((y0, None, t1), field=lambda t, y, _: pendulum(t, y, args))


INPUTS = (Y0, ARGS, np.asarray(1.1))
OTHER_INPUTS = (Y0 + 0.5, jax.tree.map(lambda x: 2 * x, ARGS), np.asarray(1.2))


@pytest.mark.parametrize("derivative", [jax.grad, pytest.param(jax.jacfwd, marks=pytest.mark.slow)])
def test_a_second_eager_gradient_compiles_nothing(derivative: Callable[..., Any], compilations: list[str]) -> None:
    field = lambda t, y, args: pendulum(t, y, args)  # a new one, for which nothing has been compiled
    evaluate = derivative(lambda inputs: loss(inputs, field=field))
    first = evaluate(INPUTS)
    assert compilations != []
    compilations.clear()
    second = evaluate(OTHER_INPUTS)
    assert compilations == []
    assert_trees_close(second, compiled_gradient(OTHER_INPUTS), **ROUNDING["fixed"])
    assert not np.allclose(first[0], second[0])


def test_a_second_compiled_gradient_compiles_nothing(compilations: list[str]) -> None:
    gradient = jax.jit(jax.grad(closing_over))
    first = gradient(INPUTS)
    compilations.clear()
    second = gradient(OTHER_INPUTS)
    assert compilations == []
    assert_trees_close(second, compiled_gradient(OTHER_INPUTS), rtol=1e-12)
    assert not np.allclose(first[0], second[0])


# --------------------------------------------------------------------------------------------------------- failures


def explode(t: Any, y: Any, args: Any) -> Any:
    """Reaches infinity at t = 1 / (args y0)."""
    return args * y**2


STARTS = np.asarray([0.25, 5.0, 0.5, np.nan, 0.1])
OKAY = np.asarray([True, False, True, False, True])
GOOD_STARTS = np.where(OKAY, STARTS, 0.3)


def explosion(inputs: Any, save: str, control: str) -> jax.Array:
    y0, rate = inputs
    return loss((y0, rate, 1.0), save, control, field=explode, max_steps=24)


ALL = [
    ("ts, steps", "adaptive"),
    ("dense", "fixed"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in [("t1", "adaptive"), ("t1", "fixed")]),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in [("ts, steps", "fixed"), ("dense", "adaptive")]),
]


@pytest.mark.parametrize(("save", "control"), ALL)
def test_failed_elements_have_no_derivative_of_their_end_and_the_others_are_right(save: str, control: str) -> None:
    """The others are as in a batch in which no element fails, and one of them as alone.

    The weights are zero where nothing was reached, so that there is a derivative of what was saved before.
    """
    alone = jax.grad(lambda inputs: explosion(inputs, save, control))
    gradient = jax.jit(jax.vmap(alone))
    rates = np.full(5, 1.1)
    slope, rate = found = gradient((STARTS, rates))
    failed = ~OKAY if control == "adaptive" else np.isnan(STARTS)  # fixed steps may step over the pole
    has_derivative = np.isfinite if save != "t1" or control == "fixed" else np.isnan
    assert has_derivative(slope[failed]).all()
    assert has_derivative(rate[failed]).all()
    expected = gradient((GOOD_STARTS, rates))
    assert np.isfinite(expected).all()
    assert_trees_close(*(jax.tree.map(lambda x: x[OKAY], tree) for tree in (found, expected)), **ROUNDING[control])
    first = jax.tree.map(lambda x: x[0], found)
    assert_trees_close(first, jax.jit(alone)((STARTS[0], rates[0])), **ROUNDING[control])


def test_a_shared_input_of_elements_of_which_one_failed_has_no_gradient() -> None:
    """The sum includes what is no number."""

    def total(rate: Any, starts: Any) -> jax.Array:
        return jnp.sum(jax.vmap(lambda y0: explosion((y0, rate), "t1", "adaptive"))(starts))

    gradient = jax.jit(jax.grad(total))
    assert np.isnan(gradient(1.1, STARTS))
    assert np.isfinite(gradient(1.1, GOOD_STARTS))


@pytest.mark.slow
def test_a_second_derivative_of_elements_of_which_one_failed() -> None:
    def second(y0: Any) -> Any:
        return jax.jacfwd(jax.grad(lambda y0: explosion((y0, jnp.asarray(1.1)), "t1", "adaptive")))(y0)

    found = jax.jit(jax.vmap(second))(STARTS)
    assert np.isnan(found[~OKAY]).all()
    expected = np.stack([jax.jit(second)(y0) for y0 in STARTS[OKAY]])
    np.testing.assert_allclose(found[OKAY], expected, rtol=1e-4)


# --------------------------------------------------------------------------------------------------------- shard_map


def mesh() -> Any:
    return jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])


def sharded(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`function` with a part of its inputs on each of four devices, under the default checks of `shard_map`."""
    return jax.jit(jax.shard_map(function, mesh=mesh(), in_specs=in_specs, out_specs=out_specs))


@pytest.mark.slow
@pytest.mark.parametrize(("save", "control"), ALL)
def test_a_gradient_inside_shard_map_is_that_of_a_loop(save: str, control: str) -> None:
    gradient = jax.grad(lambda inputs: loss(inputs, save, control))
    elements = elements_of(8)
    found = sharded(jax.vmap(gradient), P("batch"), P("batch"))(elements)
    assert_trees_close(found, jax.jit(jax.vmap(gradient))(elements), **ROUNDING[control])


@pytest.mark.slow
def test_a_hessian_inside_shard_map_is_that_of_a_loop() -> None:
    elements = elements_of(4)
    found = sharded(jax.vmap(hessian), P("batch"), P("batch"))(elements)
    assert_trees_close(found, one_by_one(hessian, elements), **ROUNDING["fixed"])


def by_hand(inputs: Any) -> jax.Array:
    """Eight steps of the classical method of Kutta in a scan, which JAX differentiates by itself."""
    y0, args, t1 = inputs
    h = t1 / 8

    def step(y: Any, i: Any) -> tuple[Any, None]:
        t = i * h
        k1 = pendulum(t, y, args)
        k2 = pendulum(t + h / 2, y + h / 2 * k1, args)
        k3 = pendulum(t + h / 2, y + h / 2 * k2, args)
        k4 = pendulum(t + h, y + h * k3, args)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return weigh(lax.scan(step, y0, jnp.arange(8.0))[0][None])


def by_solve(inputs: Any) -> jax.Array:
    places = jnp.arange(9.0) / 8
    controller = StepTo(inputs[2] * places)
    return loss(inputs, "t1", solver=RK4(), stepsize_controller=controller, dt0=None)


def test_the_solve_by_hand_is_the_solve() -> None:
    inputs = (Y0, ARGS, np.asarray(1.1))
    expected = jax.jit(jax.value_and_grad(by_hand))(inputs)
    assert_trees_close(jax.jit(jax.value_and_grad(by_solve))(inputs), expected, rtol=1e-11)


@pytest.mark.parametrize("where", ["inside", pytest.param("outside", marks=pytest.mark.slow)])
def test_the_gradient_of_what_all_devices_share(where: str) -> None:
    """Outside `shard_map`, and inside it, where JAX sums the gradient of what all devices share over them."""
    y0, _, t1 = elements_of(4)

    def gradient_of(one: Callable[[Any], jax.Array]) -> Callable[..., Any]:
        def local(y0: Any, args: Any, t1: Any) -> jax.Array:
            return jnp.sum(jax.vmap(lambda y0, t1: one((y0, args, t1)))(y0, t1))

        specs = (P("batch"), P(), P("batch"))
        if where == "inside":
            return sharded(jax.grad(local, 1), specs, P())
        total = jax.shard_map(
            lambda *inputs: lax.psum(local(*inputs), "batch"), mesh=mesh(), in_specs=specs, out_specs=P()
        )
        return jax.jit(jax.grad(total, 1))

    found, expected = (gradient_of(one)(y0, ARGS, t1) for one in (by_solve, by_hand))
    assert_trees_close(found, expected, rtol=1e-10)
    plain = jax.jit(jax.grad(lambda args: jnp.sum(jax.vmap(lambda y0, t1: by_hand((y0, args, t1)))(y0, t1))))
    assert_trees_close(found, plain(ARGS), rtol=1e-10)


# ------------------------------------------------------------------------------------------------------------- export


@pytest.mark.slow
@pytest.mark.parametrize(("save", "control"), [("ts, steps", "adaptive"), ("dense", "fixed")])
def test_an_exported_gradient_gives_the_same_values(save: str, control: str) -> None:
    pytest.importorskip("flatbuffers", reason="jax.export writes programs with flatbuffers")
    function = jax.jit(jax.value_and_grad(lambda inputs: loss(inputs, save, control)))
    revived = jax.export.deserialize(jax.export.export(function)((Y0, ARGS, 1.1)).serialize())
    other = jax.tree.map(lambda x: 1.2 * x, (Y0, ARGS, 1.0))
    assert_trees_close(revived.call(other), function(other), dtypes=False, **ROUNDING[control])


@pytest.mark.slow
def test_an_exported_hessian_gives_the_same_values() -> None:
    pytest.importorskip("flatbuffers", reason="jax.export writes programs with flatbuffers")
    rest = (ARGS, np.asarray(1.0))
    revived = jax.export.deserialize(jax.export.export(compiled_hessian)(Y0, rest).serialize())
    np.testing.assert_allclose(revived.call(2 * Y0, rest), compiled_hessian(2 * Y0, rest), rtol=1e-12)


def test_the_result_tells_of_a_failure_while_its_gradient_is_nan() -> None:
    def function(y0: Any) -> Any:
        options = {"throw": False, "stepsize_controller": PID, "max_steps": 24}
        solution = diffeqsolve(ODETerm(explode), Bosh3(), 0.0, 1.0, 0.1, y0, 1.1, **options)
        assert solution.ys is not None
        return solution.ys[0], rungax.is_okay(solution.result)

    derivative = jax.jit(jax.grad(function, has_aux=True))
    for y0, okay in zip(STARTS, OKAY, strict=True):
        gradient, found = derivative(y0)
        assert bool(found) == okay
        assert np.isfinite(gradient) == okay
