"""The diagonally implicit Runge–Kutta methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from functools import partial
from typing import Any, ClassVar

from ....interpolation import LocalLinearInterpolation, StageInterpolation, ThirdOrderHermitePolynomialInterpolation
from ....terms import is_stochastic
from ...tableaus.implicit_euler import IMPLICIT_EULER
from ...tableaus.kvaerno3 import KVAERNO3
from ...tableaus.kvaerno4 import KVAERNO4
from ...tableaus.kvaerno5 import KVAERNO5
from ...tableaus.trbdf2 import TRBDF2 as TRBDF2_METHOD
from ...tableaus.types.butcher import ContinuousExtension
from ...tableaus.types.published import PublishedMethod
from ..base import FEWER_REJECTIONS
from .step import AbstractESDIRK


def own_extension(method: PublishedMethod) -> ContinuousExtension:
    """The method's own dense output."""
    assert method.extension is not None, "its file gives an interpolant"
    return method.extension


class _PublishedESDIRK(AbstractESDIRK):
    """A published method, with its published order."""

    method: ClassVar[PublishedMethod]

    def order(self, terms: Any) -> int:
        """The order of the published method."""
        del terms
        return self.method.order

    def error_order(self, terms: Any) -> int | None:
        """One more than the lower of the two solutions' orders, whose difference is the estimate.

        Not known for equations with noise.
        """
        if is_stochastic(terms):
            return None
        assert self.method.error_order is not None, "its file gives an embedded solution"
        return min(self.method.order, self.method.error_order) + 1


class ImplicitEuler(_PublishedESDIRK):
    r"""The implicit Euler method of order 1, $y_1 = y_0 + f(t_1, y_1)\,h$.

    L-stable; linear dense output. The error estimate is half the difference of the slopes at both ends, which is the
    difference to the trapezoidal rule.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractDIRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractDIRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    One implicit stage a step, of one evaluation of the vector field an iteration, mostly one to three. The explicit
    first stage is the last one of the step before. For Jacobians and memory see `AbstractDIRK`.

    References
    ----------
    L. Euler, Institutionum calculi integralis, vol. I (1768).

    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.3.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.ImplicitEuler().order(term), rungax.ImplicitEuler().error_order(term)
    (1, 2)
    """

    method = IMPLICIT_EULER
    tableau = IMPLICIT_EULER.tableau
    interpolation_cls = LocalLinearInterpolation.from_k


class TRBDF2(_PublishedESDIRK):
    """Trapezoidal rule and backward differentiation in one step, of order 2.

    L-stable, stiffly accurate; cubic Hermite dense output; an estimate of order 3.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractDIRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractDIRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Two implicit stages a step, each of one evaluation of the vector field an iteration, mostly one to three. The
    explicit first stage is the last one of the step before. For Jacobians and memory see `AbstractDIRK`.

    References
    ----------
    R. E. Bank et al., Transient simulation of silicon devices and circuits, IEEE Trans. Comput.-Aided Des. 4 (1985),
    436–451.

    M. E. Hosea, L. F. Shampine, Analysis and implementation of TR-BDF2, Appl. Numer. Math. 20 (1996), 21–37.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.TRBDF2().order(term), rungax.TRBDF2().error_order(term)
    (2, 3)
    """

    method = TRBDF2_METHOD
    tableau = TRBDF2_METHOD.tableau
    interpolation_cls = ThirdOrderHermitePolynomialInterpolation.from_k


class Kvaerno3(_PublishedESDIRK):
    """Kværnø's method of order 3.

    L-stable, stiffly accurate, as is its embedded solution; cubic Hermite dense output.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractDIRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractDIRK`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Three implicit stages a step, each of one evaluation of the vector field an iteration, mostly one to three. The
    explicit first stage is the last one of the step before. For Jacobians and memory see `AbstractDIRK`.

    References
    ----------
    A. Kværnø, Singly diagonally implicit Runge–Kutta methods with an explicit first stage, BIT 44 (2004), 489–502.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Kvaerno3().order(term), rungax.Kvaerno3().error_order(term)
    (3, 3)
    """

    method = KVAERNO3
    tableau = KVAERNO3.tableau
    interpolation_cls = ThirdOrderHermitePolynomialInterpolation.from_k


class Kvaerno4(_PublishedESDIRK):
    """Kværnø's method of order 4.

    L-stable, stiffly accurate, as is its embedded solution; dense output of order 3, bounded for stiff components.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractDIRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractDIRK`.

    Notes
    -----
    A stage is evaluated at 1.15 of the step, at times after its end. Before a jump (`jump_ts`) it is evaluated at the
    last time before the jump instead: that is exact if the field depends on time only through its jumps, and otherwise
    of lower order, which the error estimate takes into account. The field and its data must be defined a little beyond
    the `t1` of a solve; for `Kvaerno3`, `KenCarp4`, `KenCarp5` and `Rodas5P` they need not be.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Four implicit stages a step, each of one evaluation of the vector field an iteration, mostly one to three. The
    explicit first stage is the last one of the step before. For Jacobians and memory see `AbstractDIRK`.

    References
    ----------
    A. Kværnø, Singly diagonally implicit Runge–Kutta methods with an explicit first stage, BIT 44 (2004), 489–502.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Kvaerno4().order(term), rungax.Kvaerno4().error_order(term)
    (4, 4)
    """

    method = KVAERNO4
    tableau = KVAERNO4.tableau
    interpolation_cls = staticmethod(partial(StageInterpolation.from_k, extension=own_extension(KVAERNO4)))
    pid_coefficients = FEWER_REJECTIONS


class Kvaerno5(_PublishedESDIRK):
    """Kværnø's method of order 5.

    L-stable, stiffly accurate, as is its embedded solution; dense output of order 4, bounded for stiff components.

    Parameters
    ----------
    root_finder, root_find_max_steps, linear_solver
        The solver of the stage equations, its maximum number of iterations, and the solver of its linear systems: see
        `AbstractDIRK`.

    Raises
    ------
    ValueError
        If a parameter is not valid for `AbstractDIRK`.

    Notes
    -----
    A stage is evaluated at 1.23 of the step, at times after its end. Before a jump (`jump_ts`) it is evaluated at the
    last time before the jump instead: that is exact if the field depends on time only through its jumps, and otherwise
    of lower order, which the error estimate takes into account. The field and its data must be defined a little beyond
    the `t1` of a solve; for `Kvaerno3`, `KenCarp4`, `KenCarp5` and `Rodas5P` they need not be.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated.

    Cost
    ----
    Six implicit stages a step, each of one evaluation of the vector field an iteration, mostly one to three. The
    explicit first stage is the last one of the step before. For Jacobians and memory see `AbstractDIRK`.

    References
    ----------
    A. Kværnø, Singly diagonally implicit Runge–Kutta methods with an explicit first stage, BIT 44 (2004), 489–502.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -1e6 * (y - jnp.cos(t)))
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6)
    >>> solution = rungax.diffeqsolve(
    ...     term,
    ...     rungax.Kvaerno5(),
    ...     0.0,
    ...     1.0,
    ...     None,
    ...     jnp.array(1.0),
    ...     stepsize_controller=controller,
    ... )
    >>> print(f"{solution.ys[-1] - jnp.cos(1.0):.0e}")
    8e-07
    """

    method = KVAERNO5
    tableau = KVAERNO5.tableau
    interpolation_cls = staticmethod(partial(StageInterpolation.from_k, extension=own_extension(KVAERNO5)))
    pid_coefficients = FEWER_REJECTIONS
