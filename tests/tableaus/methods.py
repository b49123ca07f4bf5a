"""Every published method, with the residual its printed digits leave in the order conditions."""

from dataclasses import dataclass
from fractions import Fraction

from rungax.solvers.tableaus.bosh3 import BOSH3
from rungax.solvers.tableaus.dopri5 import DOPRI5
from rungax.solvers.tableaus.dopri8 import DOPRI8
from rungax.solvers.tableaus.euler import EULER
from rungax.solvers.tableaus.heun import HEUN
from rungax.solvers.tableaus.midpoint import MIDPOINT
from rungax.solvers.tableaus.ralston import RALSTON
from rungax.solvers.tableaus.rk4 import RK4
from rungax.solvers.tableaus.tsit5 import TSIT5
from rungax.solvers.tableaus.vern6 import VERN6
from rungax.solvers.tableaus.vern7 import VERN7
from rungax.solvers.tableaus.vern8 import VERN8
from rungax.solvers.tableaus.vern9 import VERN9

METHODS = {
    "Euler": EULER,
    "Heun": HEUN,
    "Midpoint": MIDPOINT,
    "Ralston": RALSTON,
    "RK4": RK4,
    "Bosh3": BOSH3,
    "Tsit5": TSIT5,
    "Dopri5": DOPRI5,
    "Dopri8": DOPRI8,
    "Vern6": VERN6,
    "Vern7": VERN7,
    "Vern8": VERN8,
    "Vern9": VERN9,
}

# What the printed digits leave, a little above what is measured. A method that is not listed is exact: its paper
# prints fractions. Tsit5 has 84 digits after the point, Vern7 and Vern9 have 40 in all with entries up to 200. The
# fractions of Dopri8 stand for irrational numbers, to 18 digits.
_PAIR = {"Tsit5": "1e-81", "Dopri8": "1e-16", "Vern7": "1e-37", "Vern9": "1e-38"}
# Tsit5 has 58 digits after the point; the others have 36 to 40 in all, with entries up to 1e3 (Vern7), 1e6 (Vern8) and
# 1e4 (Vern9). Dopri8's was computed from its pair.
_INTERPOLANT = {"Tsit5": "1e-57", "Dopri8": "1e-14", "Vern7": "1e-32", "Vern8": "1e-32", "Vern9": "1e-34"}


@dataclass(frozen=True)
class Residuals:
    """Bounds for the order conditions of a method's pair and of its interpolant, zero if they hold exactly."""

    pair: Fraction
    interpolant: Fraction


RESIDUALS = {name: Residuals(Fraction(_PAIR.get(name, "0")), Fraction(_INTERPOLANT.get(name, "0"))) for name in METHODS}
