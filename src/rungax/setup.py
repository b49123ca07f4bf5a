"""The beginning of a solve: its plan and its first state, from an equation in the direction of travel."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import PyTree

from .controllers import AbstractStepSizeController, retrying_rejected_times
from .jaxkit import BoolScalar, Time, all_finite, any_element, call_user, clip_next_end, select, with_fields
from .plan import AbstractRecorder, EventDetector, Plan, UserStateUpdate
from .results import RESULTS, Result, choose, first_failure
from .solvers import AbstractSolver
from .solvers.common.mass_terms import prepared
from .step import ControllerState, Counts, EventState, NextAttempt, Problem, State, UserState
from .stops import StopQueue, Stops
from .terms import is_stochastic, start_drivers, stops_of


class Resumed(NamedTuple):
    """The part of an earlier solve's outcome with which another one continues; each may be `None`.

    `controller_state` is a `NextAttempt`, or the own state of a controller.
    """

    solver_state: PyTree[Any] = None
    controller_state: PyTree[Any] = None
    made_jump: BoolScalar | None = None

    @property
    def next_attempt(self) -> NextAttempt | None:
        """The next attempt of the earlier solve, if it has returned it."""
        return self.controller_state if isinstance(self.controller_state, NextAttempt) else None


class Stepping(NamedTuple):
    """The choices of how to step.

    Parameters
    ----------
    solver, controller
        The solver, and the controller of its steps.
    dt0
        The first step, positive; `None` lets the controller choose it.
    max_steps
        The bound on the number of attempts, if there is one.
    """

    solver: AbstractSolver[Any]
    controller: AbstractStepSizeController[Any, Any]
    dt0: Time | None
    max_steps: int | None


def set_up(
    problem: Problem,
    stepping: Stepping,
    recorders: Mapping[str, AbstractRecorder],
    *,
    detector: EventDetector | None = None,
    resumed: Resumed = Resumed(),
    result: Result = RESULTS.successful,
    stops: StopQueue | None = None,
    user_state_update: UserStateUpdate | None = None,
    user_state: UserState = None,
    hands_on: bool = False,
) -> tuple[Plan, State]:
    """The plan and the first state of a solve.

    Parameters
    ----------
    problem
        The equation in the direction of travel.
    stepping
        The choices of how to step; the controller still holds true times.
    recorders
        The recorders, by name.
    detector
        The event detector, if there are events.
    resumed
        The part of an earlier solve's outcome with which this one continues.
    result
        The result so far: a failure ends the solve before its first step.
    stops
        The stop queue, instead of the one that controller and terms fill.
    user_state_update, user_state
        The change of the user's own state with each accepted step, and its first value.
    hands_on
        Whether another solve may continue from the end of this one, so that the proposed end of each attempt is stored.
    """
    t0, t1, y0, args = problem.t0, problem.t1, problem.y0, problem.args
    controller, stops = _controller_and_stops(problem, stepping, stops)
    tolerances = controller.tolerances()
    solver, terms = stepping.solver.for_equation(problem.terms, t0, y0, args, tolerances)
    solver, ready = solver.with_tolerances(tolerances, y0), prepared(terms, solver, t0, y0, args, tolerances)
    terms, constraints, result = ready.terms, ready.constraints, first_failure(result, ready.result)
    if constraints is not None and resumed.solver_state is None:
        y0, inconsistent = constraints.made_consistent(t0, y0)
        result = first_failure(result, inconsistent)
    problem, error_order = with_fields(problem, terms=terms, y0=y0), solver.error_order(terms)
    start = t0 if stops is None else jnp.minimum(stops.after_jump(t0), t1)
    # The first step is chosen before the first stop, because the field may change there.
    horizon = t1 if stops is None else stops.clip(False, start, t1)
    of_controller = ready.for_first_step, start, horizon, y0, stepping.dt0, args, solver.func, error_order
    init = partial(call_user, "the controller", controller.init, *of_controller)
    controller_state, proposed_end, is_new = _first_attempt(controller, init, start, t1, stepping.dt0, resumed)
    # The attempt that an earlier solve left may follow a rejected one.
    t_next = proposed_end if stops is None else stops.clip(is_new, start, proposed_end)
    t_next = clip_next_end(is_new, t1, t_next)
    # Controllers of fixed steps, whose batch elements share their times, continue if another element can, and report
    # the time themselves.
    starts = all_finite(y0) if controller.failed_at(controller_state) is None else any_element(all_finite(y0))
    result = first_failure(result, choose(starts, RESULTS.successful, RESULTS.nonfinite))
    events = None
    if detector is not None:
        events, t_next, at_start = _first_events(detector, problem, resumed, is_new, t_next)
        result = first_failure(result, choose(at_start, RESULTS.event_occurred, RESULTS.successful))
    solver_state = resumed.solver_state
    if solver_state is None:
        solver_state = call_user("the solver", solver.init, terms, start, t_next, y0, args)
    plan = Plan(
        problem=problem,
        solver=solver,
        controller=controller,
        initial_controller_state=controller_state,
        error_order=error_order,
        max_steps=stepping.max_steps,
        recorders=recorders,
        detector=detector,
        stops=stops,
        user_state_update=user_state_update,
        constraints=constraints,
    )
    return plan, State(
        t=start,
        t_next=t_next,
        y=y0,
        drivers=start_drivers(terms),
        solver_state=solver_state,
        controller_state=controller_state,
        made_jump=_made_jump(plan, resumed, start),
        counts=Counts.zero(),
        result=result,
        records={},
        events=events,
        user_state=user_state,
        is_suspect=jnp.asarray(False) if controller.may_reject else None,
        proposed_end=jnp.maximum(proposed_end, t_next) if hands_on else None,
    )


def _controller_and_stops(
    problem: Problem, stepping: Stepping, stops: StopQueue | None
) -> tuple[AbstractStepSizeController[Any, Any], StopQueue | None]:
    """The controller in the direction of travel without its stops, and the stop queue: the given one, or a new one."""
    terms, controller = problem.terms, stepping.controller
    controller = retrying_rejected_times(controller) if is_stochastic(terms) else controller
    controller = controller.with_coefficients(stepping.solver.pid_coefficients).wrap(problem.direction)
    if stops is None:
        of_terms = stops_of(terms)
        _check_stops(of_terms, controller)
        stops = StopQueue.of([*controller.stops(), *of_terms], problem.t0.dtype)
    return controller.without_stops(), stops


def _first_attempt(
    controller: AbstractStepSizeController[Any, Any],
    init: Callable[[], tuple[Time, ControllerState]],
    t0: Time,
    t1: Time,
    dt0: Time | None,
    resumed: Resumed,
) -> tuple[ControllerState, Time, BoolScalar]:
    """The controller's state, the end proposed for the first attempt, and false if an earlier solve left that."""
    earlier = resumed.next_attempt
    if resumed.controller_state is None:
        end, state = init()
        return state, end, True
    if earlier is not None and dt0 is None:
        end, is_new = earlier.end_from(t0), t0 != earlier.t
    else:
        end, is_new = init()[0], True
    # A program may also pass the controller's own state.
    state = resumed.controller_state if earlier is None else earlier.controller_state
    state = controller.resume(t0, t1, dt0, state)
    return state, controller.first_end(t0, end, state), is_new


