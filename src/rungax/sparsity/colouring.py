"""Colours of a Jacobian's columns: columns of one colour share no row, so that one derivative gives them all.

Columns are coloured one after another, each with the first colour that none of its rows has yet. The number of colours
depends on the order. Several orders are tried, and the best result is improved by further rounds. The graph of columns
that share a row is never formed: a row of $k$ entries would give $k^2$ edges.

References
----------
A. H. Gebremedhin, F. Manne, A. Pothen, What color is your Jacobian? Graph coloring for computing derivatives, SIAM Rev.
47 (2005), 629–705.

D. W. Matula, L. L. Beck, Smallest-last ordering and clustering and graph coloring algorithms, J. ACM 30 (1983),
417–427.

J. C. Culberson, Iterated greedy graph coloring and the difficulty landscape, University of Alberta, TR 92-07 (1992).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

_COST_OF_ROW = 2
"""Derivatives in forward mode that take as long as one in reverse mode, at least. A row is taken out to save more."""

_MAX_CHOICES = 3
"""Choices of dense rows that are coloured; the others are judged by the lower bound of their number of colours."""

_MAX_PAIRS = 15_000_000
"""Pairs of entries in a row up to which columns are ordered smallest-last: about a second."""


class Colouring(NamedTuple):
    """Columns in groups that share no row, and the rows that are too dense to count.

    Parameters
    ----------
    colours
        The colour of each column, from 0 to `num_colours - 1`; 0 for columns without entries in the other rows.
    num_colours
        Number of colours.
    dense_rows
        Rows that the colours do not separate, sorted: each is computed by one derivative in reverse mode.
    """

    colours: Int[np.ndarray, " columns"]
    num_colours: int
    dense_rows: Int[np.ndarray, " dense"]

    @property
    def num_derivatives(self) -> int:
        """Number of derivatives that give the whole Jacobian."""
        return self.num_colours + self.dense_rows.size

    @property
    def cost(self) -> int:
        """The cost of these derivatives in units of one in forward mode."""
        return self.num_colours + _COST_OF_ROW * self.dense_rows.size


class Columns(NamedTuple):
    """The entries of a pattern, as lists.

    Parameters
    ----------
    rows
        For each column the rows of its entries.
    columns
        For each row the columns of its entries.
    """

    rows: list[list[int]]
    columns: list[list[int]]


type Order = Callable[[Columns], Iterable[int]]
"""An order in which columns are coloured."""


def natural(pattern: Columns) -> Iterable[int]:
    """The order of the columns in the matrix, which is best for bands."""
    return range(len(pattern.rows))


def largest_first(pattern: Columns) -> Iterable[int]:
    """Columns whose rows have many entries first."""
    sizes = [len(columns) for columns in pattern.columns]
    degrees = np.array([sum(sizes[row] for row in rows) for rows in pattern.rows], np.int64)
    return np.argsort(-degrees, kind="stable").tolist()


def smallest_last(pattern: Columns) -> Iterable[int]:
    """The reverse of the order in which the column with the fewest neighbours is removed, again and again.

    Neighbours are columns that share a row and have not been removed, counted once for each such row. For patterns in
    which that takes too long, the natural order.
    """
    if sum(len(columns) ** 2 for columns in pattern.columns) > _MAX_PAIRS:
        return natural(pattern)
    remaining = [set(columns) for columns in pattern.columns]
    others = [len(columns) - 1 for columns in pattern.columns]
    degrees = [sum([others[row] for row in rows]) for rows in pattern.rows]
    # A column may be in several buckets: it is valid in that of its degree only.
    buckets: list[list[int]] = [[] for _ in range(max(degrees, default=0) + 1)]
    for column, degree in enumerate(degrees):
        buckets[degree].append(column)
    order: list[int] = []
    lowest = 0
    while len(order) < len(degrees):
        if not buckets[lowest]:
            lowest += 1
            continue
        column = buckets[lowest].pop()
        if degrees[column] != lowest:
            continue
        order.append(column)
        degrees[column] = -1
        for row in pattern.rows[column]:
            neighbours = remaining[row]
            neighbours.discard(column)
            for neighbour in neighbours:
                degrees[neighbour] = degree = degrees[neighbour] - 1
                buckets[degree].append(neighbour)
                if degree < lowest:
                    lowest = degree
    order.reverse()
    return order


def shuffled(pattern: Columns) -> Iterable[int]:
    """The order that SciPy's `group_columns` uses, so that there are never more colours than it finds."""
    return np.random.RandomState(0).permutation(len(pattern.rows)).tolist()


