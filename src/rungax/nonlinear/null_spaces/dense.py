"""The null spaces of full matrices, by their singular value decompositions."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array

from ...jaxkit import with_derivatives_of
from ...sparsity import SparsityPattern
from ..jacobian import Vector
from .base import AbstractNullSpaces, ones_for


class Factors(NamedTuple):
    """What is computed of a matrix, or of each matrix in a stack.

    Parameters
    ----------
    left, right, inverse
        The projections and the pseudoinverse.
    of_rank
        The matrix with the derivatives that keep its rank.
    separator
        The unitary matrix $U^*$ that separates the algebraic equations from the others.
    basis
        The unitary matrix $V$, whose columns for algebraic equations span the right null space.
    is_zero
        The singular values that count as zero.
    mass
        The product of the separator and the matrix, whose rows for algebraic equations are zero.
    """

    left: Array
    right: Array
    inverse: Array
    of_rank: Array
    separator: Array
    basis: Array
    is_zero: Array
    mass: Array


class DenseNullSpaces(AbstractNullSpaces):
    """The null spaces of a full matrix."""

    factors: Factors

    def left(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return product(self.factors.left, vector)

    def right(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return product(self.factors.right, vector)

    def pseudoinverse(self, vector: Vector) -> Vector:
        """The product with the pseudoinverse."""
        return product(self.factors.inverse, vector)

    def of_rank(self) -> lx.MatrixLinearOperator:
        """The matrix."""
        return lx.MatrixLinearOperator(self.factors.of_rank)

    def of_rows(self, pattern: SparsityPattern) -> SparsityPattern:
        """All entries."""
        return all_entries(pattern.size)

    def of_both(self, pattern: SparsityPattern) -> SparsityPattern:
        """All entries."""
        return all_entries(pattern.size)

    def regular_part(self) -> lx.DiagonalLinearOperator:
        """One for each singular value that is not zero."""
        return lx.DiagonalLinearOperator(ones_for(~self.factors.is_zero, self.factors.basis))

    def equations(self, residual: Vector) -> Vector:
        """The product with the left singular vectors of the singular values that are zero."""
        return jnp.where(self.factors.is_zero, product(self.factors.separator, residual), 0)

    def algebraic(self, coordinates: Vector) -> Vector:
        """The combination of the right singular vectors of the singular values that are zero."""
        return product(self.factors.basis, jnp.where(self.factors.is_zero, coordinates, 0))

    def moduli(self) -> "DenseNullSpaces":
        """The same with the moduli of the singular vectors."""
        return DenseNullSpaces(with_moduli(self.factors))

    def separated(self, vector: Vector) -> Vector:
        """The product with the separator."""
        return product(self.factors.separator, vector)

    @property
    def separated_mass(self) -> lx.MatrixLinearOperator:
        """The product of the separator and the matrix."""
        return lx.MatrixLinearOperator(self.factors.mass)


def factors_of(matrix: Array) -> Factors:
    """What is computed of a matrix."""
    u, sizes, vh = jnp.linalg.svd(lax.stop_gradient(matrix))
    rounding = matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)
    is_zero = sizes <= rounding * jnp.max(sizes, initial=0.0)
    left, right, inverse = _projections_and_inverse(matrix, (u, sizes, vh, is_zero))
    # The solution does not depend on the coordinates, which need no derivatives.
    separator, basis = u.conj().T, vh.conj().T
    change = product(lax.stop_gradient(left), matrix, lax.stop_gradient(right))
    of_rank = with_derivatives_of(matrix, matrix - change)
    separated = product(separator, of_rank)
    # Not roundings; a change of the matrix that turns the null space has derivatives there.
    mass = with_derivatives_of(jnp.where(is_zero[:, None], 0, separated), separated)
    return Factors(left, right, inverse, of_rank, separator, basis, is_zero, mass)


@jax.custom_jvp
def _projections_and_inverse(matrix: Array, decomposition: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """The projections onto the left and the right null space, and the pseudoinverse, from the decomposition."""
    u, sizes, vh, is_zero = decomposition
    uh, v, zeros = u.conj().T, vh.conj().T, is_zero.astype(matrix.dtype)
    reciprocals = jnp.where(is_zero, 0, 1 / jnp.where(is_zero, 1, sizes)).astype(matrix.dtype)
    return product(u * zeros[None, :], uh), product(v * zeros[None, :], vh), product(v * reciprocals[None, :], uh)


@_projections_and_inverse.defjvp
def _(primals: tuple[Array, Any], tangents: tuple[Array, Any]) -> tuple[Any, Any]:
    """The derivatives along changes that keep the rank, not those of the decomposition, which need not exist."""
    change, _ = tangents
    left, right, inverse = _projections_and_inverse(*primals)
    adjoint, inverse_adjoint = change.conj().T, inverse.conj().T
    of_left, of_right = -product(left, change, inverse), -product(inverse, change, right)
    of_inverse = (
        -product(inverse, change, inverse)
        + product(inverse, inverse_adjoint, adjoint, left)
        + product(right, adjoint, inverse_adjoint, inverse)
    )
    derivatives = of_left + of_left.conj().T, of_right + of_right.conj().T, of_inverse
    return (left, right, inverse), derivatives


def product(*factors: Array) -> Array:
    """The product of matrices, and perhaps a vector, in full precision: on accelerators the default rounds more."""
    return functools.reduce(lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST), factors)


def with_moduli(factors: Factors) -> Factors:
    """The factors with the moduli of the singular vectors."""
    return factors._replace(separator=jnp.abs(factors.separator), basis=jnp.abs(factors.basis))


def all_entries(size: int) -> SparsityPattern:
    return SparsityPattern.of_band(size, size - 1, size - 1)
