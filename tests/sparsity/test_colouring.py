"""Columns of one colour share no row that is not dense, and there are few colours."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings, strategies as st
from scipy.optimize._numdiff import group_columns

from rungax.sparsity import Colouring, SparsityPattern
from rungax.sparsity.colouring import ORDERS, colouring_of, natural

from .patterns import arrow, grid, random, ten
from .test_pattern import matrices

QUICKLY = settings(max_examples=100, deadline=None, derandomize=True)


def assert_separates(colouring: Colouring, pattern: SparsityPattern) -> None:
    """No two columns of one colour share a row that is not dense."""
    is_kept = ~np.isin(pattern.rows, colouring.dense_rows)
    rows, colours = pattern.rows[is_kept], colouring.colours[pattern.columns[is_kept]]
    pairs = np.stack([rows, colours])
    assert np.unique(pairs, axis=1).shape == pairs.shape
    assert colours.min(initial=0) >= 0
    assert np.unique(colours).size == colouring.num_colours
    assert np.array_equal(np.unique(colouring.dense_rows), colouring.dense_rows)


def scipys(pattern: SparsityPattern) -> int:
    entries = (np.ones(pattern.num_entries), (pattern.rows, pattern.columns))
    matrix = sp.csr_array(sp.coo_array(entries, shape=(pattern.size, pattern.size)))
    return int(group_columns(matrix).max(initial=-1)) + 1 if pattern.num_entries > 0 else 0


@QUICKLY
@given(matrices(12), st.booleans(), st.integers(0, 3))
def test_columns_of_one_colour_share_no_row(matrix: np.ndarray, diagonal: bool, dense: int) -> None:
    matrix = matrix | (diagonal & np.eye(len(matrix), dtype=bool))
    matrix[:dense] = True
    pattern = SparsityPattern(matrix)
    assert_separates(pattern.colouring, pattern)
    assert_separates(pattern.colouring_of_all_rows, pattern)
    assert pattern.colouring_of_all_rows.dense_rows.size == 0
    assert pattern.num_colours == pattern.colouring.num_colours + pattern.colouring.dense_rows.size
    assert pattern.num_colours <= scipys(pattern)


@QUICKLY
@given(matrices(8), st.sampled_from(ORDERS))
def test_each_order_holds_each_column_once(matrix: np.ndarray, order: object) -> None:
    pattern = SparsityPattern(matrix)
    found: list[list[int]] = []

    def recorded(columns: object) -> list[int]:
        found.append(list(order(columns)))
        return found[-1]

    colouring_of((pattern.size, pattern.size), pattern.rows, pattern.columns, (recorded,), most_dense_rows=0)
    assert all(sorted(columns) == list(range(pattern.size)) for columns in found)


@pytest.mark.parametrize("name", ten(100))
def test_there_are_never_more_derivatives_than_scipy_takes(name: str) -> None:
    pattern = SparsityPattern(ten(400)[name])
    assert_separates(pattern.colouring, pattern)
    assert pattern.num_colours <= scipys(pattern)


@pytest.mark.parametrize(
    ("pattern", "fewest"),
    [(grid(50), 3), (grid(25, species=2), 4), (grid(12, 12, box=True), 9), (grid(5, 5, 5, box=True), 27)],
)
def test_bands_and_boxes_need_no_more_colours_than_a_row_has_entries(pattern: object, fewest: int) -> None:
    assert SparsityPattern(pattern).num_colours == fewest


@pytest.mark.parametrize("order", ORDERS)
def test_several_orders_are_better_than_each(order: object) -> None:
    patterns = [SparsityPattern(x) for x in (grid(40, species=2), grid(12, 12, box=True), random(500, 1000))]
    one = [
        colouring_of((x.size, x.size), x.rows, x.columns, (order,), most_dense_rows=0).num_derivatives for x in patterns
    ]
    assert sum(pattern.num_colours for pattern in patterns) < sum(one)


def test_dense_rows_are_taken_out_if_that_saves_derivatives() -> None:
    colouring = SparsityPattern(arrow(30)).colouring
    assert (colouring.num_colours, colouring.dense_rows.tolist()) == (2, [0])
    matrix = np.eye(40, dtype=bool)
    matrix[[3, 17], :] = True
    matrix[20, :30] = True
    matrix[21, 19:22] = True  # taking out this one would save nothing
    colouring = SparsityPattern(matrix).colouring
    assert (colouring.num_colours, colouring.dense_rows.tolist()) == (3, [3, 17, 20])


def test_equal_patterns_share_their_colouring() -> None:
    """A matrix that is given to every call is coloured once."""
    assert SparsityPattern(grid(40)).colouring is SparsityPattern(grid(40)).colouring


def test_a_dense_matrix_has_as_many_colours_as_columns() -> None:
    colouring = SparsityPattern(np.ones((20, 20))).colouring
    assert (colouring.num_colours, colouring.dense_rows.size) == (20, 0)


@pytest.mark.parametrize("shape", [(3, 6), (6, 3)])
def test_a_matrix_that_is_not_square(shape: tuple[int, int]) -> None:
    rows, columns = np.nonzero(np.random.default_rng(0).random(shape) < 0.4)
    colouring = colouring_of(shape, rows, columns, (natural,), most_dense_rows=shape[0])
    assert colouring.colours.shape == (shape[1],)
    for colour in range(colouring.num_colours):
        of_colour = rows[colouring.colours[columns] == colour]
        kept = of_colour[~np.isin(of_colour, colouring.dense_rows)]
        assert np.unique(kept).size == kept.size


@pytest.mark.slow
@pytest.mark.parametrize("name", ten(100))
def test_a_hundred_thousand_columns(name: str) -> None:
    pattern = SparsityPattern(ten(100_000)[name])
    assert_separates(pattern.colouring, pattern)
    assert pattern.num_colours <= scipys(pattern)
