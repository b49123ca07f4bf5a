"""The blocks of which a sparse matrix consists, up to the order of its rows and columns."""

import numpy as np
from jaxtyping import Int

from .pattern import SparsityPattern


def blocks_of(pattern: SparsityPattern, largest: int) -> list[Int[np.ndarray, "blocks size"]]:
    """The rows of each block of at most `largest` rows, one array for each size of blocks.

    A block is a connected part of the pattern, in which the row and the column of one number belong together.
    """
    # Imported here, because most programs have no sparse matrices.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones, shape = np.ones(pattern.num_entries, np.int8), (pattern.size, pattern.size)
    labels = connected_components(coo_array((ones, (pattern.rows, pattern.columns)), shape=shape), directed=False)[1]
    counts = np.bincount(labels, minlength=0)
    order = np.argsort(labels, kind="stable").astype(np.int32)
    starts = np.cumsum(counts) - counts
    sizes = np.unique(counts[counts <= largest])
    return [order[starts[counts == size][:, None] + np.arange(size)] for size in sizes]


def lines_of(places: Int[np.ndarray, "blocks size"]) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column of each entry of full blocks with these rows, of shape `(blocks, size * size)`."""
    size = places.shape[1]
    return np.repeat(places, size, axis=1), np.tile(places, (1, size))


def full_blocks(pattern: SparsityPattern, largest: int) -> SparsityPattern:
    """The pattern of full blocks in place of those of a pattern, and of ones in the rows of larger blocks."""
    diagonal = np.arange(pattern.size)
    lines = [lines_of(places) for places in blocks_of(pattern, largest)]
    rows, columns = (np.concatenate([diagonal, *(each[i].reshape(-1) for each in lines)]) for i in (0, 1))
    return SparsityPattern.of_entries(pattern.size, rows, columns)


def product_of(first: SparsityPattern, second: SparsityPattern) -> SparsityPattern:
    """The pattern of the product of two matrices."""
    from scipy.sparse import csr_array

    shape = (first.size, first.size)
    factors = [
        csr_array((np.ones(x.num_entries, np.float32), (x.rows, x.columns)), shape=shape) for x in (first, second)
    ]
    return SparsityPattern(factors[0] @ factors[1])
