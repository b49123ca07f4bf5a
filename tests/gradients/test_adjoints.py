"""Every adjoint agrees with the default where it applies, and says where it does not, and which adjoint does.

What the default does is shown in the other files.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import (
    BacksolveAdjoint,
    Bosh3,
    ConstantStepSize,
    DirectAdjoint,
    Euler,
    ForwardMode,
    Heun,
    ImplicitAdjoint,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    ReversibleAdjoint,
    SaveAt,
    SemiImplicitEuler,
    SubSaveAt,
    Tsit5,
    diffeqsolve,
)

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..problems.fields import ARGS, STATES, pendulum
from .measure import assert_derivative, direction_like, weigh

DEFAULT = RecursiveCheckpointAdjoint()
Y0 = np.asarray([1.0, 0.5])
INPUTS = (Y0, ARGS)
TIMES = (np.asarray(0.0), np.asarray(1.0), np.asarray([0.0, 0.2, 0.2, 0.7]))
"""Both ends, and times to save at."""
EVERYTHING = (INPUTS, TIMES)
TIGHT: dict[str, Any] = {
    "solver": Tsit5(),
    "dt0": None,
    "stepsize_controller": PIDController(rtol=1e-8, atol=1e-10),
    "max_steps": 256,
}
FIXED: dict[str, Any] = {
    "solver": Heun(),
    "dt0": 0.15,
    "stepsize_controller": ConstantStepSize(),
    "max_steps": 16,
}
FINE: dict[str, Any] = {
    "solver": Bosh3(),
    "dt0": 0.005,
    "stepsize_controller": ConstantStepSize(),
    "max_steps": 256,
}


class Facts(NamedTuple):
    """The derivatives that an adjoint promises.

    `rtol` is how near it comes to the default on fine steps: to rounding, or as far as the solve is accurate.
    """

    adjoint: rungax.AbstractAdjoint
    rtol: float
    reverse: bool = True
    forward: bool = True
    second: bool = True
    everything: bool = True
    times: bool = True


ADJOINTS: dict[str, Facts] = {
    "DirectAdjoint": Facts(DirectAdjoint(), 1e-9),
    "ForwardMode": Facts(ForwardMode(), 1e-9, reverse=False),
    "BacksolveAdjoint": Facts(BacksolveAdjoint(), 1e-5, forward=False, second=False, everything=False, times=False),
    "ReversibleAdjoint": Facts(ReversibleAdjoint(), 1e-5),
}

SAVES: dict[str, Callable[[Any], SaveAt]] = {
    "t1": lambda ts: SaveAt(t1=True),
    "ts": lambda ts: SaveAt(t0=True, ts=ts, t1=True),
}


def solve(inputs: Any, adjoint: Any, **options: Any) -> rungax.Solution:
    y0, args = inputs
    settings: dict[str, Any] = {"t0": 0.0, "t1": 1.0, **FINE, **options}
    field = settings.pop("field", pendulum)
    return diffeqsolve(ODETerm(field), y0=y0, args=args, adjoint=adjoint, **settings)


def loss(inputs: Any, adjoint: Any, **options: Any) -> jax.Array:
    return weigh(solve(inputs, adjoint, **options).ys)


def derivative_by(facts: Facts) -> Callable[..., Any]:
    return jax.grad if facts.reverse else jax.jacfwd


# ---------------------------------------------------------------------------------------------- all against the default


def loss_of_everything(x: Any, adjoint: Any, save: str) -> jax.Array:
    inputs, (t0, t1, ts) = x
    return loss(inputs, adjoint, t0=t0, t1=t1, saveat=SAVES[save](ts))


@cache
def gradients_by_default(save: str) -> Any:
    """By the inputs and by the times."""
    return jax.jit(jax.grad(lambda x: loss_of_everything(x, DEFAULT, save)))(EVERYTHING)


def gradient_by_default(save: str) -> Any:
    return gradients_by_default(save)[0]


SWEEPING = ("BacksolveAdjoint", "ReversibleAdjoint")
"""The adjoints with a backward sweep of their own; the others differentiate the loop as it is."""

SWEEPS_OFTEN = [pytest.param(facts, id=name, marks=slow_unless(name in SWEEPING)) for name, facts in ADJOINTS.items()]


@pytest.mark.parametrize("save", ["ts", pytest.param("t1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("facts", "mode"),
    [
        # The Hessian of the direct adjoint, tested below, is by forward mode over reverse mode, and
        # `conformance/test_adjoints.py` has the forward mode.
        pytest.param(facts, mode, id=f"{name}-{mode}", marks=slow_unless(mode == "grad" and name != "DirectAdjoint"))
        for name, facts in ADJOINTS.items()
        for mode, is_promised in (("grad", facts.reverse), ("jacfwd", facts.forward))
        if is_promised
    ],
)
def test_first_derivatives_are_those_of_the_default(facts: Facts, mode: str, save: str) -> None:
    """By state and arguments, and by the ends and the saved times, of which other files check the default's."""
    derivative = getattr(jax, mode)
    function = lambda x: loss_of_everything(x, facts.adjoint, save)
    of_inputs, of_times = gradients_by_default(save)
    if not facts.times:
        found = jax.jit(derivative(lambda inputs: function((inputs, TIMES))))(INPUTS)
        assert_trees_close(found, of_inputs, rtol=facts.rtol)
        return
    found = jax.jit(derivative(function))(EVERYTHING)
    assert_trees_close(found[0], of_inputs, rtol=facts.rtol)
    assert_trees_close(found[1], of_times, rtol=1e-5, atol=1e-6)


