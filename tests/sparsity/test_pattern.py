"""A pattern holds the positions of a matrix's entries, whatever the matrix is given as."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings, strategies as st
from jax.experimental.sparse import BCOO, BCSR

from rungax.sparsity import SparsityPattern, as_pattern

QUICKLY = settings(max_examples=60, deadline=None, derandomize=True)
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


@st.composite
def matrices(draw: st.DrawFn, most: int = 7) -> np.ndarray:
    n = draw(st.integers(0, most))
    entries = draw(st.lists(st.integers(0, max(n * n - 1, 0)), max_size=2 * n))
    matrix = np.zeros(n * n, bool)
    matrix[np.array(entries, int)[: n * n]] = True
    return matrix.reshape(n, n)


def dense(pattern: SparsityPattern) -> np.ndarray:
    matrix = np.zeros((pattern.size, pattern.size), bool)
    matrix[pattern.rows, pattern.columns] = True
    return matrix


def assert_is(pattern: SparsityPattern, matrix: np.ndarray) -> None:
    assert pattern.size == matrix.shape[0]
    assert np.array_equal(dense(pattern), matrix)
    assert (np.diff(pattern.rows.astype(int) * pattern.size + pattern.columns) > 0).all()
    assert pattern.rows.dtype == pattern.columns.dtype == np.int32
    assert pattern.num_entries == np.count_nonzero(matrix)


@QUICKLY
@given(matrices())
def test_numbers_and_booleans(matrix: np.ndarray) -> None:
    for given_as in (matrix, matrix * -2, matrix * 0.5j, matrix.tolist() if matrix.size else matrix):
        assert_is(SparsityPattern(given_as), matrix)
    assert_is(SparsityPattern(np.where(matrix, np.nan, 0)), matrix)


@QUICKLY
@given(matrices(), st.sampled_from(FORMATS))
def test_sparse_arrays_of_scipy(matrix: np.ndarray, kind: str) -> None:
    assume(matrix.size > 0)  # SciPy has not every kind of that size
    for make in (sp.coo_array, sp.coo_matrix):
        entries = make(matrix.astype(float)).asformat(kind)
        assert_is(SparsityPattern(entries), stored(entries, matrix))


def stored(entries: Any, matrix: np.ndarray) -> np.ndarray:
    """The entries that a SciPy array stores: those of a matrix, or of whole diagonals or blocks."""
    diagonals: list[np.ndarray] = []
    if entries.format == "dia":  # of which columns beyond the last entry may not be stored
        diagonals = [
            np.eye(len(matrix), k=k) * (np.arange(len(matrix)) < entries.data.shape[1]) for k in entries.offsets
        ]
    blocks = entries.blocksize if entries.format == "bsr" else (1, 1)
    of_blocks = matrix.reshape(len(matrix) // blocks[0], blocks[0], -1, blocks[1]).any(axis=(1, 3), keepdims=True)
    matrix = np.broadcast_to(of_blocks, (len(of_blocks), blocks[0], of_blocks.shape[2], blocks[1])).reshape(
        matrix.shape
    )
    return np.logical_or.reduce([matrix, *diagonals])


@pytest.mark.parametrize("padding", [0, 3])
def test_sparse_arrays_of_jax(padding: int) -> None:
    matrix = np.random.default_rng(0).random((4, 4)) < 0.4
    nse = np.count_nonzero(matrix) + padding
    for sparse in (BCOO, BCSR):
        assert_is(SparsityPattern(sparse.fromdense(matrix.astype(float), nse=nse)), matrix)
    assert_is(SparsityPattern(BCOO.fromdense(matrix.astype(float), n_batch=1)), matrix)
    rows = np.repeat(matrix.any(axis=1)[:, None], len(matrix), axis=1)
    assert_is(SparsityPattern(BCOO.fromdense(matrix.astype(float), n_dense=1)), rows)


def test_stored_zeros_and_repeated_entries_count_once() -> None:
    entries = (np.array([0.0, 1.0, -1.0]), (np.array([1, 0, 0]), np.array([0, 1, 1])))
    expected = np.array([[False, True], [True, False]])
    for form in ("coo", "csr", "csc"):
        assert_is(SparsityPattern(sp.coo_array(entries, shape=(2, 2)).asformat(form)), expected)
    assert_is(SparsityPattern(BCOO((jnp.zeros(3), jnp.array([[1, 0], [0, 1], [0, 1]])), shape=(2, 2))), expected)


@QUICKLY
@given(matrices(), st.randoms(use_true_random=False))
def test_entries_in_any_order(matrix: np.ndarray, random: Any) -> None:
    entries = [*np.argwhere(matrix).tolist()] * 2
    random.shuffle(entries)
    rows, columns = ([entry[axis] for entry in entries] for axis in (0, 1))
    assert_is(SparsityPattern.of_entries(len(matrix), rows, columns), matrix)


@QUICKLY
@given(matrices(5), matrices(5))
def test_operations_are_those_of_matrices(matrix: np.ndarray, other: np.ndarray) -> None:
    pattern = SparsityPattern(matrix)
    n = pattern.size
    assert_is(pattern.with_diagonal(), matrix | np.eye(n, dtype=bool))
    assert_is(pattern.transpose(), matrix.T)
    order = pattern.transposed_order
    assert np.array_equal(pattern.rows[order], pattern.transpose().columns)
    assert np.array_equal(pattern.columns[order], pattern.transpose().rows)
    assert np.array_equal(pattern.rows[pattern.diagonal_entries], np.flatnonzero(np.diag(matrix)))
    if other.shape == matrix.shape:
        assert_is(pattern.union(SparsityPattern(other)), matrix | other)
    rows, columns = (x.reshape(-1) for x in np.indices((n, n)))
    places, is_present = pattern.find(rows, columns)
    assert np.array_equal(is_present, matrix.reshape(-1))
    assert np.array_equal(pattern.rows[places[is_present]], rows[is_present])
    assert np.array_equal(pattern.columns[places[is_present]], columns[is_present])


@QUICKLY
@given(matrices(5), st.integers(1, 3))
def test_repeated_rows_and_columns(matrix: np.ndarray, copies: int) -> None:
    places = np.arange(copies * len(matrix)).reshape(copies, -1).T
    assert_is(SparsityPattern(matrix).repeated(places.size, places), np.tile(matrix, (copies, copies)))


@QUICKLY
@given(matrices(3), matrices(3))
def test_equal_patterns_are_those_with_the_same_entries(matrix: np.ndarray, other: np.ndarray) -> None:
    a, b = SparsityPattern(matrix), SparsityPattern(other)
    assert (a == b) == (matrix.shape == other.shape and np.array_equal(matrix, other))
    assert a == SparsityPattern(matrix) == as_pattern(a)
    assert hash(a) == hash(SparsityPattern(matrix * 3.0))
    assert a != "a pattern"


def test_a_pattern_does_not_change() -> None:
    given_rows = np.array([0, 1])
    pattern = SparsityPattern.of_entries(2, given_rows, [1, 1])
    given_rows[:] = 0
    assert pattern.rows.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        pattern.rows[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        pattern.size = 3
    assert pattern.colouring is pattern.colouring


def test_a_pattern_shows_its_size_and_the_number_of_derivatives() -> None:
    pattern = SparsityPattern(np.eye(4) + np.eye(4, k=1))
    assert repr(pattern) == "SparsityPattern(size=4, num_entries=7, num_colours=2)"
    assert repr(SparsityPattern(np.zeros((0, 0)))) == "SparsityPattern(size=0, num_entries=0, num_colours=0)"
    assert repr(SparsityPattern(np.ones((1, 1)))) == "SparsityPattern(size=1, num_entries=1, num_colours=1)"


@pytest.mark.parametrize(
    ("matrix", "expected", "found"),
    [
        (np.ones((2, 3)), "a square matrix", "shape (2, 3)"),
        (sp.eye_array(2, 3), "a square matrix", "shape (2, 3)"),
        (BCOO.fromdense(np.ones((2, 3))), "a square matrix", "shape (2, 3)"),
        (np.ones(3), "a square matrix", "shape (3,)"),
        (sp.coo_array(np.ones(3)), "a square matrix", "shape (3,)"),
        (np.ones((2, 2, 2)), "a square matrix", "shape (2, 2, 2)"),
        (1.0, "a square matrix", "shape ()"),
        ([[1, 2], [3]], "a matrix of numbers", "[[1, 2], [3]]"),
        ([["a", "b"], ["c", "d"]], "a matrix of numbers", "[['a', 'b'], ['c', 'd']]"),
        ("dense", "a matrix of numbers", "'dense'"),
        ({0: [1]}, "a matrix of numbers", "{0: [1]}"),
    ],
)
def test_what_is_not_a_square_matrix_is_an_error(matrix: Any, expected: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"Expected: {expected}.*\nFound:    {re.escape(found)}\n.*jacobian_sparsity"):
        SparsityPattern(matrix)


def test_entries_that_are_not_known_are_an_error() -> None:
    entries = BCOO.fromdense(np.eye(2))
    for traced in (jnp.eye(2), entries):
        with pytest.raises(ValueError, match=r"known when the program is compiled[^$]*Make it outside of `jit`"):
            jax.eval_shape(lambda matrix: SparsityPattern(matrix).size, traced)
    # Known values inside `jit` are not traced.
    assert jax.jit(lambda: SparsityPattern(entries).num_entries)() == 2


@pytest.mark.parametrize(
    ("rows", "columns"), [([0, 1], [0]), ([2], [0]), ([0], [-1]), ([0.5], [0]), ([[0]], [[0]]), ([2**32], [0])]
)
def test_entries_outside_of_the_matrix_are_an_error(rows: Any, columns: Any) -> None:
    with pytest.raises(ValueError, match="integers from 0 to 1\nFound:    rows = array"):
        SparsityPattern.of_entries(2, rows, columns)


def test_the_union_of_patterns_of_different_sizes_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected: size 2\nFound:    size 3"):
        SparsityPattern(np.eye(2)).union(SparsityPattern(np.eye(3)))
