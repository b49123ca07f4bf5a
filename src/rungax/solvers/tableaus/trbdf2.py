r"""TR-BDF2: a trapezoidal rule over a part of the step and BDF2 over the whole; order 2, first same as last.

M. E. Hosea and L. F. Shampine, *Analysis and implementation of TR-BDF2*, Applied Numerical Mathematics 20 (1996),
21--37. With $\gamma = 2 - \sqrt 2$, $d = \gamma / 2$ and $w = \sqrt 2 / 4$ the paper's table is

$$c = (0, \gamma, 1), \quad a_2 = (d, d), \quad a_3 = b = (w, w, d), \quad
  \hat b = \big((1 - w) / 3,\ (3 w + 1) / 3,\ d / 3\big),$$

below to 60 digits. The embedded weights have order 3, one more than the method. They have no bounded stability
function; the paper multiplies the estimate by the inverse of the Newton matrix, $(I - h d J)^{-1}$.
"""

from rungax.solvers.tableaus.types.published import PublishedMethod

TRBDF2 = PublishedMethod.parse(
    reference="M. E. Hosea and L. F. Shampine, Appl. Numer. Math. 20 (1996), 21-37",
    order=2,
    error_order=3,
    c="0.58578643762690495119831127579030192143032812462305192682332  1",
    a="""
    0.29289321881345247559915563789515096071516406231152596341166
    0.35355339059327376220042218105242451964241796884423701829417  0.35355339059327376220042218105242451964241796884423701829417
    """,
    a_diagonal="""
    0
    0.29289321881345247559915563789515096071516406231152596341166
    0.29289321881345247559915563789515096071516406231152596341166
    """,
    b="""
    0.35355339059327376220042218105242451964241796884423701829417
    0.35355339059327376220042218105242451964241796884423701829417
    0.29289321881345247559915563789515096071516406231152596341166
    """,
    b_hat="""
    0.215482203135575412599859272982525160119194010385254327235277
    0.686886723926607095533755514385757852975751302177570351627503
    0.09763107293781749186638521263171698690505468743717532113722
    """,
)
