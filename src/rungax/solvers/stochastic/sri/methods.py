"""The methods for scalar and diagonal noise. Their coefficients are in `tableaus`, their step is in `step.py`."""

from typing import ClassVar

from ...tableaus.sriw1 import SRIW1 as TABLEAU
from ...tableaus.types.ito import ItoTableau
from .step import AbstractSRI


class SRIW1(AbstractSRI):
    r"""Rößler's method SRIW1 for Itô equations with scalar or diagonal noise, of strong order 1.5, with error estimate.

    For `MultiTerm(drift, diffusion)`, where the noise is one source for all of the state (a path of shape `()`), or one
    for each entry, $g_i(t, y_i)$, given as a `lineax.DiagonalLinearOperator`. Each $g_i$ must depend only on its own
    entry of the state, else the order is lower; this cannot be seen from the structure and is not checked. The noise
    must be real. For ordinary equations the order is 2. Linear dense output. Needs a path with space-time Lévy area.

    The error estimate compares the method with an embedded one of strong order 1:

    $$\Big|\sum_i g(H^1_i) \Big(\beta^3_i \tfrac{I_{(1,0)}}{h} + \beta^4_i \tfrac{I_{(1,1,1)}}{h}\Big)\Big|
    + \delta \,\big|f(H^0_1) - f(H^0_2)\big|\, h,$$

    which is of order 1.5 in the step size. The drift's stages enter by their difference. Their sum would be of order 1,
    even if the error were small.

    Parameters
    ----------
    delta
        The weight of the drift in the error estimate. The default 1/6 is that of the authors' software.

    Raises
    ------
    ValueError
        In a solve, if the terms are not drift and diffusion, if the noise is neither scalar nor diagonal by its
        structure, if it is complex, or if the path has no space-time Lévy area.

    Differentiability
    -----------------
    In every mode in which drift and diffusion are differentiable.

    Cost
    ----
    Two evaluations of the drift and four of the diffusion a step.

    References
    ----------
    A. Rößler, Runge–Kutta methods for the strong approximation of solutions of stochastic differential equations,
    SIAM J. Numer. Anal. 48 (2010), 922–952, section 6 and table 6.1.

    C. Rackauckas, Q. Nie, Adaptive methods for stochastic differential equations via natural embeddings and rejection
    sampling with memory, Discrete Contin. Dyn. Syst. B 22 (2017), 2731–2761, section 2, for the estimate.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.SRIW1()
    >>> solver.strong_order(None), solver.noise
    (1.5, 'diagonal')
    """

    delta: float = 1 / 6

    tableau: ClassVar[ItoTableau] = TABLEAU
