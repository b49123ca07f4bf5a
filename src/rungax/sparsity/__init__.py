"""Patterns of sparse Jacobians: which entries there are, and how few derivatives give them."""

from .colouring import Colouring as Colouring
from .pattern import SparsityPattern as SparsityPattern, as_pattern as as_pattern
