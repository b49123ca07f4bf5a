"""The plan of a solve, and the protocols of the parts in it: solver, controller, event detector, recorders."""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, Self

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree

from .interpolation import AbstractLocalInterpolation
from .jaxkit import (
    Args,
    BoolScalar,
    DenseInfo,
    IntScalar,
    RealScalar,
    Time,
    Y,
    any_element,
    call_user,
    check_structure,
    clip_next_end,
    is_stuck,
    match_varying,
    optimization_barrier,
    select,
    without_derivatives,
)
from .nonlinear import Tolerances
from .results import RESULTS, Result, first_failure, traced
from .step import (
    ControllerState,
    DriverState,
    EventState,
    Flags,
    Problem,
    Proposal,
    Record,
    SolverState,
    Start,
    State,
    Step,
    Tangents,
    UserState,
    Verdict,
)
from .stops import StopQueue
from .terms import Terms, bind_increments, evaluated_up_to, is_stochastic


class Solver(Protocol):
    """A solver, as the loop sees it; `rungax.AbstractSolver` documents it."""

    evaluates_past_steps: ClassVar[bool]

    def init(self, terms: Terms, t0: Time, t1: Time, y0: Y, args: Args) -> SolverState: ...

    def attempt(
        self,
        terms: Terms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: SolverState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]: ...

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState: ...

    def improves_when_repeated(self, step: Step) -> BoolScalar | None: ...

    def failure_at_start(
        self, terms: Terms, t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: SolverState
    ) -> Result: ...

    def checkpoint_state(self, solver_state: SolverState) -> PyTree[Array]: ...

    def restore(self, terms: Terms, t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Array]) -> SolverState: ...

    def choices(self, solver_state: SolverState) -> PyTree[Array]: ...

    def with_choices(self, solver_state: SolverState, choices: PyTree[Array]) -> SolverState: ...

    def densify(self, step: Step) -> DenseInfo: ...

    def interpolation_for(self, terms: Terms, args: Args) -> Callable[..., AbstractLocalInterpolation]: ...

    def stiffness(self, step: Step) -> RealScalar | None: ...

    def proposal(self, step: Step) -> Proposal | None: ...


class Controller(Protocol):
    """A step size controller, as the loop sees it; `rungax.AbstractStepSizeController` documents it."""

    @property
    def can_jump(self) -> bool: ...

    @property
    def may_reject(self) -> bool: ...

    def wrap(self, direction: Time) -> Self: ...

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: ControllerState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, ControllerState, Result]: ...

    def next_end_for_factor(
        self,
        factor: RealScalar,
        accepted: BoolScalar,
        dt: Time,
        next_t0: Time,
        next_t1: Time,
        controller_state: ControllerState,
    ) -> Time: ...

    def differentiable_step_times(
        self, t0: Time, t1: Time, index: IntScalar, start: Time, end: Time, controller_state: ControllerState
    ) -> tuple[Time, Time]: ...

    def failed_at(self, controller_state: ControllerState) -> Time | None: ...

    def tolerances(self) -> Tolerances | None: ...

    def bounding_also(self, error: RealScalar) -> Self: ...

    def final_state(self, initial: ControllerState, final: ControllerState) -> ControllerState: ...


class EventMap(Protocol):
    """The map from the state before an event to the state after it; `rungax.events.event_map` documents it."""

    @property
    def uses_index(self) -> bool: ...

    def at_event_time(self, plan: "Plan", active: Flags, t: Time, y: Y) -> tuple[Time, Y]: ...

    def apply_effects(
        self, plan: "Plan", active: Flags, num_effects: Int[Array, " conditions"], t: Time, y: Y
    ) -> tuple[Time, Y, Y, Result]: ...


class EventDetector(Protocol):
    """An event detector, as the loop sees it; `rungax.events.detector` documents it."""

    @property
    def has_effects(self) -> bool: ...

    @property
    def event_map(self) -> EventMap: ...

    def init(self, problem: Problem, t_next: Time) -> EventState: ...

    def detect(self, plan: "Plan", state: State, step: Step, verdict: Verdict, running: BoolScalar) -> Verdict: ...

    def ended_by(self, events: EventState) -> Flags: ...

    def has_differentiable_time(self, events: EventState) -> BoolScalar: ...

    def values(self, problem: Problem, t: Time, y: Y) -> Array: ...


class Constraints(Protocol):
    """The algebraic equations of an equation with a mass matrix; `rungax.solvers.common.constraints` documents it."""

    def made_consistent(self, t: Time, y: Y) -> tuple[Y, Result]: ...

    def index_failure(self, t: Time, y: Y) -> Result: ...

    def worst_residuals(self, t: Time, y: Y) -> Y: ...

    def with_equation(self, term: Terms, args: Args) -> "Constraints": ...


