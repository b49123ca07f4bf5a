"""What all Runge–Kutta methods state about themselves."""

from enum import IntEnum
from typing import ClassVar

from ..base import AbstractAdaptiveSolver


class CalculateJacobian(IntEnum):
    r"""At which stages of a step a method needs a new matrix for its implicit equations.

    The matrix is $I - \gamma_i h J$, so that stages with the same diagonal coefficient $\gamma_i$ share it.

    Attributes
    ----------
    never
        At none: the method is explicit.
    every_stage
        At each, for the diagonal coefficients differ.
    first_stage, second_stage
        Once a step, when this stage is reached: all that follow have the same coefficient.

    Examples
    --------
    >>> import rungax
    >>> rungax.Kvaerno5.calculate_jacobian.name, rungax.Sil3.calculate_jacobian.name
    ('second_stage', 'every_stage')
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
        At which stages it needs a new matrix: `never` for explicit methods.

    See Also
    --------
    AbstractERK, AbstractDIRK, AbstractIMEXRK : to subclass for a method of your own.
    """

    calculate_jacobian: ClassVar[CalculateJacobian]
