"""Every published method, with bounds for the residuals of its printed digits in the order conditions."""

from dataclasses import dataclass
from fractions import Fraction

from rungax.solvers.tableaus.bosh3 import BOSH3
from rungax.solvers.tableaus.dopri5 import DOPRI5
from rungax.solvers.tableaus.dopri8 import DOPRI8
from rungax.solvers.tableaus.euler import EULER
from rungax.solvers.tableaus.heun import HEUN
from rungax.solvers.tableaus.implicit_euler import IMPLICIT_EULER
from rungax.solvers.tableaus.kencarp3 import KENCARP3
from rungax.solvers.tableaus.kencarp4 import KENCARP4
from rungax.solvers.tableaus.kencarp5 import KENCARP5
from rungax.solvers.tableaus.kvaerno3 import KVAERNO3
from rungax.solvers.tableaus.kvaerno4 import KVAERNO4
from rungax.solvers.tableaus.kvaerno5 import KVAERNO5
from rungax.solvers.tableaus.midpoint import MIDPOINT
from rungax.solvers.tableaus.ralston import RALSTON
from rungax.solvers.tableaus.rk4 import RK4
from rungax.solvers.tableaus.sil3 import SIL3
from rungax.solvers.tableaus.trbdf2 import TRBDF2
from rungax.solvers.tableaus.tsit5 import TSIT5
from rungax.solvers.tableaus.types.published import PublishedMethod, Row
from rungax.solvers.tableaus.vern6 import VERN6
from rungax.solvers.tableaus.vern7 import VERN7
from rungax.solvers.tableaus.vern8 import VERN8
from rungax.solvers.tableaus.vern9 import VERN9

EXPLICIT_METHODS = {
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
IMPLICIT_METHODS = {
    "ImplicitEuler": IMPLICIT_EULER,
    "TRBDF2": TRBDF2,
    "Kvaerno3": KVAERNO3,
    "Kvaerno4": KVAERNO4,
    "Kvaerno5": KVAERNO5,
}
METHODS = EXPLICIT_METHODS | IMPLICIT_METHODS
SPLIT_METHODS = {"KenCarp3": KENCARP3, "KenCarp4": KENCARP4, "KenCarp5": KENCARP5, "Sil3": SIL3}
# Methods with a Newton iteration: the implicit methods and the implicit parts of the split ones.
STIFF_METHODS = IMPLICIT_METHODS | {name: method.implicit for name, method in SPLIT_METHODS.items()}

# Residuals of the printed digits, a little above the measured ones. A method that is not listed is exact: its paper
# prints fractions. Tsit5 has 84 digits after the point, Vern7 and Vern9 have 40 in all with entries up to 200. The
# fractions of Dopri8 approximate irrational numbers to 18 digits, those of Kennedy and Carpenter to about 25. The
# closed forms of TRBDF2 are given to 60 digits after the point, those of Kværnø's methods to 55.
_PAIR = {
    "Tsit5": "1e-81",
    "Dopri8": "1e-16",
    "Vern7": "1e-37",
    "Vern9": "1e-38",
    "TRBDF2": "1e-60",
    "Kvaerno3": "1e-54",
    "Kvaerno4": "1e-54",
    "Kvaerno5": "1e-54",
    "KenCarp3": "1e-25",
    "KenCarp4": "1e-25",
    "KenCarp5": "1e-25",
}
# Tsit5 has 58 digits after the point; the others have 36 to 40 in all, with entries up to 1e3 (Vern7), 1e6 (Vern8) and
# 1e4 (Vern9). Those of Dopri8, KenCarp5 and Kværnø's methods were computed from their pairs.
_INTERPOLANT = {
    "Tsit5": "1e-57",
    "Dopri8": "1e-14",
    "Vern7": "1e-32",
    "Vern8": "1e-32",
    "Vern9": "1e-34",
    "Kvaerno4": "1e-43",
    "Kvaerno5": "1e-43",
    "KenCarp3": "1e-25",
    "KenCarp4": "1e-24",
    "KenCarp5": "1e-21",
}


@dataclass(frozen=True)
class Residuals:
    """Bounds for the order conditions of a method's pair and of its interpolant, zero if they hold exactly."""

    pair: Fraction
    interpolant: Fraction


RESIDUALS = {
    name: Residuals(Fraction(_PAIR.get(name, "0")), Fraction(_INTERPOLANT.get(name, "0")))
    for name in [*METHODS, *SPLIT_METHODS]
}


def matrix(method: PublishedMethod) -> tuple[Row, ...]:
    """The rows of $a$ of all stages, up to the diagonal."""
    diagonal = method.a_diagonal or (Fraction(0),) * len(method.b)
    lower = ((), *method.a)
    return tuple((*row, own) for row, own in zip(lower, diagonal, strict=True))


def nodes(method: PublishedMethod) -> Row:
    """The nodes of all stages."""
    return (Fraction(0) if method.a_diagonal is None else method.a_diagonal[0], *method.c)
