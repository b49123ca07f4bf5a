"""The stochastic Runge--Kutta method DRI1, of weak order 2 (deterministic order 3) for Itô equations with any noise.

K. Debrabant and A. Rößler, *Families of efficient second order Runge--Kutta methods for the weak approximation of Itô
stochastic differential equations*, Applied Numerical Mathematics 59 (2009), 582--594, arXiv:1303.5103: the scheme DRI1.
"""

from math import sqrt

from rungax.solvers.tableaus.types.ito import ItoTableau

DRI1 = ItoTableau(
    reference="K. Debrabant and A. Rößler, Appl. Numer. Math. 59 (2009), 582-594",
    A0=[
        [0,     0, 0],
        [1 / 2, 0, 0],
        [-1,    2, 0],
    ],
    B0=[
        [0,                     0, 0],
        [(6 - sqrt(6)) / 10,    0, 0],
        [(3 + 2 * sqrt(6)) / 5, 0, 0],
    ],
    A1=[
        [0,         0, 0],
        [342 / 491, 0, 0],
        [342 / 491, 0, 0],
    ],
    B1=[
        [0,                   0, 0],
        [3 * sqrt(38 / 491),  0, 0],
        [-3 * sqrt(38 / 491), 0, 0],
    ],
    B2=[
        [0,                               0,                              0],
        [-214 / 513 * sqrt(1105 / 991),  -491 / 513 * sqrt(221 / 4955),  -491 / 513 * sqrt(221 / 4955)],
        [214 / 513 * sqrt(1105 / 991),   491 / 513 * sqrt(221 / 4955),   491 / 513 * sqrt(221 / 4955)],
    ],
    alpha=[1 / 6, 2 / 3, 1 / 6],
    beta=[
        [193 / 684,    491 / 1368,             491 / 1368],
        [0,            1 / 6 * sqrt(491 / 38), -1 / 6 * sqrt(491 / 38)],
        [-4955 / 7072, 4955 / 14144,           4955 / 14144],
        [0,            -1 / 8 * sqrt(4955 / 221), 1 / 8 * sqrt(4955 / 221)],
    ],
)
