"""Every way of differentiating a solve by the default adjoint gives the same, right derivative, to second order.

Where there is a closed form it is the reference; for a nonlinear field that depends on time, difference quotients are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import Bosh3, ConstantStepSize, Heun, PIDController, StepTo, diffeqsolve

from ..catalogue import slow_unless
from ..problems.fields import (
    ARGS,
    decay,
    logistic,
    logistic_solution,
    oscillator,
    oscillator_solution,
    pendulum,
)
from .measure import assert_derivative, direction_like, weigh

TIGHT = PIDController(rtol=1e-9, atol=1e-11)

type Function = Callable[[jax.Array], jax.Array]


def solved(field: Any, y0: Any, args: Any, t1: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {"stepsize_controller": TIGHT, "max_steps": 2048, **options}
    return diffeqsolve(rungax.ODETerm(field), Bosh3(), 0.0, t1, 0.1, y0, args, **settings).ys[0]


class ClosedForm(NamedTuple):
    """A function of a few numbers twice: by a solve and by its formula."""

    solve: Function
    formula: Function
    point: np.ndarray


CLOSED_FORMS: dict[str, ClosedForm] = {
    "decay": ClosedForm(
        lambda p: solved(decay, p[0], p[1], p[2]),
        lambda p: p[0] * jnp.exp(-p[1] * p[2]),
        np.asarray([1.3, 0.7, 1.2]),
    ),
    "logistic": ClosedForm(
        lambda p: solved(logistic, p[0], p[1], p[2]),
        lambda p: logistic_solution(p[0], p[1], p[2]),
        np.asarray([0.2, 1.5, 1.1]),
    ),
    "oscillator": ClosedForm(
        lambda p: weigh(solved(oscillator, p[:2], p[2], p[3])),
        lambda p: weigh(oscillator_solution(p[:2], p[2], p[3])),
        np.asarray([1.0, -0.4, 1.7, 0.9]),
    ),
}


def directional(function: Function, point: Any) -> Function:
    direction = direction_like(point)
    return lambda p: jax.jvp(function, (p,), (direction,))[1]


def pulled_back(function: Function, p: Any) -> Any:
    value, pull = jax.vjp(function, p)
    return pull(jnp.ones_like(value))[0]


FIRST: dict[str, Callable[[Function], Function]] = {
    "grad": jax.grad,
    "vjp": lambda f: lambda p: pulled_back(f, p),
    "jacfwd": jax.jacfwd,
    "jacrev": jax.jacrev,
    "linearize": lambda f: lambda p: jax.vmap(jax.linearize(f, p)[1])(jnp.eye(p.size)),
}

SECOND: dict[str, Callable[[Function], Function]] = {
    "hessian": jax.hessian,
    "jacfwd(grad)": lambda f: jax.jacfwd(jax.grad(f)),
    "jacrev(grad)": lambda f: jax.jacrev(jax.grad(f)),
    "jacrev(jacfwd)": lambda f: jax.jacrev(jax.jacfwd(f)),
    "jacfwd(jacfwd)": lambda f: jax.jacfwd(jax.jacfwd(f)),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("oscillator", "grad"),
        ("logistic", "linearize"),
        pytest.param("decay", "jacrev", marks=pytest.mark.slow),
        *(pytest.param("oscillator", mode, marks=pytest.mark.slow) for mode in FIRST if mode != "grad"),
    ],
)
def test_first_derivatives_are_those_of_the_solution(name: str, mode: str) -> None:
    case = CLOSED_FORMS[name]
    found = jax.jit(FIRST[mode](case.solve))(case.point)
    np.testing.assert_allclose(found, jax.jit(jax.grad(case.formula))(case.point), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("logistic", "jacrev(jacfwd)"),
        # On fixed steps below.
        *(pytest.param("decay", mode, marks=pytest.mark.slow) for mode in ("jacfwd(grad)", "jacrev(grad)")),
        *(pytest.param("oscillator", mode, marks=pytest.mark.slow) for mode in SECOND),
        pytest.param("logistic", "hessian", marks=pytest.mark.slow),
    ],
)
def test_second_derivatives_are_those_of_the_solution(name: str, mode: str) -> None:
    case = CLOSED_FORMS[name]
    found = jax.jit(SECOND[mode](case.solve))(case.point)
    np.testing.assert_allclose(found, jax.jit(jax.hessian(case.formula))(case.point), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found, found.T, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oscillator", "decay"])
def test_the_gradient_of_a_function_of_a_jvp(name: str) -> None:
    case = CLOSED_FORMS[name]
    loss = jax.jit(jax.grad(lambda p: directional(case.solve, p)(p) ** 2))
    expected = jax.jit(jax.grad(lambda p: directional(case.formula, p)(p) ** 2))(case.point)
    np.testing.assert_allclose(loss(case.point), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_a_hessian_vector_product_both_ways() -> None:
    case = CLOSED_FORMS["oscillator"]
    direction = direction_like(case.point)
    by_forward = jax.jvp(jax.grad(case.solve), (case.point,), (direction,))[1]
    by_reverse = jax.grad(lambda p: jnp.vdot(jax.grad(case.solve)(p), direction))(case.point)
    expected = jax.hessian(case.formula)(case.point) @ direction
    np.testing.assert_allclose(by_forward, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(by_reverse, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_third_derivatives_of_the_logistic_curve() -> None:
    case = CLOSED_FORMS["logistic"]
    found = jax.jit(jax.jacfwd(jax.jacrev(jax.grad(case.solve))))(case.point)
    expected = jax.jacfwd(jax.hessian(case.formula))(case.point)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ steps known beforehand

# Nothing jumps here when the inputs move, so difference quotients are right to rounding: of values, and of gradients.

CONTROLS: dict[str, dict[str, Any]] = {
    "constant": {"stepsize_controller": ConstantStepSize()},
    "StepTo": {"stepsize_controller": StepTo(np.asarray([0.0, 0.1, 0.25, 0.5, 0.8, 1.0]))},
}


def loss_with(options: dict[str, Any]) -> Function:
    dt0 = 0.15 if isinstance(options["stepsize_controller"], ConstantStepSize) else None

    def loss(inputs: Any) -> jax.Array:
        y0, args = inputs
        solution = diffeqsolve(rungax.ODETerm(pendulum), Heun(), 0.0, 1.0, dt0, y0, args, max_steps=16, **options)
        return weigh(solution.ys)

    return loss


INPUTS = (np.asarray([1.0, 0.5]), ARGS)


OFTEN = [pytest.param(control, marks=slow_unless(control == "StepTo")) for control in CONTROLS]


@pytest.mark.parametrize("control", OFTEN)
def test_first_derivatives_on_fixed_steps(control: str) -> None:
    """On steps of one length, `test_wrt.py` shows it, too."""
    assert_derivative(loss_with(CONTROLS[control]), INPUTS, rtol=1e-9)


@pytest.mark.parametrize("control", OFTEN)
def test_second_derivatives_on_fixed_steps(control: str) -> None:
    """Of a function of the gradient: by reverse over reverse, by forward over reverse, by quotients of gradients."""
    loss = loss_with(CONTROLS[control])

    def slope(inputs: Any) -> jax.Array:
        return weigh(jax.grad(loss)(inputs))

    assert_derivative(slope, INPUTS, rtol=1e-8)
