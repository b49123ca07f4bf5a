"""The base class of methods for a drift and a diffusion."""

from typing import Any, ClassVar

from jaxtyping import PyTree

from ...interpolation import LocalLinearInterpolation
from ...jaxkit import Args, RealScalar, Time, Y
from ...terms import AbstractTerm, MultiTerm
from ..base import AbstractSolver


class AbstractTwoTermSolver(AbstractSolver[None]):
    """A method for `MultiTerm(drift, diffusion)` without a solver state, with linear dense output."""

    term_structure: ClassVar[PyTree[Any]] = MultiTerm[tuple[AbstractTerm, AbstractTerm]]
    interpolation_cls = LocalLinearInterpolation

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> None:
        """No solver state."""
        del terms, t0, t1, y0, args

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """Both vector fields at `t0`, `y0`, as a tuple."""
        return terms.vf(t0, y0, args)
