"""The base class of Runge–Kutta methods."""

from enum import IntEnum
from typing import Any, ClassVar

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

    A subclass with a `tableau`, and without a step of its own, is a method of the family that the tableau belongs to:
    `AbstractERK`, `AbstractDIRK`, or `AbstractIMEXRK`, which become its base classes, with their requirements for a
    subclass. With a `MultiButcherTableau` of explicit tableaus it solves a `MultiTerm`, each term at the nodes of its
    tableau; `interpolation_cls` then receives `y0`, `y1`, and as `k` a tuple with the stages of each term.

    Parameters
    ----------
    scan_kind
        Without effect: accepted so that programs written for Diffrax run.

    Attributes
    ----------
    tableau
        The coefficients, a `ButcherTableau` or, for several terms, a `MultiButcherTableau`.
    calculate_jacobian
        The stages that need a new matrix: `never` for explicit methods.

    See Also
    --------
    AbstractERK, AbstractDIRK, AbstractIMEXRK : base classes for a method of your own.

    Examples
    --------
    Two terms, one by the midpoint rule and one by Heun's method:

    >>> import rungax
    >>> class Additive(rungax.AbstractRungeKutta):
    ...     tableau = rungax.MultiButcherTableau(
    ...         rungax.ButcherTableau(c=[0.5], b_sol=[0.0, 1.0], b_error=None, a_lower=[[0.5]]),
    ...         rungax.ButcherTableau(c=[1.0], b_sol=[0.5, 0.5], b_error=None, a_lower=[[1.0]]),
    ...     )
    ...     calculate_jacobian = rungax.CalculateJacobian.never
    ...     interpolation_cls = staticmethod(
    ...         lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(
    ...             t0=t0, t1=t1, y0=y0, y1=y1
    ...         )
    ...     )
    ...
    ...     def order(self, terms):
    ...         return 1
    """

    tableau: ClassVar[Any]
    calculate_jacobian: ClassVar[CalculateJacobian]
    scan_kind: None = without_effect()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        tableau = getattr(cls, "tableau", None)
        if tableau is not None and getattr(cls.step, "__isabstractmethod__", False):
            # The families are subclasses of this class, so their modules cannot be imported before it is defined.
            from .families import family_of

            family = family_of(tableau)
            cls.__bases__ = (*(base for base in cls.__bases__ if not issubclass(family, base)), family)
        super().__init_subclass__(**kwargs)
