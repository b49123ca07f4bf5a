"""Derivatives of constrained systems where nothing changes in value: consistent initial values, jumps, zero entries.

The equation x' = -z, 0 = z + z³ - x has the closed form log z + 3 z²/2 = c - t.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq

import rungax
from rungax import ODETerm, PIDController, SaveAt, diffeqsolve

from ..catalogue import name, slow_unless

MASS = jnp.array([1.0, 0.0])
TIGHT = PIDController(1e-9, 1e-9)
MODES = {
    "forward": lambda end: jax.jacfwd(lambda x: end(x, adjoint=rungax.ForwardMode())),
    "reverse": lambda end: jax.jacrev(end),
}
SOLVERS = (rungax.Rodas5P(), rungax.Kvaerno5(), rungax.BDF())


def _field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([-y[1], y[1] + y[1] ** 3 - y[0]])


def algebraic(x: float) -> float:
    """The z of an x."""
    return brentq(lambda z: z + z**3 - x, 1e-6, 10.0, xtol=1e-15)


def exact_end(x0: float, span: float = 1.0) -> np.ndarray:
    potential = lambda z: np.log(z) + 1.5 * z**2
    z = brentq(lambda z: potential(z) - potential(algebraic(x0)) + span, 1e-9, 10.0, xtol=1e-15)
    return np.array([z + z**3, z])


def by_differences(function: Any, x: float, step: float = 1e-5) -> np.ndarray:
    return (function(x + step) - function(x - step)) / (2 * step)


def end(x: Any, solver: Any, guess: Any = 1.0, consistency: Any = "solve", **options: Any) -> Any:
    """The states at two times from x; for x = 2 the guess 1 is consistent."""
    given: dict[str, Any] = {"stepsize_controller": TIGHT, "saveat": SaveAt(t0=True, t1=True), **options}
    term = ODETerm(_field, mass=MASS, consistency=consistency)
    y0 = jnp.stack([x, jnp.full_like(x, guess)])
    return diffeqsolve(term, solver, 0.0, 1.0, None, y0, **given).ys


@pytest.mark.parametrize(
    ("solver", "mode", "consistency", "guess"),
    [
        pytest.param(
            solver, mode, consistency, guess,
            marks=slow_unless(
                (name(solver), mode, consistency, guess)
                in {("Rodas5P", "reverse", "solve", 1.0), ("Kvaerno5", "forward", "check", 1.0)}
            ),
            id=f"{name(solver)}-{mode}-{consistency}-{guess}",
        )
        for solver in SOLVERS
        for mode in MODES
        for consistency, guess in (("solve", 1.0), ("check", 1.0), ("solve", 0.3))
    ],
)  # fmt: skip
def test_derivatives_from_values_that_are_consistent_already(
    solver: Any, mode: str, consistency: Any, guess: float
) -> None:
    """The algebraic part follows the differential one, although nothing had to be changed."""
    found = jax.jit(MODES[mode](lambda x, **o: end(x, solver, guess, consistency, **o)))(jnp.array(2.0))
    expected = [by_differences(lambda x: np.array([x, algebraic(x)]), 2.0), by_differences(exact_end, 2.0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 5.0))
def test_consistent_values_have_the_derivatives_of_their_neighbours(x: float) -> None:
    term = ODETerm(_field, mass=MASS)
    values = lambda y0: rungax.consistent_initial_values(term, 0.0, y0)
    y0 = values(jnp.array([x, 1.0]))
    slope = 1 / (1 + 3 * y0[1] ** 2)
    for mode in (jax.jacfwd, jax.jacrev):
        for at in (y0, y0 + jnp.array([0.0, 0.1])):
            np.testing.assert_allclose(mode(values)(at), [[1.0, 0.0], [slope, 0.0]], rtol=1e-6, atol=1e-9)


JUMP = 0.5


def _driven(t: Any, y: Any, size: Any) -> Any:
    """An algebraic unknown that follows an input, which jumps."""
    return jnp.stack([y[1] - y[0], y[1] - jnp.where(t < JUMP, 1.0, 3.0) * size * (1 + 0.1 * y[0] ** 2)])


def _driven_alone(t: Any, x: Any, size: Any) -> Any:
    return jnp.where(t < JUMP, 1.0, 3.0) * size * (1 + 0.1 * x**2) - x


@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        pytest.param(s, m, marks=slow_unless((name(s), m) == ("Kvaerno5", "reverse")), id=f"{name(s)}-{m}")
        for s in SOLVERS
        for m in MODES
    ],
)
def test_derivatives_across_a_jump_of_the_input(solver: Any, mode: str) -> None:
    """Those of the ordinary equation from which the algebraic unknown is eliminated."""
    controller = rungax.ClipStepSizeController(TIGHT, jump_ts=jnp.array([JUMP]))
    common: dict[str, Any] = {"stepsize_controller": controller, "saveat": SaveAt(ts=jnp.array([JUMP, 1.0]))}

    def constrained(size: Any, **options: Any) -> Any:
        y0 = jnp.array([1.0, 0.0])
        return diffeqsolve(ODETerm(_driven, mass=MASS), solver, 0.0, 1.0, None, y0, size, **common, **options).ys

    def eliminated(size: Any) -> Any:
        solution = diffeqsolve(ODETerm(_driven_alone), rungax.Dopri8(), 0.0, 1.0, None, jnp.array(1.0), size, **common)
        return jnp.stack([solution.ys, solution.ys], axis=1).at[:, 1].set(
            3.0 * size * (1 + 0.1 * solution.ys**2)
        )  # fmt: skip

    found = jax.jit(MODES[mode](constrained))(jnp.array(1.0))
    # At the jump itself the state after it is saved.
    np.testing.assert_allclose(found, by_differences(jax.jit(eliminated), 1.0), atol=5e-6)


@pytest.mark.parametrize("solver", [pytest.param(rungax.Kvaerno5(), marks=pytest.mark.slow, id="Kvaerno5")])
@pytest.mark.parametrize("guess", [1.0, 0.3])
def test_tangents_in_the_error_control(solver: Any, guess: float) -> None:
    adjoint = rungax.RecursiveCheckpointAdjoint(error_control="tangents")
    found = jax.jacrev(lambda x: end(x, solver, guess, adjoint=adjoint)[-1])(jnp.array(2.0))
    np.testing.assert_allclose(found, by_differences(exact_end, 2.0), atol=1e-6)


@pytest.mark.parametrize("guess", [1.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_the_estimated_error_of_a_derivative(guess: float) -> None:
    """The derivative is right, and its estimate is of the size of its error."""
    coarse = PIDController(1e-5, 1e-5)
    y0 = jnp.array([2.0, guess])
    found = rungax.derivative_error(
        ODETerm(_field, mass=MASS), rungax.Rodas5P(), 0.0, 1.0, None, y0, stepsize_controller=coarse,
        directions=(jnp.array([[1.0, 0.0]]), None),
    )  # fmt: skip
    expected = by_differences(exact_end, 2.0)
    np.testing.assert_allclose(found.derivative[0, -1], expected, atol=1e-3)
    assert np.all(np.abs(found.derivative[0, -1] - expected) <= 20 * np.abs(found.error[0, -1]) + 1e-7)


@pytest.mark.parametrize("form", ["diagonal", "matrix"])
def test_the_derivative_by_a_zero_entry_is_zero(form: str) -> None:
    """A change of the rank has none: the solution jumps."""

    def last(mass: Any) -> Any:
        matrix = mass if form == "diagonal" else jnp.diag(mass)
        y0 = jnp.array([2.0, 0.3])
        return diffeqsolve(ODETerm(_field, mass=matrix), rungax.Rodas5P(), 0.0, 1.0, 0.05, y0).ys[-1, 1]

    found = jax.grad(last)(MASS)
    assert found[1] == pytest.approx(0.0, abs=1e-12)
    assert abs(found[0]) > 1e-2
