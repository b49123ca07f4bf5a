"""The pattern of a sparse Jacobian: the positions of the entries that may differ from zero."""

from functools import cached_property
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int

from ..jaxkit import is_traced, shown
from .colouring import Colouring, colouring_of

type Indices = Int[np.ndarray, " entries"]


@final
class SparsityPattern:
    """The positions of the entries of a square matrix that may differ from zero, row by row.

    `ODETerm(sparsity=...)` takes one, and `jacobian_sparsity` returns one. Two patterns with the same positions are
    equal.

    Parameters
    ----------
    matrix
        What the pattern is read from: a SciPy sparse array or matrix or a `jax.experimental.sparse.BCOO`, of which every
        stored entry counts, also a stored zero; a matrix, of which every entry counts that is not zero or false; or
        another pattern. The rows and columns are those of the ravelled state.

    Attributes
    ----------
    size
        Number of rows, and of columns.
    rows, columns
        Row and column of each entry, sorted by row and within a row by column.

    Raises
    ------
    ValueError
        If `matrix` is none of these or not square, or if its entries are not known when the program is compiled.

    Cost
    ----
    The colours are computed when they are first needed, in a time proportional to the number of pairs of entries that
    share a row.

    Examples
    --------
    >>> import numpy as np
    >>> import rungax
    >>> rungax.SparsityPattern(np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool))
    SparsityPattern(size=4, num_entries=7, num_colours=2)
    """

    size: int
    rows: Indices
    columns: Indices

    def __init__(self, matrix: Any):
        self.size, rows, columns = _entries(matrix)
        order = np.unique(rows.astype(np.int64) * self.size + columns)
        self.rows, self.columns = (x.astype(np.int32) for x in np.divmod(order, max(self.size, 1)))
        for indices in (self.rows, self.columns):
            indices.setflags(write=False)

    @classmethod
    def of_entries(cls, size: int, rows: Any, columns: Any) -> "SparsityPattern":
        """The pattern with entries at these rows and columns, in any order and perhaps repeated.

        Parameters
        ----------
        size
            Number of rows, and of columns.
        rows, columns
            Row and column of each entry.
        """
        indices = np.stack([np.asarray(rows, np.int32), np.asarray(columns, np.int32)], axis=1)
        return cls(_Entries(size, indices))

    @property
    def num_entries(self) -> int:
        """Number of entries."""
        return self.rows.size

    @property
    def num_colours(self) -> int:
        """Number of directional derivatives of the field that give the whole Jacobian."""
        return self.colouring.num_derivatives

    @cached_property
    def colouring(self) -> Colouring:
        """The columns in groups that share no row, and the rows that are too dense for it."""
        return colouring_of(self.size, self.rows, self.columns)

    @cached_property
    def diagonal_entries(self) -> Indices:
        """The places, among the entries, of those on the diagonal."""
        return np.flatnonzero(self.rows == self.columns).astype(np.int32)

    def with_diagonal(self) -> "SparsityPattern":
        """The pattern with all entries of the diagonal added."""
        if self.diagonal_entries.size == self.size:
            return self
        diagonal = np.arange(self.size)
        rows, columns = (np.concatenate([x, diagonal]) for x in (self.rows, self.columns))
        return SparsityPattern.of_entries(self.size, rows, columns)

    def union(self, other: "SparsityPattern") -> "SparsityPattern":
        """The pattern with the entries of both."""
        rows = np.concatenate([self.rows, other.rows])
        columns = np.concatenate([self.columns, other.columns])
        return SparsityPattern.of_entries(self.size, rows, columns)

    def repeated(self, size: int, places: Int[np.ndarray, "size copies"]) -> "SparsityPattern":
        """The pattern of a larger matrix in which each row, and each column, has several copies.

        Parameters
        ----------
        size
            The number of rows of the larger matrix.
        places
            Its rows for each row of this pattern.
        """
        rows, columns = places[self.rows][:, :, None], places[self.columns][:, None, :]
        shape = np.broadcast_shapes(rows.shape, columns.shape)
        rows, columns = (np.broadcast_to(x, shape).reshape(-1) for x in (rows, columns))
        return SparsityPattern.of_entries(size, rows, columns)

    def transpose(self) -> "SparsityPattern":
        """The pattern of the transposed matrix."""
        return SparsityPattern.of_entries(self.size, self.columns, self.rows)

    @cached_property
    def transposed_order(self) -> Indices:
        """The order in which the transposed matrix has the entries: column by column."""
        return np.lexsort((self.rows, self.columns)).astype(np.int32)

    def find(self, rows: Indices, columns: Indices) -> tuple[Indices, Bool[np.ndarray, " queries"]]:
        """The places of entries at these rows and columns, and whether there is such an entry."""
        ours, wanted = (r.astype(np.int64) * self.size + c for r, c in ((self.rows, self.columns), (rows, columns)))
        ours = np.append(ours, -1)  # for what lies beyond the last entry
        places = np.searchsorted(ours[:-1], wanted)
        is_present = ours[places] == wanted
        return np.where(is_present, places, 0).astype(np.int32), is_present

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparsityPattern):
            return NotImplemented
        return self is other or (
            self.size == other.size
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.columns, other.columns)
        )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.size, self.rows.tobytes(), self.columns.tobytes()))

    def __repr__(self) -> str:
        return f"SparsityPattern(size={self.size}, num_entries={self.num_entries}, num_colours={self.num_colours})"

    def plot(self, axes: Any = None) -> Any:
        """Draw the pattern with Matplotlib: a point for each entry, or the density of entries for large patterns.

        Parameters
        ----------
        axes
            Matplotlib axes to draw into; by default new ones.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ModuleNotFoundError
            If Matplotlib is not installed.
        """
        from .picture import draw

        return draw(self, axes)


