"""Heun's method: the explicit trapezoidal rule, with Euler's method embedded.

K. Heun, *Neue Methoden zur approximativen Integration der Differentialgleichungen einer unabhängigen Veränderlichen*,
Zeitschrift für Mathematik und Physik 45 (1900), 23--38. The embedded solution is that of the first stage.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

HEUN = PublishedMethod.parse(
    reference="K. Heun, Z. Math. Phys. 45 (1900), 23-38",
    order=2,
    error_order=1,
    c="1",
    a="1",
    b="1/2  1/2",
    b_hat="1  0",
)
