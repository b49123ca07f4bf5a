"""Linear interpolation over one step."""

from typing import Any, Self

import jax
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Y
from .base import AbstractLocalInterpolation, chord, fraction


class LocalLinearInterpolation(AbstractLocalInterpolation):
    r"""The straight line between the ends of a step, $y_0 + \theta (y_1 - y_0)$.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends.

    Differentiability
    -----------------
    With respect to all parameters and the times of evaluation.

    Examples
    --------
    >>> import rungax
    >>> line = rungax.LocalLinearInterpolation(t0=1.0, t1=2.0, y0=0.0, y1=4.0)
    >>> float(line.evaluate(1.5)), float(line.evaluate(1.5, 2.0)), float(line.derivative(1.5))
    (2.0, 2.0, 4.0)
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value on the line at `t`."""
        theta = fraction(t, self.t0, self.t1)
        return jax.tree.map(lambda a, b: chord(theta, a, b), self.y0, self.y1)

    @classmethod
    def from_k(cls, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: Any) -> Self:
        """The line over a step of a Runge–Kutta method, whose stages `k` are not needed."""
        del k
        return cls(t0=t0, t1=t1, y0=y0, y1=y1)
