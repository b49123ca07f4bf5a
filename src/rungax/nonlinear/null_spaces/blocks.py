"""The null spaces of sparse matrices, by their blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ...jaxkit import with_fields
from ...sparsity import SparsityPattern, blocks_of, full_blocks, lines_of, product_of
from ..jacobian import Vector
from ..mass import MAX_BLOCK
from ..sparse import SparseLinearOperator
from .base import AbstractNullSpaces, ones_for
from .dense import Factors, factors_of, product, with_moduli


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

    factors: Factors
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
        diagonals = [jax.vmap(jnp.diag)(ones_for(~x.factors.is_zero, values)) for x in self.groups]
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
        groups = tuple(_Group(with_moduli(x.factors), x.places, x.entries) for x in self.groups)
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
            products = jax.vmap(product)(matrix, vector[group.places])
            others = others.at[group.places].set(products, unique_indices=True)
        return others

    def _with_blocks(self, matrices: list[Array], values: Array) -> SparseLinearOperator:
        """The sparse matrix with the given blocks, and values elsewhere."""
        for group, matrix in zip(self.groups, matrices, strict=True):
            values = values.at[group.entries].set(matrix.reshape(group.entries.shape), unique_indices=True)
        return SparseLinearOperator(values, self._of_mass)


def of_blocks(mass: SparseLinearOperator) -> BlockNullSpaces:
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
        groups.append(_Group(jax.vmap(factors_of)(matrices), jnp.asarray(places), jnp.asarray(at)))
        is_large[places] = False
    is_filled = (mass.values != 0).astype(jnp.int32)
    sums = [jax.ops.segment_sum(is_filled, lines, n) for lines in (pattern.rows, pattern.columns)]
    zero_rows, zero_columns = ((total == 0) & is_large for total in sums)
    return BlockNullSpaces(mass, tuple(groups), zero_rows, zero_columns, blocks)
