"""Forms of mass matrices: sparse ones of functions, entries of any size, complex ones; and which are refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings, strategies as st
from jax.experimental.sparse import BCOO, BCSR

import rungax
from rungax import ODETerm, PIDController, diffeqsolve

DIAGONAL = jnp.array([1.0, 0.0])
CONSISTENT = jnp.array([2.0, 1.0])


def _field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([-y[1], y[1] + y[1] ** 3 - y[0]])


def solve(term: Any, solver: Any, y0: Any = CONSISTENT, **options: Any) -> rungax.Solution:
    return diffeqsolve(term, solver, 0.0, 1.0, None, y0, stepsize_controller=PIDController(1e-6, 1e-6), **options)


# ------------------------------------------------------------------------------------------------------ sparse matrices

POSITIONS, COLUMNS, STARTS = jnp.array([[0, 0]]), jnp.array([0]), jnp.array([0, 1, 1])
OUTSIDE = BCOO.fromdense(jnp.diag(DIAGONAL))
FUNCTIONS = {
    "made outside": lambda t, y, scale: OUTSIDE,
    "scaled": lambda t, y, scale: OUTSIDE * scale,
    "SciPy": lambda t, y, scale: scipy.sparse.csr_array(np.diag(DIAGONAL)),
    "BCOO": lambda t, y, scale: BCOO((jnp.ones(1) * scale, POSITIONS), shape=(2, 2)),
    "BCSR": lambda t, y, scale: BCSR((jnp.ones(1) * scale, COLUMNS, STARTS), shape=(2, 2)),
}


@pytest.fixture(scope="module")
def expected() -> Any:
    return solve(ODETerm(_field, mass=lambda t, y, args: DIAGONAL), rungax.BDF()).ys


@pytest.mark.parametrize("form", [pytest.param(f, marks=[] if f == "scaled" else pytest.mark.slow) for f in FUNCTIONS])
def test_functions_that_return_a_sparse_matrix(form: str, expected: Any) -> None:
    term = ODETerm(_field, mass=FUNCTIONS[form])
    found = jax.jit(lambda scale: solve(term, rungax.BDF(), args=scale).ys)(1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_a_sparse_matrix_as_an_argument_of_a_compiled_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)`ODETerm\(mass=.*known when the program is compiled.*Found:    traced"):
        jax.jit(lambda mass: solve(ODETerm(_field, mass=mass), rungax.BDF()).ys)(OUTSIDE)


def test_positions_that_are_traced_are_refused() -> None:
    """`BCOO` turns NumPy indices into traced ones inside of a traced function."""
    mass = lambda t, y, args: BCOO((jnp.ones(1), np.array([[0, 0]])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"(?s)Found:    traced.*as JAX arrays, outside of traced functions"):
        solve(ODETerm(_field, mass=mass), rungax.BDF())


def test_a_sparse_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match=r"(?s)`ODETerm\(mass=.*square matrix.*Found:    shape \(2, 3\)"):
        ODETerm(_field, mass=BCOO.fromdense(jnp.ones((2, 3))))


# -------------------------------------------------------------------------------------------------- entries of any size


@jax.jit
def _scaled(entries: Any) -> Any:
    """The end of decays whose equations are multiplied by the entries of the mass matrix."""
    field = lambda t, y, args: -entries * y
    solution = solve(ODETerm(field, mass=entries), rungax.Tsit5(), jnp.ones(3), throw=False)
    return solution.ys[-1], solution.result == rungax.RESULTS.successful


_size = st.floats(-300.0, 300.0).map(lambda exponent: 10.0**exponent)


@settings(max_examples=30, deadline=None)
@given(st.tuples(_size, _size, _size), st.tuples(*3 * [st.sampled_from([-1.0, 1.0])]))
def test_a_diagonal_is_regular_if_no_entry_is_zero(sizes: Any, signs: Any) -> None:
    """Multiplying an equation by a number changes nothing, however small the number is."""
    end, is_successful = _scaled(jnp.array(sizes) * jnp.array(signs))
    assert is_successful
    np.testing.assert_allclose(end, np.exp(-1.0) * np.ones(3), rtol=1e-5)


def test_a_known_diagonal_of_small_entries_is_regular() -> None:
    entries = jnp.array([1e-13, 1e5])
    end = solve(ODETerm(lambda t, y, args: -entries * y, mass=entries), rungax.Tsit5(), jnp.ones(2)).ys[-1]
    np.testing.assert_allclose(end, np.exp(-1.0) * np.ones(2), rtol=1e-5)


def test_a_matrix_that_is_singular_up_to_rounding_is_refused() -> None:
    singular = jnp.array([[0.1, 0.2], [0.3, 0.6]])
    with pytest.raises(ValueError, match=r"`Tsit5` cannot solve an equation whose mass matrix is singular"):
        solve(ODETerm(lambda t, y, args: -y, mass=singular), rungax.Tsit5())


def test_the_message_names_the_solver_that_is_wrapped() -> None:
    with pytest.raises(ValueError, match=r"`HalfSolver\(Tsit5\)` cannot"):
        solve(ODETerm(_field, mass=DIAGONAL), rungax.HalfSolver(rungax.Tsit5()))


# ------------------------------------------------------------------------------------------------------ complex numbers

_MIXED = (jnp.ones(2), jnp.ones(2, complex))


@pytest.mark.parametrize(
    ("mass", "y0"),
    [
        (jnp.array([1.0, 0.0], complex), CONSISTENT),
        (jnp.diag(DIAGONAL).astype(complex), CONSISTENT),
        ((1j, 1.0), _MIXED),
        (jnp.eye(4, dtype=complex), _MIXED),
        (lambda t, y, args: DIAGONAL.astype(complex), CONSISTENT),
    ],
    ids=["diagonal", "matrix", "leaf", "matrix of a mixed state", "function"],
)
def test_complex_entries_for_real_ones_of_the_state_are_refused(mass: Any, y0: Any) -> None:
    field = lambda t, y, args: jax.tree.map(jnp.negative, y)
    with pytest.raises(ValueError, match=r"(?s)real entry of the state.*Expected:.*Found:.*the whole state complex"):
        solve(ODETerm(field, mass=mass), rungax.BDF(), y0)


def test_complex_entries_for_complex_ones_of_a_mixed_state() -> None:
    field = lambda t, y, args: (-y[0], -1j * y[1])
    end = solve(ODETerm(field, mass=(1.0, 1j)), rungax.BDF(), _MIXED).ys
    for leaf, dtype in zip(end, (float, complex), strict=True):
        assert leaf.dtype == dtype
        np.testing.assert_allclose(leaf[-1], np.exp(-1.0) * np.ones(2), rtol=1e-4)
