"""Patterns of sparse Jacobians: which entries there are, and how few derivatives give them."""

from .blocks import (
    blocks_of as blocks_of,
    full_blocks as full_blocks,
    lines_of as lines_of,
    product_of as product_of,
)
from .colouring import Colouring as Colouring
from .detection import Entries as Entries, entries_at as entries_at, finite_points as finite_points
from .directions import random_direction as random_direction
from .matrix import SparseMatrix as SparseMatrix, is_sparse as is_sparse, sparse_matrix as sparse_matrix
from .pattern import SparsityPattern as SparsityPattern, as_pattern as as_pattern
