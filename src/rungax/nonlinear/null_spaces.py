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
import functools
from functools import singledispatch
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ..jaxkit import with_derivatives_of, with_fields
from ..sparsity import SparsityPattern, blocks_of, full_blocks, lines_of, product_of
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
        return lx.DiagonalLinearOperator(_ones_for(~self.is_zero, lx.diagonal(self.mass)))

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
        """The matrix as it is."""
        return self.mass


class _Factors(NamedTuple):
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

    factors: _Factors

    def left(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return _times(self.factors.left, vector)

    def right(self, vector: Vector) -> Vector:
        """The product with the projection."""
        return _times(self.factors.right, vector)

    def pseudoinverse(self, vector: Vector) -> Vector:
        """The product with the pseudoinverse."""
        return _times(self.factors.inverse, vector)

    def of_rank(self) -> lx.MatrixLinearOperator:
        """The matrix."""
        return lx.MatrixLinearOperator(self.factors.of_rank)

    def of_rows(self, pattern: SparsityPattern) -> SparsityPattern:
        """All entries."""
        return _all_entries(pattern.size)

    def of_both(self, pattern: SparsityPattern) -> SparsityPattern:
        """All entries."""
        return _all_entries(pattern.size)

    def regular_part(self) -> lx.DiagonalLinearOperator:
        """One for each singular value that is not zero."""
        return lx.DiagonalLinearOperator(_ones_for(~self.factors.is_zero, self.factors.basis))

    def equations(self, residual: Vector) -> Vector:
        """The product with the left singular vectors of the singular values that are zero."""
        return jnp.where(self.factors.is_zero, _times(self.factors.separator, residual), 0)

    def algebraic(self, coordinates: Vector) -> Vector:
        """The combination of the right singular vectors of the singular values that are zero."""
        return _times(self.factors.basis, jnp.where(self.factors.is_zero, coordinates, 0))

    def moduli(self) -> "DenseNullSpaces":
        """The same with the moduli of the singular vectors."""
        return DenseNullSpaces(_with_moduli(self.factors))

    def separated(self, vector: Vector) -> Vector:
        """The product with the separator."""
        return _times(self.factors.separator, vector)

    @property
    def separated_mass(self) -> lx.MatrixLinearOperator:
        """The product of the separator and the matrix."""
        return lx.MatrixLinearOperator(self.factors.mass)


@singledispatch
def null_spaces(mass: Any) -> AbstractNullSpaces:
    """The null spaces of a mass matrix: by one factorisation of a full matrix, or of each block of a sparse one."""
    return DenseNullSpaces(_factors(mass.as_matrix()))


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


@null_spaces.register(lx.TridiagonalLinearOperator)
def _(mass: lx.TridiagonalLinearOperator) -> AbstractNullSpaces:
    return null_spaces(BandedLinearOperator.of(mass, 1, 1))


class _Group(eqx.Module):
    """The blocks of one size.

    Parameters
    ----------
    factors
        What is computed of the blocks.
    places
        The rows of each block.
    entries
        The places of the entries of each block in the pattern of all blocks.
    """

    factors: _Factors
    places: Int[Array, "blocks size"]
    entries: Int[Array, "blocks entries"]


class BlockNullSpaces(AbstractNullSpaces):
    """The null spaces of a matrix that consists of blocks, up to the order of rows and columns.

    A block of more than `MAX_BLOCK` rows is not factorised: its rows and columns that are zero count as algebraic, and
    the rest is presumed to be regular. In `regular_part` it stands as it is, so that a wrong presumption is found.

    Parameters
    ----------
    mass
        The matrix.
    groups
        The blocks, by their sizes.
    zero_rows, zero_columns
        The rows and the columns that are zero, of blocks that are too large.
    blocks
        The pattern of full blocks in the groups, and of the diagonal of the others.
    """

    mass: SparseLinearOperator
    groups: tuple[_Group, ...]
    zero_rows: Bool[Array, " n"]
    zero_columns: Bool[Array, " n"]
    blocks: SparsityPattern = eqx.field(static=True)

    def left(self, vector: Vector) -> Vector:
        """The products with the projections of the blocks."""
        return self._product([x.factors.left for x in self.groups], jnp.where(self.zero_rows, vector, 0), vector)

    def right(self, vector: Vector) -> Vector:
        """The products with the projections of the blocks."""
        return self._product([x.factors.right for x in self.groups], jnp.where(self.zero_columns, vector, 0), vector)

    def pseudoinverse(self, vector: Vector) -> Vector:
        """The products with the pseudoinverses of the blocks."""
        if sum(group.places.size for group in self.groups) != vector.size:
            raise NotImplementedError("the pseudoinverse of a block that is too large to be factorised")
        return self._product([x.factors.inverse for x in self.groups], jnp.zeros_like(vector), vector)

    def of_rank(self) -> SparseLinearOperator:
        """The blocks; of a large one the entries, without those in rows and columns that are zero."""
        pattern = self._of_mass
        is_zero = self.zero_rows[pattern.rows] & self.zero_columns[pattern.columns]
        values = jnp.where(is_zero, 0, SparseLinearOperator.of(self.mass, pattern).values)
        return self._with_blocks([x.factors.of_rank for x in self.groups], values)

    def of_rows(self, pattern: SparsityPattern) -> SparsityPattern:
        """The rows of a block have the entries of all of them."""
        return product_of(self.blocks, pattern)

    def of_both(self, pattern: SparsityPattern) -> SparsityPattern:
        """The rows of a block have the entries of all of them, and so have the columns."""
        return product_of(self.of_rows(pattern), self.blocks).union(self._of_mass)

    def regular_part(self) -> SparseLinearOperator:
        """Ones for the singular values of the blocks that are not zero; large blocks as they are."""
        values = SparseLinearOperator.of(self.mass, self._of_mass).values
        diagonals = [jax.vmap(jnp.diag)(_ones_for(~x.factors.is_zero, values)) for x in self.groups]
        return self._with_blocks(diagonals, values)

    def equations(self, residual: Vector) -> Vector:
        """The products with the left singular vectors of the blocks; in large blocks the entries."""
        return jnp.where(self._is_zero(self.zero_rows), self.separated(residual), 0)

    def algebraic(self, coordinates: Vector) -> Vector:
        """The combinations of the right singular vectors of the blocks; in large blocks the entries."""
        coordinates = jnp.where(self._is_zero(self.zero_columns), coordinates, 0)
        return self._product([x.factors.basis for x in self.groups], coordinates, coordinates)

    def moduli(self) -> "BlockNullSpaces":
        """The same with the moduli of the singular vectors."""
        groups = tuple(_Group(_with_moduli(x.factors), x.places, x.entries) for x in self.groups)
        return with_fields(self, groups=groups)

    def separated(self, vector: Vector) -> Vector:
        """The products with the separators of the blocks."""
        return self._product([x.factors.separator for x in self.groups], vector, vector)

    @property
    def separated_mass(self) -> SparseLinearOperator:
        """The products of the separators and the blocks; large blocks as they are."""
        values = SparseLinearOperator.of(self.mass, self._of_mass).values
        return self._with_blocks([x.factors.mass for x in self.groups], values)

    @property
    def _of_mass(self) -> SparsityPattern:
        """The pattern of the matrix with its blocks full."""
        return self.blocks.union(self.mass.pattern)

    def _is_zero(self, in_large: Bool[Array, " n"]) -> Bool[Array, " n"]:
        """The places of the algebraic equations, from those in large blocks."""
        for group in self.groups:
            in_large = in_large.at[group.places].set(group.factors.is_zero)
        return in_large

    def _product(self, matrices: list[Array], others: Vector, vector: Vector) -> Vector:
        """The products of matrices of blocks with a vector, beside the entries in other rows."""
        # JAX transposes a scatter only if it is told that no index is repeated.
        for group, matrix in zip(self.groups, matrices, strict=True):
            products = jax.vmap(_times)(matrix, vector[group.places])
            others = others.at[group.places].set(products, unique_indices=True)
        return others

    def _with_blocks(self, matrices: list[Array], values: Array) -> SparseLinearOperator:
        """The sparse matrix with the given blocks, and values elsewhere."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            values = values.at[group.entries].set(matrix.reshape(group.entries.shape), unique_indices=True)
        return SparseLinearOperator(values, self._of_mass)


def _of_blocks(mass: SparseLinearOperator) -> BlockNullSpaces:
    """The null spaces of a sparse matrix, by its blocks."""
    pattern, n = mass.pattern, mass.pattern.size
    blocks = full_blocks(pattern, MAX_BLOCK)
    entries = blocks.union(pattern)
    values = SparseLinearOperator.of(mass, entries).values
    is_large = np.ones(n, bool)
    groups: list[_Group] = []
    for places in blocks_of(pattern, MAX_BLOCK):
        rows, columns = lines_of(places)
        at = entries.find(rows.reshape(-1), columns.reshape(-1))[0].reshape(rows.shape)
        matrices = values[at].reshape(*places.shape, places.shape[1])
        groups.append(_Group(jax.vmap(_factors)(matrices), jnp.asarray(places), jnp.asarray(at)))
        is_large[places] = False
    is_filled = (mass.values != 0).astype(jnp.int32)
    sums = [jax.ops.segment_sum(is_filled, lines, n) for lines in (pattern.rows, pattern.columns)]
    zero_rows, zero_columns = ((total == 0) & is_large for total in sums)
    return BlockNullSpaces(mass, tuple(groups), zero_rows, zero_columns, blocks)


def _factors(matrix: Array) -> _Factors:
    """What is computed of a matrix."""
    u, sizes, vh = jnp.linalg.svd(lax.stop_gradient(matrix))
    rounding = matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)
    is_zero = sizes <= rounding * jnp.max(sizes, initial=0.0)
    left, right, inverse = _projections_and_inverse(matrix, (u, sizes, vh, is_zero))
    # The solution does not depend on the coordinates, which need no derivatives.
    separator, basis = u.conj().T, vh.conj().T
    separated = _times(separator, matrix)
    # Not roundings; a change of the matrix that turns the null space has derivatives there.
    mass = with_derivatives_of(jnp.where(is_zero[:, None], 0, separated), separated)
    change = _times(lax.stop_gradient(left), matrix, lax.stop_gradient(right))
    of_rank = with_derivatives_of(matrix, matrix - change)
    return _Factors(left, right, inverse, of_rank, separator, basis, is_zero, mass)


@jax.custom_jvp
def _projections_and_inverse(matrix: Array, decomposition: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """The projections onto the left and the right null space, and the pseudoinverse, from the decomposition."""
    u, sizes, vh, is_zero = decomposition
    uh, v, zeros = u.conj().T, vh.conj().T, is_zero.astype(matrix.dtype)
    reciprocals = jnp.where(is_zero, 0, 1 / jnp.where(is_zero, 1, sizes)).astype(matrix.dtype)
    return _times(u * zeros[None, :], uh), _times(v * zeros[None, :], vh), _times(v * reciprocals[None, :], uh)


@_projections_and_inverse.defjvp
def _(primals: tuple[Array, Any], tangents: tuple[Array, Any]) -> tuple[Any, Any]:
    """The derivatives along changes that keep the rank, not those of the decomposition, which need not exist."""
    change, _ = tangents
    left, right, inverse = _projections_and_inverse(*primals)
    adjoint, inverse_adjoint = change.conj().T, inverse.conj().T
    of_left, of_right = -_times(left, change, inverse), -_times(inverse, change, right)
    of_inverse = (
        -_times(inverse, change, inverse)
        + _times(inverse, inverse_adjoint, adjoint, left)
        + _times(right, adjoint, inverse_adjoint, inverse)
    )
    derivatives = of_left + of_left.conj().T, of_right + of_right.conj().T, of_inverse
    return (left, right, inverse), derivatives


def _times(*factors: Array) -> Array:
    """The product of matrices, and perhaps a vector, in full precision: on accelerators the default rounds more."""
    return functools.reduce(lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST), factors)


def _with_moduli(factors: _Factors) -> _Factors:
    """The factors with the moduli of the singular vectors."""
    return factors._replace(separator=jnp.abs(factors.separator), basis=jnp.abs(factors.basis))


def _ones_for(where: Array, like: Array) -> Array:
    """One where something holds, else zero, in the dtype of an array."""
    return jnp.where(where, 1, 0).astype(like.dtype)


def _all_entries(size: int) -> SparsityPattern:
    return SparsityPattern.of_band(size, size - 1, size - 1)
