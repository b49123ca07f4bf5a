"""Sparse matrices of other libraries, as the values of the entries of a pattern."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

from ..jaxkit import is_traced
from .pattern import SparsityPattern


class SparseMatrix(eqx.Module):
    """A square sparse matrix.

    Parameters
    ----------
    values
        The value of each entry, in the order of the pattern.
    pattern
        The positions of the entries.
    """

    values: Inexact[Array, " entries"]
    pattern: SparsityPattern = eqx.field(static=True)


def is_sparse(matrix: Any) -> bool:
    """True for a SciPy sparse array or matrix, and for a `BCOO` or `BCSR` of `jax.experimental.sparse`."""
    # Imported here, because most programs have no sparse matrices.
    import scipy.sparse
    from jax.experimental.sparse import BCOO, BCSR

    return isinstance(matrix, BCOO | BCSR) or scipy.sparse.issparse(matrix)


def sparse_matrix(matrix: Any) -> SparseMatrix:
    """The values and the pattern of a mass matrix for which `is_sparse` is true; repeated entries are added.

    Raises
    ------
    ValueError
        If it is not square, or if its rows and columns are not known when the program is compiled.
    """
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise _wrong("a square matrix, with one row for each entry of the state", f"shape {matrix.shape}")
    rows, columns, values = _triplets(matrix)
    pattern = SparsityPattern.of_entries(matrix.shape[0], rows, columns)
    places, _ = pattern.find(rows, columns)
    values = jnp.asarray(values)
    dtype = values.dtype if jnp.issubdtype(values.dtype, jnp.inexact) else jnp.result_type(float)
    return SparseMatrix(jnp.zeros(pattern.num_entries, dtype).at[places].add(values.astype(dtype)), pattern)


def _triplets(matrix: Any) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"], Any]:
    """Row, column and value of each stored entry."""
    from jax.experimental.sparse import BCOO, BCSR, bcoo_update_layout

    if not isinstance(matrix, BCOO | BCSR):
        entries = matrix.tocoo()
        return entries.row.astype(np.int32), entries.col.astype(np.int32), entries.data
    positions = (matrix.indices, matrix.indptr) if isinstance(matrix, BCSR) else matrix.indices
    if is_traced(positions):
        raise _wrong("rows and columns that are known when the program is compiled", "traced ones")
    # The values may be traced, and the positions are known all the same.
    with jax.ensure_compile_time_eval():
        matrix = matrix.to_bcoo() if isinstance(matrix, BCSR) else matrix
        matrix = bcoo_update_layout(matrix, n_batch=0, n_dense=0)
        indices = np.asarray(matrix.indices)
        # JAX pads the indices of a matrix with fewer entries by those of an entry outside of it.
        is_inside = (indices < np.array(matrix.shape)).all(axis=1)
        rows, columns = indices[is_inside].T
        return rows, columns, matrix.data[np.flatnonzero(is_inside)]


def _wrong(expected: str, found: str) -> ValueError:
    return ValueError(
        "`ODETerm(mass=...)` can be a SciPy sparse array, a `BCOO` or a `BCSR`.\n"
        f"Expected: {expected}\nFound:    {found}\n"
        "Make it, or its rows and columns as JAX arrays, outside of traced functions; the values may be traced."
    )
