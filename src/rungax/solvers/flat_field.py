"""A term over one step, as a function of vectors."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ..jaxkit import Args, FlatSpace, RealScalar, Y
from ..nonlinear import (
    AbstractField,
    LinearAlgebra,
    LinearSolver,
    Vector,
    holomorphic_tag,
    linear_algebra,
    structure_of,
)
from ..terms import AbstractTerm


class FlatField(AbstractField):
    """The vector field of a term over the step from `t0` to `t1`.

    Parameters
    ----------
    term, args
        The term and its arguments.
    control
        The increment of the term's driver over the step.
    rate
        The same for each unit of time.
    space
        What the vectors stand for.
    """

    term: AbstractTerm[Any, Any]
    args: Args
    control: PyTree[Any]
    rate: PyTree[Any]
    space: FlatSpace

    @classmethod
    def over(cls, term: AbstractTerm[Any, Any], t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> Self:
        """The field over a step, for states like `y`."""
        control = term.contr(t0, t1)
        length = jnp.asarray(t1 - t0)
        # Where a lane makes no step, nothing moves, and nothing must be divided by zero.
        length = jnp.where(length == 0, 1.0, length)
        rate = jax.tree.map(lambda x: x / length.astype(jnp.result_type(x)), control)
        return cls(term, args, control, rate, FlatSpace(y, holomorphic_tag in term.jacobian_tags))

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the increment of its driver over the step."""
        return self._product(t, y, self.control)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The same for each unit of time."""
        return self._product(t, y, self.rate)

    def jacobian(self, algebra: LinearAlgebra, t: RealScalar, y: Vector) -> Array:
        """What `algebra` keeps of the Jacobian of `slope`: the user's, if given, else derived."""
        given = self.term.jacobian_at(t, self.space.unravel(y), self.args)
        if given is None:
            return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)
        kept = algebra.jacobian.of_operator(as_operator(given, self.space))
        return kept * jnp.asarray(self.rate).astype(kept.dtype)

    def linear_algebra(self, solver: LinearSolver | None, t: RealScalar, y: Y) -> LinearAlgebra:
        """How linear systems with the Jacobian are solved, for states like `y`."""
        tags = self.term.jacobian_tags
        given = eqx.filter_eval_shape(self.term.jacobian_at, t, y, self.args)
        if isinstance(given, lx.AbstractLinearOperator):
            tags = tags | structure_of(given)
        return linear_algebra(tags, solver, self.space)

    def _product(self, t: RealScalar, y: Vector, control: PyTree[Any]) -> Vector:
        return self.space.ravel(self.term.vf_prod(t, self.space.unravel(y), self.args, control))


def as_operator(given: Any, space: FlatSpace) -> lx.AbstractLinearOperator:
    """What a user's `jacobian` returned, as an operator on vectors.

    Raises
    ------
    ValueError
        If it has not as many rows and columns as the state has entries.
    """
    size, dtype = space.size, space.dtype
    if isinstance(given, lx.AbstractLinearOperator):
        rows, columns = given.out_size(), given.in_size()
        if (rows, columns) != (size, size):
            raise ValueError(_wrong_shape(size, f"an operator of shape ({rows}, {columns})"))
        return given
    leaves = jax.tree.leaves(given)
    found = jnp.shape(leaves[0]) if len(leaves) == 1 else f"{len(leaves)} arrays"
    if len(leaves) != 1 or jnp.size(leaves[0]) != size * size or jnp.shape(leaves[0])[:1] != (size,):
        raise ValueError(_wrong_shape(size, f"{found}"))
    matrix = jnp.asarray(leaves[0]).reshape(size, size)
    return lx.MatrixLinearOperator(matrix.astype(dtype))


def _wrong_shape(size: int, found: str) -> str:
    return (
        "`ODETerm(..., jacobian=...)` must return the derivative of every entry of the vector field with respect to\n"
        f"every entry of the state.\nExpected: shape ({size}, {size}), or a Lineax operator of that size\n"
        f"Found:    {found}\nLet `jax.jacfwd(vector_field, argnums=1)` show what is meant, or leave it out."
    )
