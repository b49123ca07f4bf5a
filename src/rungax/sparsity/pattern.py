"""The pattern of a sparse Jacobian: the positions of the entries that may differ from zero."""

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from ..jaxkit import is_traced, shown
from .colouring import Colouring, colouring_of


@final
@dataclass(frozen=True, init=False, repr=False, eq=False)
class SparsityPattern:
    """The positions of the entries of a square matrix that may differ from zero, row by row.

    `ODETerm(sparsity=...)` takes one, and `jacobian_sparsity` returns one. Two patterns with the same positions are
    equal.

    Parameters
    ----------
    matrix
        What the pattern is read from: a SciPy sparse array or matrix, or a `BCOO` or `BCSR` of
        `jax.experimental.sparse`, of which every stored entry counts, also a stored zero; a matrix, of which every
        entry counts that is not zero or false; or another pattern. The rows and columns are those of the entries of the
        state, leaf after leaf.

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
    The colours are computed when they are first needed and then stored: about two seconds for 100 000 columns with six
    entries each. Use one pattern for many solves.

    Examples
    --------
    >>> import numpy as np
    >>> import rungax
    >>> rungax.SparsityPattern(np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool))
    SparsityPattern(size=4, num_entries=7, num_colours=2)
    """

    size: int
    rows: Int[np.ndarray, " entries"]
    columns: Int[np.ndarray, " entries"]

    def __init__(self, matrix: Any):
        self._set(*_entries(matrix))

    @classmethod
    def of_entries(cls, size: int, rows: Any, columns: Any) -> "SparsityPattern":
        """The pattern with entries at these rows and columns, in any order and perhaps repeated.

        Parameters
        ----------
        size
            Number of rows, and of columns.
        rows, columns
            Row and column of each entry: integers from 0 to `size - 1`.

        Raises
        ------
        ValueError
            If there are not as many rows as columns, or one is not such an integer.
        """
        rows, columns = np.asarray(rows), np.asarray(columns)
        if rows.size == columns.size == 0:
            rows, columns = rows.astype(np.int32), columns.astype(np.int32)
        _check_indices(size, rows, columns)
        pattern = cls.__new__(cls)
        pattern._set(size, rows, columns)
        return pattern

    def _set(self, size: int, rows: Int[np.ndarray, " entries"], columns: Int[np.ndarray, " entries"]) -> None:
        """Set the attributes, from entries in any order."""
        keys = rows.astype(np.int64) * size + columns
        if np.any(np.diff(keys) <= 0):
            keys = np.sort(keys)
            keys = keys[np.append(True, np.diff(keys) > 0)]
        rows, columns = (x.astype(np.int32) for x in np.divmod(keys, max(size, 1)))
        for indices in (rows, columns):
            indices.setflags(write=False)
        vars(self).update(size=size, rows=rows, columns=columns)

    @classmethod
    def of_band(cls, size: int, lower: int, upper: int) -> "SparsityPattern":
        """The pattern with so many diagonals below and above the main one."""
        rows = np.repeat(np.arange(size), lower + upper + 1)
        columns = rows + np.tile(np.arange(-lower, upper + 1), size)
        is_inside = (columns >= 0) & (columns < size)
        return cls.of_entries(size, rows[is_inside], columns[is_inside])

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
        return _colouring(self, self.size)

    @cached_property
    def colouring_of_all_rows(self) -> Colouring:
        """The columns in groups that share no row at all, for fields without derivatives in reverse mode."""
        return _colouring(self, 0)

    @cached_property
    def diagonal_entries(self) -> Int[np.ndarray, " entries"]:
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
        """The pattern with the entries of both.

        Raises
        ------
        ValueError
            If their sizes differ.
        """
        if other.size != self.size:
            raise ValueError(
                f"`SparsityPattern.union(other)` takes a pattern of the same size.\nExpected: size {self.size}\n"
                f"Found:    size {other.size}\nBoth are those of one state."
            )
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
    def transposed_order(self) -> Int[np.ndarray, " entries"]:
        """The order in which the transposed matrix has the entries: column by column."""
        return np.lexsort((self.rows, self.columns)).astype(np.int32)

    def find(
        self, rows: Int[np.ndarray, " entries"], columns: Int[np.ndarray, " entries"]
    ) -> tuple[Int[np.ndarray, " entries"], Bool[np.ndarray, " queries"]]:
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


