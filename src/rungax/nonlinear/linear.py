r"""Solving $(I - \beta J)\,x = b$ with a factorisation that outlives the step it was made for."""

import abc
from functools import singledispatch
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import FlatSpace, RealScalar, Time, match_varying, without_derivatives
from .banded import BandedLinearOperator
from .jacobian import AbstractJacobian, BandedJacobian, DenseJacobian, ImplicitJacobian, Vector
from .tags import Banded, holomorphic_tag

type LinearSolver = lx.AbstractLinearSolver[Any]


class LinearAlgebra(eqx.Module):
    """How the Jacobian of a field is stored, and what solves with it."""

    jacobian: AbstractJacobian
    solver: LinearSolver

    def factorise(self, system: "LinearSystem") -> PyTree[Array]:
        """The arrays of the linear solver's state for a system."""
        return eqx.filter(self.solver.init(system.operator(self), {}), eqx.is_array)

    def empty_factors(self, system: "LinearSystem") -> PyTree[Array]:
        """Arrays like those of `factorise`."""
        arrays = eqx.filter(self._shape_of_state(system), _is_shape)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), arrays)

    def restored(self, factors: PyTree[Array], system: "LinearSystem") -> PyTree[Any]:
        """The linear solver's state from its arrays."""
        return eqx.combine(factors, eqx.filter(self._shape_of_state(system), _is_shape, inverse=True))

    def _shape_of_state(self, system: "LinearSystem") -> PyTree[Any]:
        """The linear solver's state, its arrays replaced by their shapes."""
        return eqx.filter_eval_shape(lambda system: self.solver.init(system.operator(self), {}), system)


class LinearSystem(eqx.Module):
    r"""The matrix $I - \beta J$ of a field at a time.

    Parameters
    ----------
    field
        The vector field over a step.
    t
        The time.
    kept
        What is kept of the Jacobian.
    scale
        The factor $\beta$.
    """

    field: "AbstractField"
    t: Time
    kept: Array
    scale: RealScalar

    @classmethod
    def at(cls, algebra: LinearAlgebra, field: "AbstractField", t: Time, y: Vector, scale: RealScalar) -> Self:
        """The system whose Jacobian is that at `y`."""
        return cls(field, t, field.jacobian(algebra, t, y), scale)

    def operator(self, algebra: LinearAlgebra) -> lx.AbstractLinearOperator:
        """The matrix as a linear operator."""
        return algebra.jacobian.shifted(lambda y: self.field.slope(self.t, y), self.kept, self.scale)


class AbstractField(eqx.Module):
    """The vector field over one step, on vectors."""

    @abc.abstractmethod
    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the increment of its driver over the step."""

    @abc.abstractmethod
    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The same for each unit of time."""

    @abc.abstractmethod
    def jacobian(self, algebra: LinearAlgebra, t: RealScalar, y: Vector) -> Array:
        """What `algebra` keeps of the Jacobian of `slope`."""


def solve(algebra: LinearAlgebra, system: LinearSystem, b: Vector, factors: PyTree[Array] | None = None) -> Vector:
    """The solution for a right-hand side, from a factorisation if there is one; moves with the system and with `b`."""
    return _solve((system, b), without_derivatives((algebra, factors)))


@eqx.filter_custom_jvp
def _solve(moving: tuple[LinearSystem, Vector], others: Any) -> Vector:
    (system, b), (algebra, factors) = moving, others
    return algebra.solver.compute(_state(algebra, system, factors), b, {})[0]


@_solve.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Vector, Vector]:
    r"""From $A x = b$: $A \dot x = \dot b - \dot A x$."""
    (system, b), (algebra, factors) = primals
    x = _solve(*primals)

    def residual(moving: tuple[LinearSystem, Vector]) -> Vector:
        system, b = moving
        return b - system.operator(algebra).mv(x)

    moved = eqx.filter_jvp(residual, ((system, b),), (tangents[0],))[1]
    return x, solve_tangent(algebra, system, moved, factors)


def solve_tangent(
    algebra: LinearAlgebra, system: LinearSystem, b: Vector, factors: PyTree[Array] | None = None
) -> Vector:
    """The solution for a right-hand side that is a tangent: the map can be transposed, whatever solves.

    By JAX's own linear solve: Lineax's has a callback in its derivatives, which a loop must not have.
    """
    system, b, factors = match_varying((system, b, factors), (system, b, factors))
    solver, state = algebra.solver, without_derivatives(_state(algebra, system, factors))
    return lax.custom_linear_solve(
        system.operator(algebra).mv,
        b,
        lambda _, b: solver.compute(state, b, {})[0],
        lambda _, b: solver.compute(solver.transpose(state, {})[0], b, {})[0],
    )


