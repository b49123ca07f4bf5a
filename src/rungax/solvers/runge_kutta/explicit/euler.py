"""Euler's method."""

from typing import Any, ClassVar

import jax
from jaxtyping import PyTree

from ....interpolation import LocalLinearInterpolation
from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y
from ....results import RESULTS, Result
from ....terms import AbstractTerm
from ...base import AbstractItoSolver


class Euler(AbstractItoSolver[None]):
    r"""Euler's method of order 1, $y_1 = y_0 + f(t_0, y_0)\,h$; Euler–Maruyama when driven by Brownian motion.

    No error estimate, linear dense output. For stochastic equations it converges to the Itô solution, for any noise,
    with strong order 1/2 (1 for additive noise) and weak order 1. With adaptive steps it may converge to a wrong limit.

    Warns
    -----
    UserWarning
        In a solve of an equation with noise whose steps may be rejected.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    One evaluation of the vector field a step.

    References
    ----------
    L. Euler, Institutionum calculi integralis, vol. I (1768), section 650.

    G. Maruyama, Continuous Markov processes and stochastic equations, Rend. Circ. Mat. Palermo 4 (1955), 48–90.

    J. G. Gaines, T. J. Lyons, Variable step size control in the numerical solution of stochastic differential
    equations, SIAM J. Appl. Math. 57 (1997), 1455–1484, section 4, for adaptive steps.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Euler()
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> solver.order(term), solver.strong_order(term), solver.weak_order(term)
    (1, 0.5, 1.0)
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation
    safe_with_adaptive_steps: ClassVar[bool] = False

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> None:
        """No solver state."""
        del terms, t0, t1, y0, args

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
        """One step; costs one evaluation."""
        del solver_state, made_jump
        increment = terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
        y1 = jax.tree.map(lambda y, d: y + d, y0, increment)
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def order(self, terms: PyTree[Any]) -> int:
        """One."""
        del terms
        return 1

    def strong_order(self, terms: PyTree[Any]) -> RealScalar:
        """One half."""
        del terms
        return 0.5

    def weak_order(self, terms: PyTree[Any]) -> RealScalar:
        """One."""
        del terms
        return 1.0
