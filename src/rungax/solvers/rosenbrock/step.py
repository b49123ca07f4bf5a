r"""Rosenbrock methods: their implicit stages are linear equations, which need no iteration.

With $F = f \cdot h$, the mass matrix $M$, and the Jacobian $J$ of $f$ at the start of the step, each stage solves

$$(M - \gamma h J)\, u_i = \gamma \Big(F\big(t_0 + \alpha_i h,\; y_0 + \sum_{j<i} a_{ij} u_j\big)
+ M \sum_{j<i} c_{ij} u_j + \gamma_i h\, \partial_t F(t_0, y_0)\Big), \qquad y_1 = y_0 + \sum_i m_i u_i.$$

Their order conditions need the exact Jacobian, which is therefore evaluated at every step, and a constant mass matrix.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y, match_varying, optimization_barrier
from ...nonlinear import AbstractLinearAlgebra, LinearSolver, LinearSystem, Vector, check_linear_solver, solve
from ...results import RESULTS, Result, first_failure
from ...terms import AbstractTerm
from ..base import AbstractAdaptiveSolver
from ..common.failures import failure_of_derivative, failure_of_field
from ..common.flat_field import FlatField
from ..common.stage_loop import stage_time
from ..common.stage_vectors import StageVectors, combine, put, square
from ..facts import MassMatrices, fact, has_time_past_end
from ..tableaus.types.rosenbrock import RosenbrockTableau


class AbstractRosenbrock(AbstractAdaptiveSolver[None]):
    """A Rosenbrock method, given by its coefficients: its stages are linear equations, which need no iteration.

    Subclass it for a method of your own: define `tableau` and `interpolation_cls`, which receives `y0`, `y1` and as `k`
    the tuple of the stages $u_i$ (see `RosenbrockTableau`). The Jacobian must be exact.

    Parameters
    ----------
    linear_solver
        A Lineax solver for the linear systems. By default it is chosen by their size and by the structure that the term
        declares. An iterative one never forms the Jacobian.

    Raises
    ------
    ValueError
        If `linear_solver` is neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode; through the Jacobian too, so that the vector field must be twice differentiable. It must be
    differentiable in forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    Every attempt, rejected ones too, takes one evaluation of the vector field for each stage, one time derivative,
    one Jacobian (a directional derivative for each column, or for each diagonal of a band that `ODETerm(tags=...)`
    declares), one factorisation, and a solve with it for each stage. Memory: the Jacobian and its factors.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.7.

    J. G. Verwer, E. J. Spee, J. G. Blom, W. Hundsdorfer, A second-order Rosenbrock method applied to photochemical
    dispersion problems, SIAM J. Sci. Comput. 20 (1999), 1456–1480, for the example.

    Examples
    --------
    The method ROS2 of order 2, L-stable with this `gamma`:

    >>> import rungax
    >>> gamma = 1 - 0.5**0.5
    >>> class ROS2(rungax.AbstractRosenbrock):
    ...     tableau = rungax.RosenbrockTableau(
    ...         gamma=gamma,
    ...         alpha=[0.0, 1.0],
    ...         gamma_sums=[gamma, -gamma],
    ...         a=[[1 / gamma]],
    ...         c=[[-2 / gamma]],
    ...         m=[1.5 / gamma, 0.5 / gamma],
    ...         m_hat=[1 / gamma, 0.0],
    ...         order=2,
    ...         error_order=1,
    ...     )
    ...     interpolation_cls = staticmethod(
    ...         lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(
    ...             t0=t0, t1=t1, y0=y0, y1=y1
    ...         )
    ...     )
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    steps_backwards: ClassVar[bool] = False
    uses_jacobian: ClassVar[bool] = True
    mass_matrices: ClassVar[MassMatrices] = "constant"
    tableau: ClassVar[RosenbrockTableau]
    evaluates_past_steps: ClassVar[bool] = fact(lambda cls: has_time_past_end(cls.tableau.alpha))

    linear_solver: LinearSolver | None = None

    def __check_init__(self) -> None:
        check_linear_solver(self.linear_solver)

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> None:
        """No solver state."""
        del terms, t0, t1, y0, args

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: None,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, None, Result]:
        """One step; costs its stages, one Jacobian, and one derivative with respect to time."""
        del solver_state, made_jump
        field = FlatField.for_step(terms, t0, t1, y0, args)
        unravel = field.space.unravel
        start, end = jnp.asarray(t0), jnp.asarray(t1)
        algebra = field.linear_algebra(self.linear_solver, start, y0)
        stages = solve_stages(self.tableau, algebra, field, start, end, field.space.ravel(y0))
        error, y1, k = self.error(stages), unravel(stages.y1), tuple(unravel(u) for u in stages.us)
        y_error = None if error is None else unravel(error)
        result = stages.result
        if field.term.jacobian_pattern is not None:
            # The values of a wrong pattern are not numbers. Constant steps ask why a step has failed.
            result = first_failure(result, failure_of_field(stages.y1))
        return y1, y_error, {"y0": y0, "y1": y1, "k": k}, None, result

    def error(self, stages: "RosenbrockStages") -> Vector | None:
        """The error estimate: by default the difference to the embedded solution, if the tableau has one."""
        return None if self.tableau.e is None else combine(self.tableau.e, stages.us)

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: None
    ) -> Result:
        """The failure of a vector field, or of its derivatives, that are not finite at the start of the step."""
        del solver_state
        t0 = jnp.asarray(t0)
        field = FlatField.for_step(terms, t0, t1, y0, args)
        vector = field.space.ravel(y0)
        by_time = jax.jvp(lambda t: field.slope(t, vector), (t0,), (jnp.ones_like(t0),))[1]
        of_field = failure_of_field(self.func(terms, t0, y0, args))
        of_derivatives = first_failure(failure_of_derivative(by_time), field.failure_of_jacobian(t0, y0))
        return first_failure(of_field, of_derivatives)

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The linear solver that the user gave."""
        return self.linear_solver

    def order(self, terms: PyTree[Any]) -> int:
        """The order of the published method."""
        del terms
        return self.tableau.order

    def error_order(self, terms: PyTree[Any]) -> int | None:
        """One more than the lower of the two solutions' orders, whose difference is the estimate, if there is one."""
        del terms
        order = self.tableau.error_order
        return None if order is None else min(self.tableau.order, order) + 1


