"""The reciprocal condition number, and the test that the index of a differential-algebraic equation is one."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from rungax import Krylov, SparseLinearOperator, SparsityPattern
from rungax.nonlinear import LinearAlgebra, LinearSystem, consistent, index_is_one
from rungax.nonlinear.condition import reciprocal_condition
from rungax.nonlinear.jacobian import AbstractJacobian, BandedJacobian, DenseJacobian
from rungax.nonlinear.sparse_jacobian import SparseJacobian
from rungax.results import RESULTS

from .singular import amplifier, of_rank, parts, weights

ROWS, COLUMNS = np.indices((40, 40))


def system_of(matrix: Any, jacobian: AbstractJacobian) -> tuple[LinearAlgebra, LinearSystem]:
    """The system with a given matrix, `0 y' = -matrix y`."""
    y = jnp.zeros(len(matrix))
    field = parts(lambda t, y, args: -(args @ y), jnp.zeros(y.size), y, jnp.asarray(matrix)).field
    algebra = LinearAlgebra(jacobian, jacobian.linear_solver(y.size))
    return algebra, LinearSystem.at(algebra, field, jnp.asarray(0.0), y, jnp.asarray(1.0))


def expected_condition(matrix: np.ndarray) -> float:
    scaled = matrix / np.sum(np.abs(matrix), axis=1, keepdims=True)
    return 1 / np.linalg.cond(scaled / np.sum(np.abs(scaled), axis=0), 1)


def condition(matrix: Any, jacobian: AbstractJacobian) -> float:
    compute = lambda matrix: reciprocal_condition(*system_of(matrix, jacobian))
    return float(jax.jit(compute)(jnp.asarray(matrix)))


@pytest.mark.parametrize("seed", range(3))
def test_the_condition_of_a_small_matrix_is_exact_and_free_of_scales(seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(6, 6))
    matrix[:, 1] = matrix[:, 0] + 1e-6 * matrix[:, 1]
    expected = expected_condition(matrix)
    np.testing.assert_allclose(condition(matrix, DenseJacobian()), expected, rtol=1e-8)
    scaled = matrix * 10.0 ** generator.integers(-12, 12, size=(6, 1))
    np.testing.assert_allclose(condition(scaled, DenseJacobian()), expected, rtol=1e-8)
    assert expected < 1e-5


LARGE: dict[str, tuple[AbstractJacobian, Any]] = {
    "dense": (DenseJacobian(), np.ones((40, 40), bool)),
    "tridiagonal": (BandedJacobian(1, 1), np.abs(ROWS - COLUMNS) <= 1),
    "banded": (BandedJacobian(2, 1), (ROWS - COLUMNS <= 2) & (COLUMNS - ROWS <= 1)),
    "sparse": (
        SparseJacobian(SparsityPattern((np.abs(ROWS - COLUMNS) <= 1) | (ROWS == 0))),
        (np.abs(ROWS - COLUMNS) <= 1) | (ROWS == 0),
    ),
}


@pytest.mark.parametrize(
    "kind", ["dense", "sparse", *(pytest.param(k, marks=pytest.mark.slow) for k in ("tridiagonal", "banded"))]
)
def test_the_condition_of_a_large_matrix_is_estimated(kind: str) -> None:
    jacobian, where = LARGE[kind]
    generator = np.random.default_rng(1)
    for smallest in (1.0, 1e-9):
        matrix = np.where(where, generator.normal(size=where.shape), 0) + 4 * np.eye(40)
        u, sizes, vh = np.linalg.svd(matrix)
        if kind == "dense":
            matrix = (u * np.append(sizes[:-1], smallest)) @ vh
        found, expected = condition(matrix, jacobian), expected_condition(matrix)
        assert expected * (1 - 1e-6) <= found <= 3 * expected


@pytest.mark.parametrize("size", [4, 40])
def test_singular_matrices_have_none(size: int) -> None:
    generator = np.random.default_rng(size)
    matrix = generator.normal(size=(size, size))
    matrix[1] = matrix[0]
    assert condition(matrix, DenseJacobian()) < 1e-14
    matrix[1] = 0
    assert condition(matrix, DenseJacobian()) == 0
    assert condition(np.full((size, size), np.nan), DenseJacobian()) == 0


# -------------------------------------------------------------------------------------------------- the index is one


def index_one(function: Any, mass: Any, y: Any, args: Any = None, **options: Any) -> bool:
    def compute(mass: Any, y: Any, args: Any) -> Any:
        return index_is_one(*parts(function, mass, y, args, **options), 0.3, y)

    return bool(jax.jit(compute)(mass, jnp.asarray(y), args))


def multiplier(t: Any, y: Any, args: Any) -> Any:
    """Index two: `y1' = y2`, `0 = y1 - sin(t)`."""
    return jnp.stack([y[1], y[0] - jnp.sin(t)])


SINGULAR = np.diag([1.0, 0.0])


def test_an_index_of_two_is_found_where_the_residual_is_zero() -> None:
    y = jnp.asarray([np.sin(0.3), np.cos(0.3)])
    assert not index_one(multiplier, SINGULAR, y)
    assert not index_one(multiplier, jnp.asarray([1.0, 0.0]), y)
    field, spaces, _ = parts(multiplier, jnp.asarray([1.0, 0.0]), y)
    assert float(jnp.max(jnp.abs(spaces.left(field.slope(jnp.asarray(0.3), y))))) == 0


def test_an_equation_of_index_one_passes() -> None:
    assert index_one(lambda t, y, args: jnp.stack([y[1], y[0] - y[1]]), SINGULAR, [1.0, 1.0])
    assert index_one(lambda t, y, args: jnp.stack([y[1], y[0] - y[1]]), np.eye(2), [1.0, 1.0])


@pytest.mark.parametrize("turned", [False, True], ids=["diagonal", "full"])
def test_the_units_of_equations_do_not_count(turned: bool) -> None:
    """Derivatives of equations by the algebraic part may differ by a factor of 1e24."""
    # Combined equations keep as many digits of each as their units leave.
    left, units = (np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0], 1e6) if turned else (np.eye(3), 1e12)

    def function(t: Any, y: Any, args: Any) -> Any:
        return args["left"] @ jnp.stack([-y[0], (y[1] - y[0]) / units, units * (y[2] + y[0])])

    mass = left @ np.diag([1.0, 0.0, 0.0])
    args = {"left": jnp.asarray(left)}
    assert index_one(function, mass if turned else jnp.diag(mass), [1.0, 1.0, -1.0], args)


def transistor_like(t: Any, y: Any, args: Any) -> Any:
    return args @ y


@pytest.mark.parametrize("kind", ["full", pytest.param("sparse", marks=pytest.mark.slow)])
@pytest.mark.parametrize("solvable", [True, False])
def test_the_mass_matrix_of_the_transistor_amplifier(kind: str, solvable: bool) -> None:
    """The algebraic block is regular, or one of its columns is zero: the sum of two nodes that a capacitor joins."""
    jacobian = -np.diag(np.arange(1.0, 9.0)) + 0.1 * np.eye(8, k=-1)
    if not solvable:
        jacobian[:, 1] = -jacobian[:, 0]
    pattern = SparsityPattern(jacobian)
    dense = jnp.asarray(amplifier())
    mass = (
        dense
        if kind == "full"
        else SparseLinearOperator.of(lx.MatrixLinearOperator(dense), SparsityPattern(amplifier()))
    )
    options = {} if kind == "full" else {"sparsity": pattern}
    assert index_one(transistor_like, mass, np.ones(8), jnp.asarray(jacobian), **options) == solvable


def of_blocks(size: int, is_regular: bool) -> tuple[Any, Any, SparsityPattern]:
    """A large sparse mass matrix of blocks of two rows, of rank one, and a Jacobian that couples neighbours."""
    blocks = np.kron(np.eye(size // 2), [[1.0, -1.0], [-1.0, 1.0]])
    jacobian = -np.eye(size) * 3 + np.eye(size, k=2) + np.eye(size, k=1)
    if not is_regular:
        # Of the voltage that both nodes of the last capacitor share.
        jacobian[:, -1] = -jacobian[:, -2]
    as_operator = lambda x: SparseLinearOperator(jnp.asarray(x[np.nonzero(x)]), SparsityPattern(x))
    return as_operator(blocks), as_operator(jacobian), SparsityPattern(jacobian)


@pytest.mark.parametrize("is_regular", [True, False])
def test_a_large_sparse_matrix(is_regular: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bases of both null spaces, rows and columns are combined: entries beyond the pattern count too."""
    monkeypatch.setattr("rungax.nonlinear.index.MAX_FORMED", 10)
    mass, jacobian, pattern = of_blocks(24, is_regular)
    found = index_one(lambda t, y, args: args.mv(y), mass, np.ones(24), jacobian, sparsity=pattern)
    assert found == is_regular


