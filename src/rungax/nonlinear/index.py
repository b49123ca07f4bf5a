"""The test that the index is one: the algebraic equations determine the algebraic part of the state."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from ..jaxkit import BoolScalar, RealScalar, without_derivatives
from ..sparsity import SparsityPattern
from .condition import reciprocal_condition
from .constraint_field import AlgebraicBlock, system_of
from .jacobian import BandedJacobian, DenseJacobian, Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearAlgebra
from .null_spaces import AbstractNullSpaces
from .sparse_jacobian import SparseJacobian

MAX_FORMED = 300
"""The number of unknowns up to which a full matrix is formed, also where a linear solver needs none."""


def index_is_one(
    field: AbstractField, spaces: AbstractNullSpaces, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector
) -> BoolScalar:
    """True if the matrix of the algebraic equations is far from singular: a reciprocal condition of 100 roundings.

    Rows and columns are scaled first, so that the units do not count. What is not finite has another reason: the answer
    is true. It is also true, without a test, for more than `MAX_FORMED` unknowns where a linear solver never forms a
    matrix; an iterative solver does not solve its systems then.
    """
    suitable = _algebra(algebra, spaces, y.size)
    if suitable is None:
        return jnp.asarray(True)
    field, spaces, t, y = without_derivatives((field, spaces, jnp.asarray(t), y))
    block = AlgebraicBlock(field, spaces, y)
    system = system_of(block, suitable, t, jnp.zeros_like(y))
    is_finite = jnp.all(jnp.isfinite(field.slope(t, y))) & jnp.all(jnp.isfinite(system.stored))
    rounding = 100 * float(jnp.finfo(y.dtype).eps)
    return (reciprocal_condition(suitable, system, _times_bounds(block, suitable, t)) >= rounding) | ~is_finite


def _times_bounds(
    block: AlgebraicBlock, algebra: AbstractLinearAlgebra, t: RealScalar
) -> Callable[[Vector], Vector] | None:
    """The product with the moduli of the matrices whose product the block is; `None` if it is no product."""
    moduli, y, field = block.spaces.moduli(), block.state, block.field
    if moduli is None:
        return None
    slope = lambda y: field.slope(t, y)
    none = lx.DiagonalLinearOperator(jnp.zeros_like(y))
    jacobian = algebra.jacobian.shifted(slope, algebra.jacobian.evaluate(slope, y), -1.0, none)
    of_jacobian, regular = (jax.tree.map(jnp.abs, x) for x in (jacobian, moduli.regular_part()))
    return lambda x: regular.mv(x) + moduli.equations(of_jacobian.mv(moduli.algebraic(x)))


def _algebra(algebra: AbstractLinearAlgebra, spaces: AbstractNullSpaces, size: int) -> AbstractLinearAlgebra | None:
    """The linear algebra for the matrix of algebraic equations; `None` if there is none.

    The solvers are our own: those of Lineax for singular matrices would hide what is tested.
    """
    if size <= MAX_FORMED:
        jacobian = DenseJacobian()
        return LinearAlgebra(jacobian, jacobian.linear_solver(size))
    if not algebra.jacobian.is_stored:
        return None
    pattern = _pattern(algebra.jacobian, size)
    if pattern is None:
        return LinearAlgebra(algebra.jacobian, algebra.jacobian.linear_solver(size))
    widened = spaces.of_both(pattern)
    jacobian = algebra.jacobian if widened == pattern else SparseJacobian(widened)
    return LinearAlgebra(jacobian, jacobian.linear_solver(size))


@singledispatch
def _pattern(jacobian: Any, size: int) -> SparsityPattern | None:
    """The pattern of a stored Jacobian; `None` if all entries are stored."""
    del jacobian, size
    return None


@_pattern.register(BandedJacobian)
def _(jacobian: BandedJacobian, size: int) -> SparsityPattern:
    return SparsityPattern.of_band(size, jacobian.lower, jacobian.upper)


@_pattern.register(SparseJacobian)
def _(jacobian: SparseJacobian, size: int) -> SparsityPattern:
    del size
    return jacobian.pattern
