"""The implicit–explicit Runge–Kutta methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ....interpolation import StageInterpolation, ThirdOrderHermitePolynomialInterpolation
from ....jaxkit import RealScalar, Y
from ...tableaus.kencarp3 import KENCARP3
from ...tableaus.kencarp4 import KENCARP4
from ...tableaus.kencarp5 import KENCARP5
from ...tableaus.sil3 import SIL3
from ...tableaus.types.butcher import ContinuousExtension, MultiButcherTableau
from ...tableaus.types.published import PublishedSplitMethod
from ..base import FEWER_REJECTIONS, CalculateJacobian
from .step import AbstractIMEXRK


def _sum_of_both(k: tuple[Y, Y]) -> Y:
    """The increments of the whole equation, from those of its two terms."""
    return jax.tree.map(jnp.add, *k)


def _stage_interpolation(
    *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: tuple[Y, Y], extension: ContinuousExtension
) -> StageInterpolation:
    """The method's own dense output, with the same weights for the stages of both terms."""
    return StageInterpolation.from_k(t0=t0, t1=t1, y0=y0, y1=y1, k=_sum_of_both(k), extension=extension)


def _hermite(
    *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: tuple[Y, Y]
) -> ThirdOrderHermitePolynomialInterpolation:
    """The cubic whose slopes are the first and the last stage."""
    return ThirdOrderHermitePolynomialInterpolation.from_k(t0=t0, t1=t1, y0=y0, y1=y1, k=_sum_of_both(k))


def own_extension(method: PublishedSplitMethod) -> ContinuousExtension:
    """The method's own dense output."""
    assert method.implicit.extension is not None, "its file gives an interpolant"
    return method.implicit.extension


class _PublishedIMEXRK(AbstractIMEXRK):
    """A published pair of methods, with its published order."""

    method: ClassVar[PublishedSplitMethod]
    calculate_jacobian = CalculateJacobian.second_stage

    def order(self, terms: Any) -> int:
        """The order of the published method."""
        del terms
        return self.method.order

    def error_order(self, terms: Any) -> int:
        """One more than the lower of the two solutions' orders, whose difference is the estimate."""
        del terms
        assert self.method.error_order is not None, "its file gives an embedded solution"
        return min(self.method.order, self.method.error_order) + 1


class KenCarp3(_PublishedIMEXRK):
    """Kennedy and Carpenter's implicit–explicit method of order 3, for `MultiTerm(explicit, implicit)`.

    The implicit part is L-stable and stiffly accurate; dense output of order 2.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractIMEXRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractIMEXRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Three implicit stages a step, each of one evaluation of the implicit vector field an iteration, mostly one to three,
    and one evaluation for the explicit first stage; four evaluations of the explicit one. For Jacobians and memory see
    `AbstractIMEXRK`.

    References
    ----------
    C. A. Kennedy, M. H. Carpenter, Additive Runge–Kutta schemes for convection–diffusion–reaction equations, Appl.
    Numer. Math. 44 (2003), 139–181, ARK3(2)4L[2]SA.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> terms = rungax.MultiTerm(term, term)
    >>> rungax.KenCarp3().order(terms), rungax.KenCarp3().error_order(terms)
    (3, 3)
    """

    method = KENCARP3
    tableau = KENCARP3.tableau
    interpolation_cls = staticmethod(partial(_stage_interpolation, extension=own_extension(KENCARP3)))


class KenCarp4(_PublishedIMEXRK):
    """Kennedy and Carpenter's implicit–explicit method of order 4, for `MultiTerm(explicit, implicit)`.

    The implicit part is L-stable and stiffly accurate; dense output of order 3.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractIMEXRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractIMEXRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Five implicit stages a step, each of one evaluation of the implicit vector field an iteration, mostly one to three,
    and one evaluation for the explicit first stage; six evaluations of the explicit one. For Jacobians and memory see
    `AbstractIMEXRK`.

    References
    ----------
    C. A. Kennedy, M. H. Carpenter, Additive Runge–Kutta schemes for convection–diffusion–reaction equations, Appl.
    Numer. Math. 44 (2003), 139–181, ARK4(3)6L[2]SA.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> slow = rungax.ODETerm(lambda t, y, args: jnp.cos(t))
    >>> stiff = rungax.ODETerm(lambda t, y, args: -1e4 * y)
    >>> terms = rungax.MultiTerm(slow, stiff)
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-8)
    >>> solution = rungax.diffeqsolve(
    ...     terms,
    ...     rungax.KenCarp4(),
    ...     0.0,
    ...     1.0,
    ...     None,
    ...     jnp.array(0.0),
    ...     stepsize_controller=controller,
    ... )
    >>> print(f"{solution.ys[-1]:.1e}")
    5.4e-05
    """

    method = KENCARP4
    tableau = KENCARP4.tableau
    pid_coefficients = FEWER_REJECTIONS
    interpolation_cls = staticmethod(partial(_stage_interpolation, extension=own_extension(KENCARP4)))


class KenCarp5(_PublishedIMEXRK):
    """Kennedy and Carpenter's implicit–explicit method of order 5, for `MultiTerm(explicit, implicit)`.

    The implicit part is L-stable and stiffly accurate; dense output of order 4.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractIMEXRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractIMEXRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Seven implicit stages a step, each of one evaluation of the implicit vector field an iteration, mostly one to three,
    and one evaluation for the explicit first stage; eight evaluations of the explicit one. Dense output inside a step
    takes one more implicit stage, with the same linear systems. For Jacobians and memory see `AbstractIMEXRK`.

    References
    ----------
    C. A. Kennedy, M. H. Carpenter, Additive Runge–Kutta schemes for convection–diffusion–reaction equations, Appl.
    Numer. Math. 44 (2003), 139–181, ARK5(4)8L[2]SA.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> terms = rungax.MultiTerm(term, term)
    >>> rungax.KenCarp5().order(terms), rungax.KenCarp5().error_order(terms)
    (5, 5)
    """

    method = KENCARP5
    tableau = KENCARP5.tableau
    dense_tableau: ClassVar[MultiButcherTableau | None] = KENCARP5.dense_tableau
    pid_coefficients = FEWER_REJECTIONS
    interpolation_cls = staticmethod(partial(_stage_interpolation, extension=own_extension(KENCARP5)))


class Sil3(_PublishedIMEXRK):
    """Whitaker and Kar's implicit–explicit method of order 2, for `MultiTerm(explicit, implicit)`.

    First same as last; cubic Hermite dense output.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractIMEXRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractIMEXRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Three implicit stages a step, each of one evaluation of the implicit vector field an iteration, mostly one to three;
    four evaluations of the explicit one. The implicit stages have different diagonal coefficients, so that each needs
    its own factorisation. For Jacobians and memory see `AbstractIMEXRK`.

    References
    ----------
    J. S. Whitaker, S. K. Kar, Implicit–explicit Runge–Kutta methods for fast–slow wave problems, Mon. Weather Rev. 141
    (2013), 3426–3434.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> terms = rungax.MultiTerm(term, term)
    >>> rungax.Sil3().order(terms), rungax.Sil3().error_order(terms)
    (2, 3)
    """

    method = SIL3
    tableau = SIL3.tableau
    calculate_jacobian = CalculateJacobian.every_stage
    interpolation_cls = staticmethod(_hermite)
