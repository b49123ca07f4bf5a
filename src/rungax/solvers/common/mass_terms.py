"""Terms with a mass matrix, as a solve prepares them: once for all steps."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ...jaxkit import Args, BoolScalar, FlatSpace, RealScalar, Time, Y
from ...nonlinear import (
    AbstractField,
    AbstractLinearAlgebra,
    AbstractNullSpaces,
    LinearSolver,
    LinearSystem,
    SparseLinearOperator,
    Tolerances,
    Vector,
    holomorphic_tag,
    is_regular,
    linear_algebra,
    mass_operator,
    solve,
    structure_of,
)
from ...results import RESULTS, Result, choose
from ...terms import AbstractTerm, AbstractWrappedTerm, MassKind, is_term
from ..base import AbstractSolver
from .constraints import Constraints
from .derivative import at_time, null_spaces_of, slope_of_differential_part, state_slope


class ConstrainedTerm(AbstractWrappedTerm):
    """A term with a mass matrix, and what a solve has computed from it.

    Parameters
    ----------
    term
        The term, in the direction of travel.
    spaces
        The null spaces of the mass matrix if that is constant.
    linear_solver
        The linear solver that the user gave to the method.
    """

    term: AbstractTerm[Any, Any]
    spaces: AbstractNullSpaces | None
    linear_solver: LinearSolver | None

    @property
    def null_spaces(self) -> AbstractNullSpaces | None:
        """The null spaces of a constant mass matrix."""
        return self.spaces

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The wrapped term's product."""
        return self.term.vf_prod(t, y, args, control)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y:
        """dy/dt in the direction of travel, that of the algebraic part by the derivatives of its equations."""
        return state_slope(self, self.linear_solver, t, y, args)


class DifferentialPart(AbstractWrappedTerm):
    """A term with a mass matrix whose time derivative is that of the differential part, for the first step's size."""

    term: ConstrainedTerm  # pyright: ignore[reportIncompatibleVariableOverride]

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y:
        """The part of dy/dt that the equation alone determines."""
        return slope_of_differential_part(self.term, self.term.linear_solver, t, y, args)


class MassAlone(AbstractField):
    """The field zero with a constant mass matrix, which is the matrix of all of its linear systems."""

    matrix: lx.AbstractLinearOperator

    @property
    def mass(self) -> lx.AbstractLinearOperator:
        """The mass matrix."""
        return self.matrix

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """Zero."""
        return jnp.zeros_like(y)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """Zero."""
        return jnp.zeros_like(y)

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The stored array for zero."""
        return algebra.jacobian.evaluate(jnp.zeros_like, y)


class SolvedTerm(AbstractWrappedTerm):
    r"""A term with a regular constant mass matrix, solved for the derivative: $y' = M^{-1} f(t, y)$.

    Parameters
    ----------
    term
        The term, in the direction of travel.
    algebra, system, factors
        The linear system with the mass matrix, and its factorisation.
    """

    term: AbstractTerm[Any, Any]
    algebra: AbstractLinearAlgebra
    system: LinearSystem
    factors: PyTree[Array]

    @classmethod
    def of(cls, term: AbstractTerm[Any, Any], y: Y) -> tuple[Self, BoolScalar]:
        """The solved term, and whether its mass matrix is regular."""
        space = FlatSpace(y, holomorphic_tag in term.jacobian_tags)
        mass, vector, zero = mass_operator(term.mass_at(0.0, y, None), space), space.ravel(y), jnp.zeros(())
        pattern = mass.pattern if isinstance(mass, SparseLinearOperator) else None
        algebra = linear_algebra(structure_of(mass), None, FlatSpace(vector, holomorphic=True), pattern)
        system = LinearSystem.at(algebra, MassAlone(mass), zero, vector, zero.astype(vector.real.dtype))
        factors = algebra.factorise(system) if algebra.has_factors else None
        return cls(term, algebra, system, factors), is_regular(mass)

    def vf(self, t: RealScalar, y: Y, args: Args) -> Y:
        """The vector field, multiplied by the inverse of the mass matrix."""
        return self._solved(self.term.vf(t, y, args), y)

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The wrapped term's product, multiplied by the inverse of the mass matrix."""
        return self._solved(self.term.vf_prod(t, y, args, control), y)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """The derivative of the state."""
        derivative = self.term.time_derivative(t, y, args)
        return None if derivative is None else self._solved(derivative, y)

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> None:
        """None: the identity."""

    @property
    def mass_kind(self) -> MassKind:
        """The identity."""
        return "identity"

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> None:
        """None: the user's Jacobian is that of the wrapped term."""

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """Those that do not declare a structure, which the inverse of the mass matrix changes."""
        return self.term.jacobian_tags & {holomorphic_tag}

    @property
    def jacobian_pattern(self) -> None:
        """None: the inverse of the mass matrix changes it."""

    def _solved(self, value: Y, y: Y) -> Y:
        space = FlatSpace(y, holomorphic_tag in self.term.jacobian_tags)
        return space.unravel(solve(self.algebra, self.system, space.ravel(value), self.factors))


class Prepared(NamedTuple):
    """Terms as a solve uses them.

    Parameters
    ----------
    terms
        The terms, in the direction of travel.
    constraints
        The algebraic equations; `None` without a mass matrix, or where the terms have been solved for the derivative.
    result
        Successful, or the reason why the solver cannot solve them.
    """

    terms: PyTree[Any]
    constraints: Constraints | None = None
    result: Result = RESULTS.successful

    @property
    def for_first_step(self) -> PyTree[Any]:
        """The terms by which the size of the first step is chosen."""
        return self.terms if self.constraints is None else DifferentialPart(self.terms)


def prepared(
    terms: PyTree[Any],
    solver: AbstractSolver[Any],
    t: Time,
    y: Y,
    args: Args,
    tolerances: Tolerances | None,
) -> Prepared:
    """The terms as a solve by a solver uses them: those with a mass matrix are prepared for it."""
    if not is_term(terms) or terms.mass_kind == "identity":
        return Prepared(terms)
    if solver.facts.mass_matrices == "regular":
        solved, is_regular = SolvedTerm.of(terms, y)
        return Prepared(solved, None, choose(is_regular, RESULTS.successful, RESULTS.singular_mass))
    spaces = None
    if terms.mass_kind == "constant":
        field = at_time(terms, t, y, args)
        spaces = null_spaces_of(field, t, field.space.ravel(y))
    term = ConstrainedTerm(terms, spaces, solver.given_linear_solver)
    return Prepared(term, Constraints(term, args, tolerances, term.linear_solver))
