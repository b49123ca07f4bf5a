"""The implicit Euler method, with the explicit stage that an error estimate needs, first same as last.

Only the second stage has a weight in $b$. The embedded trapezoidal rule, of order 2, gives the error estimate
$h (f_1 - f_0) / 2$. In a stiff transient that estimate grows with the stiffness: on these stages the trapezoidal
weights have no bounded stability function.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

IMPLICIT_EULER = PublishedMethod.parse(
    reference="E. Hairer and G. Wanner, Solving Ordinary Differential Equations II (1996), section IV.3",
    order=1,
    error_order=2,
    c="1",
    a="0",
    a_diagonal="0  1",
    b="0  1",
    b_hat="1/2  1/2",
)
