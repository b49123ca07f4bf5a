r"""The matrices $I - \beta J$ of implicit methods: where the Jacobian comes from, and how it is stored.

A Jacobian is dense, or banded as the user declares, or never formed. What is kept of it from step to step are plain
arrays; the operator that a linear solver takes is made of them when it is needed.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Inexact

from ..jaxkit import RealScalar, match_varying, scaled
from .banded import BandedLinearOperator
from .banded_lu import BandedLU
from .lu import MAX_UNROLLED, SmallLU

type Vector = Inexact[Array, " n"]
type Field = Callable[[Vector], Vector]
"""A vector field at a fixed time, as a function of the state's vector."""


class AbstractJacobian(eqx.Module):
    """One way to store the Jacobian of a field."""

    @property
    @abc.abstractmethod
    def is_stored(self) -> bool:
        """Whether arrays stand for it, which can be kept and factorised."""

    @abc.abstractmethod
    def evaluate(self, field: Field, y: Vector) -> Array:
        """What is kept of the Jacobian at `y`."""

    @abc.abstractmethod
    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The same, of a Jacobian given as an operator."""

    @abc.abstractmethod
    def shifted(self, field: Field, kept: Array, scale: RealScalar) -> lx.AbstractLinearOperator:
        r"""The operator $I - \text{scale} \cdot J$."""

    @abc.abstractmethod
    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """What solves such systems of `size` unknowns by default."""


class DenseJacobian(AbstractJacobian):
    """A full matrix; costs one derivative of the field for each column."""

    @property
    def is_stored(self) -> bool:
        """It is."""
        return True

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The matrix."""
        return _products(field, y, jnp.eye(y.size, dtype=y.dtype)).T

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The operator's matrix."""
        return operator.as_matrix()

    def shifted(self, field: Field, kept: Array, scale: RealScalar) -> lx.AbstractLinearOperator:
        """The matrix with the identity."""
        del field
        return lx.MatrixLinearOperator(jnp.eye(kept.shape[0], dtype=kept.dtype) - scaled(scale, kept))

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """The unrolled factorisation for few unknowns, LAPACK's for many."""
        return SmallLU() if size <= MAX_UNROLLED else lx.LU()


class BandedJacobian(AbstractJacobian):
    """The diagonals of a matrix that has few; costs one derivative of the field for each diagonal.

    Columns far enough apart share no row, so that one derivative serves them all.

    Parameters
    ----------
    lower, upper
        Number of diagonals below and above the main one.

    References
    ----------
    A. R. Curtis, M. J. D. Powell, J. K. Reid, On the estimation of sparse Jacobian matrices, IMA J. Appl. Math. 13
    (1974), 117–119.
    """

    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)

    @property
    def is_stored(self) -> bool:
        """It is."""
        return True

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The diagonals, row by row: entry `(d, i)` is that of row `i` and column `i + d - lower`."""
        width, n = self.lower + self.upper + 1, y.size
        rows = jnp.arange(n)
        seeds = (rows[None, :] % width == jnp.arange(width)[:, None]).astype(y.dtype)
        columns = rows[None, :] + jnp.arange(-self.lower, self.upper + 1)[:, None]
        diagonals = jnp.take_along_axis(_products(field, y, seeds), columns % width, axis=0)
        return jnp.where((columns >= 0) & (columns < n), diagonals, jnp.zeros((), y.dtype))

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The diagonals of the operator's matrix."""
        return BandedLinearOperator.of(operator, self.lower, self.upper).diagonals

    def shifted(self, field: Field, kept: Array, scale: RealScalar) -> lx.AbstractLinearOperator:
        """The diagonals with the identity."""
        del field
        diagonals = (-scaled(scale, kept)).at[self.lower].add(1)
        match self.lower, self.upper:
            case 0, 0:
                return lx.DiagonalLinearOperator(diagonals[0])
            case 1, 1:
                return lx.TridiagonalLinearOperator(diagonals[1], diagonals[0, 1:], diagonals[2, :-1])
            case _:
                return BandedLinearOperator(diagonals, self.lower, self.upper)

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """What the shape of the band allows."""
        del size
        match self.lower, self.upper:
            case 0, 0:
                return lx.Diagonal()
            case 1, 1:
                return lx.Tridiagonal()
            case _:
                return BandedLU()


class ImplicitJacobian(AbstractJacobian):
    """Only its products with vectors, for iterative linear solvers; what is kept is where it is taken."""

    @property
    def is_stored(self) -> bool:
        """It is not."""
        return False

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The place."""
        del field
        return y

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """Nothing can be kept of an operator without its entries."""
        raise ValueError(
            "An iterative linear solver takes the Jacobian's products from the vector field itself.\n"
            "Expected: no `jacobian`\nFound:    `ODETerm(..., jacobian=...)`\nLeave it out, or use a direct solver."
        )

    def shifted(self, field: Field, kept: Array, scale: RealScalar) -> lx.AbstractLinearOperator:
        """The product with a vector, as a function."""
        _, times_jacobian = jax.linearize(field, kept)
        return lx.FunctionLinearOperator(
            lambda v: v - scaled(scale, times_jacobian(match_varying(v, kept))), jax.eval_shape(lambda: kept)
        )

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """None: it was chosen because a solver was given that needs no more."""
        raise AssertionError("a solver was given")


def _products(field: Field, y: Vector, vectors: Array) -> Array:
    """The Jacobian at `y` times each row of `vectors`."""
    vectors = match_varying(vectors, y)
    return jax.vmap(lambda v: jax.jvp(field, (y,), (v,))[1])(vectors)
