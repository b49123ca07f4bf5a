r"""The null spaces of mass matrices, which may be singular.

The equation $M y' = f$ holds algebraic equations where $M$ is singular: $W^\top f = 0$ for the columns of $W$, a basis
of the left null space. With the orthogonal projections $P = W W^\top = I - M M^+$ and $Q = I - M^+ M$ onto the left and
the right null space they are $P f = 0$. Which equations these are is known at run time, and not while tracing.

References
----------
G. H. Golub, V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
separate, SIAM J. Numer. Anal. 10 (1973), 413–432: the derivatives of $M^+$ and of both projections.
"""

import abc
from functools import singledispatch
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ..jaxkit import with_derivatives_of
from ..sparsity import SparsityPattern, blocks_of, full_blocks, lines_of
from .banded import BandedLinearOperator
from .jacobian import Vector
from .mass import MAX_BLOCK
from .sparse import SparseLinearOperator


class AbstractNullSpaces(eqx.Module):
    """The left and the right null space of a matrix $M$."""

    @abc.abstractmethod
    def left(self, vector: Vector) -> Vector:
        """The projection $P$ of a vector onto the left null space: the residuals of the algebraic equations."""

    @abc.abstractmethod
    def right(self, vector: Vector) -> Vector:
        """The projection $Q$ of a vector onto the right null space: its algebraic part."""

    @abc.abstractmethod
    def partner(self) -> lx.AbstractLinearOperator:
        """A well-conditioned matrix that maps the complement of the right null space onto that of the left one."""

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

    def partner(self) -> lx.DiagonalLinearOperator:
        """One for each entry that is not algebraic."""
        return lx.DiagonalLinearOperator(jnp.where(self.is_zero, 0.0, 1.0))

    def separated(self, vector: Vector) -> Vector:
        """The vector as it is."""
        return vector

    def of_equations(self, matrix: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """The matrix as it is."""
        return matrix

    @property
    def separated_mass(self) -> lx.DiagonalLinearOperator:
        """The matrix as it is."""
        return self.mass


class _Matrices(NamedTuple):
    """What is computed of a matrix, or of each matrix in a stack.

    Parameters
    ----------
    left, right
        The projections.
    partner
        A well-conditioned matrix between their complements.
    separator
        The unitary matrix U* that separates the algebraic equations from the others.
    mass
        Its product with the matrix, whose rows for algebraic equations are zero.
    """

    left: Array
    right: Array
    partner: Array
    separator: Array
    mass: Array


class DenseNullSpaces(AbstractNullSpaces):
    """The null spaces of a full matrix."""

    matrices: _Matrices

    def left(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return self.matrices.left @ vector

    def right(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return self.matrices.right @ vector

    def partner(self) -> lx.MatrixLinearOperator:
        """The polar factor."""
        return lx.MatrixLinearOperator(self.matrices.partner)

    def separated(self, vector: Vector) -> Vector:
        """The product with the separator."""
        return self.matrices.separator @ vector

    @property
    def separated_mass(self) -> lx.MatrixLinearOperator:
        """The product of the separator and the matrix."""
        return lx.MatrixLinearOperator(self.matrices.mass)


class _Group(eqx.Module):
    """The blocks of one size.

    Parameters
    ----------
    matrices
        What is computed of the blocks.
    places
        The rows of each block.
    entries
        The places of the entries of each block in the pattern of all blocks.
    """

    matrices: _Matrices
    places: Int[Array, "blocks size"]
    entries: Int[Array, "blocks entries"]


class BlockNullSpaces(AbstractNullSpaces):
    """The null spaces of a matrix that consists of blocks, up to the order of rows and columns.

    Parameters
    ----------
    mass
        The matrix.
    groups
        The blocks, by their sizes.
    is_large
        The rows of blocks that are too large.
    lines
        The rows and the columns of these that are zero.
    entries
        The pattern of the blocks of the groups, of the matrix, and of the diagonal.
    """

    mass: SparseLinearOperator
    groups: tuple[_Group, ...]
    is_large: Bool[Array, " n"]
    lines: tuple[Bool[Array, " n"], Bool[Array, " n"]]
    entries: SparsityPattern = eqx.field(static=True)

    def left(self, vector: Vector) -> Vector:
        """The products with the projections of the blocks."""
        return self._product(
            [group.matrices.left for group in self.groups], jnp.where(self.lines[0], vector, 0), vector
        )

    def right(self, vector: Vector) -> Vector:
        """The products with the projections of the blocks."""
        return self._product(
            [group.matrices.right for group in self.groups], jnp.where(self.lines[1], vector, 0), vector
        )

    def partner(self) -> SparseLinearOperator:
        """The polar factors of the blocks, and ones for large blocks but in rows that are zero."""
        zeros = jnp.zeros(self.entries.num_entries, self.mass.values.dtype)
        ones = jnp.where(self.is_large & ~self.lines[0], 1.0, 0.0).astype(zeros.dtype)
        values = zeros.at[self.entries.diagonal_entries].set(ones)
        return self._with_blocks([group.matrices.partner for group in self.groups], values)

    def separated(self, vector: Vector) -> Vector:
        """The products with the separators of the blocks."""
        return self._product([group.matrices.separator for group in self.groups], vector, vector)

    @property
    def separated_mass(self) -> SparseLinearOperator:
        """The products of the separators and the blocks; large blocks as they are."""
        values = SparseLinearOperator.of(self.mass, self.entries).values
        return self._with_blocks([group.matrices.mass for group in self.groups], values)

    def _product(self, matrices: list[Array], others: Vector, vector: Vector) -> Vector:
        """The products of matrices of blocks with a vector, beside the entries in other rows."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            products = jnp.einsum("bij,bj->bi", matrix, vector[group.places], precision=lax.Precision.HIGHEST)
            others = others.at[group.places].set(products)
        return others

    def _with_blocks(self, matrices: list[Array], values: Array) -> SparseLinearOperator:
        """The sparse matrix with the given blocks, and values elsewhere."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            values = values.at[group.entries].set(matrix.reshape(group.entries.shape))
        return SparseLinearOperator(values, self.entries)


@singledispatch
def null_spaces(mass: Any) -> AbstractNullSpaces:
    """The null spaces of a mass matrix: by one factorisation of a full matrix, or of each block of a sparse one."""
    return DenseNullSpaces(_matrices(mass.as_matrix()))


@null_spaces.register(lx.DiagonalLinearOperator)
def _(mass: lx.DiagonalLinearOperator) -> DiagonalNullSpaces:
    return DiagonalNullSpaces(mass, lx.diagonal(mass) == 0)


@null_spaces.register(SparseLinearOperator)
def _(mass: SparseLinearOperator) -> AbstractNullSpaces:
    return _of_blocks(mass)


@null_spaces.register(BandedLinearOperator)
def _(mass: BandedLinearOperator) -> AbstractNullSpaces:
    pattern = SparsityPattern.of_band(mass.in_size(), mass.lower, mass.upper)
    return _of_blocks(SparseLinearOperator.of(mass, pattern))


def _of_blocks(mass: SparseLinearOperator) -> BlockNullSpaces:
    """The null spaces of a sparse matrix, by its blocks."""
    pattern, n = mass.pattern, mass.pattern.size
    entries = full_blocks(pattern, MAX_BLOCK).union(pattern)
    is_large = np.ones(n, bool)
    groups: list[_Group] = []
    for places in blocks_of(pattern, MAX_BLOCK):
        rows, columns = lines_of(places)
        found, is_present = pattern.find(rows.reshape(-1), columns.reshape(-1))
        values = jnp.where(is_present, mass.values[found], 0).reshape(*places.shape, places.shape[1])
        at = entries.find(rows.reshape(-1), columns.reshape(-1))[0].reshape(rows.shape)
        groups.append(_Group(jax.vmap(_matrices)(values), jnp.asarray(places), jnp.asarray(at)))
        is_large[places] = False
    is_filled = (mass.values != 0).astype(jnp.int32)
    sums = (jax.ops.segment_sum(is_filled, lines, n) for lines in (pattern.rows, pattern.columns))
    in_rows, in_columns = ((sum == 0) & is_large for sum in sums)
    return BlockNullSpaces(mass, tuple(groups), jnp.asarray(is_large), (in_rows, in_columns), entries)


def _matrices(matrix: Array) -> _Matrices:
    """What is computed of a matrix."""
    left, right, _ = _projections_and_inverse(matrix)
    # The solution does not depend on how equations are combined, and the partner is for a test of regularity.
    parts = _factorised(lax.stop_gradient(matrix))
    separated = parts.separator @ matrix
    # Not roundings; a change of the matrix that turns the null space has derivatives there.
    mass = with_derivatives_of(jnp.where(parts.is_zero[:, None], 0, separated), separated)
    return _Matrices(left, right, parts.partner, parts.separator, mass)


@jax.custom_jvp
def _projections_and_inverse(matrix: Array) -> tuple[Array, Array, Array]:
    """The projections onto the left and the right null space, and the pseudoinverse."""
    parts = _factorised(matrix)
    return parts.left, parts.right, parts.inverse


@_projections_and_inverse.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    """The derivatives along changes that keep the rank."""
    (change,) = tangents
    left, right, inverse = _projections_and_inverse(*primals)
    of_left, of_right = -left @ change @ inverse, -inverse @ change @ right
    adjoint = change.conj().T
    of_inverse = (
        -inverse @ change @ inverse
        + inverse @ inverse.conj().T @ adjoint @ left
        + right @ adjoint @ inverse.conj().T @ inverse
    )
    derivatives = of_left + of_left.conj().T, of_right + of_right.conj().T, of_inverse
    return (left, right, inverse), derivatives


class _Factorised(NamedTuple):
    """Both projections, the pseudoinverse, the polar factor, the left singular vectors, and their null vectors."""

    left: Array
    right: Array
    inverse: Array
    partner: Array
    separator: Array
    is_zero: Array


def _factorised(matrix: Array) -> _Factorised:
    """A matrix, factorised by its singular value decomposition."""
    u, sizes, vh = jnp.linalg.svd(matrix)
    rounding = matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)
    is_zero = sizes <= rounding * jnp.max(sizes, initial=0.0)
    zeros, ones = (jnp.where(is_zero, a, b).astype(matrix.dtype) for a, b in ((1, 0), (0, 1)))
    reciprocals = jnp.where(is_zero, 0, 1 / jnp.where(is_zero, 1, sizes)).astype(matrix.dtype)
    product = lambda a, weights, b: jnp.matmul(a * weights[None, :], b, precision=lax.Precision.HIGHEST)
    uh, v = u.conj().T, vh.conj().T
    inverse = product(v, reciprocals, uh)
    return _Factorised(product(u, zeros, uh), product(v, zeros, vh), inverse, product(u, ones, vh), uh, is_zero)
