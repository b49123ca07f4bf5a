"""What a call means: its defaults and dtypes, the direction of travel, and with that the plan and the first state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .adjoints import AbstractAdjoint
from .controllers import AbstractStepSizeController, retrying_rejected_times
from .events import ConditionDetector, Event
from .jaxkit import Args, BoolScalar, RealScalar, Time, Y, clip_to_end, strong, time_dtype, trace_once
from .progress import AbstractProgressMeter, progress_recorders
from .results import RESULTS, Result, choose, first_failure
from .saving import DenseRecorder, InternalsRecorder, OutputRecorder, SaveAt
from .saving.saveat import SubSaveAt
from .solvers import AbstractSolver
from .step import AbstractRecorder, Plan, Problem, State
from .terms import AbstractTerm, ODETerm, in_direction_of_travel, is_stochastic, is_term, start_drivers


class Call(NamedTuple):
    """The arguments of `diffeqsolve`."""

    terms: PyTree[Any]
    solver: AbstractSolver[Any]
    t0: RealScalar
    t1: RealScalar
    dt0: RealScalar | None
    y0: Y
    args: Args
    saveat: SaveAt
    controller: AbstractStepSizeController[Any]
    adjoint: AbstractAdjoint
    resumed: tuple[PyTree[Any], PyTree[Any], BoolScalar | None]
    max_steps: int | None
    progress_meter: AbstractProgressMeter[Any]
    event: Event | None


def resolve(call: Call, subs: list[SubSaveAt]) -> tuple[Plan, State]:
    """Everything the loop needs, in the direction of travel."""
    times = [sub.ts for sub in subs if sub.ts is not None]
    dtype = time_dtype(call.t0, call.t1, *([] if call.dt0 is None else [call.dt0]), *times)
    t0, t1 = jnp.asarray(call.t0, dtype), jnp.asarray(call.t1, dtype)
    dt0 = None if call.dt0 is None else jnp.asarray(call.dt0, dtype)
    y0 = jax.tree.map(lambda x: strong(x, dtype), call.y0)
    args = call.args
    valid = checks.values_are_valid(call.terms, t0, t1, dt0, times, call.controller)
    y0 = jax.tree.map(lambda y: jnp.where(valid, y, jnp.asarray(jnp.nan, y.dtype)), y0)

    terms = jax.tree.map(_as_term, call.terms, is_leaf=is_term)
    checks.check_terms(terms, call.solver, t0, y0, args)
    terms = call.solver.trace_terms(terms, t0, y0, args)
    checks.check_noise(terms, call.solver, call.controller, t0, y0, args)
    controller = retrying_rejected_times(call.controller) if is_stochastic(terms) else call.controller
    solver = call.solver.with_tolerances(controller.tolerances(), y0)
    error_order = solver.error_order(terms)

    direction = jnp.where(t1 >= t0, jnp.ones((), dtype), -jnp.ones((), dtype))
    terms, controller = in_direction_of_travel(terms, direction), controller.wrap(direction)
    t0, t1, dt0 = t0 * direction, t1 * direction, None if dt0 is None else dt0 * direction
    t_next, controller_state = controller.init(terms, t0, t1, y0, dt0, args, solver.func, error_order)
    t_next = clip_to_end(t1, t_next)
    solver_state, resumed_controller_state, _ = call.resumed
    if resumed_controller_state is not None:
        controller_state = controller.resume(controller_state, resumed_controller_state)
        t_next = controller.first_end(t0, t_next, controller_state)
    if solver_state is None:
        solver_state = solver.init(terms, t0, t_next, y0, args)

    plan = Plan(
        problem=Problem(terms, args, t0, t1, direction, y0),
        solver=solver,
        controller=controller,
        controller_state=controller_state,
        error_order=error_order,
        max_steps=call.max_steps,
        recorders=_recorders(call, subs, direction, t0, y0),
        detector=None
        if call.event is None
        else ConditionDetector.of(call.event, _told(call), t0 * direction, y0, args),
    )
    return plan, _first_state(
        call, plan, t_next, solver_state, choose(valid, RESULTS.successful, RESULTS.invalid_input)
    )


def _first_state(call: Call, plan: Plan, t_next: Time, solver_state: PyTree[Any], result: Result) -> State:
    """What the loop starts from."""
    problem, detector, resumed_jump = plan.problem, plan.detector, call.resumed[2]
    events = None
    if detector is not None:
        events = detector.begin(problem.t0, t_next, problem.y0, problem.direction, problem.args)
        result = first_failure(result, choose(jnp.any(events.due), RESULTS.event_occurred, RESULTS.successful))
    made_jump = None
    may_jump = call.controller.can_jump or (detector is not None and detector.has_effects)
    if may_jump or not (resumed_jump is None or resumed_jump is False):
        made_jump = jnp.asarray(False if resumed_jump is None else resumed_jump)
    zero = jnp.asarray(0, jnp.int32)
    return State(
        t=problem.t0,
        t_next=t_next,
        y=problem.y0,
        drivers=start_drivers(problem.terms),
        solver_state=solver_state,
        controller_state=plan.controller_state,
        made_jump=made_jump,
        num_steps=zero,
        num_accepted=zero,
        result=result,
        records=(),
        events=events,
    )


def _told(call: Call) -> dict[str, Any]:
    """What the conditions of events are told besides time, state and arguments: the call as it was made."""
    return {
        "terms": jax.tree.map(_as_term, call.terms, is_leaf=is_term),
        "solver": call.solver,
        "t0": call.t0,
        "t1": call.t1,
        "dt0": call.dt0,
        "saveat": call.saveat,
        "stepsize_controller": call.controller,
        "max_steps": call.max_steps,
    }


def _as_term(term: Any) -> AbstractTerm[Any, Any]:
    return term if is_term(term) or not callable(term) else ODETerm(term)


def _recorders(call: Call, subs: list[SubSaveAt], direction: Time, t0: Time, y0: Y) -> tuple[AbstractRecorder, ...]:
    """Whatever keeps an account of the solve, in the order in which `_run` takes their outcomes."""
    recorders = [_output_recorder(sub, direction, t0, y0, call.args) for sub in subs]
    dense = [DenseRecorder()] if call.saveat.dense else []
    internals = [InternalsRecorder()] if call.saveat.internals else []
    return (*recorders, *dense, *internals, *progress_recorders(call.progress_meter))


def _output_recorder(sub: SubSaveAt, direction: Time, t0: Time, y0: Y, args: Args) -> AbstractRecorder:
    ts = jnp.zeros(0, t0.dtype) if sub.ts is None else jnp.asarray(sub.ts).astype(t0.dtype) * direction
    fn = trace_once(lambda t, y, args: jax.tree.map(jnp.asarray, sub.fn(t, y, args)), t0, y0, args)
    return OutputRecorder(ts, fn, sub.t0, sub.t1, sub.stride)
