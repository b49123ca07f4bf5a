r"""SlowRK, of strong order 1.5 for Stratonovich equations with commutative noise.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543.

Stages 2 to 5 are the classical method of order four for the noise alone, in the middle of the step; stages 1 and 6
integrate the drift as SRA1 does, along the noise of stage 4; stages 4 and 7 differ only in the drift before them, and
their difference makes up for the change of $g$ along it. Stages 2 to 5 and 7 evaluate only $g$, stages 1 and 6 only $f$.

These properties fix the weights but for which $g_i$ carries the noise of stages 6 and 7, where any of a few would meet
the conditions of strong order 1.5 (they are in the tests). Those chosen here are what Diffrax 0.7.2 was seen to evaluate
when run with given $W$ and $H$; its steps and these agree to rounding.
"""

from rungax.solvers.tableaus.types.stochastic import GeneralCoeffs, StochasticButcherTableau

SLOW_RK = StochasticButcherTableau(
    c=[1 / 2, 1 / 2, 1 / 2, 1 / 2, 3 / 4, 1],
    a=[
        [1 / 2],
        [1 / 2, 0],
        [1 / 2, 0, 0],
        [1 / 2, 0, 0, 0],
        [3 / 4, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
    ],
    b_sol=[1 / 3, 0, 0, 0, 0, 2 / 3, 0],
    b_error=None,
    coeffs_w=GeneralCoeffs(
        a=[
            [0],
            [0, 1 / 2],
            [0, 0, 1 / 2],
            [0, 0, 0, 1],
            [0, 0, 0, 3 / 4, 0],
            [0, 0, 1 / 2, 0, 0, 0],
        ],
        b_sol=[0, 1 / 6, 1 / 3, 1 / 3, 1 / 6, 0, 0],
    ),
    coeffs_hh=GeneralCoeffs(
        a=[
            [0],
            [0, 0],
            [0, 0, 0],
            [0, 0, 0, 0],
            [0, 0, 0, 3 / 2, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        b_sol=[0, 0, 0, 2, 0, 0, -2],
    ),
    ignore_stage_f=[False, True, True, True, True, False, True],
    ignore_stage_g=[True, False, False, False, False, True, False],
)
