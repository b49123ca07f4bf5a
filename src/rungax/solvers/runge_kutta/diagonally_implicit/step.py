r"""Diagonally implicit Runge–Kutta methods, alone or together with an explicit one for a second term.

$$k_i = F\Big(t_0 + c_i h,\; y_0 + \sum_{j<i} a_{ij} k_j + \gamma_i k_i\Big), \qquad y_1 = y_0 + \sum_i b_i k_i$$

where $F = f \cdot h$. The unknowns are the increments $k_i$ themselves: a slope is never recomputed from a state, which
would multiply the error of the iteration by the stiffness. States are vectors here.
"""

import abc
from dataclasses import replace
from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ....jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Time, Y, without_derivatives
from ....nonlinear import (
    AbstractStageFinder,
    AbstractUnresolvedFinder,
    LinearSolver,
    StepStart,
    Tolerances,
    VeryChord,
    check_linear_solver,
    check_root_finder,
    resolved,
    stage_solver,
    with_stepsize_controller_tols,
)
from ....results import Result, is_successful
from ....terms import AbstractTerm
from ...base import AbstractImplicitSolver
from ...common.flat_field import FlatField
from ...common.restart import after_jump
from ...common.stage_vectors import stacked
from ...tableaus.types.butcher import ButcherTableau
from ..base import AbstractRungeKutta, CalculateJacobian
from .stages import Coefficients, Stages


class State(eqx.Module):
    """What is kept from step to step: the implicit term's slope at the start, if the last stage gave it, and cache."""

    first: PyTree[Any] | None
    cache: PyTree[Any]