def loss_backwards(inputs: Any, adjoint: Any, kind: str) -> jax.Array:
    """From 1 to 0; a complex state is given by its parts."""
    y, args = inputs
    field, _ = STATES[kind]
    y = y if kind == "pytree" else jax.lax.complex(*y)
    return loss((y, args), adjoint, field=field, t0=1.0, t1=0.0, dt0=-0.005, saveat=SaveAt(ts=np.asarray([0.7, 0.2])))


def start_of(kind: str) -> Any:
    y0 = STATES[kind][1]
    return (y0 if kind == "pytree" else np.stack([y0.real, y0.imag])), ARGS


@cache
def gradient_backwards_by_default(kind: str) -> Any:
    return jax.jit(jax.grad(lambda x: loss_backwards(x, DEFAULT, kind)))(start_of(kind))


@pytest.mark.parametrize("kind", ["complex", pytest.param("pytree", marks=pytest.mark.slow)])
@pytest.mark.parametrize("facts", SWEEPS_OFTEN)
def test_other_states_backwards_in_time(facts: Facts, kind: str) -> None:
    found = jax.jit(derivative_by(facts)(lambda x: loss_backwards(x, facts.adjoint, kind)))(start_of(kind))
    assert_trees_close(found, gradient_backwards_by_default(kind), rtol=facts.rtol, atol=facts.rtol)


def loss_of_captured(inputs: Any, adjoint: Any) -> jax.Array:
    """Its field captures what is differentiated; its arguments cannot be differentiated."""
    y0, args = inputs

    def field(t: Any, y: Any, others: Any) -> Any:
        assert others["name"] == "pendulum"
        noise = 0.1 * jax.random.normal(others["key"], (2,))
        return jnp.where(others["on"], pendulum(t, y, args), 0.0) + noise[others["index"]]

    others = {"name": "pendulum", "key": jax.random.key(1), "on": jnp.asarray(True), "index": jnp.asarray(1)}
    return loss((y0, others), adjoint, field=field)


@cache
def gradient_of_captured_by_default() -> Any:
    return jax.jit(jax.grad(lambda x: loss_of_captured(x, DEFAULT)))(INPUTS)


@pytest.mark.parametrize(
    "facts",
    # The rule of the direct adjoint takes a solve apart as that of the reversible one does.
    [pytest.param(facts, id=name, marks=slow_unless(name != "DirectAdjoint")) for name, facts in ADJOINTS.items()],
)
def test_what_a_field_captures_and_what_is_not_differentiable(facts: Facts) -> None:
    found = jax.jit(derivative_by(facts)(lambda x: loss_of_captured(x, facts.adjoint)))(INPUTS)
    assert_trees_close(found, gradient_of_captured_by_default(), rtol=facts.rtol)


