r"""Fields whose linear systems say something about the algebraic equations $P f(t, y) = 0$ of $M y' = f(t, y)$."""

import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import RealScalar
from ..sparsity import random_direction
from .jacobian import Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearSystem, solve
from .null_spaces import AbstractNullSpaces


class ConstraintField(AbstractField):
    r"""The field $-s\, P f(t, y)$ with the mass matrix of $f$ at one place.

    Its stage equation $M z = -s\, P f(t, y_0 + z)$ says that both sides are zero, because the one lies in the range of
    $M$ and the other is orthogonal to it: the state $y_0 + z$ has the differential part of $y_0$, and fulfils the
    algebraic equations. The matrix of its systems is $M + s\, P J$.

    Parameters
    ----------
    field
        The field $f$.
    spaces
        The null spaces of $M$.
    matrix
        The mass matrix $M$.
    scale
        The factor $s$, which makes both parts of the matrix similar in size.
    """

    field: AbstractField
    spaces: AbstractNullSpaces
    matrix: lx.AbstractLinearOperator
    scale: Array

    @classmethod
    def at(cls, field: AbstractField, spaces: AbstractNullSpaces, t: RealScalar, y: Vector) -> "ConstraintField":
        """The field for a time and state."""
        mass = spaces.of_rank()
        direction = jnp.asarray(random_direction(y.size)).astype(y.dtype)
        rate = jax.jvp(lambda y: spaces.left(field.slope(t, y)), (y,), (direction,))[1]
        sizes = [jnp.max(jnp.abs(x), initial=0.0) for x in (mass.mv(direction), rate)]
        is_usable = (sizes[0] > 0) & (sizes[1] > 0) & jnp.isfinite(sizes[0] / sizes[1])
        scale = jnp.where(is_usable, sizes[0] / jnp.where(is_usable, sizes[1], 1.0), 1.0)
        return cls(field, spaces, mass, lax.stop_gradient(scale.astype(y.dtype)))

    @property
    def mass(self) -> lx.AbstractLinearOperator:
        """The mass matrix."""
        return self.matrix

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The slope: the field has no driver."""
        return self.slope(t, y)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The residuals of the algebraic equations, scaled and with the other sign."""
        return -self.scale * self.spaces.left(self.field.slope(t, y))

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The Jacobian, derived from the slope."""
        del rate
        return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)


class AlgebraicBlock(AbstractField):
    r"""A field whose matrix holds the Jacobian of the algebraic equations by the algebraic part of the state.

    It is $E + W^* J Z$ in the coordinates of the null spaces, whose bases are $W$ and $Z$, with the regular part $E$ of
    the mass matrix in the other rows and columns. It is regular if and only if the algebraic equations determine the
    algebraic part. The unknowns are the coordinates of a change of the state.
    """

    field: AbstractField
    spaces: AbstractNullSpaces
    state: Vector

    @property
    def mass(self) -> lx.AbstractLinearOperator:
        """The regular part of the mass matrix."""
        return jax.tree.map(lambda x: x.astype(self.state.dtype), self.spaces.regular_part())

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The slope: the field has no driver."""
        return self.slope(t, y)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The residuals of the algebraic equations after a change of the algebraic part, with the other sign."""
        return -self.spaces.equations(self.field.slope(t, self.state + self.spaces.algebraic(y)))

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The Jacobian, derived from the slope."""
        del rate
        return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)


def consistent_slope(
    field: AbstractField, spaces: AbstractNullSpaces, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector
) -> Vector:
    r"""The derivative of the state: $M y' = f$ together with $P (J y' + \partial_t f) = 0$.

    The second equation is the derivative of the algebraic equations, which have no other say on their own part of $y'$.
    """
    constraints, t = ConstraintField.at(field, spaces, t, y), jnp.asarray(t)
    slope, by_time = jax.jvp(lambda t: field.slope(t, y), (t,), (jnp.ones_like(t),))
    system = system_of(constraints, algebra, t, y)
    right = slope - spaces.left(slope) - constraints.scale * spaces.left(by_time)
    return solve(algebra, system, right)


def differential_slope(
    field: AbstractField, spaces: AbstractNullSpaces, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector
) -> Vector:
    """The derivative of the differential part of the state; the other part is zero."""
    slope = consistent_slope(field, spaces, algebra, t, y)
    return slope - spaces.right(slope)


def system_of(
    constraints: ConstraintField | AlgebraicBlock, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector
) -> LinearSystem:
    """The linear system of a field of algebraic equations at a state."""
    return LinearSystem.at(algebra, constraints, jnp.asarray(t), y, jnp.ones((), y.real.dtype))
