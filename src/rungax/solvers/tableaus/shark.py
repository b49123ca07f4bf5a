r"""ShARK, of strong order 1.5 for additive noise: a shift, then a Runge--Kutta method.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543, for additive noise. With $\tilde y = y_0 + g H$,

$$y_1 = y_0 + \Big(\tfrac25 f(\tilde y) + \tfrac35 f\big(\tilde y + \tfrac56 (f(\tilde y)\,h + g W)\big)\Big)\,h + g W.$$

The embedded solution is that of Euler's method with the same shift; both have the same noise.
"""

from rungax.solvers.tableaus.types.stochastic import AdditiveCoeffs, StochasticButcherTableau

_B = (2 / 5, 3 / 5)
_B_HAT = (1.0, 0.0)

SHARK = StochasticButcherTableau(
    c=[5 / 6],
    a=[[5 / 6]],
    b_sol=_B,
    b_error=[b - b_hat for b, b_hat in zip(_B, _B_HAT, strict=True)],
    coeffs_w=AdditiveCoeffs(a=[0, 5 / 6], b_sol=1),
    coeffs_hh=AdditiveCoeffs(a=[1, 1], b_sol=0),
)
