"""The explicit Runge–Kutta methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from functools import partial
from typing import Any, ClassVar

import numpy as np

from ....interpolation import StageInterpolation
from ...base import AbstractStratonovichSolver
from ...tableaus.bosh3 import BOSH3
from ...tableaus.dopri5 import DOPRI5
from ...tableaus.dopri8 import DOPRI8
from ...tableaus.heun import HEUN
from ...tableaus.midpoint import MIDPOINT
from ...tableaus.ralston import RALSTON
from ...tableaus.rk4 import RK4 as RK4_METHOD
from ...tableaus.tsit5 import TSIT5
from ...tableaus.types.butcher import ContinuousExtension
from ...tableaus.types.published import PublishedMethod
from ...tableaus.vern6 import VERN6
from ...tableaus.vern7 import VERN7
from ...tableaus.vern8 import VERN8
from ...tableaus.vern9 import VERN9
from .step import AbstractERK


def hermite_extension(method: PublishedMethod) -> ContinuousExtension:
    """Cubic Hermite dense output, of order three or that of the method, if that is less.

    It has one stage of its own, the slope at the end of the step, unless the last stage of the method is this slope.
    """
    tableau = method.tableau
    b = tableau.b_sol
    weights = np.zeros((b.size if tableau.fsal else b.size + 1, 3))
    weights[: b.size, 1] = 3 * b
    weights[: b.size, 2] = -2 * b
    weights[0] += [1, -2, 1]
    weights[-1] += [0, -1, 1]
    c, rows = ([], []) if tableau.fsal else ([1.0], [b])
    return ContinuousExtension.from_powers(c, rows, weights, order=min(3, method.order))


def own_extension(method: PublishedMethod) -> ContinuousExtension:
    """The method's own dense output."""
    assert method.extension is not None, "its file gives an interpolant"
    return method.extension


class _PublishedERK(AbstractERK):
    """An explicit method whose coefficients and order are those of its paper."""

    method: ClassVar[PublishedMethod]

    def order(self, terms: Any) -> int:
        """The order of the published method."""
        del terms
        return self.method.order


class _StratonovichERK(_PublishedERK, AbstractStratonovichSolver[Any]):
    """An explicit method of order 2, which converges to Stratonovich solutions with the strong order 1/2."""

    def strong_order(self, terms: Any) -> float:
        """One half, for any noise; one if it commutes."""
        del terms
        return 0.5