@functools.lru_cache(maxsize=16)
def _colouring(pattern: SparsityPattern, most_dense_rows: int) -> Colouring:
    """The colouring of a pattern, computed once for all that are equal, such as those of one matrix given twice."""
    shape = (pattern.size, pattern.size)
    return colouring_of(shape, pattern.rows, pattern.columns, most_dense_rows=most_dense_rows)


def as_pattern(matrix: Any) -> SparsityPattern | None:
    """The pattern of a matrix, or `None` for `None`."""
    return matrix if matrix is None or isinstance(matrix, SparsityPattern) else SparsityPattern(matrix)


def _entries(matrix: Any) -> tuple[int, Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
    """The size of a square matrix, and the rows and columns of its entries, in any order and perhaps repeated."""
    if isinstance(matrix, SparsityPattern):
        return matrix.size, matrix.rows, matrix.columns
    if is_traced(matrix):
        fix = "Make it outside of `jit`, or with NumPy."
        raise ValueError(_message("entries that are known when the program is compiled", shown(matrix), fix))
    # Imported here, because most programs have no sparse matrices.
    import scipy.sparse
    from jax.experimental.sparse import BCOO, BCSR

    is_jax, is_scipy = isinstance(matrix, BCOO | BCSR), scipy.sparse.issparse(matrix)
    if not (is_jax or is_scipy):
        matrix = _as_array(matrix)
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        expected = "a square matrix, with one row for each entry of the state"
        raise ValueError(_message(expected, f"shape {matrix.shape}"))
    rows, columns = _of_jax(matrix) if is_jax else _of_scipy(matrix) if is_scipy else np.nonzero(matrix)
    return matrix.shape[0], rows, columns


def _as_array(matrix: Any) -> np.ndarray:
    """A matrix as an array of numbers."""
    try:
        array = np.asarray(matrix)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype != np.bool_ and not jnp.issubdtype(array.dtype, np.number):
        raise ValueError(_message("a matrix of numbers", shown(matrix)))
    return array


def _of_jax(matrix: Any) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
    """The rows and columns of the stored entries of a `BCOO` or `BCSR`."""
    from jax.experimental.sparse import BCSR, bcoo_update_layout

    with jax.ensure_compile_time_eval():
        matrix = matrix.to_bcoo() if isinstance(matrix, BCSR) else matrix
        indices = np.asarray(bcoo_update_layout(matrix, n_batch=0, n_dense=0).indices)
    # JAX pads the indices of a matrix with fewer entries by those of an entry outside of it.
    rows, columns = indices[(indices < np.array(matrix.shape)).all(axis=1)].T
    return rows, columns


def _of_scipy(matrix: Any) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
    """The rows and columns of the stored entries of a SciPy sparse array or matrix."""
    if matrix.format == "dia":
        # Of diagonals `tocoo` would drop the entries that are zero.
        matrix = type(matrix)((np.ones(matrix.data.shape), matrix.offsets), shape=matrix.shape)
    entries = matrix.tocoo()
    return entries.row, entries.col


def _check_indices(size: int, rows: np.ndarray, columns: np.ndarray) -> None:
    """Raise a `ValueError` unless these are as many rows as columns, and each is one of a matrix of this size."""
    is_integer = all(np.issubdtype(x.dtype, np.integer) for x in (rows, columns))
    is_inside = is_integer and all(np.all((x >= 0) & (x < size)) for x in (rows, columns))
    if rows.shape != columns.shape or rows.ndim != 1 or not is_inside:
        raise ValueError(
            "`SparsityPattern.of_entries(size, rows, columns)` takes the row and the column of each entry.\n"
            f"Expected: two vectors of the same length, of integers from 0 to {size - 1}\n"
            f"Found:    rows = {shown(rows)}, columns = {shown(columns)}\nCount rows and columns from 0."
        )


def _message(expected: str, found: str, fix: str = "") -> str:
    fix = fix or "`rungax.jacobian_sparsity(vector_field, t0, y0, args)` finds the pattern of a field."
    return (
        "A sparsity pattern holds the entries of the Jacobian that may differ from zero: a SciPy sparse array, a "
        f"`BCOO`, or a boolean matrix.\nExpected: {expected}\nFound:    {found}\n{fix}"
    )