@pytest.mark.slow
@pytest.mark.parametrize("facts", ADJOINTS.values(), ids=ADJOINTS.keys())
def test_vmap_is_a_loop_and_jit_is_eager(facts: Facts) -> None:
    """`conformance/test_adjoints.py` shows the same with every run, of a field that does not depend on time."""
    derivative = derivative_by(facts)(lambda x: loss(x, facts.adjoint, **FIXED))
    scale = np.asarray([0.5, 1.0, 2.0])
    batch = Y0 * scale[:, None], jax.tree.map(lambda x: x * scale, ARGS)
    found = jax.jit(jax.vmap(derivative))(batch)
    compiled = jax.jit(derivative)
    for i, alone in enumerate((derivative, compiled, compiled)):
        inputs, of_batch = (jax.tree.map(lambda x, i=i: x[i], tree) for tree in (batch, found))
        assert_trees_close(of_batch, alone(inputs), rtol=1e-10, atol=1e-12)


@cache
def hessian_by_default() -> np.ndarray:
    return np.asarray(jax.jit(jax.hessian(lambda y0: loss((y0, ARGS), DEFAULT)))(Y0))


@pytest.mark.parametrize(
    "facts",
    [pytest.param(f, id=n, marks=slow_unless(n == "DirectAdjoint")) for n, f in ADJOINTS.items() if f.second],
)
def test_second_derivatives_are_those_of_the_default(facts: Facts) -> None:
    second = jax.hessian if facts.reverse else lambda f: jax.jacfwd(jax.jacfwd(f))
    found = jax.jit(second(lambda y0: loss((y0, ARGS), facts.adjoint)))(Y0)
    np.testing.assert_allclose(found, hessian_by_default(), rtol=facts.rtol)
    np.testing.assert_allclose(found, found.T, rtol=1e-10)


def everything_saved(solution: rungax.Solution) -> jax.Array:
    dense = solution.evaluate(0.37), solution.derivative(0.81)
    return weigh((solution.ts, solution.ys, dense))


@pytest.mark.parametrize(
    "facts",
    [pytest.param(f, id=n, marks=slow_unless(n == "ReversibleAdjoint")) for n, f in ADJOINTS.items() if f.everything],
)
def test_whatever_is_saved(facts: Facts) -> None:
    """The derivative is that of the values themselves, on steps that are fixed."""
    saved = {
        "steps": SubSaveAt(steps=2, t1=True, fn=lambda t, y, args: t * y * args["push"]),
        "times": SubSaveAt(t0=True, ts=np.asarray([0.2, 0.6])),
    }

    def function(inputs: Any) -> jax.Array:
        return everything_saved(solve(inputs, facts.adjoint, saveat=SaveAt(subs=saved, dense=True), **FIXED))

    if facts.reverse:
        assert_derivative(function, INPUTS, rtol=1e-8)
        return
    by_default = lambda x: everything_saved(solve(x, DEFAULT, saveat=SaveAt(subs=saved, dense=True), **FIXED))
    assert_trees_close(jax.jit(jax.jacfwd(function))(INPUTS), jax.jit(jax.grad(by_default))(INPUTS), rtol=1e-10)


def explode(t: Any, y: Any, args: Any) -> Any:
    return args["push"] * y**2


@pytest.mark.parametrize("facts", ADJOINTS.values(), ids=ADJOINTS.keys())
def test_failed_elements_are_nan_and_the_others_right(facts: Facts) -> None:
    control = {"dt0": 0.1, "stepsize_controller": PIDController(1e-6, 1e-8), "max_steps": 256}
    options = {**control, "field": explode, "throw": False}
    derivative = derivative_by(facts)(lambda y0, adjoint: loss((y0, ARGS), adjoint, **options))
    starts = np.asarray([0.5, 5.0, 0.8])
    found = jax.jit(jax.vmap(lambda y0: derivative(y0, facts.adjoint)))(starts)
    assert np.isnan(found).tolist() == [False, True, False]
    slope = lambda y0: (1 + 0.4 * y0 / (1 - 0.7 * y0)) * (np.cos(1.0) + 0.3) / (1 - 0.7 * y0) ** 2
    np.testing.assert_allclose(found[::2], slope(starts[::2]), rtol=1e-3)