class RosenbrockStages(NamedTuple):
    """The stages of a step, and the data that an error estimate may use.

    Parameters
    ----------
    field
        The vector field.
    t1, y0, y1
        The end of the step, and the states at its start and its end.
    first
        The increment by the slope at the start.
    us
        The stages $u_i$.
    solve
        The solution of a system with the matrix of the stages, for a right-hand side.
    result
        Successful, or the reason why an iterative linear solver did not solve a stage's equation.
    """

    field: FlatField
    t1: Time
    y0: Vector
    y1: Vector
    first: Vector
    us: StageVectors
    solve: Callable[[Vector], Vector]
    result: Result


def solve_stages(
    tableau: RosenbrockTableau, algebra: AbstractLinearAlgebra, field: FlatField, t0: Time, t1: Time, y0: Vector
) -> RosenbrockStages:
    """The stages of the step from `t0`, `y0` to `t1`."""
    step_size = t1 - t0
    system = LinearSystem.at(algebra, field, t0, y0, tableau.gamma * step_size)
    factors = algebra.factorise(system) if algebra.has_factors else None

    def solution(right: Vector) -> Vector:
        return optimization_barrier(solve(algebra, system, right, factors))

    first, by_time = jax.jvp(lambda t: field.increment(t, y0), (t0,), (jnp.ones_like(t0),))
    by_time = step_size.astype(y0.dtype) * by_time
    u = solution(tableau.gamma * (first + float(tableau.gamma_sums[0]) * by_time))
    us = (u, *[jnp.zeros_like(u)] * (tableau.num_stages - 1))

    def stage(carry: tuple[StageVectors, Vector], row: _Row) -> tuple[tuple[StageVectors, Vector], None]:
        us, _ = carry
        t = stage_time(t0, t1, row.node)
        argument = y0 + combine(row.a, us)
        earlier = field.mass_product(combine(row.c, us))
        right = field.increment(t, argument) + earlier + row.gamma_sum * by_time
        return (put(us, row.number, solution(tableau.gamma * right)), argument), None

    carry = match_varying((us, y0), (field, t0, t1, y0))
    (us, argument), _ = lax.scan(stage, carry, _rows(tableau, y0.dtype, t0.dtype))
    y1 = argument + us[-1] if tableau.stiffly_accurate else y0 + combine(tableau.m, us)
    is_unsolved = jnp.any(jnp.isinf(jnp.stack([u[:1] for u in us])))
    result = algebra.failure(is_unsolved, RESULTS.successful)
    return RosenbrockStages(field, t1, y0, y1, first, us, solution, result)


class _Row(NamedTuple):
    """The coefficients of one stage."""

    number: Array
    node: Array
    a: Array
    c: Array
    gamma_sum: Array


def _rows(tableau: RosenbrockTableau, dtype: Any, time_dtype: Any) -> _Row:
    """The rows of all stages but the first, stacked."""
    return _Row(
        number=jnp.arange(1, tableau.num_stages),
        node=jnp.asarray(tableau.alpha[1:], time_dtype),
        a=square(tableau.a[1:], dtype)[1:],
        c=square(tableau.c[1:], dtype)[1:],
        gamma_sum=jnp.asarray(tableau.gamma_sums[1:], dtype),
    )
