"""The base class of Runge–Kutta methods."""

from enum import IntEnum
from typing import ClassVar

from ..base import AbstractAdaptiveSolver
from ..common.scan_kind import without_effect

FEWER_REJECTIONS = (0.2, 0.6, 0.0)
"""Coefficients p, i and d with which implicit methods of order 4 and 5 reject fewer steps where stiffness sets in.

With the elementary controller up to 45 % of their steps at loose tolerances are rejected. Counts for Robertson's
equations, HIRES, the Oregonator and Van der Pol's equation chose these numbers; methods of lower order gain nothing.
"""


class CalculateJacobian(IntEnum):
    r"""The stages of a step for which a method needs a new matrix in its implicit equations.

    The matrix is $I - \gamma_i h J$, so that stages with the same diagonal coefficient $\gamma_i$ share it.

    Attributes
    ----------
    never
        No stage: the method is explicit.
    every_stage
        Every stage, because the diagonal coefficients differ.
    first_stage, second_stage
        This stage, once a step: all later stages have the same coefficient.

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

    Parameters
    ----------
    scan_kind
        Without effect: accepted so that programs written for Diffrax run.

    Attributes
    ----------
    calculate_jacobian
        The stages that need a new matrix: `never` for explicit methods.

    See Also
    --------
    AbstractERK, AbstractDIRK, AbstractIMEXRK : base classes for a method of your own.
    """

    calculate_jacobian: ClassVar[CalculateJacobian]
    scan_kind: None = without_effect()
