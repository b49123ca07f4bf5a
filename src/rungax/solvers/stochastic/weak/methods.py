"""The weak methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from typing import Any, ClassVar

from jaxtyping import PyTree

from ....jaxkit import RealScalar
from ...tableaus.dri1 import DRI1 as TABLEAU
from ...tableaus.types.ito import ItoTableau
from .step import AbstractWeakSRK


class DRI1(AbstractWeakSRK):
    r"""Debrabant and Rößler's method DRI1 for Itô equations with any noise, of weak order 2.

    For `MultiTerm(drift, diffusion)`. Expectations of smooth functions of the solution converge with order 2: use it
    for means, variances and other statistics of many paths. For ordinary equations the order is 3. Single paths
    converge with strong order 1/2 (1 for commutative noise). Steps must not be adaptive: the signs of the Lévy areas
    enter a step, so that a choice of steps by their error could shift the limit. No error estimate, linear dense
    output. Needs a path with space-time Lévy area.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, or if the path has no space-time Lévy area.

    Warns
    -----
    UserWarning
        In a solve whose steps may be rejected.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Three evaluations of the drift, and 1 + 4 m of the diffusion for m sources of noise (3 for one), in two batches:
    each source has arguments of its own, at which only its column is used. Memory: the batches hold 2 m values of the
    diffusion.

    References
    ----------
    K. Debrabant, A. Rößler, Families of efficient second order Runge–Kutta methods for the weak approximation of Itô
    stochastic differential equations, Appl. Numer. Math. 59 (2009), 582–594, arXiv:1303.5103: the class of methods, its
    random variables, and the scheme DRI1.

    A. Rößler, Second order Runge–Kutta methods for Itô stochastic differential equations, SIAM J. Numer. Anal. 47
    (2009), 1713–1738, for the moments that the random variables must have.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.DRI1()
    >>> solver.order(None), solver.strong_order(None), solver.weak_order(None)
    (3, 0.5, 2)
    """

    tableau: ClassVar[ItoTableau] = TABLEAU

    def order(self, terms: PyTree[Any]) -> int:
        """Three."""
        del terms
        return 3

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One half, for any noise."""
        del terms
        return 0.5

    def weak_order(self, terms: PyTree[Any]) -> RealScalar:
        """Two."""
        del terms
        return 2