class TangentControl(Protocol):
    """The tangents that the error control covers; `rungax.adjoints.tangents` documents it."""

    def attempt(self, plan: "Plan", state: State) -> Step: ...

    def after_effects(self, plan: "Plan", state: State, step: Step) -> Tangents: ...


class UserStateUpdate(Protocol):
    """The change of the user's own state with an accepted step, from the true time and the state at the step's end."""

    def __call__(self, t: Time, y: Y, args: Args, user_state: UserState) -> UserState: ...


class AbstractRecorder(eqx.Module):
    """An observer of the solve: outputs at times, at steps, a dense solution, the tape, a progress meter.

    Its state is part of the loop's carry; it never changes the solve.
    """

    @abc.abstractmethod
    def init(self, plan: "Plan", state: State) -> Record:
        """The recorder's state before the first step; `state` is the solve's, without records."""

    @abc.abstractmethod
    def record(self, plan: "Plan", record: Record, step: Step, accepted: BoolScalar, index: IntScalar) -> Record:
        """The recorder's state after an attempt; `index` counts the steps accepted before it."""

    @abc.abstractmethod
    def finish(self, plan: "Plan", record: Record, state: State) -> PyTree[Array]:
        """The recorder's output when the loop has ended in `state`."""

    def savers(self) -> "Mapping[str, AbstractRecorder]":
        """The recorders that replace this one in a taped solve; by default itself, so its output has no derivatives."""
        return {"output": self}

    def rebuild(self, plan: "Plan", saved: Mapping[str, PyTree[Array]], state: State, end: Start) -> PyTree[Array]:
        """The output of `finish`, made in differentiable operations from the outputs of the savers.

        `state` is the final state, and `end` the start of the step that would follow, both differentiable.
        """
        del plan, state, end
        return saved["output"]


_CURE = "Return what `init` returns, with other values; `{}=` is that of a solve like this one."