def test_a_wrong_pattern_has_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps say that entries are missing; the test of the index must not be the first to fail."""
    monkeypatch.setattr("rungax.nonlinear.index.MAX_FORMED", 10)
    mass, jacobian, _ = of_blocks(24, False)
    wrong = SparsityPattern(np.eye(24, dtype=bool))
    assert index_one(lambda t, y, args: args.mv(y), mass, np.ones(24), jacobian, sparsity=wrong)


@pytest.mark.parametrize("is_regular", [True, False])
def test_a_large_diagonal_matrix_beside_a_band(is_regular: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rungax.nonlinear.index.MAX_FORMED", 10)
    diagonal = jnp.asarray(np.tile([1.0, 0.0], 12))
    own = np.where(np.arange(24) == 11, 1.0 if is_regular else 0.0, 1.0)

    def function(t: Any, y: Any, args: Any) -> Any:
        return jnp.pad(y[:-1], (1, 0)) - args * y

    tags = lx.tridiagonal_tag
    assert index_one(function, diagonal, np.ones(24), jnp.asarray(own), tags=tags) == is_regular


def test_a_wrong_presumption_about_a_large_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is not factorised has no zero row and is singular: nothing else would say it."""
    monkeypatch.setattr(importlib.import_module("rungax.nonlinear.null_spaces.blocks"), "MAX_BLOCK", 3)
    pattern = SparsityPattern(np.ones((5, 5), bool))
    for matrix, expected in ((of_rank(5, 5, 0), True), (of_rank(5, 4, 0), False)):
        mass = SparseLinearOperator(jnp.asarray(matrix.reshape(-1)), pattern)
        assert index_one(lambda t, y, args: -y, mass, np.ones(5)) == expected


