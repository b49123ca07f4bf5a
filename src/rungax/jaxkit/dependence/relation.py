"""Relations: for each entry of an intermediate value, the entries of the input on which it depends."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Int

type Rows = Int[np.ndarray, " pairs"]


class TooManyPairs(Exception):
    """A relation has more pairs than `most`, or a program is too complicated: the relation is treated as full."""


@dataclass(frozen=True, eq=False)
class Relation:
    """The pairs of a row and a column, where a row is an entry of a value and a column one of the input.

    Parameters
    ----------
    num_rows, num_columns
        Numbers of rows and of columns.
    keys
        `row * num_columns + column` for each pair, in increasing order.
    most
        The number of pairs from which a relation is treated as full.
    """

    num_rows: int
    num_columns: int
    keys: Rows
    most: int

    @classmethod
    def identity(cls, size: int, num_columns: int, start: int, most: int) -> Self:
        """Each row with the column of the same number, counted from `start`."""
        rows = np.arange(size, dtype=np.int64)
        return cls(size, num_columns, rows * num_columns + rows + start, most)

    @property
    def pairs(self) -> tuple[Rows, Rows]:
        """The row and the column of each pair."""
        rows, columns = np.divmod(self.keys, self.num_columns)
        return rows, columns

    def at(self, places: np.ndarray) -> "Relation":
        """The relation with, for each place, the row of that number; a negative place has no pair."""
        places = places.reshape(-1)
        if places.size == self.num_rows and np.array_equal(places, np.arange(self.num_rows)):
            return self
        rows = np.flatnonzero(places >= 0)
        # The rows are in increasing order, and so are the columns of each: nothing is to be sorted.
        return Relation(places.size, self.num_columns, self._expanded(rows, places[rows]), self.most)

    def mapped(self, num_rows: int, rows: np.ndarray, sources: np.ndarray) -> "Relation":
        """The relation in which `rows[i]` has the pairs of row `sources[i]`; a row may occur several times."""
        keys = self._expanded(rows.reshape(-1), sources.reshape(-1))
        return Relation(num_rows, self.num_columns, _sorted(keys), self.most)

    def grouped(self, groups: np.ndarray, num_groups: int) -> "Relation":
        """The relation with a row for each group of rows, which has the pairs of all of them."""
        rows, columns = self.pairs
        keys = groups.reshape(-1)[rows].astype(np.int64) * self.num_columns + columns
        return Relation(num_groups, self.num_columns, _sorted(keys), self.most)

    @cached_property
    def _starts(self) -> Rows:
        """The place of the first pair of each row, and the number of pairs at the end."""
        return np.searchsorted(self.keys, np.arange(self.num_rows + 1, dtype=np.int64) * self.num_columns)

    @cached_property
    def _counts(self) -> Rows:
        """The number of pairs of each row."""
        return np.diff(self._starts)

    def _expanded(self, rows: np.ndarray, sources: np.ndarray) -> Rows:
        """The keys of `rows[i]` with the columns of row `sources[i]`, for each `i`."""
        starts, counts = self._starts[sources], self._counts[sources]
        total = int(counts.sum())
        if total > self.most:
            raise TooManyPairs
        offsets = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = self.keys[np.repeat(starts, counts) + offsets] % self.num_columns
        return np.repeat(rows.astype(np.int64) * self.num_columns, counts) + columns


def union(relations: Sequence[Relation]) -> Relation | None:
    """The relation with the pairs of all, which have the same rows; `None` for no relation."""
    distinct = list({id(relation): relation for relation in relations}.values())
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    first = distinct[0]
    keys = _sorted(np.concatenate([relation.keys for relation in distinct]))
    if keys.size > first.most:
        raise TooManyPairs
    return first if keys.size == first.keys.size else Relation(first.num_rows, first.num_columns, keys, first.most)


def stacked(relations: Sequence[Relation | None], sizes: Sequence[int]) -> Relation | None:
    """The relation with the rows of all, one after another; `None` stands for rows without pairs."""
    starts = np.cumsum([0, *sizes])
    found = [(relation, int(start)) for relation, start in zip(relations, starts, strict=False) if relation is not None]
    if not found:
        return None
    first = found[0][0]
    keys = np.concatenate([relation.keys + start * first.num_columns for relation, start in found])
    return Relation(int(starts[-1]), first.num_columns, keys, first.most)


def _sorted(keys: Rows) -> Rows:
    """The keys in increasing order, each once."""
    # The stable sort takes linear time for several runs that are sorted already.
    keys = np.sort(keys, kind="stable")
    return keys[np.append(True, keys[1:] != keys[:-1])] if keys.size > 0 else keys
