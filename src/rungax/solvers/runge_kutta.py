"""What all Runge–Kutta methods state about themselves."""

from enum import IntEnum
from typing import ClassVar

from .base import AbstractAdaptiveSolver
from .tableau import ButcherTableau, MultiButcherTableau


class CalculateJacobian(IntEnum):
    """At which stages of a step a method needs a new matrix for its implicit equations.

    The matrix is $I - \\gamma_i h J$, so that stages with the same diagonal coefficient $\\gamma_i$ share it.
    """

    never = 0
    every_stage = 1
    first_stage = 2
    second_stage = 3


class AbstractRungeKutta[SolverState](AbstractAdaptiveSolver[SolverState]):
    """A Runge–Kutta method.

    Attributes
    ----------
    tableau
        Its coefficients.
    calculate_jacobian
        At which stages it needs a new matrix.
    """

    tableau: ClassVar[ButcherTableau | MultiButcherTableau]
    calculate_jacobian: ClassVar[CalculateJacobian]