# ------------------------------------------------------------------------------------------ what an adjoint cannot do


def refuses(call: Callable[[], Any], *words: str, error: type[Exception] = ValueError) -> None:
    """The call raises, and the message names the adjoint, what was expected, and the adjoint that can."""
    with pytest.raises(error) as caught:
        call()
    for word in (*words, "Expected:", "Found:", "RecursiveCheckpointAdjoint"):
        assert word in str(caught.value), f"no {word!r} in {caught.value}"


@pytest.mark.parametrize(
    "mode",
    [jax.grad, *(pytest.param(mode, marks=pytest.mark.slow) for mode in (jax.jacrev, jax.hessian))],
    ids=["grad", "jacrev", "hessian"],
)
def test_forward_mode_refuses_reverse_mode(mode: Callable[..., Any]) -> None:
    function = mode(lambda y0: loss((y0, ARGS), ForwardMode(), **{**FIXED, "solver": Euler()}))
    for call in (lambda: function(Y0), lambda: jax.jit(function)(Y0), lambda: jax.vmap(function)(np.stack([Y0, Y0]))):
        refuses(call, "`ForwardMode`")


@pytest.mark.parametrize(
    "mode",
    [jax.jacfwd, jax.hessian, lambda f: jax.grad(lambda x: jax.grad(f)(x)[0])],
    ids=["jacfwd", "hessian", "reverse over reverse"],
)
def test_backsolve_refuses_forward_mode_and_second_derivatives(mode: Callable[..., Any]) -> None:
    function = mode(lambda y0: loss((y0, ARGS), BacksolveAdjoint(), **FIXED))
    for call in (lambda: function(Y0), lambda: jax.jit(function)(Y0)):
        refuses(call, "`BacksolveAdjoint`")


@pytest.mark.parametrize(
    "saveat",
    [
        SaveAt(steps=True),
        SaveAt(dense=True),
        SaveAt(t1=True, fn=lambda t, y, args: y[0]),
        SaveAt(subs=[SubSaveAt(t1=True), SubSaveAt(t0=True)]),
        SaveAt(t1=True, solver_state=True),
    ],
    ids=["steps", "dense", "fn", "subs", "solver_state"],
)
def test_backsolve_refuses_to_save_more_than_states_at_times(saveat: SaveAt) -> None:
    refuses(lambda: solve(INPUTS, BacksolveAdjoint(), saveat=saveat), "`BacksolveAdjoint`", error=NotImplementedError)


def test_backsolve_refuses_options_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"`BacksolveAdjoint` does not know the option `tolerance`"):
        BacksolveAdjoint(tolerance=1e-3)


PAIR = (ODETerm(lambda t, w, args: -w), ODETerm(lambda t, v, args: v))
PAIR_START = (np.asarray(0.0), np.asarray(1.0))


def test_backsolve_refuses_a_solver_for_particular_terms() -> None:
    match = r"`BacksolveAdjoint`.*\n.*\nFound:    SemiImplicitEuler, for \(AbstractTerm, AbstractTerm\)"
    with pytest.raises(NotImplementedError, match=match):
        diffeqsolve(PAIR, SemiImplicitEuler(), 0.0, 1.0, 0.1, PAIR_START, adjoint=BacksolveAdjoint())


def test_the_implicit_adjoint_refuses_terms_in_parts() -> None:
    with pytest.raises(NotImplementedError, match=r"`ImplicitAdjoint`.*\n.*\nFound:    tuple of terms"):
        diffeqsolve(PAIR, SemiImplicitEuler(), 0.0, 1.0, 0.1, PAIR_START, adjoint=ImplicitAdjoint())