def _state(algebra: LinearAlgebra, system: LinearSystem, factors: PyTree[Array] | None) -> PyTree[Any]:
    if factors is None:
        return algebra.solver.init(system.operator(algebra), {})
    return algebra.restored(factors, system)


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


@singledispatch
def needs_matrix(solver: Any) -> bool:
    """Whether a linear solver works on the entries of a matrix, not only on its products with vectors.

    Register an iterative solver of your own: `needs_matrix.register(MySolver)(lambda solver: False)`.
    """
    del solver
    return True


@needs_matrix.register(lx.GMRES)
@needs_matrix.register(lx.BiCGStab)
@needs_matrix.register(lx.CG)
@needs_matrix.register(lx.Normal)
@needs_matrix.register(lx.LSMR)
def _(solver: Any) -> bool:
    del solver
    return False


def check_linear_solver(solver: Any) -> None:
    """That a solver's `linear_solver` is one.

    Raises
    ------
    ValueError
        If it is neither a Lineax solver nor `None`.
    """
    if solver is not None and not isinstance(solver, lx.AbstractLinearSolver):
        raise ValueError(
            "`linear_solver` solves the linear systems of implicit steps.\n"
            f"Expected: a Lineax solver such as `lineax.LU()`, or None\nFound:    {solver!r}\n"
            "Give an instance, not a class; leave it out to let size and structure choose."
        )


def structure_of(operator: lx.AbstractLinearOperator) -> frozenset[object]:
    """The tag that says which diagonals an operator has, if it has few."""
    if isinstance(operator, BandedLinearOperator):
        return frozenset([Banded(operator.lower, operator.upper)])
    if lx.is_diagonal(operator):
        return frozenset([lx.diagonal_tag])
    return frozenset([lx.tridiagonal_tag]) if lx.is_tridiagonal(operator) else frozenset()


def linear_algebra(tags: frozenset[object], solver: LinearSolver | None, space: FlatSpace) -> LinearAlgebra:
    """What suits the structure that a term's tags declare and the linear solver that was asked for."""
    jacobian = _jacobian(tags, solver, space)
    return LinearAlgebra(jacobian, jacobian.linear_solver(space.size) if solver is None else solver)


def _jacobian(tags: frozenset[object], solver: LinearSolver | None, space: FlatSpace) -> AbstractJacobian:
    if solver is not None and not needs_matrix(solver):
        return ImplicitJacobian()
    band = _band(tags)
    if band is None:
        return DenseJacobian()
    if space.is_split:
        raise ValueError(
            "`ODETerm(tags=...)` declares diagonals of a Jacobian, but complex states are solved as real ones.\n"
            f"Expected: `rungax.holomorphic_tag` among the tags, if the field is differentiable in the complex sense\n"
            f"Found:    {band}\nAdd it, or leave out the structure."
        )
    return BandedJacobian(band.lower, band.upper)


_LINEAX_BANDS: dict[object, Banded] = {lx.diagonal_tag: Banded(0, 0), lx.tridiagonal_tag: Banded(1, 1)}

_OTHER_TAGS = (
    holomorphic_tag,
    lx.symmetric_tag,
    lx.unit_diagonal_tag,
    lx.lower_triangular_tag,
    lx.upper_triangular_tag,
    lx.positive_semidefinite_tag,
    lx.negative_semidefinite_tag,
)


def _band(tags: frozenset[object]) -> Banded | None:
    """The narrowest band that the tags declare."""
    unknown = [tag for tag in tags if not (isinstance(tag, Banded) or tag in _LINEAX_BANDS or tag in _OTHER_TAGS)]
    if unknown:
        raise ValueError(
            "`ODETerm(tags=...)` says what is known of the Jacobian.\n"
            "Expected: Lineax's tags, `rungax.Banded(lower, upper)`, or `rungax.holomorphic_tag`\n"
            f"Found:    {unknown[0]!r}\nFor example `tags=lineax.tridiagonal_tag`."
        )
    bands = [tag for tag in tags if isinstance(tag, Banded)]
    bands += [band for tag, band in _LINEAX_BANDS.items() if tag in tags]
    return min(bands, key=lambda band: (band.lower + band.upper, band.lower), default=None)