def _first_events(
    detector: EventDetector, problem: Problem, resumed: Resumed, is_new: BoolScalar, t_next: Time
) -> tuple[EventState, Time, BoolScalar]:
    """The event detector's first state, the end of the first attempt, and whether an event ends the solve before it.

    A solve that makes the next attempt of an earlier one continues with that one's events.
    """
    events = detector.init(problem, t_next)
    # A boolean condition that is true at the start ends the solve there.
    has_ended, left = jnp.any(events.active), resumed.next_attempt
    earlier = None if left is None else left.events
    if left is None or earlier is None or earlier.signs.shape != events.signs.shape:
        return events, t_next, has_ended
    goes_on = left.is_due & jnp.logical_not(is_new)
    t_next = jnp.where(goes_on & earlier.bracket.is_open, earlier.bracket.next_end, t_next)
    return select(goes_on, earlier, events), t_next, has_ended & ~goes_on


def _check_stops(stops: Sequence[Stops], controller: AbstractStepSizeController[Any, Any]) -> None:
    """Raise a `ValueError` if a controller of steps with given ends would have to end them elsewhere."""
    if stops and not controller.may_reject:
        raise ValueError(
            "A term is not smooth at given times, at which steps must end.\n"
            f"Expected: an adaptive controller, such as PIDController\nFound:    {type(controller).__name__}\n"
            "Use one, or leave the times out."
        )


def _made_jump(plan: Plan, resumed: Resumed, start: Time) -> BoolScalar | None:
    """True if the equation jumped just before the start; `None` if the solve never jumps."""
    can_jump = plan.controller.can_jump or (plan.stops is not None and plan.stops.can_jump)
    can_jump = can_jump or (plan.detector is not None and plan.detector.has_effects)
    if not can_jump and (resumed.made_jump is None or resumed.made_jump is False):
        return None
    made_jump = jnp.asarray(False if resumed.made_jump is None else resumed.made_jump)
    return made_jump | (start > plan.problem.t0)
