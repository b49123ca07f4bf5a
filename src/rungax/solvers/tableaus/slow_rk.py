r"""SlowRK, of strong order 1.5 for Stratonovich equations with commutative noise.

J. Foster, G. dos Reis, C. Strange, *High order splitting methods for SDEs satisfying a commutativity condition*,
arXiv:2210.17543.

Stages 2 to 5 are the classical method of order four for the noise alone, in the middle of the step. Stages 1 and 6
integrate the drift as SRA1 does, with the $g$ of stage 4. Stages 4 and 7 differ only in the drift before them, and
their difference accounts for the change of $g$ by the drift. Stages 2 to 5 and 7 evaluate only $g$, stages 1 and 6 only
$f$.

These properties determine the weights, except for the choice of the $g_i$ in the arguments of stages 6 and 7: several
choices satisfy the conditions of strong order 1.5, which are in the tests. Those here are the ones that Diffrax 0.7.2
evaluates when run with given $W$ and $H$; its steps and these agree to rounding.
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
