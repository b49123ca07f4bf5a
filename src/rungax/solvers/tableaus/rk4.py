"""The classical fourth-order Runge--Kutta method.

W. Kutta, *Beitrag zur näherungsweisen Integration totaler Differentialgleichungen*, Zeitschrift für Mathematik und
Physik 46 (1901), 435--453.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

RK4 = PublishedMethod.parse(
    reference="W. Kutta, Z. Math. Phys. 46 (1901), 435-453",
    order=4,
    c="1/2  1/2  1",
    a="""
    1/2
    0    1/2
    0    0    1
    """,
    b="1/6  1/3  1/3  1/6",
)
