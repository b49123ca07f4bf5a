"""A Jacobian that the user gives, as a matrix or an operator, leads to the same solution as the derived one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import ODETerm, VeryChord

from ..catalogue import IMPLICIT_KINDS, slow_unless, terms_around
from ..fakes import LoggedJacobian, strict_chord

SIZE = 5
SIDE = np.linspace(0.1, 0.4, SIZE - 1)
COUPLING = -np.diag(np.linspace(1.0, 40.0, SIZE)) + np.diag(SIDE, 1) + 2 * np.diag(SIDE, -1)
Y0 = jnp.linspace(1.0, 2.0, SIZE)
CONTROLLER = rungax.PIDController(rtol=1e-7, atol=1e-9)


def clocked(t: Any, y: Any, args: Any) -> Any:
    """Linear coupling of neighbours at a rate that changes with time, and a weak nonlinearity."""
    return (1 + t**2) * (jnp.asarray(COUPLING) @ y) - 0.1 * y**3


def main_diagonal(t: Any, y: Any) -> Any:
    return (1 + t**2) * jnp.diag(jnp.asarray(COUPLING)) - 0.3 * y**2


def sides(t: Any) -> tuple[Any, Any]:
    """The entries below and above the main diagonal."""
    above = (1 + t**2) * jnp.asarray(SIDE)
    return 2 * above, above


def matrix(t: Any, y: Any, args: Any) -> Any:
    below, above = sides(t)
    return jnp.diag(main_diagonal(t, y)) + jnp.diag(below, -1) + jnp.diag(above, 1)


def banded(t: Any, y: Any, args: Any) -> Any:
    below, above = sides(t)
    rows = [jnp.pad(below, (1, 0)), main_diagonal(t, y), jnp.pad(above, (0, 1))]
    return rungax.BandedLinearOperator(jnp.stack(rows), 1, 1)


GIVEN: dict[str, tuple[Callable[..., Any], Any]] = {
    "array": (matrix, ()),
    "NumPy-like nested": (lambda t, y, args: jax.jacfwd(clocked, argnums=1)(t, y, args), ()),
    "MatrixLinearOperator": (lambda *x: lx.MatrixLinearOperator(matrix(*x)), ()),
    "TridiagonalLinearOperator": (lambda t, y, _: lx.TridiagonalLinearOperator(main_diagonal(t, y), *sides(t)), ()),
    "TridiagonalLinearOperator, tagged": (
        lambda t, y, _: lx.TridiagonalLinearOperator(main_diagonal(t, y), *sides(t)),
        lx.tridiagonal_tag,
    ),
    "BandedLinearOperator": (banded, ()),
    "BandedLinearOperator, tagged": (banded, rungax.Banded(1, 1)),
    "BandedLinearOperator, tagged wider": (banded, rungax.Banded(2, 1)),
    "array, tagged": (matrix, lx.tridiagonal_tag),
}


def solve(
    term: ODETerm,
    solver: Any,
    t0: float = 0.0,
    t1: float = 1.0,
    y0: Any = Y0,
    controller: Any = CONTROLLER,
    args: Any = None,
) -> Any:
    dt0 = 0.01 if t1 > t0 else -0.01
    return rungax.diffeqsolve(
        terms_around(solver, term), solver, t0, t1, dt0, y0, args, stepsize_controller=controller, max_steps=10_000
    ).ys


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow_unless(name in ("array", "TridiagonalLinearOperator"))) for name in GIVEN]
)
def test_every_form_of_it_gives_the_same_steps(name: str) -> None:
    """To all digits but a few: Rosenbrock methods use it unchanged, so that every error in it would show."""
    jacobian, tags = GIVEN[name]
    solver = rungax.Rosenbrock23()
    np.testing.assert_allclose(
        solve(ODETerm(clocked, jacobian, tags), solver), solve(ODETerm(clocked), solver), rtol=1e-11
    )


@pytest.mark.parametrize(
    "solver", [rungax.ImplicitEuler, *(pytest.param(cls, marks=pytest.mark.slow) for cls in IMPLICIT_KINDS[1:])]
)
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 0.25), pytest.param(0.25, 0.0, marks=pytest.mark.slow)])
def test_implicit_methods_take_it_in_both_directions(solver: type[Any], t0: float, t1: float) -> None:
    """Backwards in time the field is expansive, and the Jacobian is evaluated at the true time."""
    term = ODETerm(lambda t, y, args: -clocked(t, y, args) if t1 < t0 else clocked(t, y, args))
    sign = -1 if t1 < t0 else 1
    logged = LoggedJacobian(lambda t, y, args: sign * matrix(t, y, args))
    given = ODETerm(term.vector_field, jacobian=logged)
    strict, controller = solver(root_finder=strict_chord()), rungax.PIDController(rtol=1e-3, atol=1e-3)
    found, derived = (solve(term, strict, t0, t1, controller=controller) for term in (given, term))
    np.testing.assert_allclose(found, derived, rtol=1e-6)
    assert logged.times
    assert min(logged.times) >= 0
    assert max(logged.times) <= 0.25
    assert (0.0 if t1 > t0 else 0.25) in logged.times


@pytest.mark.parametrize("solver", [rungax.Rosenbrock23(), pytest.param(rungax.Rodas5P(), marks=pytest.mark.slow)])
def test_rosenbrock_methods_take_it_backwards(solver: Any) -> None:
    """A wrong sign or a wrong time would spoil the order."""
    found = solve(ODETerm(clocked, matrix), solver, 0.02, 0.0)
    np.testing.assert_allclose(found, solve(ODETerm(clocked), solver, 0.02, 0.0), rtol=1e-10)


def test_a_diagonal_one() -> None:
    rates = jnp.linspace(1.0, 30.0, SIZE)
    term = lambda jacobian, tags=(): ODETerm(lambda t, y, args: -rates * y * (1 + t), jacobian, tags)
    derived = solve(term(None), rungax.Rosenbrock23())
    operator = lambda t, y, args: lx.DiagonalLinearOperator(-rates * (1 + t))
    for tags in ((), lx.diagonal_tag):
        np.testing.assert_allclose(solve(term(operator, tags), rungax.Rosenbrock23()), derived, rtol=1e-11)


def test_a_scalar_state() -> None:
    for given in (lambda t, y, args: -3 * y[None, None] ** 2, lambda t, y, args: -3 * y[None] ** 2):
        found = solve(ODETerm(lambda t, y, args: -(y**3), given), rungax.Rosenbrock23(), y0=jnp.asarray(1.0))
        np.testing.assert_allclose(found, 1 / np.sqrt(3), rtol=1e-5)


@pytest.mark.parametrize(
    "y0",
    [
        pytest.param(jnp.asarray(1.0), id="scalar", marks=pytest.mark.slow),
        pytest.param(jnp.ones((2, 3)), id="matrix", marks=pytest.mark.slow),
        pytest.param({"a": jnp.ones(2), "b": jnp.asarray(1.0)}, id="dict"),
    ],
)
def test_the_output_of_jacfwd_is_accepted(y0: Any) -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return jax.tree.map(lambda x: -(x**3), y)

    found = solve(ODETerm(field, jax.jacfwd(field, argnums=1)), rungax.Rosenbrock23(), y0=y0)
    for leaf in jax.tree.leaves(found):
        np.testing.assert_allclose(leaf, 1 / np.sqrt(3) * np.ones_like(leaf), rtol=1e-5)


def test_a_pytree_in_the_order_of_its_leaves() -> None:
    coupling = np.asarray([[-3.0, 1.0, 0.5], [0.2, -2.0, 0.1], [0.7, 0.3, -9.0]])

    def field(t: Any, y: Any, args: Any) -> Any:
        slope = jnp.asarray(coupling) @ jnp.append(y["b"][0], y["c"])
        return {"c": slope[2], "b": (slope[:2],)}

    y0 = {"c": jnp.asarray(1.0), "b": (jnp.asarray([2.0, 3.0]),)}
    given = ODETerm(field, lambda t, y, args: jnp.asarray(coupling))
    found, expected = (solve(term, rungax.Rosenbrock23(), y0=y0) for term in (given, ODETerm(field)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), found, expected)


def test_a_complex_state_in_real_and_imaginary_parts() -> None:
    """Two equations with conjugates: first both real parts, then both imaginary ones."""
    factor, mirror = np.asarray([-1 + 2j, -3 - 1j]), np.asarray([0.5, 0.25j])

    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.asarray(factor) * y + jnp.asarray(mirror) * jnp.conj(y)

    def blocks(t: Any, y: Any, args: Any) -> Any:
        plus, minus = factor + mirror, factor - mirror
        return jnp.asarray(
            np.block([[np.diag(plus.real), np.diag(-minus.imag)], [np.diag(plus.imag), np.diag(minus.real)]])
        )

    y0 = jnp.asarray([1 + 1j, 2 - 1j])
    found, derived = (solve(ODETerm(field, given), rungax.Rosenbrock23(), y0=y0) for given in (blocks, None))
    np.testing.assert_allclose(found, derived, rtol=1e-11)


def test_a_holomorphic_one_is_complex() -> None:
    factor = np.asarray([[-1 + 2j, 0.5], [0.25j, -3 - 1j]])

    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.asarray(factor) @ y

    y0, given = (
        jnp.asarray([1 + 1j, 2 - 1j]),
        ODETerm(field, lambda t, y, args: jnp.asarray(factor), rungax.holomorphic_tag),
    )
    found, derived = (solve(term, rungax.Rosenbrock23(), y0=y0) for term in (given, ODETerm(field)))
    np.testing.assert_allclose(found, derived, rtol=1e-9)


def test_an_approximate_one_slows_the_iteration_down_but_changes_no_solution() -> None:
    """Implicit Runge–Kutta methods solve their equations to a tolerance, with any multiple of it that converges."""
    finder = VeryChord(rtol=1e-10, atol=1e-10)
    solver = rungax.Kvaerno3(root_finder=finder, root_find_max_steps=30)
    term = ODETerm(clocked, lambda t, y, multiple: multiple * matrix(t, y, None))
    poor, exact = (solve(term, solver, args=jnp.asarray(multiple)) for multiple in (0.7, 1.0))
    np.testing.assert_allclose(poor, exact, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jvp", "grad"])
@pytest.mark.parametrize("form", ["array", "BandedLinearOperator"])
def test_under_vmap_and_derivatives(form: str, mode: str) -> None:
    jacobian, _ = GIVEN[form]

    def loss(y0: Any, given: Any) -> Any:
        return jnp.sum(solve(ODETerm(clocked, given), rungax.TRBDF2(), 0.0, 0.0625, y0))

    def derivative(y0: Any, given: Any) -> Any:
        if mode == "grad":
            return jax.grad(loss)(y0, given)
        return jax.jvp(lambda y0: loss(y0, given), (y0,), (jnp.ones_like(y0),))[1]

    batch = jnp.stack([Y0, 2 * Y0])
    found, expected = (jax.vmap(lambda y0, given=given: derivative(y0, given))(batch) for given in (jacobian, None))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
