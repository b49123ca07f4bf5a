"""Ralston's second-order method, with Euler's method embedded.

A. Ralston, *Runge--Kutta methods with minimum error bounds*, Mathematics of Computation 16 (1962), 431--437,
section 2. The embedded solution is that of the first stage.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

RALSTON = PublishedMethod.parse(
    reference="A. Ralston, Math. Comp. 16 (1962), 431-437, section 2",
    order=2,
    error_order=1,
    c="2/3",
    a="2/3",
    b="1/4  3/4",
    b_hat="1  0",
)