@pytest.mark.parametrize("name", ["t0", "t1", "ts"])
def test_backsolve_gives_no_silent_zero_for_a_time(name: str) -> None:
    def function(time: Any) -> jax.Array:
        saveat = SaveAt(ts=time[None]) if name == "ts" else SaveAt(t1=True)
        times = {} if name == "ts" else {name: time}
        return loss(INPUTS, BacksolveAdjoint(), saveat=saveat, **times)

    refuses(lambda: jax.grad(function)(np.asarray(0.5)), "`BacksolveAdjoint`")


def test_direct_adjoint_needs_a_bound_on_steps() -> None:
    refuses(lambda: solve(INPUTS, DirectAdjoint(), **{**TIGHT, "max_steps": None}), "`DirectAdjoint`", "max_steps")


UNBOUNDED = {name: facts for name, facts in ADJOINTS.items() if name != "DirectAdjoint"}


@pytest.mark.parametrize(
    "facts", [pytest.param(f, id=n, marks=slow_unless(n != "ForwardMode")) for n, f in UNBOUNDED.items()]
)
def test_without_a_bound_on_steps(facts: Facts) -> None:
    """With adaptive steps, unlike those of the reference, so that both are the solution's to the same accuracy."""
    function = lambda x: loss(x, facts.adjoint, **{**TIGHT, "max_steps": None})
    assert_trees_close(jax.jit(derivative_by(facts)(function))(INPUTS), gradient_by_default("t1"), rtol=1e-5)


# --------------------------------------------------------------------------------------------------------- reversible


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "t1"),
    [
        pytest.param(Heun(), 1.0, id="Heun"),
        pytest.param(Tsit5(), -1.0, id="Tsit5, backwards"),
    ],
)
def test_the_reversible_adjoint_differentiates_its_own_scheme(solver: Any, t1: float) -> None:
    """To rounding, though the steps are large and the scheme is far from the solution.

    With every run, `test_whatever_is_saved` shows it of `Heun`.
    """
    options = {**FIXED, "solver": solver, "dt0": 0.3 * t1, "t1": t1, "saveat": SaveAt(ts=np.asarray([0.25, 0.8]) * t1)}
    assert_derivative(lambda x: loss(x, ReversibleAdjoint(), **options), INPUTS, rtol=1e-9)


def test_the_reversible_adjoint_is_of_the_same_order() -> None:
    def error(steps: int) -> float:
        options = {**FIXED, "dt0": 1.0 / steps, "max_steps": 128}
        found, exact = solve(INPUTS, ReversibleAdjoint(), **options), solve(INPUTS, DEFAULT, **TIGHT)
        assert found.ys is not None
        assert exact.ys is not None
        return float(np.abs(found.ys - exact.ys).max())

    assert np.log2(error(32) / error(64)) == pytest.approx(2.0, abs=0.15)


def test_rounding_grows_by_the_coupling_on_the_way_back() -> None:
    """A thousand steps: at 0.999 the gradient is that of the scheme; at 0.9 nothing of it is left."""
    options = {**FIXED, "dt0": 0.002, "t1": 2.0, "max_steps": 1000}
    function = lambda y0, coupling: loss((y0, ARGS), ReversibleAdjoint(coupling=coupling), **options)
    gradient = jax.jit(jax.grad(function))
    forward = jax.jit(jax.jacfwd(function))(Y0, 0.999)
    strong, weak = (np.abs(gradient(Y0, coupling) - forward).max() for coupling in (0.999, 0.9))
    size = np.abs(forward).max()
    assert strong < 1e-9 * size
    # Forwards the two schemes differ by the square of the step.
    assert not weak < 1e-3 * size


def test_the_reversible_adjoint_keeps_no_states() -> None:
    def temporary(max_steps: int) -> int:
        options = {**FIXED, "max_steps": max_steps, "field": lambda t, y, args: -jnp.sin(y), "throw": False}
        gradient = jax.jit(jax.grad(lambda y0: jnp.sum(solve((y0, None), ReversibleAdjoint(), **options).ys)))
        return gradient.lower(jnp.zeros(1000)).compile().memory_analysis().temp_size_in_bytes

    assert temporary(20_000) - temporary(10_000) <= 3 * 16 * 10_000


