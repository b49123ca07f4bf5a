"""The Rosenbrock methods. Their coefficients are in `tableaus`, their step is in `step.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import PyTree

from ...interpolation import AbstractLocalInterpolation, StageInterpolation, ThirdOrderHermitePolynomialInterpolation
from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y
from ...nonlinear import Vector
from ...results import Result
from ...step import Step
from ..common.completed import completed
from ..common.constraints import ConsistentInterpolations, Constraints
from ..common.slopes import slopes_at_ends
from ..tableaus.rodas4 import RODAS4
from ..tableaus.rodas5p import RODAS5P
from ..tableaus.ros3p import ROS3P as ROS3P_TABLEAU
from ..tableaus.rosenbrock23 import ROSENBROCK23
from ..tableaus.types.rosenbrock import RosenbrockTableau
from .step import AbstractRosenbrock, RosenbrockStages


@dataclass(frozen=True, eq=False)
class DenseWeights:
    """The coefficients of a method's own dense output, stage by power."""

    weights: np.ndarray


def own_dense_output(tableau: RosenbrockTableau) -> DenseWeights:
    """The method's own dense output."""
    assert tableau.weights is not None, "its file gives an interpolant"
    return DenseWeights(tableau.weights)


class Rosenbrock23(AbstractRosenbrock):
    """Shampine and Reichelt's method of order 2, known as ode23s, for loose tolerances.

    L-stable; dense output of order 2.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` chooses by size and structure: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Every attempt takes three evaluations of the vector field, one time derivative, one Jacobian, one factorisation,
    and three solves with it: see `AbstractRosenbrock`.

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
    """Lang and Verwer's method of order 3, without order reduction for nonlinear parabolic equations.

    A-stable; cubic Hermite dense output.

    The paper's embedded solution damps stiff components as little as the solution itself, by the factor -0.73 a step,
    so that their difference does not contain them. The estimate here adds the difference to the trapezoidal rule,
    multiplied by the inverse of the stages' matrix. It takes the fourth evaluation and solve.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` chooses by size and structure: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Every attempt takes four evaluations of the vector field, one time derivative, one Jacobian, one factorisation,
    and four solves with it: see `AbstractRosenbrock`. Dense output takes two more evaluations a step.

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

    def error(self, stages: RosenbrockStages) -> Vector:
        """The difference to the embedded solution, and to the trapezoidal rule."""
        last = stages.field.increment(stages.t1, stages.y1)
        change = stages.field.mass_product(stages.y1 - stages.y0)
        embedded = super().error(stages)
        assert embedded is not None, "the tableau has an embedded solution"
        return embedded - stages.solve(change - 0.5 * (stages.first + last))

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: None,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, None, Result]:
        """The step without the slopes at its ends."""
        return super().step(terms, t0, t1, y0, args, solver_state, made_jump)

    def interpolation_for(self, terms: PyTree[Any], args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The maker of cubics; with algebraic equations, of interpolations that fulfil them.

        The method's values of an algebraic part are of low order inside a step.
        """
        if terms.mass_kind == "identity":
            return self.interpolation_cls
        return ConsistentInterpolations(self.interpolation_cls, Constraints(terms, args, None, self.linear_solver))

    def densify(self, step: Step) -> DenseInfo:
        """The slopes at both ends, which take two evaluations."""
        return slopes_at_ends(step, self.linear_solver)

    step = completed(attempt, densify)


class Rodas4(AbstractRosenbrock):
    """Hairer and Wanner's method of order 4.

    L-stable, stiffly accurate, as is its embedded solution; dense output of order 3.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems; `None` chooses by size and structure: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Every attempt takes six evaluations of the vector field, one time derivative, one Jacobian, one factorisation,
    and six solves with it: see `AbstractRosenbrock`.

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
        A Lineax solver for the linear systems; `None` chooses by size and structure: see `AbstractRosenbrock`.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable.

    Cost
    ----
    Every attempt takes eight evaluations of the vector field, one time derivative, one Jacobian, one factorisation,
    and eight solves with it: see `AbstractRosenbrock`.

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