class Plan(eqx.Module):
    """All that stays the same during a solve."""

    problem: Problem
    solver: Solver
    controller: Controller
    initial_controller_state: ControllerState
    error_order: RealScalar | None
    max_steps: int | None = eqx.field(static=True)
    recorders: Mapping[str, AbstractRecorder]
    detector: EventDetector | None = None
    stops: StopQueue | None = None
    user_state_update: UserStateUpdate | None = None
    tangent_control: TangentControl | None = None
    constraints: Constraints | None = None

    @property
    def is_noisy(self) -> bool:
        """True if a Brownian path drives the equation."""
        return is_stochastic(self.problem.terms)

    def attempt(self, state: State) -> Step:
        """The next step of the solve in `state`, with its tangents if the error control covers any."""
        if self.tangent_control is not None:
            return self.tangent_control.attempt(self, state)
        t, t_next, solver_state, user_state = state.t, state.t_next, state.solver_state, state.user_state
        step = self.attempt_from(t, t_next, state.y, state.drivers, solver_state, state.made_jump, user_state)
        what = f"`{type(self.solver).__name__}.step` must return states of the same structure"
        check_structure(step.y1, state.y, what, returned="it returned")
        names = {"name": "solver_state", "returned": "it returned", "cure": _CURE.format("solver_state")}
        check_structure(step.solver_state, solver_state, what, **names)
        return step

    def attempt_from(
        self,
        t0: Time,
        t1: Time,
        y0: Y,
        drivers: tuple[DriverState, ...],
        solver_state: SolverState,
        made_jump: BoolScalar | None,
        user_state: UserState,
    ) -> Step:
        """The solver's step from `t0`, `y0` to `t1`."""
        args = self.problem.args
        terms, drivers = bind_increments(self.problem.terms, drivers, t0, t1)
        if self.stops is not None and self.stops.can_jump and self.solver.evaluates_past_steps:
            terms = evaluated_up_to(self.stops.next_jump(t0), terms)
        jumped = False if made_jump is None else made_jump
        y0, inconsistent = self._consistent_after_jump(made_jump, t0, y0)
        y1, y_error, dense_info, next_solver_state, result = self.solver.attempt(
            terms, t0, t1, y0, args, solver_state, jumped
        )
        result = first_failure(inconsistent, result)
        return Step(
            terms=terms,
            args=args,
            drivers=drivers,
            t0=t0,
            t1=t1,
            y0=y0,
            solver_state0=solver_state,
            made_jump=made_jump,
            y1=y1,
            y_error=y_error,
            dense_info=dense_info,
            solver_state=next_solver_state,
            result=result,
            user_state0=user_state,
        )

    def _consistent_after_jump(self, made_jump: BoolScalar | None, t: Time, y: Y) -> tuple[Y, Result]:
        """The state from which a step starts: after a jump of the equation its algebraic part jumps too."""
        constraints = self.constraints
        if constraints is None or made_jump is None:
            return y, RESULTS.successful
        unchanged = y, traced(RESULTS.successful)

        def consistent() -> tuple[Y, Result]:
            found, result = constraints.made_consistent(t, y)
            return select(made_jump, (found, traced(result)), unchanged)

        like = (constraints, t, y, made_jump)
        return lax.cond(
            any_element(made_jump), lambda: match_varying(consistent(), like), lambda: match_varying(unchanged, like)
        )

    def judge(self, state: State, step: Step) -> Verdict:
        """The controller's verdict on an attempt, with the next one clipped to the stop queue."""
        proposal = self.solver.proposal(step)
        error_order, factor = (None, None) if proposal is None else (proposal.error_order, proposal.factor)
        controller = self.controller
        if step.tangent_error is not None:
            controller = controller.bounding_also(step.tangent_error)
        accepted, next_t0, next_t1, made_jump, controller_state, result = call_user(
            "the controller",
            controller.adapt_step_size,
            step.t0,
            step.t1,
            step.y0,
            step.y1,
            step.args,
            step.y_error,
            self.error_order if error_order is None else error_order,
            state.controller_state,
        )
        what = f"`{type(controller).__name__}.adapt_step_size` must return states of the same structure"
        names = {"name": "controller_state", "returned": "it returned", "cure": _CURE.format("controller_state")}
        check_structure(controller_state, state.controller_state, what, **names)
        next_t0, next_t1 = optimization_barrier((jnp.asarray(next_t0), jnp.asarray(next_t1)))
        if factor is not None:
            dt = step.t1 - step.t0
            chosen = controller.next_end_for_factor(factor, accepted, dt, next_t0, next_t1, controller_state)
            next_t1 = jnp.where(jnp.asarray(factor) > 0, chosen, next_t1)
        proposed_end = next_t1
        if self.stops is not None:
            next_t0, proposed_end, jumped = self.stops.pass_jump(accepted, step.t0, step.t1, next_t0, next_t1)
            next_t1 = self.stops.clip(accepted, next_t0, proposed_end)
            made_jump = made_jump | jumped
        repeats = self.solver.improves_when_repeated(step)
        if repeats is not None:
            is_last = ~jnp.asarray(accepted) & is_stuck(next_t0, next_t1)
            next_t1, proposed_end = (jnp.where(is_last & repeats, step.t1, t) for t in (next_t1, proposed_end))
        return Verdict(accepted, next_t0, next_t1, made_jump, controller_state, result, proposed_end)

    def failure_at_start(self, t0: Time, t1: Time, y0: Y, solver_state: SolverState) -> Result:
        """The reason why no step from `t0`, `y0` succeeds, however short; successful if there is none."""
        terms, args = self.problem.terms, self.problem.args
        inputs = without_derivatives((terms, t0, t1, y0, args, solver_state))
        failure = self.solver.failure_at_start(*inputs)
        if self.constraints is None:
            return failure
        return first_failure(failure, without_derivatives(self.constraints).index_failure(t0, y0))

    def next_end(self, verdict: Verdict) -> Time:
        """The end of the next attempt, clipped to the end of the interval."""
        return clip_next_end(verdict.accepted, self.problem.t1, verdict.next_t1)

    def differentiable_step_times(self, t0: Time, t1: Time, index: IntScalar) -> tuple[Time, Time]:
        """The ends of an accepted step as differentiable functions of the times that decide them."""
        start, end = self.problem.t0, self.problem.t1
        if self.stops is not None:
            start, end = self.stops.around(t0, t1, start, end)
        return self.controller.differentiable_step_times(t0, t1, index, start, end, self.initial_controller_state)

    def was_finite(self, state: State, t: Array) -> BoolScalar:
        """True for times up to which the solve that has ended in `state` was finite."""
        failed_at = self.controller.failed_at(state.controller_state)
        return jnp.ones(jnp.shape(t), bool) if failed_at is None else t <= failed_at

    def start(self, y: Y, solver_state: SolverState, user_state: UserState) -> Start:
        """The start of a step from `y`, as the tape stores it."""
        return Start(y, self.solver.checkpoint_state(solver_state), user_state)

    def updated_user_state(self, t1: Time, y1: Y, user_state: UserState) -> UserState:
        """The user's own state after a step that ends in `y1` at `t1`."""
        if self.user_state_update is None:
            return user_state
        return self.user_state_update(t1 * self.problem.direction, y1, self.problem.args, user_state)

    def next_tangents(self, state: State, step: Step) -> Tangents | None:
        """The tangents after a step, if it is accepted, and the effects at its end."""
        return None if self.tangent_control is None else self.tangent_control.after_effects(self, state, step)

    def interpolate(self, step: Step) -> AbstractLocalInterpolation:
        """The solution over `step`; evaluates the stages that only dense output needs."""
        make = self.solver.interpolation_for(step.terms, step.args)
        return make(t0=step.t0, t1=step.t1, **self.solver.densify(step))
