"""The explicit midpoint method, with Euler's method embedded.

C. Runge, *Über die numerische Auflösung von Differentialgleichungen*, Mathematische Annalen 46 (1895), 167--178.
The embedded solution is that of the first stage.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

MIDPOINT = PublishedMethod.parse(
    reference="C. Runge, Math. Ann. 46 (1895), 167-178",
    order=2,
    error_order=1,
    c="1/2",
    a="1/2",
    b="0  1",
    b_hat="1  0",
)
