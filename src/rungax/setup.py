"""The beginning of a solve: its plan and its first state, from an equation in the direction of travel."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import PyTree

from .controllers import AbstractStepSizeController, retrying_rejected_times
from .jaxkit import BoolScalar, Time, all_finite, clip_to_end
from .plan import AbstractRecorder, EventDetector, Plan, UserStateUpdate
from .results import RESULTS, Result, choose, first_failure
from .solvers import AbstractSolver
from .step import Counts, Problem, State, UserState
from .stops import StopQueue, Stops
from .terms import is_stochastic, start_drivers, stops_of


class Resumed(NamedTuple):
    """The part of an earlier solve's outcome with which another one goes on; each may be `None`."""

    solver_state: PyTree[Any] = None
    controller_state: PyTree[Any] = None
    made_jump: BoolScalar | None = None


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
    controller: AbstractStepSizeController[Any]
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
        The part of an earlier solve's outcome to go on with.
    result
        The result so far: a failure ends the solve before its first step.
    stops
        The stop queue, instead of the one that controller and terms fill.
    user_state_update, user_state
        The change of the user's own state with each accepted step, and its first value.
    """
    terms, t0, t1, y0, args = problem.terms, problem.t0, problem.t1, problem.y0, problem.args
    controller = stepping.controller
    controller = retrying_rejected_times(controller) if is_stochastic(terms) else controller
    controller = controller.wrap(problem.direction)
    if stops is None:
        of_terms = stops_of(terms)
        _check_stops(of_terms, controller)
        stops = StopQueue.of([*controller.stops(), *of_terms], t0.dtype)
    controller = controller.without_stops()
    solver = stepping.solver.with_tolerances(controller.tolerances(), y0)
    error_order = solver.error_order(terms)
    # The first step is chosen without a look beyond the first stop, where the field may be another one.
    horizon = t1 if stops is None else stops.clip(False, t0, t1)
    t_next, controller_state = controller.init(terms, t0, horizon, y0, stepping.dt0, args, solver.func, error_order)
    if resumed.controller_state is not None:
        controller_state = controller.resume(controller_state, resumed.controller_state)
        t_next = controller.first_end(t0, t_next, controller_state)
    t_next = clip_to_end(t1, t_next if stops is None else stops.clip(True, t0, t_next))
    if controller.failed_at(controller_state) is None:
        # Other controllers go on, and report the time themselves.
        result = first_failure(result, choose(all_finite(y0), RESULTS.successful, RESULTS.nonfinite))
    solver_state = resumed.solver_state
    if solver_state is None:
        solver_state = solver.init(terms, t0, t_next, y0, args)
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
    )
    events = None if detector is None else detector.init(problem, t_next)
    if events is not None:
        # A boolean condition that is true at the start ends the solve there.
        at_start = choose(jnp.any(events.active), RESULTS.event_occurred, RESULTS.successful)
        result = first_failure(result, at_start)
    return plan, State(
        t=t0,
        t_next=t_next,
        y=y0,
        drivers=start_drivers(terms),
        solver_state=solver_state,
        controller_state=controller_state,
        made_jump=_made_jump(plan, resumed),
        counts=Counts.zero(),
        result=result,
        records={},
        events=events,
        user_state=user_state,
        is_suspect=jnp.asarray(False) if controller.may_reject else None,
    )


def _check_stops(stops: Sequence[Stops], controller: AbstractStepSizeController[Any]) -> None:
    """Raise a `ValueError` if a controller of steps with given ends would have to end them elsewhere."""
    if stops and not controller.may_reject:
        raise ValueError(
            "A term is not smooth at given times, at which steps must end.\n"
            f"Expected: an adaptive controller, such as PIDController\nFound:    {type(controller).__name__}\n"
            "Use one, or leave the times out."
        )


def _made_jump(plan: Plan, resumed: Resumed) -> BoolScalar | None:
    """True if the equation jumped just before the start; `None` if the solve never jumps."""
    can_jump = plan.controller.can_jump or (plan.stops is not None and plan.stops.can_jump)
    can_jump = can_jump or (plan.detector is not None and plan.detector.has_effects)
    if not can_jump and (resumed.made_jump is None or resumed.made_jump is False):
        return None
    return jnp.asarray(False if resumed.made_jump is None else resumed.made_jump)
