"""Colours of a Jacobian's columns: columns of one colour share no row, so that one derivative gives them all."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Colouring(NamedTuple):
    """Columns in groups that share no row, and the rows that are too dense to count.

    Parameters
    ----------
    colours
        The colour of each column, from 0 to `num_colours - 1`.
    num_colours
        Number of colours.
    dense_rows
        Rows that the colours do not separate: each is computed by one derivative in reverse mode.
    """

    colours: Int[np.ndarray, " size"]
    num_colours: int
    dense_rows: Int[np.ndarray, " dense"]

    @property
    def num_derivatives(self) -> int:
        """Number of derivatives that give the whole Jacobian."""
        return self.num_colours + self.dense_rows.size


def colouring_of(size: int, rows: np.ndarray, columns: np.ndarray) -> Colouring:
    """A colouring of few colours."""
    neighbours = np.split(columns, np.searchsorted(rows, np.arange(1, size)))
    in_column: list[list[int]] = [[] for _ in range(size)]
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        in_column[column].append(row)
    colours = np.full(size, -1, np.int32)
    for column in range(size):
        taken = {int(colours[other]) for row in in_column[column] for other in neighbours[row]}
        colours[column] = next(colour for colour in range(size + 1) if colour not in taken)
    return Colouring(colours, int(colours.max(initial=-1)) + 1, np.zeros(0, np.int32))
