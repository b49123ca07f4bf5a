"""The stochastic Runge–Kutta methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from typing import Any

from ...base import AbstractAdaptiveSolver, AbstractItoSolver, AbstractStratonovichSolver
from ...tableaus.general_shark import GENERAL_SHARK
from ...tableaus.sea import SEA as SEA_TABLEAU
from ...tableaus.shark import SHARK
from ...tableaus.slow_rk import SLOW_RK
from ...tableaus.spark import SPARK
from ...tableaus.sra1 import SRA1 as SRA1_TABLEAU
from .step import AbstractSRK


class SEA(AbstractSRK, AbstractItoSolver[None], AbstractStratonovichSolver[None]):
    r"""Euler's method with a shift, of strong order 1 for additive noise, with a smaller error than Euler–Maruyama's.

    $$y_1 = y_0 + f\Big(t_0,\; y_0 + g \big(\tfrac12 W + H\big)\Big)\,h + g W$$

    The diffusion may depend on time but not on the state; then Itô and Stratonovich solutions are the same. No error
    estimate, linear dense output. Needs a path with space-time Lévy area.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, if the diffusion depends on the state, or if the path has
        no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    One evaluation of the drift and two of the diffusion a step.

    References
    ----------
    J. Foster, G. dos Reis, C. Strange, High order splitting methods for SDEs satisfying a commutativity condition,
    arXiv:2210.17543.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.SEA()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('additive', 1.0, 'AbstractSpaceTimeLevyArea')
    """

    tableau = SEA_TABLEAU

    def order(self, terms: Any) -> int:
        """One."""
        del terms
        return 1

    def strong_order(self, terms: Any) -> float:
        """One."""
        del terms
        return 1.0


class _AdditiveSRK(
    AbstractSRK, AbstractItoSolver[None], AbstractStratonovichSolver[None], AbstractAdaptiveSolver[None]
):
    """A method of strong order 1.5 for additive noise, with an error estimate."""

    def order(self, terms: Any) -> int:
        """Two."""
        del terms
        return 2

    def strong_order(self, terms: Any) -> float:
        """Three halves."""
        del terms
        return 1.5


class SRA1(_AdditiveSRK):
    r"""Rößler's method SRA1 of strong order 1.5 for additive noise, with an error estimate.

    $$y_1 = y_0 + \Big(\tfrac13 f(y_0)
    + \tfrac23 f\big(y_0 + \tfrac34 f(y_0)\,h + g\,(\tfrac34 W + \tfrac32 H)\big)\Big)\,h + g W$$

    The diffusion may depend on time but not on the state; then Itô and Stratonovich solutions are the same. The error
    estimate compares the drift with that of Euler's method; linear dense output. Needs a path with space-time Lévy
    area. `ShARK` costs the same and has a smaller error as a rule.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, if the diffusion depends on the state, or if the path has
        no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Two evaluations of the drift and two of the diffusion a step.

    References
    ----------
    A. Rößler, Runge–Kutta methods for the strong approximation of solutions of stochastic differential equations, SIAM
    Journal on Numerical Analysis 48 (2010), 922–952.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.SRA1()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('additive', 1.5, 'AbstractSpaceTimeLevyArea')
    """

    tableau = SRA1_TABLEAU


class ShARK(_AdditiveSRK):
    r"""Foster, dos Reis and Strange's method of strong order 1.5 for additive noise, with an error estimate.

    With $\tilde y = y_0 + g H$,

    $$y_1 = y_0 + \Big(\tfrac25 f(\tilde y)
    + \tfrac35 f\big(\tilde y + \tfrac56 (f(\tilde y)\,h + g W)\big)\Big)\,h + g W.$$

    The diffusion may depend on time but not on the state; then Itô and Stratonovich solutions are the same. The error
    estimate compares the drift with that of Euler's method from $\tilde y$; linear dense output. Needs a path with
    space-time Lévy area. The first choice for additive noise.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, if the diffusion depends on the state, or if the path has
        no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Two evaluations of the drift and two of the diffusion a step.

    References
    ----------
    J. Foster, G. dos Reis, C. Strange, High order splitting methods for SDEs satisfying a commutativity condition,
    arXiv:2210.17543.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.ShARK()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('additive', 1.5, 'AbstractSpaceTimeLevyArea')
    """

    tableau = SHARK


class _StratonovichSRK(AbstractSRK, AbstractStratonovichSolver[None]):
    """A method of order 2 for Stratonovich equations with any noise, whose strong order is then one half."""

    def order(self, terms: Any) -> int:
        """Two."""
        del terms
        return 2

    def strong_order(self, terms: Any) -> float:
        """One half, for any noise; more if it is commutative."""
        del terms
        return 0.5


class SPaRK(_StratonovichSRK, AbstractAdaptiveSolver[None]):
    r"""Foster, dos Reis and Strange's method from a splitting path, for any noise, with an error estimate.

    $$Y_2 = y_0 + \tfrac12 f_1 h + g_1 \big(\tfrac12 W + \sqrt3 H\big), \qquad Y_3 = y_0 + f_2 h + g_2 W,$$

    $$y_1 = y_0 + \beta (f_1 + f_3)\,h + (1 - 2 \beta)(f_2 h + g_2 W) + g_1 (\beta W + H) + g_3 (\beta W - H), \qquad
    \beta = \tfrac{3 - \sqrt3}{6}$$

    Converges to the Stratonovich solution with strong order 1/2, 1 for commutative and 1.5 for additive noise. The
    error estimate is the difference to Heun's method; linear dense output. Needs a path with space-time Lévy area. The
    first choice for adaptive steps.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, or if the path has no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Three evaluations of the drift and three of the diffusion a step.

    References
    ----------
    J. Foster, G. dos Reis, C. Strange, High order splitting methods for SDEs satisfying a commutativity condition,
    arXiv:2210.17543.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.SPaRK()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('general', 0.5, 'AbstractSpaceTimeLevyArea')
    """

    tableau = SPARK


class GeneralShARK(_StratonovichSRK):
    r"""`ShARK` for any noise.

    With $\tilde y = y_0 + g(y_0) H$ and $\tilde y_{5/6} = \tilde y + \tfrac56 (f(\tilde y)\,h + g(\tilde y) W)$,

    $$y_1 = y_0 + \big(\tfrac25 f(\tilde y) + \tfrac35 f(\tilde y_{5/6})\big)\,h
    + g(\tilde y) \big(\tfrac25 W + \tfrac65 H\big) + g(\tilde y_{5/6}) \big(\tfrac35 W - \tfrac65 H\big).$$

    Converges to the Stratonovich solution with strong order 1/2, 1 for commutative and 1.5 for additive noise. No error
    estimate, linear dense output. Needs a path with space-time Lévy area. For an expensive drift.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, or if the path has no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Two evaluations of the drift and three of the diffusion a step.

    References
    ----------
    J. Foster, G. dos Reis, C. Strange, High order splitting methods for SDEs satisfying a commutativity condition,
    arXiv:2210.17543.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.GeneralShARK()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('general', 0.5, 'AbstractSpaceTimeLevyArea')
    """

    tableau = GENERAL_SHARK


class SlowRK(_StratonovichSRK):
    r"""Foster, dos Reis and Strange's method of strong order 1.5 for commutative noise.

    With $g_1, \dots, g_4$ the stages of the classical Runge–Kutta method for the noise alone, started in the middle at
    $y_0 + \tfrac12 f(y_0)\,h$,

    $$y_1 = y_0 + \tfrac16 (g_1 + 2 g_2 + 2 g_3 + g_4)\,W + \Big(\tfrac13 f(y_0)
    + \tfrac23 f\big(y_0 + \tfrac34 f(y_0)\,h + g_3\,(\tfrac34 W + \tfrac32 H)\big)\Big)\,h$$

    $$\quad {} + 2 \big(g_3 - g(y_0 + f(y_0)\,h + \tfrac12 g_2 W)\big) H.$$

    Converges to the Stratonovich solution with strong order 1.5 if the noise is commutative (scalar, diagonal or
    additive, or the columns of $g$ satisfy $g_i' g_j = g_j' g_i$), else 1/2. `strong_order` is 1/2, since it cannot
    know whether the noise is commutative. No error estimate, linear dense output. Needs a path with space-time Lévy
    area.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, or if the path has no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Two evaluations of the drift and five of the diffusion a step.

    References
    ----------
    J. Foster, G. dos Reis, C. Strange, High order splitting methods for SDEs satisfying a commutativity condition,
    arXiv:2210.17543.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.SlowRK()
    >>> solver.noise, solver.strong_order(None), solver.minimal_levy_area.__name__
    ('general', 0.5, 'AbstractSpaceTimeLevyArea')
    """

    tableau = SLOW_RK
