"""The null spaces of diagonal matrices."""

import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool

from ...sparsity import SparsityPattern
from ..jacobian import Vector
from .base import AbstractNullSpaces, ones_for


class DiagonalNullSpaces(AbstractNullSpaces):
    """The null spaces of a diagonal matrix.

    Parameters
    ----------
    mass
        The matrix.
    is_zero
        The entries of the diagonal that are zero.
    """

    mass: lx.DiagonalLinearOperator
    is_zero: Bool[Array, " n"]

    def left(self, vector: Vector) -> Vector:
        """The entries of the algebraic equations."""
        return jnp.where(self.is_zero, vector, 0)

    def right(self, vector: Vector) -> Vector:
        """The algebraic entries."""
        return jnp.where(self.is_zero, vector, 0)

    def pseudoinverse(self, vector: Vector) -> Vector:
        """The quotients of the other entries."""
        return jnp.where(self.is_zero, 0, vector / jnp.where(self.is_zero, 1, lx.diagonal(self.mass)))

    def of_rank(self) -> lx.DiagonalLinearOperator:
        """The matrix, whose zeros are constant."""
        return lx.DiagonalLinearOperator(jnp.where(self.is_zero, 0, lx.diagonal(self.mass)))

    def of_rows(self, pattern: SparsityPattern) -> SparsityPattern:
        """The pattern as it is."""
        return pattern

    def of_both(self, pattern: SparsityPattern) -> SparsityPattern:
        """The pattern and the diagonal."""
        return pattern.with_diagonal()

    def regular_part(self) -> lx.DiagonalLinearOperator:
        """One for each entry that is not algebraic."""
        return lx.DiagonalLinearOperator(ones_for(~self.is_zero, lx.diagonal(self.mass)))

    def equations(self, residual: Vector) -> Vector:
        """The entries of the algebraic equations."""
        return self.left(residual)

    def algebraic(self, coordinates: Vector) -> Vector:
        """The algebraic entries."""
        return self.right(coordinates)

    def moduli(self) -> None:
        """`None`: coordinates are entries."""

    def separated(self, vector: Vector) -> Vector:
        """The vector as it is."""
        return vector

    def of_equations(self, matrix: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """The matrix as it is."""
        return matrix

    @property
    def separated_mass(self) -> lx.DiagonalLinearOperator:
        """The matrix, whose zeros are constant."""
        return self.of_rank()
