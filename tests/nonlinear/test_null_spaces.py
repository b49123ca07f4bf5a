"""The projections onto the null spaces of a mass matrix, its pseudoinverse, and their derivatives."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import BandedLinearOperator, SparseLinearOperator, SparsityPattern
from rungax.nonlinear import AbstractNullSpaces, null_spaces, with_structure_of_mass
from rungax.nonlinear.null_spaces import BlockNullSpaces, DenseNullSpaces, DiagonalNullSpaces

from .singular import amplifier, of_rank


def matrix_of(function: Any, size: int, dtype: Any = float) -> np.ndarray:
    return np.asarray(jax.vmap(function, out_axes=1)(jnp.eye(size, dtype=dtype)))


def check(spaces: AbstractNullSpaces, matrix: np.ndarray, rtol: float | None = None) -> None:
    """Everything against NumPy's pseudoinverse, and by the properties that define it."""
    size, dtype = len(matrix), matrix.dtype
    eps = np.finfo(dtype).eps
    # NumPy's rank is relative to the largest singular value of all blocks.
    inverse = np.linalg.pinv(matrix, rcond=size * eps if rtol is None else rtol)
    computed = jax.jit(lambda spaces: _computed(spaces, size, dtype))(spaces)
    of = lambda function: np.asarray(computed[function.__name__])
    largest = max(np.abs(inverse).max(), np.finfo(dtype).tiny)
    within = {"rtol": 0, "atol": 200 * eps}
    np.testing.assert_allclose(of(spaces.left), np.eye(size) - matrix @ inverse, **within)
    np.testing.assert_allclose(of(spaces.right), np.eye(size) - inverse @ matrix, **within)
    np.testing.assert_allclose(of(spaces.pseudoinverse) / largest, inverse / largest, **within)
    assert of(spaces.left).dtype == dtype
    # In orthonormal coordinates, equations and algebraic part are apart.
    number = size - np.linalg.matrix_rank(matrix, tol=None if rtol is None else rtol * np.abs(matrix).max())
    equations, algebraic, separated = of(spaces.equations), of(spaces.algebraic), of(spaces.separated)
    assert (
        np.count_nonzero(np.any(equations != 0, axis=1)) == np.count_nonzero(np.any(algebraic != 0, axis=0)) == number
    )
    np.testing.assert_allclose(equations.conj().T @ equations, of(spaces.left), **within)
    np.testing.assert_allclose(algebraic @ algebraic.conj().T, of(spaces.right), **within)
    np.testing.assert_allclose(separated.conj().T @ separated, np.eye(size), **within)
    scale = max(np.abs(matrix).max(), np.finfo(dtype).tiny)
    mass = np.asarray(computed["mass"])
    np.testing.assert_allclose(mass / scale, separated @ matrix / scale, **within)
    assert np.count_nonzero(np.all(mass == 0, axis=1)) == number
    np.testing.assert_allclose(computed["of_rank"], matrix, **within)
    np.testing.assert_array_equal(computed["regular_part"], np.diag(np.where(np.any(equations != 0, axis=1), 0.0, 1.0)))


def _computed(spaces: AbstractNullSpaces, size: int, dtype: Any) -> dict[str, Any]:
    """The matrices of all functions of null spaces."""
    functions = (spaces.left, spaces.right, spaces.pseudoinverse, spaces.equations, spaces.algebraic, spaces.separated)
    found = {f.__name__: jax.vmap(f, out_axes=1)(jnp.eye(size, dtype=dtype)) for f in functions}
    operators = {"mass": spaces.separated_mass, "of_rank": spaces.of_rank(), "regular_part": spaces.regular_part()}
    return found | {name: operator.as_matrix() for name, operator in operators.items()}