@pytest.mark.parametrize("coupling", [0.0, -0.5, 1.5])
def test_a_coupling_that_is_none(coupling: float) -> None:
    with pytest.raises(ValueError, match=r"(?s)coupling.*above 0 and at most 1.*Found:"):
        ReversibleAdjoint(coupling=coupling)


# ----------------------------------------------------------------------------------------------------------- backsolve


def test_backsolve_by_other_means_than_the_solve() -> None:
    adjoint = BacksolveAdjoint(solver=Heun(), stepsize_controller=ConstantStepSize(), dt0=-0.002, max_steps=1000)
    found = jax.jit(jax.grad(lambda x: loss(x, adjoint)))(INPUTS)
    assert_trees_close(found, gradient_by_default("t1"), rtol=1e-4)


def test_a_backward_solve_that_fails_is_nan() -> None:
    adjoint = BacksolveAdjoint(max_steps=3)
    gradient = jax.jit(jax.grad(lambda x: loss(x, adjoint, saveat=SAVES["ts"](TIMES[2]))))(INPUTS)
    assert all(np.isnan(x).all() for x in jax.tree.leaves(gradient))


def test_the_seminorm_gives_the_same_gradient() -> None:
    adjoint = BacksolveAdjoint(
        stepsize_controller=PIDController(rtol=1e-8, atol=1e-10, norm=rungax.adjoint_rms_seminorm)
    )
    found = jax.jit(jax.grad(lambda x: loss(x, adjoint, **TIGHT)))(INPUTS)
    assert_trees_close(found, gradient_by_default("t1"), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------- steady states


def to_rest(t: Any, y: Any, args: Any) -> Any:
    """Comes to rest where z³ + z = drive and x = gain z."""
    return {"z": args["drive"] - y["z"] ** 3 - y["z"], "x": args["gain"] * y["z"] - y["x"]}


AWAY = {"z": np.asarray(0.2), "x": np.asarray([1.0, 2.0])}


def rest(args: Any, adjoint: Any, y0: Any = AWAY) -> Any:
    ys = solve((y0, args), adjoint, field=to_rest, t1=40.0, **{**TIGHT, "max_steps": 512}).ys
    return jax.tree.map(lambda x: x[0], ys)


STEADY = {"drive": np.asarray(1.5), "gain": np.asarray([0.5, -2.0])}


def steady(args: Any) -> Any:
    """By Cardano's formula."""
    half = args["drive"] / 2
    root = jnp.sqrt(half**2 + 1 / 27)
    z = jnp.cbrt(half + root) + jnp.cbrt(half - root)
    return {"z": z, "x": args["gain"] * z}


@pytest.mark.parametrize(
    "mode",
    # The Hessian is by forward mode over reverse mode.
    [pytest.param(jax.jacfwd, id="jacfwd", marks=pytest.mark.slow), pytest.param(jax.jacrev, id="jacrev")],
)
def test_the_derivative_of_a_steady_state(mode: Callable[..., Any]) -> None:
    """Its start has no influence."""
    jacobian = jax.jit(mode(lambda x: rest(x[0], ImplicitAdjoint(), x[1])))((STEADY, AWAY))
    expected = jax.jit(mode(steady))(STEADY)
    for name, (by_args, by_start) in jacobian.items():
        assert_trees_close(by_args, expected[name], rtol=1e-6, atol=1e-8)
        assert_trees_close(by_start, jax.tree.map(jnp.zeros_like, by_start))


def test_the_hessian_of_a_steady_state() -> None:
    found = jax.jit(jax.hessian(lambda args: weigh(rest(args, ImplicitAdjoint()))))(STEADY)
    expected = jax.jit(jax.hessian(lambda args: weigh(steady(args))))(STEADY)
    assert_trees_close(found, expected, rtol=1e-6, atol=1e-7)


def test_steady_states_in_elements_and_with_captured_parameters() -> None:
    drives = np.asarray([0.5, 1.5, 4.0])

    def captured(drive: Any) -> jax.Array:
        field = lambda t, y, _: to_rest(t, y, {**STEADY, "drive": drive})
        options = {**TIGHT, "max_steps": 512}
        return weigh(solve((AWAY, None), ImplicitAdjoint(), field=field, t1=40.0, **options).ys)

    expected = jax.jit(jax.vmap(jax.grad(lambda drive: weigh(steady({**STEADY, "drive": drive})))))(drives)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(captured)))(drives), expected, rtol=1e-6)


