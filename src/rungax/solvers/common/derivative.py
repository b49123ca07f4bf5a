"""The derivative of the state, which a vector field with a mass matrix determines by linear equations."""

from ...jaxkit import RealScalar, Y
from ...nonlinear import LinearSolver, Vector
from .flat_field import FlatField


def state_slope(field: FlatField, linear_solver: LinearSolver | None, t: RealScalar, y: Vector) -> Vector:
    """The derivative of the state in the direction of travel, as a vector.

    Where $M y' = f(t, y)$ leaves it open, the derivatives of the algebraic equations decide.
    """
    mass = field.mass_at(t, y)
    if mass is None:
        return field.slope(t, y)
    from ...nonlinear import consistent_slope, null_spaces

    nulls = field.term.null_spaces
    nulls = null_spaces(mass) if nulls is None else nulls
    algebra = field.linear_algebra(linear_solver, t, field.space.unravel(y))
    return consistent_slope(field, nulls, algebra, t, y)


def state_derivative(field: FlatField, linear_solver: LinearSolver | None, t: RealScalar, y: Y) -> Y:
    """dy/dt as `vf` of a term returns it: not in the direction of travel."""
    if field.term.mass_kind == "identity":
        return field.term.vf(t, y, field.args)
    slope = state_slope(field, linear_solver, t, field.space.ravel(y))
    return field.term.quotient(field.space.unravel(slope), field.rate)
