"""What all Runge–Kutta methods state about themselves."""

from enum import IntEnum
from typing import ClassVar

from .base import AbstractAdaptiveSolver


class CalculateJacobian(IntEnum):
    r"""At which stages of a step a method needs a new matrix for its implicit equations.

    The matrix is $I - \gamma_i h J$, so that stages with the same diagonal coefficient $\gamma_i$ share it.
    """

    never = 0
    every_stage = 1
    first_stage = 2
    second_stage = 3


class AbstractRungeKutta[SolverState](AbstractAdaptiveSolver[SolverState]):
    """A Runge–Kutta method, whose class attribute `tableau` holds its coefficients.

    Attributes
    ----------
    calculate_jacobian
        At which stages it needs a new matrix.
    """

    calculate_jacobian: ClassVar[CalculateJacobian]
