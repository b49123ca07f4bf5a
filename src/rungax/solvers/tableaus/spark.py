r"""SPaRK, from a splitting path, with an error estimate, for Stratonovich equations.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543. With $g_i$ at the stages

$$Y_1 = y_0, \qquad Y_2 = y_0 + \tfrac12 f_1 h + g_1 \big(\tfrac12 W + \sqrt3 H\big), \qquad
Y_3 = y_0 + f_2 h + g_2 W$$

the noise of the solution is $g_1 (\beta W + H) + g_2 (1 - 2 \beta) W + g_3 (\beta W - H)$ with
$\beta = (3 - \sqrt3) / 6$, and $\beta, 1 - 2 \beta, \beta$ are the weights of the drift.

The embedded solution is that of Heun's method, with the stages 1 and 3 and without $H$.
"""

from math import sqrt

from rungax.solvers.tableaus.types.stochastic import GeneralCoeffs, StochasticButcherTableau

_B = ((3 - sqrt(3)) / 6, sqrt(3) / 3, (3 - sqrt(3)) / 6)
_B_HAT = (1 / 2, 0.0, 1 / 2)
_DIFFERENCE = [b - b_hat for b, b_hat in zip(_B, _B_HAT, strict=True)]

SPARK = StochasticButcherTableau(
    c=[1 / 2, 1],
    a=[[1 / 2], [0, 1]],
    b_sol=_B,
    b_error=_DIFFERENCE,
    coeffs_w=GeneralCoeffs(a=[[1 / 2], [0, 1]], b_sol=_B, b_error=_DIFFERENCE),
    coeffs_hh=GeneralCoeffs(a=[[sqrt(3)], [0, 0]], b_sol=[1, 0, -1], b_error=[1, 0, -1]),
)