class AbstractImplicitRK(AbstractRungeKutta[State], AbstractImplicitSolver[State]):
    """A Runge–Kutta method whose implicit stages are solved one after another.

    Parameters
    ----------
    root_finder
        What solves the stage equations: `VeryChord`, any Optimistix root finder, or either without its tolerances
        (`with_stepsize_controller_tols`), which the step size controller then gives.
    root_find_max_steps
        How often a stage may iterate before it counts as failed. A failed stage rejects the step.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives; by default what suits their
        size and the structure that the term declares. An iterative one never forms the Jacobian.
    """

    root_finder: Any = with_stepsize_controller_tols(VeryChord)()
    root_find_max_steps: int = 10
    linear_solver: LinearSolver | None = None

    def __check_init__(self) -> None:
        check_root_finder(self.root_finder, self.root_find_max_steps)
        check_linear_solver(self.linear_solver)

    @abc.abstractmethod
    def coefficients(self) -> Coefficients:
        """The method's coefficients, as the stages use them."""

    @abc.abstractmethod
    def split(self, terms: PyTree[Any]) -> tuple[AbstractTerm[Any, Any] | None, AbstractTerm[Any, Any]]:
        """The explicit term, if there is one, and the implicit one."""

    def with_tolerances(self, tolerances: Tolerances | None, y0: Y) -> Self:
        """This solver with a root finder that knows its tolerances, and whether a failed step can be made again."""
        return replace(self, root_finder=resolved(self.root_finder, tolerances, y0))

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> State:
        """The implicit slope at the start for methods whose last stage is the next step's first; no cache yet."""
        _, implicit = self.split(terms)
        first = implicit.vf(t0, y0, args) if self.coefficients().fsal else None
        field = FlatField.for_step(implicit, t0, t1, y0, args)
        start, solver = self._start(field, t0, t1, y0), stage_solver(self._finder(y0), field.space)
        return State(first, solver.empty_cache(start))

    def restart(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args, solver_state: State) -> State:
        """The slope at the new state, and a cache whose Jacobian will be evaluated again."""
        _, implicit = self.split(terms)
        first = None if solver_state.first is None else implicit.vf(t0, y0, args)
        space = FlatField.for_step(implicit, t0, t1, y0, args).space
        return State(first, stage_solver(self._finder(y0), space).outdated(solver_state.cache))

    def step(
        self,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: State,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, State, Result]:
        """One step; each implicit stage costs one evaluation for each iteration, usually one to three."""
        explicit, implicit = self.split(terms)
        method = self.coefficients()
        field = FlatField.for_step(implicit, t0, t1, y0, args)
        space = field.space
        start, solver = self._start(field, t0, t1, y0), stage_solver(self._finder(y0), space)
        solver_state = after_jump(self, terms, t0, t1, y0, args, solver_state, made_jump)
        prepared, convergence = solver.prepare(start, solver_state.cache)
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
        first = None
        if method.starts_explicitly:
            slope = implicit.vf(t0, y0, args) if solver_state.first is None else solver_state.first
            first = space.ravel(implicit.prod(slope, field.control))
        done = stages.run(first, convergence)

        y1 = space.unravel(done.states[-1] if method.ssal else stages.y0 + done.weigh(method.b))
        error = None
        if method.b_error is not None:
            error = space.unravel(jnp.where(is_successful(done.result), done.weigh(method.b_error), jnp.inf))
        following = None
        if method.fsal:
            following = implicit.quotient(space.unravel(done.implicit[-1]), field.control)
            following = implicit.vf(t1, y1, args) if following is None else following
        k = stacked([space.unravel(x) for x in done.implicit])
        k = k if done.explicit is None else (stacked([space.unravel(x) for x in done.explicit]), k)
        state = State(following, solver.update_cache(prepared, done.convergence))
        return y1, error, {"y0": y0, "y1": y1, "k": k}, state, done.result

    def after_rejection(self, before: State, after: State) -> State:
        """The old slope, and what the attempt has taught."""
        return State(before.first, after.cache)

    def checkpoint_state(self, solver_state: State) -> None:
        """Nothing: the first stage is made again, and cache changes no solution."""
        del solver_state

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: None) -> State:
        """As before the first step."""
        del checkpoint
        return self.init(terms, jnp.asarray(t0), jnp.asarray(t0), y0, args)

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`."""
        return terms.vf(t0, y0, args)

    def _finder(self, y0: Y) -> Any:
        """The root finder; by hand, without a solve that would tell tolerances, it takes the default ones."""
        finder = self.root_finder
        return resolved(finder, None, y0) if isinstance(finder, AbstractUnresolvedFinder) else finder

    def _start(self, field: FlatField, t0: RealScalar, t1: RealScalar, y0: Y) -> StepStart:
        finder = self._finder(y0)
        solver = finder.linear_solver if isinstance(finder, AbstractStageFinder) else None
        return StepStart(
            field=without_derivatives(field),
            algebra=field.linear_algebra(solver if self.linear_solver is None else self.linear_solver, t0, y0),
            t0=lax.stop_gradient(jnp.asarray(t0)),
            y0=lax.stop_gradient(field.space.ravel(y0)),
            step_size=lax.stop_gradient(jnp.asarray(t1 - t0)),
            diagonal=self.coefficients().shared_diagonal,
            max_steps=self.root_find_max_steps,
        )


class AbstractDIRK(AbstractImplicitRK):
    """A diagonally implicit Runge–Kutta method, given by its coefficients.

    Subclass it for a method of your own: give `tableau`, `interpolation_cls` and `order`. `interpolation_cls` receives
    `y0`, `y1` and the stages `k` (times the step, stacked along the first axis of each leaf).

    Parameters
    ----------
    root_finder
        What solves the stage equations: `VeryChord`, any Optimistix root finder, or either without its tolerances
        (`with_stepsize_controller_tols`), which the step size controller then gives. By default simplified Newton
        iteration, `VeryChord`, with the tolerances of the controller.
    root_find_max_steps
        How often a stage may iterate before it counts as failed, at least 2. A failed stage rejects the step. The
        default 10 leaves room for slow convergence; most stages take one to three.
    linear_solver
        A Lineax solver for the linear systems of the iteration and of the derivatives; by default what suits their
        size and the structure that the term declares. An iterative one never forms the Jacobian.

    Raises
    ------
    ValueError
        If `root_finder` is none of these, `root_find_max_steps` is no integer of at least 2, or `linear_solver` is
        neither a Lineax solver nor `None`.

    Differentiability
    -----------------
    In every mode, by the implicit function theorem at each stage: iterations are not differentiated. The vector field
    must itself be differentiable in forward mode, which functions with a `jax.custom_vjp` are not.

    Cost
    ----
    One evaluation of the vector field for each iteration of each implicit stage, mostly one to three. The Jacobian
    takes one directional derivative of the field for each column, or for each diagonal of a band that
    `ODETerm(tags=...)` declares. With the default root finder it is kept until the iteration becomes slow, until steps
    have doubled, until a jump, and for fifty steps at most; its factorisation until the step size has changed by a
    fifth. Stages whose diagonal coefficients differ factorise each their own matrix (`CalculateJacobian.every_stage`).
    Memory: the Jacobian and its factors.

    References
    ----------
    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.6 for such methods, IV.8 for
    how their stages are solved.

    Examples
    --------
    >>> import rungax
    >>> class Midpoint(rungax.AbstractDIRK):
    ...     tableau = rungax.ButcherTableau(
    ...         c=[], b_sol=[1.0], b_error=None, a_lower=[], a_diagonal=[0.5], a_predictor=[], c1=0.5
    ...     )
    ...     interpolation_cls = staticmethod(
    ...         lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(t0=t0, t1=t1, y0=y0, y1=y1)
    ...     )
    ...
    ...     def order(self, terms):
    ...         return 2
    """

    term_structure: ClassVar[PyTree[Any]] = AbstractTerm
    tableau: ClassVar[ButcherTableau]
    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.every_stage

    def coefficients(self) -> Coefficients:
        """Those of the tableau."""
        return Coefficients(None, self.tableau, self.calculate_jacobian)

    def split(self, terms: PyTree[Any]) -> tuple[None, AbstractTerm[Any, Any]]:
        """All of it is implicit."""
        return None, terms


class AbstractSDIRK(AbstractDIRK):
    """A diagonally implicit method with one diagonal coefficient for all stages; see `AbstractDIRK`.

    See Also
    --------
    AbstractDIRK : what a subclass gives, and what it costs.
    """

    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.first_stage


class AbstractESDIRK(AbstractDIRK):
    """An explicit first stage, and one diagonal coefficient for all others; see `AbstractDIRK`.

    See Also
    --------
    AbstractDIRK : what a subclass gives, and what it costs.

    Kvaerno5 : one of them.
    """

    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.second_stage
