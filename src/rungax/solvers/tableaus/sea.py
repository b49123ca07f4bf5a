r"""SEA, Euler's method with a shift, for additive noise.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543. The drift is evaluated at the mean of the state over the step, given $W$ and $H$:

$$y_1 = y_0 + f\Big(y_0 + g \big(\tfrac12 W + H\big)\Big)\,h + g W$$
"""

from rungax.solvers.tableaus.types.stochastic import AdditiveCoeffs, StochasticButcherTableau

SEA = StochasticButcherTableau(
    c=[],
    a=[],
    b_sol=[1],
    b_error=None,
    coeffs_w=AdditiveCoeffs(a=[1 / 2], b_sol=1),
    coeffs_hh=AdditiveCoeffs(a=[1], b_sol=0),
)
