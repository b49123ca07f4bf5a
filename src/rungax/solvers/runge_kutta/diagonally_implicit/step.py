r"""Diagonally implicit Runge–Kutta methods, alone or together with an explicit one for a second term.

$$M K_i = F(t_0 + c_i h,\; y_0 + z_i), \qquad z_i = \sum_{j<i} a_{ij} K_j + \gamma_i K_i, \qquad
y_1 = y_0 + \sum_i b_i K_i$$

where $F = f \cdot h$ and $M$ is the mass matrix. The unknown of an implicit stage is the displacement $z_i$ of its
state from $y_0$. Its increment is $K_i = (z_i - \sum_{j<i} a_{ij} K_j) / \gamma_i$: an evaluation of the field at the
state would multiply the error of the iteration by the stiffness. States are vectors here.

With a singular $M$ some rows of the equations are algebraic: $0 = W^\top F(t_0 + c_i h, y_0 + z_i)$, in which no
increment of an earlier stage appears. Methods whose last stage is the solution therefore fulfil them at $y_1$. The
increment of an explicit first stage is the derivative of the solution there, which the algebraic equations determine
only when they are differentiated. It is that of the last stage of the step before, and reverse-mode differentiation
stores it.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ....interpolation import AbstractLocalInterpolation
from ....jaxkit import Args, BoolScalar, DenseInfo, FlatSpace, RealScalar, Time, Y, with_fields, without_derivatives
from ....nonlinear import (
    AbstractStageFinder,
    LinearSolver,
    StepStart,
    Tolerances,
    VeryChord,
    check_linear_solver,
    check_root_finder,
    missing_tolerances,
    resolved,
    stage_solver,
    with_stepsize_controller_tols,
)
from ....results import Result, first_failure, is_successful
from ....step import Step
from ....terms import AbstractTerm
from ...base import AbstractImplicitSolver
from ...common.completed import completed
from ...common.constraints import ConsistentInterpolations, Constraints
from ...common.derivative import state_derivative
from ...common.failures import failure_of_field
from ...common.flat_field import FlatField
from ...common.restart import after_jump
from ...common.stage_vectors import stacked, unstacked
from ...facts import MassMatrices, fact, has_time_past_end
from ...tableaus.types.butcher import ButcherTableau
from ..base import AbstractRungeKutta, CalculateJacobian
from .stages import Coefficients, Stages, StageValues


class DIRKState(eqx.Module):
    """The solver state of a diagonally implicit method.

    Parameters
    ----------
    first
        The implicit term's slope at the start of the next step, if the last stage of a step gives it.
    cache
        The cache of the stage solver.
    is_first_kept
        Whether `first` cannot be computed again from time and state alone: with a mass matrix that takes a derivative
        of the algebraic equations.
    """

    first: PyTree[Any] | None
    cache: PyTree[Any]
    is_first_kept: bool = eqx.field(static=True, default=False)


class AbstractImplicitRK(AbstractRungeKutta[DIRKState], AbstractImplicitSolver[DIRKState]):
    """A Runge–Kutta method whose implicit stages are solved one after another.

    Parameters
    ----------
    root_finder
        The solver of the stage equations: `VeryChord`, any Optimistix root finder, or
        `with_stepsize_controller_tols(...)` of either, which takes its tolerances from the step size controller.
    root_find_max_steps
        Maximum number of iterations for a stage. A stage that needs more has failed, and its step is rejected.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives. By default it is chosen by their
        size and by the structure that the term declares. An iterative one never forms the Jacobian.
    """

    steps_backwards: ClassVar[bool] = False

    root_finder: Any = with_stepsize_controller_tols(VeryChord)()
    root_find_max_steps: int = 10
    linear_solver: LinearSolver | None = None

    def __check_init__(self) -> None:
        check_root_finder(self.root_finder, self.root_find_max_steps)
        check_linear_solver(self.linear_solver)

    @abc.abstractmethod
    def coefficients(self) -> Coefficients:
        """The coefficients of the method, as the stages use them."""

    @abc.abstractmethod
    def dense_coefficients(self) -> Coefficients | None:
        """The coefficients with the further stages of the dense output as the last ones; `None` if it has none."""

    @abc.abstractmethod
    def split(self, terms: PyTree[Any]) -> tuple[AbstractTerm[Any, Any] | None, AbstractTerm[Any, Any]]:
        """The explicit term, if there is one, and the implicit one."""

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver with a root finder that has its tolerances; `None` stands for a solve without error control."""
        return with_fields(self, root_finder=resolved(self.root_finder, tolerances, y0))

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> DIRKState:
        """An empty cache and, if the last stage of a step is the first of the next, the implicit slope at the start."""
        _, implicit = self.split(terms)
        field = FlatField.for_step(implicit, t0, t1, y0, args)
        first = state_derivative(implicit, self.given_linear_solver, t0, y0, args) if self.coefficients().fsal else None
        start, solver = self._start(field, t0, t1, y0), stage_solver(self._finder(y0), field.space)
        return DIRKState(first, solver.empty_cache(start), first is not None and implicit.mass_kind != "identity")

    def restart(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: DIRKState) -> DIRKState:
        """The slope at the new state, and a cache whose Jacobian will be evaluated again."""
        _, implicit = self.split(terms)
        field, first = FlatField.for_step(implicit, t0, t1, y0, args), None
        if solver_state.first is not None:
            first = state_derivative(implicit, self.given_linear_solver, t0, y0, args)
        cache = stage_solver(self._finder(y0), field.space).outdated(solver_state.cache)
        return with_fields(solver_state, first=first, cache=cache)

    def attempt(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: DIRKState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, DIRKState, Result]:
        """The step without the stages that only dense output needs.

        Each implicit stage takes one evaluation of the field an iteration, usually one to three.
        """
        _, implicit = self.split(terms)
        method = self.coefficients()
        solver_state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        field, slope = FlatField.for_step(implicit, t0, t1, y0, args), solver_state.first
        if method.starts_explicitly and slope is None:
            slope = state_derivative(implicit, self.given_linear_solver, t0, y0, args)
        stages, convergence = self._stages(method, terms, field, t0, t1, y0, slope, solver_state.cache)
        space, first = field.space, None
        if method.starts_explicitly:
            first = space.ravel(implicit.prod(slope, field.control))
        values = stages.solve(first, convergence)

        y1 = space.unravel(stages.y0 + (values.displacements[-1] if method.ssal else values.weighted_sum(method.b)))
        error = None
        if method.b_error is not None:
            error = space.unravel(jnp.where(is_successful(values.result), values.weighted_sum(method.b_error), jnp.inf))
        last = None
        if method.fsal:
            last = implicit.quotient(space.unravel(values.implicit[-1]), field.control)
            last = implicit.vf(t1, y1, args) if last is None else last
        k = _stacked_increments(values, space)
        cache = stages.solver.update_cache(stages.prepared, values.convergence)
        state = with_fields(solver_state, first=last, cache=cache)
        return y1, error, {"y0": y0, "y1": y1, "k": k}, state, values.result

    def densify(self, step: Step) -> DenseInfo:
        """The step's `dense_info` with the stages that only `dense_coefficients` has; NaN if one cannot be solved."""
        method = self.dense_coefficients()
        if method is None:
            return step.dense_info
        terms, t0, t1, y0, args = step.terms, step.t0, step.t1, step.y0, step.args
        _, implicit = self.split(terms)
        field = FlatField.for_step(implicit, t0, t1, y0, args)
        slope = step.solver_state0.first
        stages, convergence = self._stages(method, terms, field, t0, t1, y0, slope, step.solver_state.cache)
        space, num_known, k = stages.field.space, self.coefficients().num_stages, step.dense_info["k"]
        parts = (None, k) if method.explicit is None else k
        explicit, implicit = (
            None if part is None else tuple(map(space.ravel, unstacked(part, num_known))) for part in parts
        )
        assert implicit is not None, "there is an implicit part"
        values = stages.solve_after(explicit, implicit, convergence)
        solved = is_successful(values.result)
        k = _stacked_increments(values, space)
        k = jax.tree.map(lambda x: jnp.where(solved, x, jnp.asarray(jnp.nan, x.dtype)), k)
        return {"y0": y0, "y1": step.y1, "k": k}

    step = completed(attempt, densify)

    def after_rejection(self, before: DIRKState, after: DIRKState) -> DIRKState:
        """The slope from before the attempt, and the cache from after it."""
        return with_fields(before, cache=after.cache)

    def improves_when_repeated(self, step: Step) -> BoolScalar:
        """True if a stage was not solved with a Jacobian from before the step, which the next attempt evaluates."""
        _, implicit = self.split(step.terms)
        space = FlatField.for_step(implicit, step.t0, step.t1, step.y0, step.args).space
        solver, cache = stage_solver(self._finder(step.y0), space), step.solver_state.cache
        return jnp.logical_not(is_successful(step.result)) & solver.is_outdated(cache, step.t0)

    def failure_at_start(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: DIRKState
    ) -> Result:
        """The failure of a vector field, or of a Jacobian, that is not finite at the start of the step."""
        del solver_state
        _, implicit = self.split(terms)
        field = FlatField.for_step(implicit, t0, t1, y0, args)
        of_field = failure_of_field(self.func(terms, t0, y0, args))
        return first_failure(of_field, field.failure_of_jacobian(t0, y0))

    def checkpoint_state(self, solver_state: DIRKState) -> PyTree[Any]:
        """The first stage's slope, if it must be kept; else it is evaluated again. The cache changes no solution."""
        return solver_state.first if solver_state.is_first_kept else None

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Any]) -> DIRKState:
        """The solver state of a first step from `t0`, `y0`, with the slope that was kept."""
        fresh = self.init(terms, jnp.asarray(t0), jnp.asarray(t0), y0, args)
        return with_fields(fresh, first=checkpoint) if fresh.is_first_kept else fresh

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def _stages(
        self,
        method: Coefficients,
        terms: PyTree[Any],
        field: FlatField,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        slope: Any,
        cache: PyTree[Any],
    ) -> tuple[Stages, PyTree[Any]]:
        """The equations of the stages of `method` over a step, and the convergence information for the first one."""
        (explicit, _), space, args = self.split(terms), field.space, field.args
        start, solver = self._start(field, t0, t1, y0, slope), stage_solver(self._finder(y0), space)
        prepared, convergence = solver.prepare(start, cache)
        stages = Stages(
            method=method,
            field=field,
            explicit=None if explicit is None else FlatField.for_step(explicit, t0, t1, y0, args, space),
            y0=space.ravel(y0),
            t0=jnp.asarray(t0),
            t1=jnp.asarray(t1),
            start=start,
            solver=solver,
            prepared=prepared,
        )
        return stages, convergence

    def _finder(self, y0: Y) -> Any:
        """The root finder, with the default tolerances if the solver is used by hand and no solve has given any."""
        finder = self.root_finder
        return resolved(finder, None, y0) if missing_tolerances(finder) else finder

    @property
    def given_linear_solver(self) -> LinearSolver | None:
        """The linear solver that the user gave to the method or to its root finder."""
        finder = self.root_finder
        of_finder = finder.linear_solver if isinstance(finder, AbstractStageFinder) else None
        return of_finder if self.linear_solver is None else self.linear_solver

    def _start(self, field: FlatField, t0: RealScalar, t1: RealScalar, y0: Y, slope: Any = None) -> StepStart:
        """The start of the step, as a constant to differentiation; `slope` is that of the state, if it is known."""
        y, rate = lax.stop_gradient(field.space.ravel(y0)), None
        if field.needs_rate and slope is None:
            rate = jnp.zeros_like(y)
        elif field.needs_rate:
            rate = lax.stop_gradient(field.space.ravel(field.term.prod(slope, field.rate)))
        return StepStart(
            field=without_derivatives(field),
            algebra=field.linear_algebra(self.given_linear_solver, t0, y0),
            t0=lax.stop_gradient(jnp.asarray(t0)),
            y0=y,
            step_size=lax.stop_gradient(jnp.asarray(t1 - t0)),
            diagonal=self.coefficients().shared_diagonal,
            max_steps=self.root_find_max_steps,
            rate=rate,
        )


