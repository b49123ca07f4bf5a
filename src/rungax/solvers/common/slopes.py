"""Slopes at both ends of a step, for dense output by a cubic."""

from ...jaxkit import DenseInfo, Time, Y
from ...nonlinear import LinearSolver
from ...step import Step
from .derivative import state_derivative


def slopes_at_ends(step: Step, linear_solver: LinearSolver | None = None) -> DenseInfo:
    """The fields of a `ThirdOrderHermitePolynomialInterpolation` over a step; costs two evaluations.

    With a mass matrix each takes a linear system, solved by the linear solver that the user gave, if any.
    """
    terms, args, control = step.terms, step.args, step.terms.contr(step.t0, step.t1)

    def increment(t: Time, y: Y) -> Y:
        if terms.mass_kind == "identity":
            return terms.vf_prod(t, y, args, control)
        return terms.prod(state_derivative(terms, linear_solver, t, y, args), control)

    k0, k1 = increment(step.t0, step.y0), increment(step.t1, step.y1)
    return {"y0": step.y0, "y1": step.y1, "k0": k0, "k1": k1}
