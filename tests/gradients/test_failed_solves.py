"""Derivatives in solves that fail: those of values that were reached are right, those of all others are NaN.

A cotangent of zero contributes nothing to a gradient, whatever happened in the solve: excluding failed batch elements
with `jnp.where` leaves the gradient of the others.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import SaveAt

from ..catalogue import slow_unless

ADJOINTS: dict[str, rungax.AbstractAdjoint] = {
    "default": rungax.RecursiveCheckpointAdjoint(),
    "few checkpoints": rungax.RecursiveCheckpointAdjoint(checkpoints=2),
    "direct": rungax.DirectAdjoint(),
    "reversible": rungax.ReversibleAdjoint(),
    "forward": rungax.ForwardMode(),
}
PID = {"dt0": None, "stepsize_controller": rungax.PIDController(1e-4, 1e-4), "max_steps": 40}
CONSTANT = {"dt0": 0.05, "max_steps": 30}
HALF_LIVES = {"dt0": 0.05, "max_steps": 10}


def square(t: Any, y: Any, rate: Any) -> Any:
    return rate * y**2


def root(t: Any, y: Any, rate: Any) -> Any:
    """Not a number above 2; infinitely steep at 0."""
    return rate * jnp.sqrt(y * (2 - y))


KINDS: dict[str, tuple[Callable[..., Any], float, dict[str, Any]]] = {
    "blows up in constant steps": (square, 1e3, CONSTANT),
    "blows up in adaptive steps": (square, 3.0, PID),
    "runs out of steps": (square, 0.2, HALF_LIVES),
    "no number at the start": (root, 3.0, PID),
    "no number at the start, in constant steps": (root, 3.0, {**CONSTANT, "solver": rungax.Bosh3()}),
    "a state that is no number": (square, np.nan, {**PID, "solver": rungax.Tsit5()}),
    "an infinite derivative": (root, 0.0, CONSTANT),
    "an implicit stage": (square, 1e4, {**CONSTANT, "solver": rungax.Kvaerno3()}),
    "not valid": (square, 0.3, CONSTANT),
}
SAVES: dict[str, SaveAt] = {
    "t1": SaveAt(t1=True),
    "ts": SaveAt(t0=True, ts=[0.1, 0.33, 0.9], t1=True, fn=lambda t, y, args: jnp.sqrt(y * args + t)),
    "dense": SaveAt(dense=True),
    "steps": SaveAt(steps=True, solver_state=True, t1=True),
}


def outputs(inputs: Any, kind: str, save: str, adjoint: Any, is_valid: Any = True) -> Any:
    """What is saved, and whether the solve succeeded."""
    rate, y0 = inputs
    field, _, options = KINDS[kind]
    settings: dict[str, Any] = {"solver": rungax.Heun(), "saveat": SAVES[save], "throw": False, **options}
    t1 = jnp.where(is_valid, 1.0, jnp.nan)
    solution = rungax.diffeqsolve(rungax.ODETerm(field), t0=0.0, t1=t1, y0=y0, args=rate, adjoint=adjoint, **settings)
    okay = rungax.is_successful(solution.result)
    if solution.interpolation is not None:
        return jnp.stack([solution.evaluate(0.3), solution.evaluate(0.9), solution.derivative(0.5)]), okay
    states = [x for x in jax.tree.leaves(solution.solver_state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return (solution.ys, states), okay


def masked(inputs: Any, kind: str, save: str, adjoint: Any, wanted: Any, is_valid: Any) -> jax.Array:
    """The sum of what is finite, of solves that are wanted."""
    saved, _ = outputs(inputs, kind, save, adjoint, is_valid)
    return sum(
        (jnp.sum(jnp.where(wanted & (jnp.abs(x) < 1e4), x, 0.0)) for x in jax.tree.leaves(saved)),
        start=jnp.zeros(()),
    )


def derivative(adjoint: Any) -> Callable[..., Any]:
    return jax.jacfwd if isinstance(adjoint, rungax.ForwardMode) else jax.grad


CHEAP = {
    ("blows up in constant steps", "ts", "default"),
    ("blows up in constant steps", "ts", "reversible"),
    ("blows up in adaptive steps", "dense", "default"),
    ("no number at the start", "dense", "default"),
    ("blows up in constant steps", "steps", "direct"),
    ("blows up in adaptive steps", "ts", "forward"),
    ("not valid", "ts", "default"),
    ("an infinite derivative", "t1", "default"),
    ("an implicit stage", "t1", "default"),
    ("a state that is no number", "t1", "default"),
}


EXCLUDED = {
    ("an implicit stage", "reversible"): "is refused",
    ("an infinite derivative", "direct"): "zero times infinity, as everywhere in JAX",
    ("runs out of steps", "forward"): "no element succeeds, and tangents of what is not reached are NaN",
}
"""And in saved values, the derivative of a save function that is infinite where it is evaluated."""


@pytest.mark.parametrize(
    ("kind", "save", "name"),
    [
        pytest.param(kind, save, name, marks=slow_unless((kind, save, name) in CHEAP))
        for kind in KINDS
        for save in SAVES
        for name in ADJOINTS
        if (kind, name) not in EXCLUDED and (kind, save) != ("an infinite derivative", "ts")
    ],
)
def test_a_cotangent_of_zero_gives_a_gradient_of_zero(kind: str, save: str, name: str) -> None:
    """In a batch of three, of which one is excluded: the gradient is that of the other two."""
    adjoint, bad = ADJOINTS[name], KINDS[kind][1]
    goods = np.asarray([0.02, 0.03]) if kind == "runs out of steps" else np.asarray([0.25, 0.3])

    def total(inputs: Any, wanted: Any) -> jax.Array:
        rate, y0s = inputs
        is_valid = wanted if kind == "not valid" else jnp.ones_like(wanted)
        each = lambda y0, w, v: masked((rate, y0), kind, save, adjoint, w, v)
        return jnp.sum(jax.vmap(each)(y0s, wanted, is_valid))

    gradient = jax.jit(derivative(adjoint)(total))
    found = gradient((1.0, np.asarray([goods[0], bad, goods[1]])), np.asarray([True, False, True]))
    expected = gradient((1.0, np.asarray([goods[0], goods[0], goods[1]])), np.asarray([True, False, True]))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7)
    np.testing.assert_allclose(found[1][::2], expected[1][::2], rtol=1e-7)
    assert found[1][1] == 0
    assert abs(found[0]) > 0 or kind == "runs out of steps"


def test_the_gradient_of_the_elements_that_succeed() -> None:
    """As users write it, with the exact values: y1 = y0 / (1 - rate y0)."""
    controller = rungax.PIDController(1e-8, 1e-8)

    def total(rate: Any, y0s: Any) -> jax.Array:
        solution = jax.vmap(
            lambda y0: rungax.diffeqsolve(
                rungax.ODETerm(square),
                rungax.Tsit5(),
                0.0,
                1.0,
                None,
                y0,
                rate,
                stepsize_controller=controller,
                throw=False,
            )
        )(y0s)
        return jnp.sum(jnp.where(rungax.is_successful(solution.result)[:, None], solution.ys, 0))

    rate, y0s = jax.jit(jax.grad(total, (0, 1)))(1.0, np.asarray([0.5, 3.0, 0.25]))
    np.testing.assert_allclose(rate, 0.5**2 / 0.5**2 + 0.25**2 / 0.75**2, rtol=1e-5)
    np.testing.assert_allclose(y0s, [4.0, 0.0, 0.75**-2], rtol=1e-5)


TS = (0.02, 0.04, 0.11, 0.9)
"""The last of them lies behind the pole at 1 / 2.9."""


@pytest.mark.parametrize(
    ("name", "control"),
    [
        pytest.param(
            name, control, marks=slow_unless((name, control) in {("default", "PID"), ("reversible", "constant")})
        )
        for name in ADJOINTS
        for control in ("PID", "constant")
    ],
)
def test_values_before_a_failure_have_their_derivatives_and_no_others(name: str, control: str) -> None:
    """They are those of a solve that ends before the pole, which makes nearly the same steps up to there."""
    adjoint = ADJOINTS[name]
    controls = {
        "PID": {"dt0": 0.01, "stepsize_controller": rungax.PIDController(1e-9, 1e-9), "max_steps": 200},
        "constant": {"dt0": 0.0025, "max_steps": 512},
    }

    def saved(inputs: Any, t1: float, ts: tuple[float, ...]) -> Any:
        rate, y0 = inputs
        saveat = SaveAt(t0=True, ts=jnp.asarray(ts), t1=True)
        return rungax.diffeqsolve(
            rungax.ODETerm(square), rungax.Tsit5(), 0.0, t1, y0=y0, args=rate, saveat=saveat, adjoint=adjoint,
            throw=False, **controls[control],
        ).ys  # fmt: skip

    inputs = (1.0, 2.9)
    modes = (jax.jacfwd,) if isinstance(adjoint, rungax.ForwardMode) else (jax.jacfwd, jax.jacrev)
    exact = np.asarray([(y**2 * t, (y / 2.9) ** 2) for t in (0.0, *TS[:3]) for y in [2.9 / (1 - 2.9 * t)]])
    for mode in modes:
        slopes = np.stack(jax.jit(mode(lambda inputs: saved(inputs, 1.0, TS)))(inputs), axis=1)
        np.testing.assert_allclose(slopes[:4], exact, rtol=1e-5)
        assert np.isnan(slopes[4:]).all()


@pytest.mark.parametrize("mode", [jax.jacfwd, pytest.param(jax.jacrev, marks=pytest.mark.slow)])
def test_what_a_solve_that_makes_no_step_does_not_reach_has_no_derivative(mode: Callable[..., Any]) -> None:
    """The slope at the start is no number, and yet no derivative is zero by mistake."""

    def end(inputs: Any) -> Any:
        (ys, _), _ = outputs(inputs, "no number at the start", "t1", ADJOINTS["default"])
        return ys[-1]

    assert np.isnan(jax.jit(mode(end))((1.0, 3.0))).all()