def _stacked_increments(values: StageValues, space: FlatSpace) -> PyTree[Any]:
    """The increments of all stages, of both terms if there are two."""
    implicit = stacked([space.unravel(x) for x in values.implicit])
    return implicit if values.explicit is None else (stacked([space.unravel(x) for x in values.explicit]), implicit)


def _mass_matrices(tableau: ButcherTableau) -> MassMatrices:
    """Singular ones too if the last stage is the solution, and no stage but the first is explicit."""
    diagonal = tableau.a_diagonal
    return "variable" if tableau.ssal and diagonal is not None and (diagonal[1:] != 0).all() else "regular"


class AbstractDIRK(AbstractImplicitRK):
    """A diagonally implicit Runge–Kutta method, given by its coefficients.

    Subclass it for a method of your own: define `tableau`, `interpolation_cls` and `order`. `interpolation_cls`
    receives `y0`, `y1` and the stages `k` (times the step, stacked along the first axis of each leaf). A
    `dense_tableau`, which is `tableau` with further stages of no weight, adds these to `k` for steps inside which the
    solution is evaluated.

    Parameters
    ----------
    root_finder
        The solver of the stage equations: `VeryChord`, any Optimistix root finder, or
        `with_stepsize_controller_tols(...)` of either, which takes its tolerances from the step size controller. By
        default simplified Newton iteration, `VeryChord`, with the tolerances of the controller.
    root_find_max_steps
        Maximum number of iterations for a stage, at least 2. A stage that needs more has failed, and its step is
        rejected. Most stages take one to three iterations; the default 10 allows for slow convergence.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives. By default it is chosen by their
        size and by the structure that the term declares. An iterative one never forms the Jacobian.

    Raises
    ------
    ValueError
        If `root_finder` is none of these, `root_find_max_steps` is not an integer of at least 2, or `linear_solver` is
        neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated. The vector field
    must itself be differentiable in forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    One evaluation of the vector field for each iteration of each implicit stage, mostly one to three. The Jacobian
    takes one directional derivative of the field for each column, or for each diagonal of a band that
    `ODETerm(tags=...)` declares. With the default root finder it is used until the iteration becomes slow, until steps
    have doubled, until a jump, and for fifty steps at most; its factorisation until the step size has changed by a
    fifth. Stages with different diagonal coefficients need a factorisation each (`CalculateJacobian.every_stage`).
    Memory: the Jacobian and its factors.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.6 on such methods, IV.8 on
    the solution of their stages.

    Examples
    --------
    >>> import rungax
    >>> class Midpoint(rungax.AbstractDIRK):
    ...     tableau = rungax.ButcherTableau(
    ...         c=[],
    ...         b_sol=[1.0],
    ...         b_error=None,
    ...         a_lower=[],
    ...         a_diagonal=[0.5],
    ...         a_predictor=[],
    ...         c1=0.5,
    ...     )
    ...     interpolation_cls = staticmethod(
    ...         lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(
    ...             t0=t0, t1=t1, y0=y0, y1=y1
    ...         )
    ...     )
    ...
    ...     def order(self, terms):
    ...         return 2
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    tableau: ClassVar[ButcherTableau]
    dense_tableau: ClassVar[ButcherTableau | None] = None
    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.every_stage
    evaluates_past_steps: ClassVar[bool] = fact(lambda cls: has_time_past_end(cls.tableau.c))
    mass_matrices: ClassVar[MassMatrices] = fact(lambda cls: _mass_matrices(cls.tableau))

    def coefficients(self) -> Coefficients:
        """The coefficients of the tableau."""
        return Coefficients(None, self.tableau, self.calculate_jacobian)

    def dense_coefficients(self) -> Coefficients | None:
        """The coefficients of `dense_tableau`, if there is one."""
        return None if self.dense_tableau is None else Coefficients(None, self.dense_tableau, self.calculate_jacobian)

    def interpolation_for(self, terms: PyTree[Any], args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The maker of the method's interpolations; with algebraic equations, of such that fulfil them.

        A combination of stages does so to a low order only.
        """
        if terms.mass_kind == "identity":
            return self.interpolation_cls
        constraints = Constraints(terms, args, None, self.given_linear_solver)
        return ConsistentInterpolations(self.interpolation_cls, constraints)

    def split(self, terms: PyTree[Any]) -> tuple[None, AbstractTerm[Any, Any]]:
        """No explicit term, and the whole equation as the implicit one."""
        return None, terms


class AbstractSDIRK(AbstractDIRK):
    """A diagonally implicit method with one diagonal coefficient for all stages; see `AbstractDIRK`.

    See Also
    --------
    AbstractDIRK : what a subclass defines, and what a step costs.
    """

    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.first_stage


class AbstractESDIRK(AbstractDIRK):
    """A diagonally implicit method with an explicit first stage and one diagonal coefficient for all others.

    See Also
    --------
    AbstractDIRK : what a subclass defines, and what a step costs.

    Kvaerno5 : one of them.
    """

    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.second_stage
