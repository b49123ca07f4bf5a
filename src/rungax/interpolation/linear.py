"""Linear interpolation over one step."""

from typing import Any, Self

import jax
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Y
from .base import AbstractLocalInterpolation, blend, fraction


class LocalLinearInterpolation(AbstractLocalInterpolation):
    r"""The straight line between the ends of a step, $y_0 + \theta (y_1 - y_0)$.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States there.
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value on the line at `t`."""
        theta = fraction(t, self.t0, self.t1)
        return jax.tree.map(lambda a, b: blend([theta], [b - a], a), self.y0, self.y1)

    @classmethod
    def from_k(cls, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: Any) -> Self:
        """The same for a Runge–Kutta method, whose stages `k` say no more."""
        del k
        return cls(t0=t0, t1=t1, y0=y0, y1=y1)
