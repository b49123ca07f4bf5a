"""Sparse matrices as linear operators."""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact

from ..sparsity import SparsityPattern
from .banded import BandedLinearOperator, band_of


@final
class SparseLinearOperator(lx.AbstractLinearOperator):
    """A square sparse matrix: the values of the entries of a pattern.

    Parameters
    ----------
    values
        The value of each entry, in the order of the pattern: row by row.
    pattern
        The positions of the entries.

    Raises
    ------
    ValueError
        If there is not one value for each entry.

    Differentiability
    -----------------
    With respect to `values`.

    Cost
    ----
    A product with a vector takes a multiplication for each entry. `as_matrix` forms the full matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import rungax
    >>> pattern = rungax.SparsityPattern(np.eye(3, dtype=bool) | np.eye(3, k=1, dtype=bool))
    >>> operator = rungax.SparseLinearOperator(jnp.array([1.0, 2.0, 1.0, 2.0, 1.0]), pattern)
    >>> print(operator.mv(jnp.ones(3)))
    [3. 3. 1.]
    """

    values: Inexact[Array, " entries"]
    pattern: SparsityPattern = eqx.field(static=True)

    def __check_init__(self) -> None:
        if jnp.shape(self.values) != (self.pattern.num_entries,):
            raise ValueError(
                "`SparseLinearOperator(values=...)` holds one value for each entry of its pattern.\n"
                f"Expected: shape ({self.pattern.num_entries},)\nFound:    shape {jnp.shape(self.values)}\n"
                "The order is that of `pattern.rows` and `pattern.columns`: row by row."
            )

    @classmethod
    def of(cls, operator: lx.AbstractLinearOperator, pattern: SparsityPattern) -> Self:
        """The sparse operator with the entries of another linear operator, whose matrix is square.

        Parameters
        ----------
        operator
            The operator with the entries. Sparse, diagonal, tridiagonal and banded operators are read without forming a
            matrix. Of others the matrix is formed.
        pattern
            The entries that are read; others are dropped.
        """
        rows, columns = pattern.rows, pattern.columns
        if isinstance(operator, cls):
            places, is_present = operator.pattern.find(rows, columns)
            if operator.pattern.num_entries == 0:
                return cls(jnp.zeros(rows.shape, operator.values.dtype), pattern)
            return cls(jnp.where(is_present, operator.values[places], 0), pattern)
        if isinstance(operator, BandedLinearOperator) or lx.is_tridiagonal(operator):
            width = (1, 1) if not isinstance(operator, BandedLinearOperator) else (operator.lower, operator.upper)
            banded = BandedLinearOperator.of(operator, *width)
            offsets = columns - rows + banded.lower
            is_present = (offsets >= 0) & (offsets < banded.diagonals.shape[0])
            values = banded.diagonals[np.where(is_present, offsets, 0), rows]
            return cls(jnp.where(is_present, values, 0), pattern)
        return cls(operator.as_matrix()[rows, columns], pattern)

    def mv(self, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The product with a vector."""
        products = self.values * vector[self.pattern.columns]
        return jax.ops.segment_sum(products, self.pattern.rows, self.pattern.size, indices_are_sorted=True)

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The full matrix, with its zeros."""
        n = self.pattern.size
        zeros = jnp.zeros((n, n), self.values.dtype)
        return zeros.at[self.pattern.rows, self.pattern.columns].set(self.values)

    def transpose(self) -> "SparseLinearOperator":
        """The transposed matrix."""
        order = self.pattern.transposed_order
        return SparseLinearOperator(self.values[order], self.pattern.transpose())

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of vectors."""
        return jax.ShapeDtypeStruct((self.pattern.size,), self.values.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of vectors."""
        return self.in_structure()


@band_of.register(SparseLinearOperator)
def _(operator: SparseLinearOperator, lower: int, upper: int) -> Array:
    pattern = operator.pattern
    offsets = pattern.columns - pattern.rows + lower
    inside = np.flatnonzero((offsets >= 0) & (offsets <= lower + upper))
    diagonals = jnp.zeros((lower + upper + 1, pattern.size), operator.values.dtype)
    return diagonals.at[offsets[inside], pattern.rows[inside]].set(operator.values[inside])


# Lineax's properties of an operator are functions that dispatch on its class.


@lx.linearise.register(SparseLinearOperator)
@lx.materialise.register(SparseLinearOperator)
def _(operator: SparseLinearOperator) -> SparseLinearOperator:
    return operator


@lx.conj.register(SparseLinearOperator)
def _(operator: SparseLinearOperator) -> SparseLinearOperator:
    return SparseLinearOperator(operator.values.conj(), operator.pattern)


@lx.diagonal.register(SparseLinearOperator)
def _(operator: SparseLinearOperator) -> Inexact[Array, " n"]:
    pattern = operator.pattern
    entries = pattern.diagonal_entries
    diagonal = jnp.zeros(pattern.size, operator.values.dtype)
    return diagonal.at[pattern.rows[entries]].set(operator.values[entries])


@lx.is_diagonal.register(SparseLinearOperator)
@lx.is_symmetric.register(SparseLinearOperator)
@lx.is_tridiagonal.register(SparseLinearOperator)
@lx.is_lower_triangular.register(SparseLinearOperator)
@lx.is_upper_triangular.register(SparseLinearOperator)
@lx.has_unit_diagonal.register(SparseLinearOperator)
@lx.is_positive_semidefinite.register(SparseLinearOperator)
@lx.is_negative_semidefinite.register(SparseLinearOperator)
def _(operator: SparseLinearOperator) -> bool:
    del operator
    return False
