"""Mistakes in calls of implicit methods are refused: the argument, what was expected, what was found, the fix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
import pytest

import rungax
from rungax import (
    Banded,
    ImplicitEuler,
    KenCarp4,
    MultiTerm,
    ODETerm,
    Rosenbrock23,
    VeryChord,
    diffeqsolve,
    with_stepsize_controller_tols,
)

from .test_messages import check_message

Y0 = jnp.ones(3)
GMRES = lx.GMRES(rtol=1e-8, atol=1e-8)


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


DECAY = ODETerm(decay)


def given(jacobian: Any, **options: Any) -> ODETerm:
    return ODETerm(decay, jacobian, **options)


def solve(terms: Any = DECAY, solver: Any = None, y0: Any = Y0, **options: Any) -> rungax.Solution:
    return diffeqsolve(terms, ImplicitEuler() if solver is None else solver, 0.0, 1.0, 0.25, y0, max_steps=8, **options)


type Mistake = tuple[Callable[[], Any], type[Exception], tuple[str, ...]]

JACOBIAN = ("`ODETerm(..., jacobian=...)`", "Expected: shape (3, 3)")
CALLS: dict[str, Mistake] = {
    "one term for a split method": (
        lambda: solve(solver=KenCarp4()), ValueError, ("`terms`", "`KenCarp4`", "MultiTerm", "Found:    ODETerm"),
    ),
    "three terms for a split method": (
        lambda: solve(MultiTerm(DECAY, DECAY, DECAY), KenCarp4()), ValueError, ("`terms`", "`KenCarp4`", "MultiTerm"),
    ),
    "Jacobian too small": (lambda: solve(given(lambda t, y, args: jnp.eye(2))), ValueError, (*JACOBIAN, "(2, 2)")),
    "Jacobian a vector": (lambda: solve(given(lambda t, y, args: y)), ValueError, (*JACOBIAN, "(3,)")),
    "Jacobian a number": (lambda: solve(given(lambda t, y, args: -1.0)), ValueError, (*JACOBIAN, "()")),
    "Jacobian of several arrays": (
        lambda: solve(given(lambda t, y, args: (y, y))), ValueError, (*JACOBIAN, "2 arrays"),
    ),
    "Jacobian as an operator too large": (
        lambda: solve(given(lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones(4)))), ValueError,
        (*JACOBIAN, "operator of shape (4, 4)", "leave it out"),
    ),
    "Jacobian of a Rosenbrock method": (
        lambda: solve(given(lambda t, y, args: jnp.eye(2)), Rosenbrock23()), ValueError, (*JACOBIAN, "(2, 2)"),
    ),
    "Jacobian outside the declared band": (
        lambda: solve(
            given(lambda t, y, args: rungax.BandedLinearOperator(jnp.ones((5, 3)), 2, 2), tags=lx.tridiagonal_tag)
        ),
        ValueError, ("at most 1 lower and 1 upper", "2 lower and 2 upper", "wider band"),
    ),
    "Jacobian and an iterative solver": (
        lambda: solve(given(lambda t, y, args: -jnp.eye(3)), ImplicitEuler(linear_solver=GMRES)), ValueError,
        ("iterative", "Expected: no `jacobian`", "Found:    `ODETerm(..., jacobian=...)`", "Leave it out"),
    ),
    "Jacobian and an iterative solver, Rosenbrock": (
        lambda: solve(given(lambda t, y, args: -jnp.eye(3)), Rosenbrock23(linear_solver=GMRES)), ValueError,
        ("iterative linear solver", "Leave it out"),
    ),
    "BandedLU of what is not declared banded": (
        lambda: solve(solver=ImplicitEuler(linear_solver=rungax.BandedLU())), ValueError,
        ("`BandedLU`", "Expected: a `BandedLinearOperator`", "Found:    a `MatrixLinearOperator`", "lineax.LU()"),
    ),
    "root finder by name": (
        lambda: ImplicitEuler(root_finder="newton"), ValueError,
        ("`root_finder`", "Expected: an Optimistix root finder", "Found:    'newton'", "leave it out"),
    ),
    "root finder class": (
        lambda: ImplicitEuler(root_finder=VeryChord), ValueError,
        ("`root_finder`", "Found:    <class", "an instance, not a class"),
    ),
    "no root finder": (lambda: ImplicitEuler(root_finder=None), ValueError, ("`root_finder`", "Found:    None")),
    "root finder without its second pair of parentheses": (
        lambda: KenCarp4(root_finder=with_stepsize_controller_tols(VeryChord)), ValueError,
        ("`root_finder`", "`with_stepsize_controller_tols(VeryChord)()`", "Found:    <function"),
    ),
    "linear solver class": (
        lambda: ImplicitEuler(linear_solver=lx.LU), ValueError,  # pyright: ignore[reportArgumentType]
        ("`linear_solver`", "Expected: a Lineax solver such as `lineax.LU()`", "Found:    <class", "an instance"),
    ),
    "linear solver by name": (
        lambda: Rosenbrock23(linear_solver="lu"), ValueError,  # pyright: ignore[reportArgumentType]
        ("`linear_solver`", "Found:    'lu'"),
    ),
    "no iterations": (
        lambda: ImplicitEuler(root_find_max_steps=0), ValueError,
        ("`root_find_max_steps`", "at least 2", "Found:    0", "Leave it out"),
    ),
    "half an iteration": (
        lambda: ImplicitEuler(root_find_max_steps=2.5), ValueError,  # pyright: ignore[reportArgumentType]
        ("`root_find_max_steps`", "Found:    2.5"),
    ),
    "iterations yes or no": (
        lambda: ImplicitEuler(root_find_max_steps=True), ValueError, ("`root_find_max_steps`", "Found:    True"),
    ),
    "Jacobian that is no function": (
        lambda: given(jnp.eye(3)), ValueError,
        ("`ODETerm(jacobian=...)`", "Expected: a callable `jacobian(t, y, args)`", "Found:"),
    ),
    "negative band": (lambda: Banded(-1, 0), ValueError, ("`Banded(lower=...)`", "not negative", "-1", "Count")),
    "half a band": (lambda: Banded(1, 0.5), ValueError, ("`Banded(upper=...)`", "integer", "0.5")),  # pyright: ignore[reportArgumentType]
    "band yes or no": (lambda: Banded(True, 0), ValueError, ("`Banded(lower=...)`", "integer", "True")),
    "relative tolerance twice": (
        lambda: with_stepsize_controller_tols(VeryChord)(rtol=1e-3), TypeError,
        ("`with_stepsize_controller_tols(...)`", "none of rtol, atol, norm", "Found:    rtol", "Leave them out"),
    ),
    "all tolerances twice": (
        lambda: with_stepsize_controller_tols(optx.Newton)(rtol=1e-3, norm=optx.max_norm, atol=1e-6), TypeError,
        ("Found:    atol, norm, rtol",),
    ),
    "no tolerances": (lambda: VeryChord(), TypeError, ("rtol", "atol")),  # pyright: ignore[reportCallIssue]
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_mistake_is_refused(name: str) -> None:
    call, kind, words = CALLS[name]
    with pytest.raises(kind) as error:
        call()
    check_message(error.value, words)


TRACED_CALLS: dict[str, Mistake] = {
    "complex Jacobian of a real state": (
        lambda: solve(given(lambda t, y, args: jnp.eye(3, dtype=complex))), ValueError,
        ("`ODETerm(..., jacobian=...)`", "complex128"),
    ),
    "tag in words": (
        lambda: solve(ODETerm(decay, tags="tridiagonal")), ValueError, ("`ODETerm(tags=...)`", "'tridiagonal'"),
    ),
    "tag class": (lambda: solve(ODETerm(decay, tags=Banded)), ValueError, ("`ODETerm(tags=...)`", "Banded")),
    "structure of a complex state": (
        lambda: solve(ODETerm(decay, tags=Banded(1, 1)), y0=jnp.ones(3, complex)), ValueError,
        ("`ODETerm(tags=...)`", "holomorphic_tag", "Banded(lower=1, upper=1)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACED_CALLS)
def test_a_mistake_is_refused_when_the_solve_is_traced(name: str) -> None:
    call, kind, words = TRACED_CALLS[name]
    try:
        call()
    except kind as error:
        message = str(error)
    else:
        pytest.fail("not refused")
    assert all(word in message for word in words)


# Solves that fail.


def test_too_few_iterations_are_reported() -> None:
    with pytest.raises(RuntimeError) as error:
        solve(ODETerm(lambda t, y, args: -(y**3)), ImplicitEuler(root_find_max_steps=2))
    for word in ("nonlinear solver", "t = ", "throw=False", "The state there"):
        assert word in str(error.value)


def test_too_few_iterations_name_the_argument() -> None:
    with pytest.raises(RuntimeError, match="root_find_max_steps"):
        solve(ODETerm(lambda t, y, args: -(y**3)), ImplicitEuler(root_find_max_steps=2))


def test_a_singular_matrix_is_reported() -> None:
    """`y' = y / h` by implicit Euler: there is no solution."""
    with pytest.raises(RuntimeError) as error:
        solve(ODETerm(lambda t, y, args: 4 * y))
    for word in ("The solve failed", "finite up to t = 0.0", "throw=False"):
        assert word in str(error.value)


def test_a_singular_matrix_is_the_failure_of_a_stage() -> None:
    result = solve(ODETerm(lambda t, y, args: 4 * y), throw=False).result
    assert result == rungax.RESULTS.nonlinear_divergence or result == rungax.RESULTS.singular


def test_divergence_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Nonlinear solve diverged.*The state there.*throw=False"):
        solve(ODETerm(lambda t, y, args: -200 * jnp.arctan(y)), y0=jnp.asarray([10.0]))
