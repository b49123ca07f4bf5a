"""Slopes at both ends of a step, for dense output by a cubic."""

from ...jaxkit import DenseInfo
from ...step import Step


def slopes_at_ends(step: Step) -> DenseInfo:
    """The fields of a `ThirdOrderHermitePolynomialInterpolation` over a step; costs two evaluations."""
    terms, control = step.terms, step.terms.contr(step.t0, step.t1)
    k0 = terms.vf_prod(step.t0, step.y0, step.args, control)
    k1 = terms.vf_prod(step.t1, step.y1, step.args, control)
    return {"y0": step.y0, "y1": step.y1, "k0": k0, "k1": k1}
