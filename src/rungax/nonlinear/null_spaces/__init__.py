"""The null spaces of mass matrices, which may be singular; `base` says what they are."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import lineax as lx

from ...jaxkit import BoolScalar
from ...sparsity import SparsityPattern, random_direction
from ..banded import BandedLinearOperator
from ..sparse import SparseLinearOperator
from .base import AbstractNullSpaces as AbstractNullSpaces
from .blocks import BlockNullSpaces as BlockNullSpaces, of_blocks
from .dense import DenseNullSpaces as DenseNullSpaces, factors_of
from .diagonal import DiagonalNullSpaces as DiagonalNullSpaces


@singledispatch
def null_spaces(mass: Any) -> AbstractNullSpaces:
    """The null spaces of a mass matrix: by one factorisation of a full matrix, or of each block of a sparse one."""
    return DenseNullSpaces(factors_of(mass.as_matrix()))


@null_spaces.register(lx.DiagonalLinearOperator)
def _(mass: lx.DiagonalLinearOperator) -> DiagonalNullSpaces:
    return DiagonalNullSpaces(mass, lx.diagonal(mass) == 0)


@null_spaces.register(SparseLinearOperator)
def _(mass: SparseLinearOperator) -> AbstractNullSpaces:
    return of_blocks(mass)


@null_spaces.register(BandedLinearOperator)
def _(mass: BandedLinearOperator) -> AbstractNullSpaces:
    pattern = SparsityPattern.of_band(mass.in_size(), mass.lower, mass.upper)
    return of_blocks(SparseLinearOperator.of(mass, pattern))


@null_spaces.register(lx.TridiagonalLinearOperator)
def _(mass: lx.TridiagonalLinearOperator) -> AbstractNullSpaces:
    return null_spaces(BandedLinearOperator.of(mass, 1, 1))


def is_regular(mass: lx.AbstractLinearOperator) -> BoolScalar:
    """True if no singular value of a matrix counts as zero."""
    direction = jnp.asarray(random_direction(mass.in_size())).astype(jnp.result_type(mass.in_structure()))
    return jnp.all(null_spaces(mass).left(direction) == 0)
