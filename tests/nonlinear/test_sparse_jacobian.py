"""The values of a pattern's entries are those of the dense Jacobian, also with dense rows and in blocks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

from rungax.nonlinear import SparseJacobian, SparseLinearOperator, sparse_jacobian
from rungax.sparsity import SparsityPattern

type Field = Callable[[jax.Array], jax.Array]

N = 12
DENSE = np.array([3, 7])


def chain(y: jax.Array) -> jax.Array:
    return jnp.sin(y) + jnp.roll(y, 1) * y


def with_dense_rows(y: jax.Array) -> jax.Array:
    return chain(y).at[DENSE].add(jnp.sum(y**2))


def in_a_loop(y: jax.Array) -> jax.Array:
    """The same, in a loop without derivatives in reverse mode."""
    return lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, with_dense_rows(c[1])), (0, y))[1]


@jax.custom_jvp
def by_own_rule(y: jax.Array) -> jax.Array:
    return with_dense_rows(y)


@by_own_rule.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(with_dense_rows, primals, tangents)


def by_callback(y: jax.Array) -> jax.Array:
    """The same, of which JAX knows the derivative in forward mode only."""

    @jax.custom_jvp
    def call(y: jax.Array) -> jax.Array:
        return with_dense_rows(y)

    def rule(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        product = lambda y, v: np.asarray(jax.jacfwd(with_dense_rows)(y)) @ np.asarray(v)
        tangent = jax.pure_callback(product, tangents[0], *primals, *tangents, vmap_method="sequential")
        return call(*primals), tangent

    call.defjvp(rule)
    return call(y)


def pattern_of(field: Field) -> SparsityPattern:
    return SparsityPattern(np.asarray(jax.jacfwd(field)(state())) != 0).with_diagonal()


def state(dtype: type = np.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(1, 2, N), dtype)


def values(field: Field, pattern: SparsityPattern, y: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    found, wrong = jax.jit(SparseJacobian(pattern).compared, static_argnums=0)(field, y)
    return np.asarray(SparseLinearOperator(found, pattern).as_matrix()), np.asarray(wrong)


@pytest.mark.parametrize("field", [chain, with_dense_rows, in_a_loop, by_own_rule])
def test_values_are_those_of_the_dense_jacobian(field: Field) -> None:
    pattern = pattern_of(with_dense_rows)
    assert pattern.colouring.dense_rows.tolist() == DENSE.tolist()
    matrix, wrong = values(field, pattern, state())
    np.testing.assert_allclose(matrix, jax.jacfwd(field)(state()), rtol=1e-14, atol=1e-14)
    assert not wrong.any()


@pytest.mark.slow
def test_a_field_with_a_callback_in_its_derivative() -> None:
    matrix, wrong = values(by_callback, pattern_of(with_dense_rows), state())
    np.testing.assert_allclose(matrix, jax.jacfwd(with_dense_rows)(state()), rtol=1e-14, atol=1e-14)
    assert not wrong.any()


def test_dense_rows_are_computed_in_reverse_mode() -> None:
    """Two colours and the random direction, and two rows, in place of one direction for each column."""
    pattern = pattern_of(with_dense_rows)
    assert (pattern.colouring.num_colours, pattern.num_colours) == (2, 4)
    program = str(jax.make_jaxpr(lambda y: SparseJacobian(pattern).compared(with_dense_rows, y))(state()))
    assert f"f64[3,{N}]" in program
    assert f"f64[2,{N}]" in program
    assert f"f64[{N},{N}]" not in program


@pytest.mark.parametrize("field", [pytest.param(with_dense_rows, marks=pytest.mark.slow), in_a_loop])
def test_blocks_of_directions_give_the_same_values(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = pattern_of(with_dense_rows)
    expected = SparseJacobian(pattern).evaluate(field, state())
    monkeypatch.setattr(sparse_jacobian, "_AT_ONCE", 2 * N + 1)
    np.testing.assert_array_equal(SparseJacobian(pattern).evaluate(field, state()), expected)
    text = str(jax.make_jaxpr(lambda y: SparseJacobian(pattern).evaluate(with_dense_rows, y))(state()))
    assert f"f64[2,{N}]" in text
    assert "scan" in text


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, N * N - 1), max_size=12), st.booleans())
def test_the_rows_of_missing_entries_are_found(dropped: list[int], single: bool) -> None:
    """Whichever entries are missing; exactly their rows differ, in both precisions."""
    full = FULL.reshape(-1).copy()
    full[np.array(dropped, int)] = False
    pattern = SparsityPattern(full.reshape(N, N)).with_diagonal()
    kept = np.zeros((N, N), bool)
    kept[pattern.rows, pattern.columns] = True
    matrix = np.where(FULL, MATRIX, 0).astype(np.float32 if single else np.float64)
    field = lambda y: jnp.asarray(matrix) @ y
    _, wrong = SparseJacobian(pattern).compared(field, state(matrix.dtype.type))
    assert np.array_equal(wrong, (FULL & ~kept).any(axis=1))
    values = SparseJacobian(pattern).evaluate(field, state(matrix.dtype.type))
    assert np.array_equal(np.isnan(values), np.asarray(wrong)[pattern.rows])


FULL = np.random.default_rng(1).random((N, N)) < 0.5
MATRIX = np.random.default_rng(2).uniform(0.5, 2, (N, N)) * np.random.default_rng(3).choice([-1, 1], (N, N))


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_cancellation_and_badly_scaled_rows_are_not_taken_for_missing_entries(dtype: type) -> None:
    scales = jnp.asarray(np.logspace(-12, 12, N), dtype)

    def field(y: jax.Array) -> jax.Array:
        u = 1e4 + y
        second_differences = jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)
        return scales * (second_differences + (u + 20) * y - (u + 19) * y)

    ring = np.eye(N) + np.eye(N, k=1) + np.eye(N, k=-1) + np.eye(N, k=N - 1) + np.eye(N, k=1 - N)
    y = jnp.asarray(np.random.default_rng(0).normal(size=(20, N)), dtype)
    assert not jax.vmap(lambda y: SparseJacobian(SparsityPattern(ring)).compared(field, y)[1])(y).any()


def test_a_row_that_is_not_finite_agrees() -> None:
    field = lambda y: jnp.stack([jnp.sqrt(y[0]), y[1] * y[0]])
    _, wrong = SparseJacobian(SparsityPattern(np.eye(2))).compared(field, jnp.zeros(2).at[1].set(1))
    assert wrong.tolist() == [False, True]
