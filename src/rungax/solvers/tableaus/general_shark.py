r"""GeneralShARK, ShARK for Stratonovich equations with any noise.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543. With $\tilde y = y_0 + g(y_0) H$ and
$\tilde y_{5/6} = \tilde y + \tfrac56 (f(\tilde y)\,h + g(\tilde y) W)$,

$$y_1 = y_0 + \big(\tfrac25 f(\tilde y) + \tfrac35 f(\tilde y_{5/6})\big)\,h
+ g(\tilde y) \big(\tfrac25 W + \tfrac65 H\big) + g(\tilde y_{5/6}) \big(\tfrac35 W - \tfrac65 H\big).$$

The weights $\pm\tfrac65$ are the only ones for which $g'g\,W H$ and $g'g\,H^2$ drop out of $y_1$, as they must.
"""

from rungax.solvers.tableaus.types.stochastic import GeneralCoeffs, StochasticButcherTableau

GENERAL_SHARK = StochasticButcherTableau(
    c=[0, 5 / 6],
    a=[[0], [0, 5 / 6]],
    b_sol=[0, 2 / 5, 3 / 5],
    b_error=None,
    coeffs_w=GeneralCoeffs(a=[[0], [0, 5 / 6]], b_sol=[0, 2 / 5, 3 / 5]),
    coeffs_hh=GeneralCoeffs(a=[[1], [1, 0]], b_sol=[0, 6 / 5, -6 / 5]),
    ignore_stage_f=[True, False, False],
)