ORDERS: tuple[Order, ...] = (natural, largest_first, smallest_last, shuffled)


def colouring_of(
    shape: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    orders: tuple[Order, ...] = ORDERS,
    *,
    most_dense_rows: int,
) -> Colouring:
    """A colouring with few derivatives.

    Parameters
    ----------
    shape
        Number of rows and of columns.
    rows, columns
        Row and column of each entry, all different.
    orders
        The orders that are tried.
    most_dense_rows
        The largest number of rows that may be taken out.
    """
    counts = np.bincount(rows, minlength=shape[0])
    densest_first = np.argsort(-counts, kind="stable")
    best: Colouring | None = None
    for bound, taken_out in _choices(counts[densest_first]):
        if best is not None and bound >= best.cost:
            break
        if taken_out > most_dense_rows:
            continue
        dense = np.sort(densest_first[:taken_out]).astype(np.int32)
        is_kept = ~np.isin(rows, dense)
        colours = _colours(_as_lists(shape, rows[is_kept], columns[is_kept]), orders)
        found = Colouring(colours, _number(colours) if np.any(is_kept) else 0, dense)
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    return best


def _choices(counts: np.ndarray) -> list[tuple[int, int]]:
    """Numbers of rows to take out, among them 0, each after its least possible cost, cheapest first.

    Parameters
    ----------
    counts
        The numbers of entries of the rows, decreasing. There are at least as many colours as the densest row has.
    """
    following = np.append(counts, 0)
    steps = np.flatnonzero(np.diff(following) < 0) + 1
    numbers = np.concatenate([[0], steps])
    bounds = following[numbers] + _COST_OF_ROW * numbers
    order = np.argsort(bounds, kind="stable")
    order = order[(np.arange(order.size) < _MAX_CHOICES) | (order == 0)]
    return list(zip(bounds[order].tolist(), numbers[order].tolist(), strict=True))


def _as_lists(shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> Columns:
    return Columns(_grouped(rows, columns, shape[1]), _grouped(columns, rows, shape[0]))


def _grouped(values: np.ndarray, groups: np.ndarray, num_groups: int) -> list[list[int]]:
    """The values of each group."""
    ordered = values[np.argsort(groups, kind="stable")].tolist()
    ends = np.cumsum(np.bincount(groups, minlength=num_groups)).tolist()
    return [ordered[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _colours(pattern: Columns, orders: tuple[Order, ...]) -> Int[np.ndarray, " columns"]:
    """The best colours of all orders, improved, until there are as many as the densest row has entries.

    Columns of one colour that follow each other never need more colours than before, and often fewer.
    """
    fewest = max(map(len, pattern.columns), default=0)
    colours = np.arange(len(pattern.rows), dtype=np.int32)
    for order in orders:
        if _number(colours) <= fewest:
            return colours
        colours = min(colours, _first_fit(pattern, order(pattern)), key=_number)
    for key in _ROUNDS:
        if _number(colours) <= fewest:
            return colours
        colours = _first_fit(pattern, np.lexsort((colours, key(colours))).tolist())
    return colours


def _number(colours: np.ndarray) -> int:
    """The number of colours."""
    return int(colours.max(initial=-1)) + 1


def _from_the_last(colours: np.ndarray) -> np.ndarray:
    """The key of an order in which the last colour comes first."""
    return -colours


def _from_the_most_frequent(colours: np.ndarray) -> np.ndarray:
    """The key of an order in which the colour of the most columns comes first."""
    return -np.bincount(colours)[colours] if colours.size > 0 else colours


_ROUNDS = (_from_the_last, _from_the_most_frequent, _from_the_last)
"""Orders of the rounds that improve a colouring, each as long as a colouring. More rounds seldom save a colour."""


def _first_fit(pattern: Columns, order: Iterable[int]) -> Int[np.ndarray, " columns"]:
    """The colours of columns of which each, in this order, gets the first that none of its rows has."""
    # Sets of colours are the bits of integers, which are fast in Python and may have any number of bits.
    taken = [0] * len(pattern.columns)
    colours = [0] * len(pattern.rows)
    for column in order:
        rows = pattern.rows[column]
        of_rows = 0
        for row in rows:
            of_rows |= taken[row]
        first = ~of_rows & (of_rows + 1)
        colours[column] = first
        for row in rows:
            taken[row] |= first
    return np.array([colour.bit_length() - 1 for colour in colours], np.int32)
