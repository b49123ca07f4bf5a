r"""The matrices $M - \beta J$ of implicit methods: where the Jacobian $J$ comes from, and how it is stored.

A Jacobian is dense, or banded as the user declares, or never formed. It is stored from step to step as a plain array,
or as several. The operator that a linear solver takes is built from what is stored when it is needed, in `shifted` and
nowhere else: the mass matrix $M$ enters there, and the scale $\beta$ may be complex.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Inexact, PyTree

from ..jaxkit import RealScalar, complex_dtype, match_varying, scaled
from .banded import BandedLinearOperator
from .banded_lu import BandedLU
from .lu import MAX_UNROLLED, SmallLU

type Vector = Inexact[Array, " n"]
type Scale = RealScalar | complex | Complex[Array, ""]
"""The factor of the Jacobian in a shifted matrix."""

type Field = Callable[[Vector], Vector]
"""A vector field at a fixed time, as a function of the state's vector."""


class AbstractJacobian(eqx.Module):
    """One way to store the Jacobian of a field."""

    @property
    @abc.abstractmethod
    def is_stored(self) -> bool:
        """True if the stored array holds the Jacobian's entries, from which a matrix can be factorised."""

    @abc.abstractmethod
    def evaluate(self, field: Field, y: Vector) -> PyTree[Array]:
        """The stored array for the Jacobian at `y`."""

    @abc.abstractmethod
    def of_operator(self, operator: lx.AbstractLinearOperator) -> PyTree[Array]:
        """The stored array for a matrix given as an operator."""

    @abc.abstractmethod
    def shifted(
        self, field: Field, stored: Any, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        r"""The operator $M - \text{scale} \cdot J$, complex if the scale is.

        Parameters
        ----------
        field
            The vector field at the time of the Jacobian.
        stored
            The stored array for $J$.
        scale
            The factor of $J$, real or complex.
        mass
            The mass matrix $M$; `None` stands for the identity.
        """

    @abc.abstractmethod
    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """The default linear solver for such systems of `size` unknowns."""


class DenseJacobian(AbstractJacobian):
    """A full matrix; costs one derivative of the field for each column."""

    @property
    def is_stored(self) -> bool:
        """True: the array holds all entries."""
        return True

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The Jacobian matrix."""
        return products(field, y, jnp.eye(y.size, dtype=y.dtype)).T

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The operator's matrix."""
        return operator.as_matrix()

    def shifted(
        self, field: Field, stored: Array, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        """The shifted matrix, with all its entries."""
        del field
        jacobian = scaled(scale, stored)
        if mass is None:
            return lx.MatrixLinearOperator(jnp.eye(stored.shape[0], dtype=jacobian.dtype) - jacobian)
        return lx.MatrixLinearOperator(self.of_operator(mass).astype(jacobian.dtype) - jacobian)

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """The unrolled factorisation for few unknowns, LAPACK's for many."""
        return SmallLU() if size <= MAX_UNROLLED else lx.LU()


class BandedJacobian(AbstractJacobian):
    """The diagonals of a matrix that has few; costs one derivative of the field for each diagonal.

    Columns that are at least the width of the band apart have no row in common, so that one derivative serves them all.

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
        """True: the array holds all diagonals."""
        return True

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The diagonals, row by row: entry `(d, i)` is that of row `i` and column `i + d - lower`."""
        width, n = self.lower + self.upper + 1, y.size
        rows = jnp.arange(n)
        seeds = (rows[None, :] % width == jnp.arange(width)[:, None]).astype(y.dtype)
        columns = rows[None, :] + jnp.arange(-self.lower, self.upper + 1)[:, None]
        diagonals = jnp.take_along_axis(products(field, y, seeds), columns % width, axis=0)
        return jnp.where((columns >= 0) & (columns < n), diagonals, jnp.zeros((), y.dtype))

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """The diagonals of the operator's matrix."""
        return BandedLinearOperator.of(operator, self.lower, self.upper).diagonals

    def shifted(
        self, field: Field, stored: Array, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        """The shifted matrix, with the same diagonals."""
        del field
        jacobian = scaled(scale, stored)
        if mass is None:
            diagonals = (-jacobian).at[self.lower].add(1)
        else:
            diagonals = self.of_operator(mass).astype(jacobian.dtype) - jacobian
        match self.lower, self.upper:
            case 0, 0:
                return lx.DiagonalLinearOperator(diagonals[0])
            case 1, 1:
                return lx.TridiagonalLinearOperator(diagonals[1], diagonals[0, 1:], diagonals[2, :-1])
            case _:
                return BandedLinearOperator(diagonals, self.lower, self.upper)

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """The direct solver for a band of this shape."""
        del size
        match self.lower, self.upper:
            case 0, 0:
                return lx.Diagonal(well_posed=True)  # otherwise small entries would count as zero
            case 1, 1:
                return lx.Tridiagonal()
            case _:
                return BandedLU()


class ImplicitJacobian(AbstractJacobian):
    """Products of the Jacobian with vectors, for iterative linear solvers; the stored array is the state it is at."""

    @property
    def is_stored(self) -> bool:
        """False: entries are never computed."""
        return False

    def evaluate(self, field: Field, y: Vector) -> Array:
        """The state at which products are taken."""
        del field
        return y

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """Raise a `ValueError`: products are derived from the field, not from an operator."""
        raise ValueError(
            "An iterative linear solver takes the Jacobian's products from the vector field itself.\n"
            "Expected: no `jacobian`\nFound:    `ODETerm(..., jacobian=...)`\nLeave it out, or use a direct solver."
        )

    def shifted(
        self, field: Field, stored: Array, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        """The product of the shifted matrix with a vector, as a function."""
        _, times_jacobian = jax.linearize(field, stored)

        def product(vector: Vector) -> Vector:
            change = scaled(scale, _product(times_jacobian, match_varying(vector, stored), stored.dtype))
            return (vector if mass is None else _product(mass.mv, vector, stored.dtype)) - change

        dtype = complex_dtype(stored.dtype) if jnp.iscomplexobj(scale) else stored.dtype
        return lx.FunctionLinearOperator(product, jax.eval_shape(lambda: stored.astype(dtype)))

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """Unreachable: this kind of Jacobian is chosen by a linear solver that the user gave."""
        raise AssertionError("a linear solver was given")


def _product(linear: Callable[[Vector], Vector], vector: Vector, dtype: np.dtype[Any]) -> Vector:
    """The value of a linear function of vectors of `dtype`, which if real is extended to complex vectors."""
    if jnp.iscomplexobj(vector) and not jnp.issubdtype(dtype, jnp.complexfloating):
        return lax.complex(linear(vector.real), linear(vector.imag))
    return linear(vector)


def products(field: Field, y: Vector, vectors: Array) -> Array:
    """The Jacobian at `y` times each row of `vectors`."""
    vectors = match_varying(vectors, y)
    return jax.vmap(lambda v: jax.jvp(field, (y,), (v,))[1])(vectors)
