r"""Rößler's SRA1, of strong order 1.5 for additive noise.

A. Rößler, *Runge--Kutta methods for the strong approximation of solutions of stochastic differential equations*, SIAM
Journal on Numerical Analysis 48 (2010), 922--952, the table of the schemes SRA.

There the noise enters the second stage as $\tfrac32 I_{(1,0)} / h$ and the solution as
$I_{(1)}\, g(t_1) + (I_{(1,0)} / h)\,(g(t_0) - g(t_1))$. With $I_{(1)} = W$ and $I_{(1,0)} = h\,(\tfrac12 W + H)$ these
are $\tfrac34 W + \tfrac32 H$ and $g(t_0)\,W + (g(t_1) - g(t_0))(\tfrac12 W - H)$, as in every method for additive noise
here if $g$ depends on time. The stage uses $g(t_0)$; in the paper it uses $g(t_1)$.

The embedded solution is that of Euler's method; both have the same noise.
"""

from rungax.solvers.tableaus.types.stochastic import AdditiveCoeffs, StochasticButcherTableau

_B = (1 / 3, 2 / 3)
_B_HAT = (1.0, 0.0)

SRA1 = StochasticButcherTableau(
    c=[3 / 4],
    a=[[3 / 4]],
    b_sol=_B,
    b_error=[b - b_hat for b, b_hat in zip(_B, _B_HAT, strict=True)],
    coeffs_w=AdditiveCoeffs(a=[0, 3 / 4], b_sol=1),
    coeffs_hh=AdditiveCoeffs(a=[0, 3 / 2], b_sol=0),
)
