"""The family of Runge–Kutta methods that a tableau belongs to."""

from typing import Any

from ..tableaus.types.butcher import ButcherTableau, MultiButcherTableau
from .base import AbstractRungeKutta
from .diagonally_implicit.step import AbstractDIRK
from .explicit.additive import AbstractAdditiveERK
from .explicit.step import AbstractERK
from .imex.step import AbstractIMEXRK


def family_of(tableau: ButcherTableau | MultiButcherTableau) -> type[AbstractRungeKutta[Any]]:
    """The class with the step of the methods that have such a tableau.

    Raises
    ------
    ValueError
        If a tableau for several terms is neither of explicit ones, nor of an explicit and an implicit one.
    """
    match tableau.implicit:
        case False:
            return AbstractERK
        case True:
            return AbstractDIRK
        case (False, True):
            return AbstractIMEXRK
        case parts if not any(parts):
            return AbstractAdditiveERK
        case parts:
            found = ", ".join("implicit" if implicit else "explicit" for implicit in parts)
            raise ValueError(
                "`MultiButcherTableau(...)` of an implicit method has a tableau for each of two terms.\n"
                f"Expected: explicit, implicit\nFound:    {found}\n"
                "Put the implicit term last, and add explicit ones to one term: `MultiTerm(MultiTerm(f, g), h)`."
            )
