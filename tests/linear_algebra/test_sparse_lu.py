"""`SparseLU` solves like a dense solver, in every dtype, transposed, in batches, and where a matrix is singular."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings, strategies as st

from rungax import SparseLU
from rungax.nonlinear import SparseLinearOperator, suitesparse
from rungax.sparsity import SparsityPattern

from ..catalogue import slow_unless

METHODS = ("klu", "umfpack")


def random_matrix(size: int, seed: int, dtype: Any = np.float64) -> SparseLinearOperator:
    """A matrix that is far from singular, with about three entries a row, some of them missing from the diagonal."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(size)
    rows = np.concatenate([np.arange(size), generator.integers(0, size, 2 * size)])
    columns = np.concatenate([order, generator.integers(0, size, 2 * size)])
    pattern = SparsityPattern.of_entries(size, rows, columns)
    values = generator.uniform(-1.0, 1.0, pattern.num_entries)
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * generator.uniform(-1.0, 1.0, pattern.num_entries)
    values = np.where(order[pattern.rows] == pattern.columns, 4.0, 0.5 * values)
    return SparseLinearOperator(jnp.asarray(values, dtype), pattern)


def compute(operator: SparseLinearOperator, vector: Any, method: str, transposed: bool = False) -> Any:
    solver = SparseLU(method)
    state = solver.init(operator, {})
    return solver.compute(solver.transpose(state, {})[0] if transposed else state, vector, {})[0]


@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 12),
    st.integers(0, 2**31),
    st.sampled_from([np.float64, np.complex128, np.float32, np.complex64]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(METHODS),
)
def test_it_solves_like_a_dense_solver(
    size: int, seed: int, dtype: Any, complex_vector: bool, transposed: bool, method: str
) -> None:
    operator = random_matrix(size, seed, dtype)
    vector = np.random.default_rng(seed).normal(size=size).astype(np.finfo(dtype).dtype)
    vector = vector * (1 - 2j) if complex_vector else vector
    matrix = np.asarray(operator.as_matrix())
    expected = np.linalg.solve(matrix.T if transposed else matrix, vector)
    with jax.numpy_dtype_promotion("standard"):
        vector = jnp.asarray(vector).astype(jnp.result_type(vector, dtype) if complex_vector else dtype)
    found = compute(operator, vector, method, transposed)
    is_complex = complex_vector or np.issubdtype(dtype, np.complexfloating)
    assert jnp.iscomplexobj(found) == is_complex
    assert jnp.finfo(found.dtype).eps == jnp.finfo(dtype).eps
    tolerance = 1e-11 if np.finfo(dtype).eps < 1e-10 else 3e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_are_those_of_a_dense_solver(method: str) -> None:
    operator, vector = random_matrix(7, 3), jnp.arange(7.0)

    def loss(solver: Any, values: jax.Array, vector: jax.Array) -> jax.Array:
        matrix = SparseLinearOperator(values, operator.pattern)
        return jnp.sum(jnp.sin(lx.linear_solve(matrix, vector, solver, throw=False).value))

    for derivative in (jax.grad, jax.jacfwd):
        ours, theirs = (
            derivative(lambda *x, solver=solver: loss(solver, *x), (0, 1))(operator.values, vector)
            for solver in (SparseLU(method), lx.LU())
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), ours, theirs)


@pytest.mark.parametrize("size", [5, pytest.param(300, marks=slow_unless(False))])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_a_loop_also_where_it_is_larger_than_the_cache(method: str, size: int) -> None:
    operator = random_matrix(20, 5)
    values = operator.values[None, :] * (1 + jnp.arange(size)[:, None] / size)
    vectors = jnp.sin(jnp.arange(size * 20.0)).reshape(size, 20)

    def several(values: jax.Array, vector: jax.Array) -> jax.Array:
        state = SparseLU(method).init(SparseLinearOperator(values, operator.pattern), {})
        turn = lambda i, x: SparseLU(method).compute(state, vector + 0.1 * x, {})[0]
        return jax.lax.fori_loop(0, 3, turn, vector)

    found = jax.jit(jax.vmap(several))(values, vectors)
    expected = jnp.stack([several(v, b) for v, b in zip(values, vectors, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ----------------------------------------------------------------------------------------- matrices without a solution

SINGULAR = {
    "equal rows": [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "a row of zeros": [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]],
    "a column of zeros": [[0.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]],
    "rows that lack columns": [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0]],
    "zeros": [[0.0] * 3] * 3,
    "not a number": [[np.nan, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "infinite": [[np.inf, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.complex128])
def test_a_singular_matrix_ends_no_program_and_spares_the_rest_of_the_batch(method: str, dtype: Any) -> None:
    pattern = SparsityPattern(np.ones((3, 3), bool))
    good = 2.0 * np.eye(3)
    matrices = jnp.asarray([*SINGULAR.values(), good], dtype).reshape(-1, 9)

    def solution(values: jax.Array) -> jax.Array:
        return compute(SparseLinearOperator(values, pattern), jnp.asarray([1.0, 2.0, 3.0], dtype), method)

    found = jax.jit(jax.vmap(solution))(matrices)
    np.testing.assert_allclose(found[-1], [0.5, 1.0, 1.5], rtol=1e-6)
    for name, x in zip(SINGULAR, found, strict=False):
        assert not np.all(np.abs(x) < 1e5) or name in ("a row of zeros", "zeros"), f"{name}: {x}"
    for name in ("not a number", "infinite"):
        assert np.all(np.isnan(found[list(SINGULAR).index(name)])), name


def test_a_diagonal_entry_changes_by_roundings_and_others_not_at_all() -> None:
    operator = random_matrix(9, 1)
    state = SparseLU("klu").init(operator, {})
    matrix, changed = operator.as_matrix(), SparseLinearOperator(state.values, state.pattern).as_matrix()
    off = ~np.eye(9, dtype=bool)
    np.testing.assert_array_equal(matrix[off], changed[off])
    np.testing.assert_allclose(jnp.diag(changed), jnp.diag(matrix), rtol=2e-15, atol=1e-30)


# -------------------------------------------------------------------------------------------------------- bad input


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"`SparseLU\(method=...\)`.*\nExpected: 'umfpack', 'klu', or None\nFound:    'superlu'"
    ):
        SparseLU("superlu")


def test_a_dense_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity=...\)`\nFound:    a `MatrixLinearOperator`"):
        SparseLU().init(lx.MatrixLinearOperator(jnp.eye(3)), {})


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suitesparse, "missing", lambda: ["sparsax"])
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rungax\[sparse\]"'):
        SparseLU().init(random_matrix(3, 0), {})


def test_on_another_device_the_error_says_what_works_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ValueError, match=r"Found:    programs for a gpu\nUse `Krylov`.*`BlockTridiagonal`"):
        SparseLU().init(random_matrix(3, 0), {})


def test_umfpack_uses_one_thread() -> None:
    operator = random_matrix(30, 0)
    jax.block_until_ready(compute(operator, jnp.ones(30), "umfpack"))
    libraries = threadpoolctl.ThreadpoolController().lib_controllers
    found = [library.num_threads for library in libraries if "sparsax.libs" in library.filepath]
    assert found == [1]