def as_pattern(matrix: Any) -> SparsityPattern | None:
    """The pattern of a matrix, or `None` for `None`."""
    return matrix if matrix is None or isinstance(matrix, SparsityPattern) else SparsityPattern(matrix)


class _Entries:
    """Entries given by their indices, in any order."""

    def __init__(self, size: int, indices: np.ndarray):
        self.size, self.indices = size, indices


def _entries(matrix: Any) -> tuple[int, Indices, Indices]:
    """The size of a square matrix, and the rows and columns of its entries, in any order and perhaps repeated."""
    if isinstance(matrix, SparsityPattern):
        return matrix.size, matrix.rows, matrix.columns
    if isinstance(matrix, _Entries):
        return matrix.size, matrix.indices[:, 0], matrix.indices[:, 1]
    shape = np.shape(matrix)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(_message("a square matrix, with a row for each entry of the ravelled state", shown(matrix)))
    if is_traced(matrix):
        fix = "Make it outside of `jit`."
        raise ValueError(_message("entries that are known when the program is compiled", "a traced array", fix))
    # Imported here, because most programs have no sparse matrices.
    import scipy.sparse
    from jax.experimental.sparse import BCOO

    if isinstance(matrix, BCOO):
        indices = np.asarray(matrix.indices).reshape(-1, 2)
        # JAX pads the indices of a matrix with fewer entries by ones outside of it.
        indices = indices[(indices < shape[0]).all(axis=1)]
        return shape[0], indices[:, 0], indices[:, 1]
    if scipy.sparse.issparse(matrix):
        entries = matrix.tocoo()
        return shape[0], entries.row, entries.col
    rows, columns = np.nonzero(np.asarray(matrix))
    return shape[0], rows, columns


def _message(expected: str, found: str, fix: str = "") -> str:
    fix = fix or "`rungax.jacobian_sparsity(vector_field, t0, y0, args)` finds the pattern of a field."
    return (
        "A sparsity pattern says which entries of the Jacobian may differ from zero.\n"
        f"Expected: {expected}: a SciPy sparse array, a `BCOO`, or a boolean matrix\nFound:    {found}\n{fix}"
    )
