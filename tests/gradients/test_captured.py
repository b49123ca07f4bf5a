"""Traced values that functions capture, wherever they hang: derivatives in every mode, by difference quotients."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    AbstractPath,
    AbstractSolver,
    AbstractTerm,
    BacksolveAdjoint,
    ControlTerm,
    DirectAdjoint,
    Event,
    ForwardMode,
    Heun,
    ImplicitEuler,
    Kvaerno3,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    ReversibleAdjoint,
    Rodas4,
    SaveAt,
    Tsit5,
    VeryChord,
    diffeqsolve,
)

type Captures = Callable[..., Any]
"""A function of the captured value and of options of the solve."""

DEFAULT = RecursiveCheckpointAdjoint()


def end(terms: Any, solver: Any, **options: Any) -> Any:
    call: dict[str, Any] = {"t0": 0.0, "t1": 1.0, "dt0": 0.1, "y0": jnp.asarray(1.0), "max_steps": 64, **options}
    return diffeqsolve(terms, solver, **call).ys


def decay(t: Any, y: Any, args: Any) -> Any:
    return -y * y


def own_term(p: Any) -> Any:
    class Decay(AbstractTerm[Any, Any]):
        def vf(self, t: Any, y: Any, args: Any) -> Any:
            return -p * y * y

        def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
            return t1 - t0 + p * (t1**2 - t0**2)

        def prod(self, vf: Any, control: Any) -> Any:
            return vf * control

    return Decay()


def by_own_term(p: Any, solver: Any = Heun(), **options: Any) -> Any:
    return end(own_term(p), solver, **options)


def by_own_path(p: Any, **options: Any) -> Any:
    class Swing(AbstractPath[Any]):
        t0: ClassVar[Any] = 0.0
        t1: ClassVar[Any] = 1.0

        def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
            return jnp.sin(p * t0) if t1 is None else jnp.sin(p * t1) - jnp.sin(p * t0)

    return end(ControlTerm(lambda t, y, args: 0.3 + y, Swing()), Heun(), **options)


def by_increments(p: Any, **options: Any) -> Any:
    return end(ControlTerm(lambda t, y, args: 0.3 + y, lambda t0, t1: p * (t1**2 - t0**2)), Heun(), **options)


def by_own_solver(p: Any, **options: Any) -> Any:
    class Scaled(AbstractSolver[None]):
        term_structure: ClassVar[Any] = AbstractTerm
        interpolation_cls: ClassVar[Any] = rungax.LocalLinearInterpolation

        def order(self, terms: Any) -> int:
            return 1

        def init(self, *args: Any) -> None:
            return None

        def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
            return terms.vf(t0, y0, args)

        def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any) -> Any:
            y1 = y0 + p * terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
            return y1, None, {"y0": y0, "y1": y1}, None, rungax.RESULTS.successful

    return end(ODETerm(decay), Scaled(), **options)


def by_save_function(p: Any, **options: Any) -> Any:
    return end(ODETerm(decay), Heun(), saveat=SaveAt(ts=[0.3, 0.8], fn=lambda t, y, args: p * y * t), **options)


def by_condition(p: Any, **options: Any) -> Any:
    event = Event(lambda t, y, args, **kwargs: y - p, optx.Newton(1e-12, 1e-12))
    return end(ODETerm(decay), Heun(), event=event, **options)


def by_effect(p: Any, **options: Any) -> Any:
    # Short steps: the grid after an event is another one for every value, and is not differentiated.
    event = Event(lambda t, y, args, **kwargs: y - 0.8, optx.Newton(1e-12, 1e-12), effect=lambda t, y, args: y + p)
    return end(ODETerm(decay), Tsit5(), event=event, **{"dt0": 0.03, **options})


KINDS: dict[str, Captures] = {
    "term": by_own_term,
    "path": by_own_path,
    "increments": by_increments,
    "solver": by_own_solver,
    "save function": by_save_function,
    "condition": by_condition,
    "effect": by_effect,
}
ADJOINTS: dict[str, tuple[Any, Any]] = {
    "default, reverse": (DEFAULT, jax.jacrev),
    "default, forward": (DEFAULT, jax.jacfwd),
    "few checkpoints": (RecursiveCheckpointAdjoint(checkpoints=3), jax.jacrev),
    "direct": (DirectAdjoint(), jax.jacrev),
    "reversible": (ReversibleAdjoint(), jax.jacrev),
    "forward mode": (ForwardMode(), jax.jacfwd),
}
AT, APART = 0.7, 1e-4


def quotient(function: Callable[[Any], Any], at: float = AT) -> Any:
    near, far = ((function(at + k * APART) - function(at - k * APART)) for k in (1, 2))
    return (8 * near - far) / (12 * APART)


def cover() -> list[Any]:
    """Every kind with every adjoint and mode.

    By default every kind in reverse mode, and the solver in forward mode and by the reversible adjoint too.
    """
    cases: list[Any] = []
    for kind in KINDS:
        for name in ADJOINTS:
            often = name == "default, reverse" or (kind == "solver" and name in ("default, forward", "reversible"))
            refused = name == "reversible" and kind == "effect"
            if not refused:
                cases.append(pytest.param(kind, name, marks=[] if often else [pytest.mark.slow]))
    return cases


@pytest.mark.parametrize(("kind", "name"), cover())
def test_the_derivative_is_that_of_the_solve(kind: str, name: str) -> None:
    adjoint, derivative = ADJOINTS[name]
    value = jax.jit(lambda p: KINDS[kind](p, adjoint=adjoint))
    slope = jax.jit(derivative(lambda p: KINDS[kind](p, adjoint=adjoint)))
    for p in np.random.default_rng(0).uniform(0.55, 0.95, 5):
        np.testing.assert_allclose(slope(p), quotient(value, p), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("solver", [Kvaerno3(), pytest.param(Rodas4(), marks=pytest.mark.slow)])
@pytest.mark.parametrize("derivative", [jax.jacrev, pytest.param(jax.jacfwd, marks=pytest.mark.slow)])
def test_an_implicit_stage_sees_what_a_term_captured(solver: Any, derivative: Any) -> None:
    function = lambda p: by_own_term(p, solver=solver)
    np.testing.assert_allclose(jax.jit(derivative(function))(AT), quotient(jax.jit(function)), rtol=1e-7)


def test_second_derivatives() -> None:
    slope = jax.jit(jax.grad(lambda p: jnp.sum(by_own_solver(p))))
    found = jax.jit(jax.hessian(lambda p: jnp.sum(by_own_solver(p))))(AT)
    np.testing.assert_allclose(found, quotient(slope), rtol=1e-6)


def test_under_vmap_it_is_a_loop() -> None:
    rates = jnp.asarray([0.5, 0.7, 0.9])
    slope = jax.grad(lambda p: jnp.sum(by_own_solver(p)))
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(rates), [jax.jit(slope)(p) for p in rates], rtol=1e-12)


@pytest.mark.slow
def test_norms_may_capture_without_influence_on_the_solution() -> None:
    def of_controller(p: Any) -> Any:
        controller = PIDController(rtol=1e-6, atol=1e-6, norm=lambda y: optx.rms_norm(y) + 0 * p)
        return end(ODETerm(lambda t, y, args: -p * y * y), Tsit5(), stepsize_controller=controller)[0]

    def of_root_finder(p: Any, finder: Any) -> Any:
        finder = finder(rtol=1e-10, atol=1e-10, norm=lambda y: optx.rms_norm(y) + 0 * p)
        return end(ODETerm(lambda t, y, args: -p * y * y), ImplicitEuler(root_finder=finder), dt0=1e-3, max_steps=1024)[
            0
        ]

    for function in (of_controller, *(partial(of_root_finder, finder=f) for f in (VeryChord, optx.Newton))):
        np.testing.assert_allclose(jax.jit(jax.grad(function))(AT), -1 / (1 + AT) ** 2, rtol=1e-3)


def test_backsolve_differentiates_by_what_a_term_captured() -> None:
    fine = {"dt0": 0.01, "max_steps": 128}
    field = lambda p: ODETerm(lambda t, y, args: -p * y * y)
    found = jax.jit(jax.grad(lambda p: end(field(p), Heun(), adjoint=BacksolveAdjoint(), **fine)[0]))(AT)
    np.testing.assert_allclose(found, -1 / (1 + AT) ** 2, rtol=1e-3)


def test_backsolve_refuses_what_a_solver_captured() -> None:
    with pytest.raises(ValueError, match="or that a solver, a controller"):
        jax.jit(jax.grad(lambda p: by_own_solver(p, adjoint=BacksolveAdjoint())[0]))(AT)


def test_an_implicit_adjoint_needs_a_term_that_knows_its_slope() -> None:
    with pytest.raises(NotImplementedError, match=r"`ImplicitAdjoint`.*\n.*time_derivative.*\nFound:    Decay"):
        jax.jit(jax.grad(lambda p: by_own_term(p, adjoint=rungax.ImplicitAdjoint())[0]))(AT)


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
@pytest.mark.parametrize("solver", [Tsit5(), rungax.Rodas5P(), rungax.Kvaerno5()])
def test_in_a_step_by_hand_a_captured_rate_has_its_derivative(solver: Any, mode: Any) -> None:
    def after_a_step(rate: Any) -> Any:
        term = ODETerm(lambda t, y, args: -rate * y)
        t0, t1, y0 = jnp.asarray(0.0), jnp.asarray(0.2), jnp.asarray(1.0)
        return solver.step(term, t0, t1, y0, None, solver.init(term, t0, t1, y0, None), False)[0]

    np.testing.assert_allclose(jax.jit(mode(after_a_step))(3.0), -0.2 * np.exp(-0.6), rtol=1e-3)


def test_steps_by_hand_in_a_scan() -> None:
    solver = Kvaerno3()

    def by_hand(rate: Any) -> Any:
        term = ODETerm(lambda t, y, args: -rate * y)
        t0, y0 = jnp.asarray(0.0), jnp.asarray(1.0)
        state = solver.init(term, t0, t0 + 0.1, y0, None)

        def body(carry: Any, _: None) -> Any:
            t, y, state = carry
            y, _, _, state, _ = solver.step(term, t, t + 0.1, y, None, state, False)
            return (t + 0.1, y, state), None

        return jax.lax.scan(body, (t0, y0, state), None, length=10)[0][1]

    np.testing.assert_allclose(jax.jit(jax.grad(by_hand))(0.7), -np.exp(-0.7), rtol=1e-3)