@pytest.mark.parametrize("size", [4, 40])
def test_without_entries_the_test_needs_few_unknowns(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix is formed, or the index presumed to be one."""
    monkeypatch.setattr("rungax.nonlinear.index.MAX_FORMED", 10)
    diagonal = jnp.asarray(np.tile([1.0, 0.0], size // 2))
    constant = lambda t, y, args: -jnp.where(jnp.arange(size) % 2 == 0, y, 1.0)
    assert index_one(constant, diagonal, np.ones(size), solver=Krylov()) == (size == 40)


def test_what_is_not_finite_has_another_reason() -> None:
    assert index_one(lambda t, y, args: y * jnp.nan, SINGULAR, [1.0, 1.0])


def test_a_batch_is_its_elements() -> None:
    """Which equations are algebraic, and whether they determine anything, differs."""
    masses = jnp.asarray([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])

    def compute(mass: Any) -> Any:
        y = jnp.asarray([0.1, 0.2])
        return index_is_one(*parts(multiplier, mass, y), 0.3, y)

    # With both equations algebraic the matrix is [[0, 1], [1, 0]].
    np.testing.assert_array_equal(jax.jit(jax.vmap(compute))(masses), [False, True, True, False])


def test_a_higher_index_is_not_solved_either() -> None:
    """The search for consistent values fails where the block is singular and the residual is not zero."""
    y = jnp.asarray([1.0, 0.0])
    found, result = consistent(*(p := parts(multiplier, jnp.asarray([1.0, 0.0]), y)), weights(p.field), 0.3, y)
    assert result == RESULTS.inconsistent_initial_values
    np.testing.assert_array_equal(found, y)