class Heun(_StratonovichERK):
    """Heun's method of order 2, with an embedded Euler estimate; also for Stratonovich equations.

    Cubic Hermite dense output. Converges to the Stratonovich solution with strong order 1/2 (1 for commutative noise).

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Two evaluations of the vector field a step, one more for dense output inside the step.

    References
    ----------
    K. Heun, Neue Methoden zur approximativen Integration der Differentialgleichungen einer unabhängigen
    Veränderlichen, Z. Math. Phys. 45 (1900), 23–38.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Heun()
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> solver.order(term), solver.strong_order(term), solver.interpretations
    (2, 0.5, frozenset({'Stratonovich'}))
    """

    method = HEUN
    tableau = HEUN.tableau
    extension = hermite_extension(HEUN)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Midpoint(_StratonovichERK):
    """The explicit midpoint rule of order 2, with an embedded Euler estimate; also for Stratonovich equations.

    Cubic Hermite dense output. Converges to the Stratonovich solution with strong order 1/2 (1 for commutative noise).

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Two evaluations of the vector field a step, one more for dense output inside the step.

    References
    ----------
    C. Runge, Über die numerische Auflösung von Differentialgleichungen, Math. Ann. 46 (1895), 167–178.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Midpoint()
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> solver.order(term), solver.strong_order(term), solver.interpretations
    (2, 0.5, frozenset({'Stratonovich'}))
    """

    method = MIDPOINT
    tableau = MIDPOINT.tableau
    extension = hermite_extension(MIDPOINT)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Ralston(_StratonovichERK):
    """Ralston's method of order 2, with an embedded Euler estimate; also for Stratonovich equations.

    It has the smallest bound on the truncation error of all methods with two stages. Cubic Hermite dense output.
    Converges to the Stratonovich solution with strong order 1/2 (1 for commutative noise).

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Two evaluations of the vector field a step, one more for dense output inside the step.

    References
    ----------
    A. Ralston, Runge–Kutta methods with minimum error bounds, Math. Comp. 16 (1962), 431–437.

    Examples
    --------
    >>> import rungax
    >>> solver = rungax.Ralston()
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> solver.order(term), solver.strong_order(term), solver.interpretations
    (2, 0.5, frozenset({'Stratonovich'}))
    """

    method = RALSTON
    tableau = RALSTON.tableau
    extension = hermite_extension(RALSTON)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class RK4(_PublishedERK):
    """The classical method of order 4, without an error estimate: for constant steps.

    Cubic Hermite dense output.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Four evaluations of the vector field a step, one more for dense output inside the step.

    References
    ----------
    W. Kutta, Beitrag zur näherungsweisen Integration totaler Differentialgleichungen, Z. Math. Phys. 46 (1901),
    435–453.

    Examples
    --------
    With `HalfSolver` it has an error estimate, and adaptive steps:

    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.RK4().order(term), rungax.HalfSolver(rungax.RK4()).error_order(term)
    (4, 5)
    """

    method = RK4_METHOD
    tableau = RK4_METHOD.tableau
    extension = hermite_extension(RK4_METHOD)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Bosh3(_PublishedERK):
    """Bogacki and Shampine's 3(2) pair, first same as last: for loose tolerances.

    Cubic Hermite dense output.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Three evaluations of the vector field a step, and one at the start: the last stage is the next step's first.
    Dense output takes none.

    References
    ----------
    P. Bogacki, L. F. Shampine, A 3(2) pair of Runge–Kutta formulas, Appl. Math. Lett. 2 (1989), 321–325.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> (
    ...     rungax.Bosh3().order(term),
    ...     rungax.Bosh3().tableau.num_stages,
    ...     rungax.Bosh3().tableau.fsal,
    ... )
    (3, 4, True)
    """

    method = BOSH3
    tableau = BOSH3.tableau
    extension = hermite_extension(BOSH3)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Tsit5(_PublishedERK):
    """Tsitouras' 5(4) pair, first same as last: the first choice for non-stiff problems at moderate tolerances.

    Fourth-order dense output.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Six evaluations of the vector field a step, and one at the start: the last stage is the next step's first.
    Dense output takes none.

    References
    ----------
    Ch. Tsitouras, Runge–Kutta pairs of order 5(4) satisfying only the first column simplifying assumption, Comput.
    Math. Appl. 62 (2011), 770–775, table 1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6)
    >>> solution = rungax.diffeqsolve(
    ...     term, rungax.Tsit5(), 0.0, 1.0, None, jnp.array(1.0), stepsize_controller=controller
    ... )
    >>> print(f"{solution.ys[-1]:.5f}")
    0.36788
    """

    method = TSIT5
    tableau = TSIT5.tableau
    extension = own_extension(TSIT5)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Dopri5(_PublishedERK):
    """Dormand and Prince's 5(4) pair, first same as last: the method of MATLAB's `ode45` and SciPy's `RK45`.

    Shampine's fourth-order dense output.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Six evaluations of the vector field a step, and one at the start: the last stage is the next step's first.
    Dense output takes none.

    References
    ----------
    J. R. Dormand, P. J. Prince, A family of embedded Runge–Kutta formulae, J. Comput. Appl. Math. 6 (1980), 19–26,
    table 2.

    L. F. Shampine, Some practical Runge–Kutta formulas, Math. Comp. 46 (1986), 135–150.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> (
    ...     rungax.Dopri5().order(term),
    ...     rungax.Dopri5().tableau.num_stages,
    ...     rungax.Dopri5().tableau.fsal,
    ... )
    (5, 7, True)
    """

    method = DOPRI5
    tableau = DOPRI5.tableau
    extension = own_extension(DOPRI5)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Dopri8(_PublishedERK):
    """Prince and Dormand's 8(7) pair RK8(7)13M: for tight tolerances.

    Dense output of order 7.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Thirteen evaluations of the vector field a step, and one at the start: the last stage is the next step's first.
    Dense output inside a step takes four more.

    References
    ----------
    P. J. Prince, J. R. Dormand, High order embedded Runge–Kutta formulae, J. Comput. Appl. Math. 7 (1981), 67–75.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> (
    ...     rungax.Dopri8().order(term),
    ...     rungax.Dopri8().tableau.num_stages,
    ...     rungax.Dopri8().tableau.fsal,
    ... )
    (8, 14, True)
    """

    method = DOPRI8
    tableau = DOPRI8.tableau
    extension = own_extension(DOPRI8)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Vern6(_PublishedERK):
    """Verner's efficient 6(5) pair, first same as last.

    Dense output of order 6.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Eight evaluations of the vector field a step, and one at the start: the last stage is the next step's first.
    Dense output inside a step takes three more.

    References
    ----------
    J. H. Verner, Numerically optimal Runge–Kutta pairs with interpolants, Numer. Algorithms 53 (2010), 383–396.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> (
    ...     rungax.Vern6().order(term),
    ...     rungax.Vern6().tableau.num_stages,
    ...     rungax.Vern6().tableau.fsal,
    ... )
    (6, 9, True)
    """

    method = VERN6
    tableau = VERN6.tableau
    extension = own_extension(VERN6)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Vern7(_PublishedERK):
    """Verner's efficient 7(6) pair.

    Dense output of order 7.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Ten evaluations of the vector field a step, six more for dense output inside the step.

    References
    ----------
    J. H. Verner, Numerically optimal Runge–Kutta pairs with interpolants, Numer. Algorithms 53 (2010), 383–396.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Vern7().order(term), rungax.Vern7().tableau.num_stages
    (7, 10)
    """

    method = VERN7
    tableau = VERN7.tableau
    extension = own_extension(VERN7)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Vern8(_PublishedERK):
    """Verner's efficient 8(7) pair.

    Dense output of order 8.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Thirteen evaluations of the vector field a step, eight more for dense output inside the step.

    References
    ----------
    J. H. Verner, Numerically optimal Runge–Kutta pairs with interpolants, Numer. Algorithms 53 (2010), 383–396.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Vern8().order(term), rungax.Vern8().tableau.num_stages
    (8, 13)
    """

    method = VERN8
    tableau = VERN8.tableau
    extension = own_extension(VERN8)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))


class Vern9(_PublishedERK):
    """Verner's efficient 9(8) pair: for tolerances near rounding.

    Dense output of order 9.

    Differentiability
    -----------------
    In every mode in which the vector field is differentiable.

    Cost
    ----
    Sixteen evaluations of the vector field a step, ten more for dense output inside the step.

    References
    ----------
    J. H. Verner, Numerically optimal Runge–Kutta pairs with interpolants, Numer. Algorithms 53 (2010), 383–396.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Vern9().order(term), rungax.Vern9().tableau.num_stages
    (9, 16)
    """

    method = VERN9
    tableau = VERN9.tableau
    extension = own_extension(VERN9)
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=extension))
