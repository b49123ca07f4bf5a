"""The records that flow through a solve, and the protocols of those who make and use them."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from .interpolation import AbstractLocalInterpolation
from .jaxkit import Args, BoolScalar, DenseInfo, IntScalar, RealScalar, Time, Y
from .results import Result
from .terms import bind_increments, is_stochastic


class Step(eqx.Module):
    """One attempt: the equation, where the step starts (`t0`, `y0`, `solver_state0`, `made_jump`), and its result.

    `due` says which events change the state at its end, if any do in this solve.
    `terms` have the increments of their drivers over the step at hand, if they carry anything; `drivers` is what they
    carry from its end.
    """

    terms: PyTree[Any]
    drivers: tuple[PyTree[Any], ...]
    args: Args
    t0: Time
    t1: Time
    y0: Y
    solver_state0: PyTree[Any]
    made_jump: BoolScalar | None
    y1: Y
    y_error: Y | None
    dense_info: DenseInfo
    solver_state: PyTree[Any]
    result: Result
    due: Bool[Array, " conditions"] | None = None


class Verdict(eqx.Module):
    """What the controller makes of an attempt: whether to keep it, and the next one."""

    accepted: BoolScalar
    next_t0: Time
    next_t1: Time
    made_jump: BoolScalar
    controller_state: PyTree[Any]
    result: Result


class State(eqx.Module):
    """Everything that changes from one attempt to the next."""

    t: Time
    t_next: Time
    y: Y
    drivers: tuple[PyTree[Any], ...]  # what random drivers carry, which only makes them cheaper
    solver_state: PyTree[Any]
    controller_state: PyTree[Any]
    made_jump: BoolScalar | None  # `None` where the state never jumps, which spares the solver a branch
    num_steps: IntScalar
    num_accepted: IntScalar
    result: Result
    records: tuple[PyTree[Any], ...]
    events: PyTree[Any] = None  # what is remembered of events; `None` in a solve without


class Problem(eqx.Module):
    """What is solved: terms seen in the direction of travel, their arguments, the interval and the initial state."""

    terms: PyTree[Any]
    args: Args
    t0: Time
    t1: Time
    direction: Time
    y0: Y


class Solver(Protocol):
    """What the loop needs of a solver; `rungax.AbstractSolver` documents it."""

    interpolation_cls: ClassVar[Callable[..., AbstractLocalInterpolation]]

    def step(
        self,
        terms: Any,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: Any,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, Any, Result]: ...

    def after_rejection(self, before: Any, after: Any) -> Any: ...

    def checkpoint_state(self, solver_state: Any) -> Any: ...

    def stiffness(self, step: Step) -> RealScalar | None: ...

    def restore(self, terms: Any, t0: RealScalar, y0: Y, args: Args, checkpoint: Any) -> Any: ...

    def densify(self, step: Step) -> DenseInfo: ...


class Controller(Protocol):
    """What the loop needs of a controller; `rungax.AbstractStepSizeController` documents it."""

    @property
    def may_reject(self) -> bool: ...

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: Any,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, Any, Result]: ...

    def differentiable_step_times(
        self, t0: Time, t1: Time, index: IntScalar, start: Time, end: Time, controller_state: Any
    ) -> tuple[Time, Time]: ...

    def failed_at(self, controller_state: Any) -> Time | None: ...


class EventMap(Protocol):
    """What happens to the state at an event; `rungax.events.event_map` has it."""

    def at_event_time(self, plan: Any, due: Any, t: Time, y: Y) -> tuple[Time, Y]: ...

    def apply_effects(self, plan: Any, due: Any, t: Time, y: Y) -> Y: ...


class EventDetector(Protocol):
    """What the loop needs of events; `rungax.events.detector` documents it."""

    @property
    def has_effects(self) -> bool: ...

    @property
    def event_map(self) -> EventMap: ...

    def begin(self, t0: Time, t_next: Time, y0: Y, direction: Time, args: Args) -> Any: ...

    def detect(self, plan: Any, events: Any, step: Step, running: BoolScalar, accepted: BoolScalar) -> Any: ...

    def with_effects(self, plan: Any, sighting: Any, step: Step, y: Y, t_next: Time) -> tuple[Y, BoolScalar, Any]: ...

    def ended_by(self, events: Any) -> Any: ...

    def has_moved(self, events: Any) -> BoolScalar: ...


class AbstractRecorder(eqx.Module):
    """Something that keeps an account of a solve: outputs at times, at steps, a dense solution, a progress meter.

    Its state is part of the loop's carry; it never changes what the solve does.
    """

    @abc.abstractmethod
    def init(self, plan: "Plan", state: State) -> PyTree[Any]:
        """The recorder's state before the first step; `state` is the solve's, without records."""

    @abc.abstractmethod
    def record(self, plan: "Plan", record: PyTree[Any], step: Step, kept: BoolScalar, index: IntScalar) -> PyTree[Any]:
        """The state after an attempt; `kept` says whether it counts, `index` how many were kept before it."""

    @abc.abstractmethod
    def finish(self, plan: "Plan", record: PyTree[Any], state: State) -> PyTree[Any]:
        """What is handed out when the loop has ended in `state`."""

    def savers(self) -> tuple["AbstractRecorder", ...]:
        """The recorders that keep what `rebuild` needs; by default this one, whose outcome then has no derivative."""
        return (self,)

    def rebuild(self, plan: "Plan", parts: tuple[Any, ...], state: State) -> PyTree[Any]:
        """The same as `finish`, in differentiable operations, from what the savers kept."""
        del plan, state
        return parts[0]


class Outcome(eqx.Module):
    """How a solve ended, and what its recorders hand out."""

    state: State
    result: Result
    outputs: tuple[PyTree[Any], ...]


class Plan(eqx.Module):
    """What stays the same during a solve."""

    problem: Problem
    solver: Solver
    controller: Controller
    controller_state: PyTree[Any]  # what the controller's `init` returned
    error_order: RealScalar | None
    max_steps: int | None = eqx.field(static=True)
    recorders: tuple[AbstractRecorder, ...]
    detector: EventDetector | None = None

    @property
    def is_noisy(self) -> bool:
        """Whether a Brownian path drives the equation."""
        return is_stochastic(self.problem.terms)

    def attempt(self, state: State) -> Step:
        """What the solver makes of the step that is due."""
        return self.attempt_from(state.t, state.t_next, state.y, state.drivers, state.solver_state, state.made_jump)

    def attempt_from(
        self,
        t0: Time,
        t1: Time,
        y0: Y,
        drivers: tuple[PyTree[Any], ...],
        solver_state: PyTree[Any],
        made_jump: BoolScalar | None,
    ) -> Step:
        """What the solver makes of a step from `t0`, `y0` to `t1`."""
        terms, drivers = bind_increments(self.problem.terms, drivers, t0, t1)
        jumped = False if made_jump is None else made_jump
        args = self.problem.args
        made = self.solver.step(terms, t0, t1, y0, args, solver_state, jumped)
        return Step(terms, drivers, args, t0, t1, y0, solver_state, made_jump, *made)

    def differentiable_step_times(self, t0: Time, t1: Time, index: IntScalar) -> tuple[Time, Time]:
        """The ends of a kept step as differentiable functions of the times that decide them."""
        problem = self.problem
        return self.controller.differentiable_step_times(t0, t1, index, problem.t0, problem.t1, self.controller_state)

    def start(self, y: Y, solver_state: PyTree[Any]) -> tuple[Y, PyTree[Any]]:
        """What a step starts from that is differentiable and cannot be made again from less."""
        return y, self.solver.checkpoint_state(solver_state)

    def judge(self, state: State, step: Step) -> Verdict:
        """What the controller makes of the attempt."""
        keep, next_t0, next_t1, *others = self.controller.adapt_step_size(
            step.t0,
            step.t1,
            step.y0,
            step.y1,
            self.problem.args,
            step.y_error,
            self.error_order,
            state.controller_state,
        )
        return Verdict(keep, jnp.asarray(next_t0), jnp.asarray(next_t1), *others)

    def interpolate(self, step: Step) -> AbstractLocalInterpolation:
        """The solution over `step`, with whatever stages only dense output needs evaluated now."""
        return self.solver.interpolation_cls(t0=step.t0, t1=step.t1, **self.densify(step))

    def densify(self, step: Step) -> DenseInfo:
        """What the interpolation over `step` needs to know."""
        return self.solver.densify(step)
