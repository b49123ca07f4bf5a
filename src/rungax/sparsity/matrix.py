"""Sparse matrices of other libraries, as the values of the entries of a pattern."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

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
    """The values and the pattern of a matrix for which `is_sparse` is true; repeated entries are added."""
    pattern = SparsityPattern(matrix)
    rows, columns, values = _triplets(matrix)
    places, _ = pattern.find(rows, columns)
    values = jnp.asarray(values)
    dtype = values.dtype if jnp.issubdtype(values.dtype, jnp.inexact) else jnp.result_type(float)
    return SparseMatrix(jnp.zeros(pattern.num_entries, dtype).at[places].add(values.astype(dtype)), pattern)


def _triplets(matrix: Any) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"], Any]:
    """Row, column and value of each stored entry."""
    if not hasattr(matrix, "indices") or not hasattr(matrix, "n_batch"):
        entries = matrix.tocoo()
        return entries.row.astype(np.int32), entries.col.astype(np.int32), entries.data
    from jax.experimental.sparse import BCSR

    matrix = matrix.to_bcoo() if isinstance(matrix, BCSR) else matrix
    indices = np.asarray(matrix.indices)
    # JAX pads the indices of a matrix with fewer entries by those of an entry outside of it.
    is_inside = (indices < np.array(matrix.shape)).all(axis=1)
    rows, columns = indices[is_inside].T
    return rows, columns, matrix.data[np.flatnonzero(is_inside)]
