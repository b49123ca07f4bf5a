r"""Whitaker and Kar's SIL3, implicit--explicit of order 2: the Lorenz three-cycle and an implicit partner.

J. S. Whitaker and S. K. Kar, *Implicit--explicit Runge--Kutta methods for fast--slow wave problems*, Monthly Weather
Review 141 (2013), 3426--3434. Both parts have the solution as their last stage, which makes the pair first same as
last. The diagonal is not constant.

The paper has no error estimate. The embedded weights are those of the Diffrax library (P. Kidger, version 0.7), of
order 2 like the method. Those of the explicit part weigh its last stage, the field at the new solution; those of the
implicit part have no bounded stability function, so that the estimate of a stiff transient grows with the stiffness.
"""

from rungax.solvers.tableaus.types.published import PublishedSplitMethod

SIL3 = PublishedSplitMethod.parse(
    reference="J. S. Whitaker and S. K. Kar, Mon. Weather Rev. 141 (2013), 3426-3434",
    order=2,
    error_order=2,
    c="1/3  2/3  1",
    a_explicit="""
    1/3
    1/6   1/2
    1/2  -1/2  1
    """,
    b_explicit="1/2  -1/2  1  0",
    b_hat_explicit="1/2  -1  2  -1/2",
    a_implicit="""
    1/6
    1/3  0
    3/8  0  3/8
    """,
    a_diagonal="0  1/6  1/3  1/4",
    b="3/8  0  3/8  1/4",
    b_hat="1/4  0  3/4  0",
)
