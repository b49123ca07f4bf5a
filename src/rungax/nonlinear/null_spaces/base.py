r"""The null spaces of mass matrices, which may be singular.

The equation $M y' = f$ holds algebraic equations where $M$ is singular: $W^* f = 0$ for the columns of $W$, an
orthonormal basis of the left null space. With the orthogonal projections $P = W W^* = I - M M^+$ and $Q = I - M^+ M$
onto the left and the right null space they are $P f = 0$. Which equations these are is known at run time, and not while
tracing.

With the singular value decomposition $M = U \Sigma V^*$, the matrix $U^* M V = \Sigma$ has the algebraic equations
and the algebraic part of the state apart from the others, in orthonormal coordinates. For a diagonal matrix both
factors are the identity, so that the entries of the state keep their scales.

A singular value counts as zero if it is at most $n\,\epsilon$ times the largest one, where $n$ is the number of rows
(of the block, for a matrix of blocks). An entry of a diagonal matrix counts as zero only if it is zero: it is given
and not computed, so that a small one is a small mass.

References
----------
G. H. Golub, V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, SIAM J. Numer. Anal. 10 (1973), 413–432: the derivatives of $M^+$ and of both projections.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from ...sparsity import SparsityPattern
from ..jacobian import Vector


class AbstractNullSpaces(eqx.Module):
    """The left and the right null space of a matrix $M$."""

    @abc.abstractmethod
    def left(self, vector: Vector) -> Vector:
        """The projection $P$ of a vector onto the left null space: the residuals of the algebraic equations."""

    @abc.abstractmethod
    def right(self, vector: Vector) -> Vector:
        """The projection $Q$ of a vector onto the right null space: its algebraic part."""

    @abc.abstractmethod
    def pseudoinverse(self, vector: Vector) -> Vector:
        """The product of $M^+$ and a vector; not for sparse matrices with large blocks, which are not factorised."""

    @abc.abstractmethod
    def of_rank(self) -> lx.AbstractLinearOperator:
        """The matrix with the derivatives of its nearest change that keeps the rank.

        A change $D$ keeps the rank, to first order, if and only if $P D Q = 0$. Otherwise there are no derivatives:
        the solution jumps when an algebraic equation becomes a differential one.
        """

    @abc.abstractmethod
    def of_rows(self, pattern: SparsityPattern) -> SparsityPattern:
        """The pattern of $P J$ for a matrix $J$ with the given pattern, and of all else that combines equations."""

    @abc.abstractmethod
    def of_both(self, pattern: SparsityPattern) -> SparsityPattern:
        """The pattern of `regular_part` plus a matrix in its coordinates, for a matrix with the given pattern."""

    @abc.abstractmethod
    def regular_part(self) -> lx.AbstractLinearOperator:
        """A matrix of ones on the diagonal and zeros for algebraic equations: what $U^* M V$ is but for its scales."""

    @abc.abstractmethod
    def equations(self, residual: Vector) -> Vector:
        """The coordinates of the algebraic equations' residuals, $W^*$ times a vector, with zeros for the others."""

    @abc.abstractmethod
    def algebraic(self, coordinates: Vector) -> Vector:
        """The vector with the given coordinates in the right null space; those of its complement do not count."""

    @abc.abstractmethod
    def moduli(self) -> "AbstractNullSpaces | None":
        """The null spaces with the moduli of the entries of both bases; `None` if coordinates combine no entries.

        Sums of moduli show what cancels in the sums that `equations` and `algebraic` compute.
        """

    @abc.abstractmethod
    def separated(self, vector: Vector) -> Vector:
        """Equations combined so that those with zero rows in the matrix are the algebraic ones: the product with U*."""

    @property
    @abc.abstractmethod
    def separated_mass(self) -> lx.AbstractLinearOperator:
        """The matrix for the combined equations."""

    def of_equations(self, matrix: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """The matrix of combined equations; it is formed."""
        combined = jax.vmap(self.separated, in_axes=1, out_axes=1)(matrix.as_matrix())
        return lx.MatrixLinearOperator(combined)


def ones_for(where: Array, like: Array) -> Array:
    """One where something holds, else zero, in the dtype of an array."""
    return jnp.where(where, 1, 0).astype(like.dtype)
