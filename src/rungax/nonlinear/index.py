"""The test that the index is one: the algebraic equations determine the algebraic part of the state."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from ..jaxkit import BoolScalar, RealScalar, without_derivatives
from ..sparsity import SparsityPattern
from .condition import reciprocal_condition
from .constraint_field import AlgebraicBlock, system_of
from .jacobian import BandedJacobian, DenseJacobian, Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearAlgebra, LinearSystem
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
    block = _block(AlgebraicBlock(field, spaces, y), suitable, t)
    is_finite = jnp.all(jnp.isfinite(field.slope(t, y))) & jnp.all(jnp.isfinite(block.given))
    rounding = 100 * float(jnp.finfo(y.dtype).eps)
    return (reciprocal_condition(suitable, block.system, block.times_bounds) >= rounding) | ~is_finite


class _Block(NamedTuple):
    """The matrix of the algebraic equations.

    Parameters
    ----------
    system
        The matrix.
    given
        The entries that it is computed from.
    times_bounds
        The product with bounds for the moduli of its entries; `None` for the moduli themselves.
    """

    system: LinearSystem
    given: Array
    times_bounds: Callable[[Vector], Vector] | None


def _block(block: AlgebraicBlock, algebra: AbstractLinearAlgebra, t: RealScalar) -> _Block:
    """The matrix, and the moduli of the matrices whose product it is, if it is one."""
    y, zeros, slope = block.state, jnp.zeros_like(block.state), lambda y: block.field.slope(t, y)
    moduli = block.spaces.moduli()
    if moduli is None:
        system = system_of(block, algebra, t, zeros)
        return _Block(system, system.stored, None)
    # Whether a declared pattern is right shows in the field's own entries: sums that cancel are nothing but roundings.
    stored = _unchecked(algebra.jacobian, lambda y: block.slope(t, y), zeros)
    system = LinearSystem(block, jnp.asarray(t), stored, jnp.ones((), y.real.dtype))
    given = algebra.jacobian.evaluate(slope, y)
    jacobian = algebra.jacobian.shifted(slope, given, -1.0, lx.DiagonalLinearOperator(zeros))
    of_jacobian, regular = (jax.tree.map(jnp.abs, x) for x in (jacobian, moduli.regular_part()))
    return _Block(system, given, lambda x: regular.mv(x) + moduli.equations(of_jacobian.mv(moduli.algebraic(x))))


@singledispatch
def _unchecked(jacobian: Any, function: Callable[[Vector], Vector], y: Vector) -> Array:
    """The stored entries of a Jacobian, without a check of their pattern."""
    return jacobian.evaluate(function, y)


@_unchecked.register(SparseJacobian)
def _(jacobian: SparseJacobian, function: Callable[[Vector], Vector], y: Vector) -> Array:
    return jacobian.compared(function, y)[0]


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
