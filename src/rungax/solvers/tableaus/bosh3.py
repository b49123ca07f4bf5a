"""The Bogacki--Shampine 3(2) pair, first same as last.

P. Bogacki and L. F. Shampine, *A 3(2) pair of Runge--Kutta formulas*, Applied Mathematics Letters 2 (1989), 321--325.
Its dense output is the cubic Hermite interpolant of the step's end points.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

BOSH3 = PublishedMethod.parse(
    reference="P. Bogacki and L. F. Shampine, Appl. Math. Lett. 2 (1989), 321-325",
    order=3,
    error_order=2,
    c="1/2  3/4  1",
    a="""
    1/2
    0    3/4
    2/9  1/3  4/9
    """,
    b="2/9  1/3  4/9  0",
    b_hat="7/24  1/4  1/3  1/8",
)
