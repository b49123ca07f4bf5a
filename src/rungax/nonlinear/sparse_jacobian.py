"""Jacobians of which only the entries of a pattern are computed and stored, and their comparison with derivatives."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ..jaxkit import match_varying, scaled
from ..sparsity import Colouring, SparsityPattern, random_direction
from .jacobian import AbstractJacobian, Field, Scale, Vector
from .lu import MAX_UNROLLED, SmallLU
from .sparse import SparseLinearOperator
from .sparse_lu import SparseLU, is_sparse_lu_available

_AT_ONCE = 2**22
"""Numbers in the directions whose derivatives are computed at once. A field has several intermediate values of that
size: about a gigabyte in all."""

_MAX_DENSE = 1000
"""Number of unknowns up to which a full matrix is factorised where there is no solver for sparse ones."""


class SparseJacobian(AbstractJacobian):
    """The values of a pattern's entries; costs one derivative of the field for each colour, and one to check them.

    Columns of one colour have no row in common, so that one derivative serves them all. Rows that are too dense for
    that are computed by one derivative in reverse mode each.

    Parameters
    ----------
    pattern
        The entries, with the whole diagonal among them.

    References
    ----------
    A. R. Curtis, M. J. D. Powell, J. K. Reid, On the estimation of sparse Jacobian matrices, IMA J. Appl. Math. 13
    (1974), 117–119.
    """

    pattern: SparsityPattern = eqx.field(static=True)

    @property
    def is_stored(self) -> bool:
        """True: the array holds all entries."""
        return True

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The values of the entries; NaN in the rows for which the pattern lacks an entry."""
        values, is_wrong = self.compared(field, y)
        return jnp.where(is_wrong[self.pattern.rows], jnp.asarray(jnp.nan, values.dtype), values)

    def compared(self, field: Field, y: Vector) -> tuple[Array, Bool[Array, " n"]]:
        """The values of the entries, and for each row whether a derivative in a random direction disagrees with it."""
        pattern, colouring = self.pattern, self._colouring(field, y)
        direction = jnp.asarray(random_direction(pattern.size), y.dtype)

        def derivative(colour: Int[Array, ""]) -> Vector:
            seed = (jnp.asarray(colouring.colours) == colour).astype(y.dtype)
            # The colour after the last one stands for the random direction.
            seed = jnp.where(colour == colouring.num_colours, direction, seed)
            return jax.jvp(field, (y,), (match_varying(seed, y),))[1]

        derivatives = _in_blocks(derivative, np.arange(colouring.num_colours + 1, dtype=np.int32), pattern.size)
        values = derivatives[colouring.colours[pattern.columns], pattern.rows]
        if colouring.dense_rows.size > 0:
            entries = np.flatnonzero(np.isin(pattern.rows, colouring.dense_rows))
            places = np.searchsorted(colouring.dense_rows, pattern.rows[entries])
            rows = _rows(field, y, colouring.dense_rows)
            values = values.at[entries].set(rows[places, pattern.columns[entries]])
        return values, disagree(SparseLinearOperator(values, pattern), direction, derivatives[-1])

    def _colouring(self, field: Field, y: Vector) -> Colouring:
        """The colouring that suits a field: with dense rows only if it has derivatives in reverse mode."""
        colouring = self.pattern.colouring
        if colouring.dense_rows.size == 0:
            return colouring
        try:
            jax.eval_shape(lambda y: _rows(field, y, colouring.dense_rows), y)
        except Exception:
            # JAX has no class of its own for a loop or a custom rule that it cannot transpose.
            return self.pattern.colouring_of_all_rows
        return colouring

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The operator's entries at the places of the pattern."""
        return SparseLinearOperator.of(operator, self.pattern).values

    def shifted(
        self, field: Field, stored: Array, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        """The shifted matrix, with the same entries."""
        del field
        jacobian = scaled(scale, stored)
        if mass is None:
            values = (-jacobian).at[self.pattern.diagonal_entries].add(1)
        else:
            values = self.of_operator(mass).astype(jacobian.dtype) - jacobian
        return SparseLinearOperator(values, self.pattern)

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """The unrolled factorisation for few unknowns, SuiteSparse's for more.

        Where there is none, LAPACK's for hundreds of unknowns. For thousands SuiteSparse's raises the error that says
        what is missing.
        """
        if size <= MAX_UNROLLED:
            return SmallLU()
        return SparseLU() if is_sparse_lu_available() or size > _MAX_DENSE else lx.LU()


def disagree(matrix: lx.AbstractLinearOperator, direction: Vector, derivative: Vector) -> Bool[Array, " n"]:
    """True for each row of a Jacobian whose product with a direction is not the derivative in that direction.

    The difference is compared with the sum of the moduli of the row's products. Roundings of the field's derivative are
    relative to what cancels in it, so that the bound is far above those of the sum: half of the digits. A row that is
    not finite agrees, because error control notices it.
    """
    size = jax.tree.map(jnp.abs, matrix).mv(jnp.abs(direction))
    difference = jnp.abs(derivative - matrix.mv(direction))
    bound = float(jnp.finfo(size.dtype).eps) ** 0.5
    return jnp.isfinite(size) & jnp.isfinite(difference) & (difference > bound * size)


def _rows(field: Field, y: Vector, rows: Int[np.ndarray, " rows"]) -> Array:
    """Rows of the Jacobian, each by a derivative in reverse mode."""
    _, pullback = jax.vjp(field, y)

    def derivative(row: Int[Array, ""]) -> Vector:
        cotangent = (jnp.arange(y.size, dtype=row.dtype) == row).astype(y.dtype)
        return pullback(match_varying(cotangent, y))[0]

    return _in_blocks(derivative, rows, y.size)


def _in_blocks(derivative: Callable[[Array], Vector], numbers: Int[np.ndarray, " m"], size: int) -> Array:
    """The values of a function for each of some numbers, as many at once as bounded memory allows."""
    return lax.map(derivative, jnp.asarray(numbers), batch_size=max(1, _AT_ONCE // max(size, 1)))
