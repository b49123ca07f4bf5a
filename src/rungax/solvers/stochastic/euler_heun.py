"""The Euler–Heun method."""

from typing import Any

import jax
from jaxtyping import PyTree

from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y, add
from ...results import RESULTS, Result
from ..base import AbstractStratonovichSolver
from .base import AbstractTwoTermSolver


class EulerHeun(AbstractTwoTermSolver, AbstractStratonovichSolver[None]):
    r"""The Euler–Heun method for Stratonovich equations: Euler's for the drift, Heun's for the diffusion.

    $$\bar y = y_0 + g(t_0, y_0) W, \qquad
    y_1 = y_0 + f(t_0, y_0) h + \tfrac12 \big(g(t_0, y_0) + g(t_1, \bar y)\big) W$$

    For `MultiTerm(drift, diffusion)` and any noise, strong order 1/2 (1 if it commutes); order 1 for ordinary
    equations. No error estimate, linear dense output.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    One evaluation of the drift and two of the diffusion a step.

    References
    ----------
    W. Rümelin, Numerical treatment of stochastic differential equations, SIAM J. Numer. Anal. 19 (1982), 604–613.

    P. E. Kloeden, E. Platen, Numerical Solution of Stochastic Differential Equations (1992), section 4.9.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.EulerHeun()
    >>> solver.order(None), solver.strong_order(None), solver.interpretations
    (1, 0.5, frozenset({'Stratonovich'}))
    """

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: None,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, None, Result]:
        """One step; costs one evaluation of the drift and two of the diffusion."""
        del solver_state, made_jump
        drift, diffusion = terms.terms
        increment = diffusion.contr(t0, t1)
        drifted = drift.vf_prod(t0, y0, args, drift.contr(t0, t1))
        before = diffusion.vf_prod(t0, y0, args, increment)
        after = diffusion.vf_prod(t1, add(y0, before), args, increment)
        y1 = jax.tree.map(lambda y, f, a, b: y + f + 0.5 * (a + b), y0, drifted, before, after)
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def order(self, terms: PyTree[Any]) -> int:
        """One."""
        del terms
        return 1

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One half, for any noise."""
        del terms
        return 0.5