@pytest.mark.slow
def test_by_the_default_too_the_start_has_no_influence_on_a_steady_state() -> None:
    gradient = jax.jit(jax.grad(lambda y0: weigh(rest(STEADY, DEFAULT, y0))))(AWAY)
    assert_trees_close(gradient, jax.tree.map(jnp.zeros_like, AWAY), atol=1e-8)


@pytest.mark.parametrize(
    "saveat",
    [
        SaveAt(t0=True),
        SaveAt(ts=np.asarray([0.5])),
        SaveAt(t1=True, dense=True),
        SaveAt(t1=True, fn=lambda t, y, args: y[0]),
        SaveAt(subs=[SubSaveAt(t1=True)]),
    ],
    ids=["t0", "ts", "dense", "fn", "subs"],
)
def test_the_implicit_adjoint_refuses_to_save_more_than_the_end(saveat: SaveAt) -> None:
    refuses(lambda: solve(INPUTS, ImplicitAdjoint(), saveat=saveat), "`ImplicitAdjoint`")


# ------------------------------------------------------------------------------------------------------ users' adjoints


class Plain(rungax.AbstractAdjoint):
    """The solve itself, as the protocol says a user may have it."""

    def integrate(self, plan: Any, state: Any) -> Any:
        return rungax.loop.run(plan, state)


class Doubled(rungax.AbstractAdjoint):
    """Another adjoint, whose derivatives are doubled: that what a user makes is what is used."""

    inner: rungax.AbstractAdjoint

    def integrate(self, plan: Any, state: Any) -> Any:
        outcome = self.inner.integrate(plan, state)
        twice = lambda x: 2 * x - jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x
        return eqx.tree_at(lambda o: o.outputs, outcome, jax.tree.map(twice, outcome.outputs))


def test_a_users_adjoint_is_what_is_differentiated() -> None:
    expected = jax.jit(jax.value_and_grad(lambda x: loss(x, DEFAULT, **FIXED)))(INPUTS)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(x, Doubled(DEFAULT), **FIXED)))(INPUTS)
    assert value == pytest.approx(float(expected[0]), rel=1e-13)
    assert_trees_close(gradient, jax.tree.map(lambda x: 2 * x, expected[1]), rtol=1e-12)


def test_the_solve_itself_has_forward_mode() -> None:
    direction = direction_like(INPUTS)
    moved = [
        jax.jit(lambda x, adjoint=adjoint: jax.jvp(lambda x: loss(x, adjoint, **FIXED), (x,), (direction,)))(INPUTS)
        for adjoint in (Plain(), DEFAULT)
    ]
    assert_trees_close(*moved, rtol=1e-12)


def rest_of(level: Any, t1: Any) -> Any:
    """The steady state of a field that depends on time, found before the interval ends."""
    field = lambda t, y, level: level * (1 + t / (1 + t) ** 9) - y
    solution = diffeqsolve(
        ODETerm(field), Tsit5(), 0.0, t1, None, 0.0, level, adjoint=ImplicitAdjoint(),
        stepsize_controller=PIDController(rtol=1e-8, atol=1e-10), event=rungax.Event(rungax.steady_state_event()),
    )  # fmt: skip
    return solution.ys[-1]


def test_a_steady_state_found_before_an_endless_interval_ends_has_a_derivative() -> None:
    """The field is evaluated at the time at which it was found: at infinity this one is not a number."""
    np.testing.assert_allclose(jax.jit(jax.grad(rest_of))(2.0, jnp.inf), 1.0, rtol=1e-4)


def test_the_end_of_the_interval_does_not_move_a_steady_state() -> None:
    assert jax.jit(jax.grad(rest_of, 1))(2.0, 100.0) == 0