SLOW = pytest.mark.slow
DTYPES = [pytest.param(x, id=x.__name__) for x in (np.float64, np.float32, np.complex128)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [pytest.param(0, marks=SLOW), 2, pytest.param(5, marks=SLOW)])
def test_a_full_matrix(rank: int, dtype: Any) -> None:
    matrix = of_rank(5, rank, rank, dtype)
    spaces = null_spaces(lx.MatrixLinearOperator(jnp.asarray(matrix)))
    assert isinstance(spaces, DenseNullSpaces)
    check(spaces, matrix, 1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_diagonal_matrix(dtype: Any) -> None:
    """A small entry is no zero, however small."""
    diagonal = np.asarray([2.0, 0.0, -1.0, 1e-30, 0.0], dtype)
    spaces = null_spaces(lx.DiagonalLinearOperator(jnp.asarray(diagonal)))
    assert isinstance(spaces, DiagonalNullSpaces)
    check(spaces, np.diag(diagonal), 1e-33)


@pytest.mark.parametrize("size", [1e-25, 1e20])
def test_the_rank_is_relative_to_the_size_of_the_entries(size: float) -> None:
    matrix = size * of_rank(4, 2, 1)
    left = jax.jit(lambda m: null_spaces(lx.MatrixLinearOperator(m)).left(jnp.ones(4)))(matrix)
    np.testing.assert_allclose(
        left, (np.eye(4) - matrix @ np.linalg.pinv(matrix, rcond=1e-12)) @ np.ones(4), atol=1e-13
    )


def blocks_at_random(seed: int, dtype: Any = float) -> tuple[np.ndarray, np.ndarray]:
    """A matrix of blocks of several sizes and ranks, its rows and columns reordered, and the pattern of its blocks."""
    blocks = [
        of_rank(size, rank, seed + i, dtype)
        for i, (size, rank) in enumerate(((1, 1), (1, 0), (2, 1), (3, 2), (3, 3), (3, 0), (2, 2)))
    ]
    size = sum(map(len, blocks))
    matrix, pattern, start = np.zeros((size, size), dtype), np.zeros((size, size), bool), 0
    for block in blocks:
        part = slice(start, start + len(block))
        matrix[part, part], pattern[part, part] = block, True
        start += len(block)
    order = np.random.default_rng(seed).permutation(size)
    return matrix[np.ix_(order, order)], pattern[np.ix_(order, order)]


@pytest.mark.parametrize("dtype", [DTYPES[0], *(pytest.param(x.values[0], id=x.id, marks=SLOW) for x in DTYPES[1:])])
def test_a_sparse_matrix_by_its_blocks(dtype: Any) -> None:
    matrix, pattern = blocks_at_random(7, dtype)
    sparse = SparsityPattern(pattern)
    spaces = null_spaces(SparseLinearOperator(jnp.asarray(matrix[sparse.rows, sparse.columns]), sparse))
    assert isinstance(spaces, BlockNullSpaces)
    check(spaces, matrix, 1e-5 if dtype == np.float32 else 1e-12)


def test_a_sparse_matrix_without_entries() -> None:
    check(null_spaces(SparseLinearOperator(jnp.zeros(0), SparsityPattern(np.zeros((3, 3), bool)))), np.zeros((3, 3)))


BANDED = np.diag([1.0, 1.0, 0.0, 2.0, 1.0]) + np.diag([1.0, 0.0, 0.0, 3.0], 1) + np.diag([1.0, 0.0, 0.0, 1.5], -1)
AS_BAND = BandedLinearOperator.of(lx.MatrixLinearOperator(jnp.asarray(BANDED)), 1, 1)
TRIDIAGONAL = lx.TridiagonalLinearOperator(*(jnp.asarray(np.diagonal(BANDED, k)) for k in (0, -1, 1)))


@pytest.mark.parametrize("mass", [AS_BAND, TRIDIAGONAL], ids=["banded", "tridiagonal"])
def test_a_matrix_of_few_diagonals(mass: Any) -> None:
    spaces = null_spaces(mass)
    assert isinstance(spaces, BlockNullSpaces)
    check(spaces, BANDED)


@pytest.mark.parametrize("kind", ["dense", "sparse", pytest.param("banded", marks=SLOW)])
def test_the_transistor_amplifier(kind: str) -> None:
    """The rank is relative to the size of the entries, which are millionths."""
    matrix = amplifier()
    dense, pattern = lx.MatrixLinearOperator(jnp.asarray(matrix)), SparsityPattern(matrix)
    masses = {
        "dense": dense,
        "banded": BandedLinearOperator.of(dense, 1, 1),
        "sparse": SparseLinearOperator.of(dense, pattern),
    }
    spaces = null_spaces(masses[kind])
    check(spaces, matrix)
    projection = matrix_of(spaces.left, 8)
    assert round(np.trace(projection)) == 3
    np.testing.assert_allclose(projection[:2, :2], [[0.5, 0.5], [0.5, 0.5]], rtol=1e-14)


def test_a_block_that_is_too_large_is_not_factorised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its zero rows and columns count, and a rank that is lower yet does not."""
    monkeypatch.setattr(importlib.import_module("rungax.nonlinear.null_spaces.blocks"), "MAX_BLOCK", 3)
    matrix = np.zeros((6, 6))
    matrix[:4, :4] = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    matrix[4:, 4:] = [[1, 1], [1, 1]]
    pattern = np.zeros((6, 6), bool)
    pattern[:4, :4] = pattern[4:, 4:] = True
    sparse = SparsityPattern(pattern)
    spaces = null_spaces(SparseLinearOperator(jnp.asarray(matrix[sparse.rows, sparse.columns]), sparse))
    half = np.full((2, 2), 0.5) * [[1, -1], [-1, 1]]
    expected = np.diag([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    expected[4:, 4:] = half
    for function in (spaces.left, spaces.right):
        np.testing.assert_allclose(matrix_of(function, 6), expected, atol=1e-15)
    # The part that is presumed to be regular stands as it is.
    np.testing.assert_array_equal(spaces.regular_part().as_matrix()[:4, :4], matrix[:4, :4])
    with pytest.raises(NotImplementedError, match="too large"):
        spaces.pseudoinverse(jnp.ones(6))


def test_patterns() -> None:
    """The declared patterns hold what is computed, and no more than blocks can make of it."""
    matrix, pattern = blocks_at_random(3)
    sparse = SparsityPattern(pattern)
    spaces = null_spaces(SparseLinearOperator(jnp.asarray(matrix[sparse.rows, sparse.columns]), sparse))
    jacobian = np.random.default_rng(0).uniform(size=matrix.shape) < 0.15
    declared = SparsityPattern(jacobian)
    as_matrix = lambda p: np.asarray(SparseLinearOperator(jnp.ones(p.num_entries), p).as_matrix()) != 0
    # NumPy's arrays, of which a product with booleans is one of numbers.
    computed = jax.device_get(jax.jit(lambda spaces: _computed(spaces, len(matrix), float))(spaces))
    projected = computed["left"] @ jacobian
    assert np.all(as_matrix(spaces.of_rows(declared)) >= (np.abs(projected) > 1e-14))
    assert spaces.of_rows(declared).num_entries < matrix.size
    block = computed["equations"] @ jacobian @ computed["algebraic"] + computed["regular_part"]
    assert np.all(as_matrix(spaces.of_both(declared)) >= (np.abs(block) > 1e-14))
    assert np.count_nonzero(np.abs(block) > 1e-14) > np.count_nonzero(np.diag(block))


def test_a_declared_pattern_is_widened_by_full_blocks() -> None:
    """Also where the Jacobian has no entry: combined rows of the mass matrix have entries there."""
    of = lambda *rows: SparsityPattern(np.asarray(rows))
    widened = with_structure_of_mass(of([1, 1], [0, 0]), frozenset(), None, of([0, 1], [0, 0]), 2)[1]
    assert widened == of([1, 1], [1, 1])


# --------------------------------------------------------------------------------------------------------- derivatives


def outputs(matrix: Any) -> Any:
    spaces = null_spaces(lx.MatrixLinearOperator(matrix))
    each = lambda function: jax.vmap(function, out_axes=1)(jnp.eye(len(matrix), dtype=matrix.dtype))
    return each(spaces.left), each(spaces.right), each(spaces.pseudoinverse)


@pytest.mark.parametrize(
    "dtype", [pytest.param(np.float64, id="real", marks=SLOW), pytest.param(np.complex128, id="complex")]
)
def test_derivatives_along_changes_that_keep_the_rank(dtype: Any) -> None:
    """Also with singular values that are equal, for which those of the decomposition do not exist."""
    first, generators = of_rank(5, 3, 0, dtype), [of_rank(5, 5, seed, dtype) for seed in (1, 2)]
    u, _, vh = np.linalg.svd(first)
    matrix = (u[:, :3] @ vh[:3]).astype(dtype)

    def moved(s: Any) -> Any:
        a, b = (jnp.eye(5, dtype=dtype) + s.astype(dtype) * x for x in generators)
        return a @ matrix @ b

    compute = jax.jit(lambda s: outputs(moved(s)))
    h = 1e-4
    ahead, behind, further, before = (compute(jnp.asarray(k * h)) for k in (1, -1, 2, -2))
    quotients = jax.tree.map(lambda a, b, c, d: (8 * (a - b) - (c - d)) / (12 * h), ahead, behind, further, before)
    forward = jax.jit(lambda s: jax.jvp(lambda s: outputs(moved(s)), (s,), (jnp.ones_like(s),))[1])(jnp.asarray(0.0))
    for found, expected in zip(forward, quotients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    total = lambda s: sum(jnp.sum(jnp.abs(jnp.sin(x)) ** 2) for x in outputs(moved(s)))
    both = jax.jit(lambda s: (jax.grad(total)(s), jax.jacfwd(total)(s)))(jnp.asarray(0.0))
    np.testing.assert_allclose(both[0], both[1], rtol=1e-10)
    assert abs(both[0]) > 0.1


def test_the_derivative_of_the_matrix_itself_keeps_the_rank() -> None:
    """A change that raises the rank has none of it; one that keeps the rank has all."""
    matrix = of_rank(4, 2, 5)
    u, _, vh = np.linalg.svd(matrix)
    raising, keeping = u[:, 2:] @ vh[2:], u[:, :2] @ vh[2:] + u[:, 2:] @ vh[:2]
    compute = lambda m: null_spaces(lx.MatrixLinearOperator(m)).of_rank().as_matrix()
    along = jax.jit(lambda change: jax.jvp(compute, (jnp.asarray(matrix),), (change,))[1])
    np.testing.assert_allclose(along(raising), 0, atol=1e-14)
    np.testing.assert_allclose(along(keeping), keeping, atol=1e-14)
    diagonal = lambda d: lx.diagonal(null_spaces(lx.DiagonalLinearOperator(d)).of_rank())
    np.testing.assert_array_equal(jax.jacfwd(diagonal)(jnp.asarray([2.0, 0.0])), [[1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("kind", ["dense", "sparse", "diagonal"])
def test_a_batch_with_different_ranks(kind: str) -> None:
    """Which equations are algebraic is read at run time, for each element of a batch."""
    sparse = SparsityPattern(np.eye(3, dtype=bool) | np.eye(3, k=1, dtype=bool))
    values = {
        "dense": np.stack([of_rank(3, rank, rank) for rank in range(4)]),
        "sparse": np.asarray([[1, 2, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 0, 0]], float),
        "diagonal": np.asarray([[1, 1, 1], [0, 1, 1], [0, 0, 0], [2, 0, 1]], float),
    }[kind]
    make = {
        "dense": lx.MatrixLinearOperator,
        "sparse": lambda x: SparseLinearOperator(x, sparse),
        "diagonal": lx.DiagonalLinearOperator,
    }[kind]
    vector = jnp.asarray([1.0, -2.0, 0.5])
    compute = lambda x: [f(vector) for f in (null_spaces(make(x)).left, null_spaces(make(x)).pseudoinverse)]
    batched = jax.jit(jax.vmap(compute))(values)
    one = jax.jit(compute)
    for i, each in enumerate(values):
        for found, expected in zip(batched, one(each), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-12, atol=1e-14)
        projection = np.eye(3) - np.asarray(make(each).as_matrix()) @ np.linalg.pinv(np.asarray(make(each).as_matrix()))
        np.testing.assert_allclose(batched[0][i], projection @ vector, atol=1e-13)


def test_a_band_is_read_from_a_sparse_matrix() -> None:
    """Entries outside of it are dropped."""
    matrix = np.arange(1.0, 17.0).reshape(4, 4)
    sparse = SparseLinearOperator.of(lx.MatrixLinearOperator(jnp.asarray(matrix)), SparsityPattern(matrix))
    found = rungax.BandedLinearOperator.of(sparse, 1, 2).as_matrix()
    np.testing.assert_array_equal(found, np.triu(np.tril(matrix, 2), -1))
