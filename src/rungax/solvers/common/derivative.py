"""The derivative of the state, which a vector field with a mass matrix determines by linear equations."""

from typing import Any

import jax.numpy as jnp

from ...jaxkit import Args, RealScalar, Y, with_fields
from ...nonlinear import (
    AbstractLinearAlgebra,
    AbstractNullSpaces,
    LinearSolver,
    Vector,
    consistent_slope,
    differential_slope,
    for_other_systems,
    null_spaces,
)
from ...terms import AbstractTerm
from .flat_field import FlatField


def at_time(term: AbstractTerm[Any, Any], t: RealScalar, y: Y, args: Args) -> FlatField:
    """The field of a term over a step of length one, for what depends on no step, with its equations as they are."""
    t = jnp.asarray(t)
    return with_fields(FlatField.for_step(term, t, t + jnp.ones_like(t), y, args), spaces=None)


def algebra_at(field: FlatField, linear_solver: LinearSolver | None, t: RealScalar, y: Y) -> AbstractLinearAlgebra:
    """The linear algebra for systems with algebraic equations, from the linear solver that the user gave, if any."""
    return field.linear_algebra(for_other_systems(linear_solver), t, y)


def null_spaces_of(field: FlatField, t: RealScalar, y: Vector) -> AbstractNullSpaces:
    """The null spaces of a field's mass matrix: those that a solve has computed once, or those at a time and state."""
    nulls = field.term.null_spaces
    if nulls is not None:
        return nulls
    mass = field.mass_at(t, y)
    assert mass is not None, "asked for only where there is a mass matrix"
    return null_spaces(mass)


def state_slope(term: AbstractTerm[Any, Any], linear_solver: LinearSolver | None, t: RealScalar, y: Y, args: Args) -> Y:
    """dy/dt in the direction of travel.

    Where $M y' = f(t, y)$ leaves it open, the derivatives of the algebraic equations decide.
    """
    field = at_time(term, t, y, args)
    vector = field.space.ravel(y)
    if term.mass_kind == "identity":
        return field.space.unravel(field.slope(t, vector))
    algebra = algebra_at(field, linear_solver, t, y)
    slope = consistent_slope(field, null_spaces_of(field, t, vector), algebra, t, vector)
    return field.space.unravel(slope)


def slope_of_differential_part(
    term: AbstractTerm[Any, Any], linear_solver: LinearSolver | None, t: RealScalar, y: Y, args: Args
) -> Y:
    """The part of dy/dt that $M y' = f(t, y)$ alone determines, in the direction of travel; zero in its other part."""
    field = at_time(term, t, y, args)
    vector = field.space.ravel(y)
    algebra = algebra_at(field, linear_solver, t, y)
    slope = differential_slope(field, null_spaces_of(field, t, vector), algebra, t, vector)
    return field.space.unravel(slope)


def state_derivative(
    term: AbstractTerm[Any, Any], linear_solver: LinearSolver | None, t: RealScalar, y: Y, args: Args
) -> Any:
    """dy/dt as `vf` of a term returns it: not in the direction of travel."""
    if term.mass_kind == "identity":
        return term.vf(t, y, args)
    t = jnp.asarray(t)
    slope = state_slope(term, linear_solver, t, y, args)
    return term.quotient(slope, term.contr(t, t + jnp.ones_like(t)))
