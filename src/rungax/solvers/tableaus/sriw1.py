"""The stochastic Runge--Kutta method SRIW1, of strong order 1.5 for Itô equations with scalar or diagonal noise.

A. Rößler, *Runge--Kutta methods for the strong approximation of solutions of stochastic differential equations*,
SIAM Journal on Numerical Analysis 48 (2010), 922--952, Table 6.1.
"""

from rungax.solvers.tableaus.types.ito import ItoTableau

SRIW1 = ItoTableau(
    reference="A. Rößler, SIAM J. Numer. Anal. 48 (2010), 922-952, Table 6.1",
    A0=[
        [0,     0, 0, 0],
        [3 / 4, 0, 0, 0],
        [0,     0, 0, 0],
        [0,     0, 0, 0],
    ],
    B0=[
        [0,     0, 0, 0],
        [3 / 2, 0, 0, 0],
        [0,     0, 0, 0],
        [0,     0, 0, 0],
    ],
    A1=[
        [0,     0, 0,     0],
        [1 / 4, 0, 0,     0],
        [1,     0, 0,     0],
        [0,     0, 1 / 4, 0],
    ],
    B1=[
        [0,     0, 0,     0],
        [1 / 2, 0, 0,     0],
        [-1,    0, 0,     0],
        [-5,    3, 1 / 2, 0],
    ],
    alpha=[1 / 3, 2 / 3, 0, 0],
    beta=[
        [-1, 4 / 3,  2 / 3,  0],
        [-1, 4 / 3,  -1 / 3, 0],
        [2,  -4 / 3, -2 / 3, 0],
        [-2, 5 / 3,  -2 / 3, 1],
    ],
)
