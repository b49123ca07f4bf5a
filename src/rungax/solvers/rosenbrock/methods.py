"""The Rosenbrock methods; their coefficients are in `tableaus`, how they step is in `rosenbrock_step`."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from ...interpolation import StageInterpolation, ThirdOrderHermitePolynomialInterpolation
from ...jaxkit import DenseInfo
from ...nonlinear import Vector
from ...step import Step
from ..common.slopes import slopes_at_ends
from ..tableaus.rodas4 import RODAS4
from ..tableaus.rodas5p import RODAS5P
from ..tableaus.ros3p import ROS3P as ROS3P_TABLEAU
from ..tableaus.rosenbrock23 import ROSENBROCK23
from ..tableaus.types.rosenbrock import RosenbrockTableau
from .step import AbstractRosenbrock, Made


@dataclass(frozen=True, eq=False)
class DenseWeights:
    """The coefficients of a method's own dense output, stage by power."""

    weights: np.ndarray


def own_dense_output(tableau: RosenbrockTableau) -> DenseWeights:
    """The dense output that comes with the method."""
    assert tableau.weights is not None, "its file gives an interpolant"
    return DenseWeights(tableau.weights)


class Rosenbrock23(AbstractRosenbrock):
    """Shampine and Reichelt's method of order 2, known as ode23s, for crude tolerances.

    L-stable; dense output of order 2.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` lets size and structure choose: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Three evaluations of the vector field an attempt, one derivative by time, one Jacobian, one factorisation, and three
    solves with it: see `AbstractRosenbrock`.

    References
    ----------
    L. F. Shampine, M. W. Reichelt, The MATLAB ODE suite, SIAM J. Sci. Comput. 18 (1997), 1–22.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Rosenbrock23().order(term), rungax.Rosenbrock23().error_order(term)
    (2, 3)
    """

    tableau = ROSENBROCK23
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=own_dense_output(ROSENBROCK23)))


class ROS3P(AbstractRosenbrock):
    """Lang and Verwer's method of order 3, which keeps its order for nonlinear parabolic equations.

    A-stable; cubic Hermite dense output.

    The paper's embedded solution damps stiff components as little as the solution itself, by the factor -0.73 a step,
    so that their difference cannot see them. The estimate here adds the difference to the trapezoidal rule, solved
    with the matrix of the stages, which takes the fourth evaluation and solve.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` lets size and structure choose: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Four evaluations of the vector field an attempt, one derivative by time, one Jacobian, one factorisation, and four
    solves with it: see `AbstractRosenbrock`. Two more evaluations where the interior of a step is asked for.

    References
    ----------
    J. Lang, J. Verwer, ROS3P – an accurate third-order Rosenbrock solver designed for parabolic problems, BIT 41
    (2001), 731–738.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.ROS3P().order(term), rungax.ROS3P().error_order(term)
    (3, 3)
    """

    tableau = ROS3P_TABLEAU
    interpolation_cls = ThirdOrderHermitePolynomialInterpolation

    def error(self, made: Made) -> Vector:
        """The difference to the embedded solution, and to the trapezoidal rule."""
        last = made.field.increment(made.t1, made.y1)
        difference = made.y1 - made.y0 - 0.5 * (made.first + last)
        embedded = super().error(made)
        assert embedded is not None, "the tableau below has an embedded solution"
        return embedded - made.solution(difference)

    def densify(self, step: Step) -> DenseInfo:
        """The slopes at both ends, for two evaluations."""
        return slopes_at_ends(step)


class Rodas4(AbstractRosenbrock):
    """Hairer and Wanner's method of order 4.

    L-stable, stiffly accurate, as is its embedded solution; dense output of order 3.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` lets size and structure choose: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Six evaluations of the vector field an attempt, one derivative by time, one Jacobian, one factorisation, and six
    solves with it: see `AbstractRosenbrock`.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), VI.4.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -y)
    >>> rungax.Rodas4().order(term), rungax.Rodas4().error_order(term)
    (4, 4)
    """

    tableau = RODAS4
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=own_dense_output(RODAS4)))


class Rodas5P(AbstractRosenbrock):
    """Steinebach's method of order 5, a good first choice for stiff equations.

    L-stable, stiffly accurate, as is its embedded solution; dense output of order 4. Its order hardly suffers from
    stiffness.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` lets size and structure choose: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Eight evaluations of the vector field an attempt, one derivative by time, one Jacobian, one factorisation, and eight
    solves with it: see `AbstractRosenbrock`.

    References
    ----------
    G. Steinebach, Construction of Rosenbrock–Wanner method Rodas5P and numerical benchmarks within the Julia
    Differential Equations package, BIT 63 (2023), article 27.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -1e6 * (y - jnp.cos(t)))
    >>> solution = rungax.diffeqsolve(term, rungax.Rodas5P(), 0.0, 1.0, 0.1, jnp.array(1.0))
    >>> print(f"{solution.ys[-1] - jnp.cos(1.0):.0e}")
    8e-07
    """

    tableau = RODAS5P
    interpolation_cls = staticmethod(partial(StageInterpolation, extension=own_dense_output(RODAS5P)))
