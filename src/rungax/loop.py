"""The stepping loop: attempt, judge, accept or reject, record."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .jaxkit import (
    BoolScalar,
    Time,
    all_finite,
    any_element,
    is_stuck,
    match_varying,
    optimization_barrier,
    resolution,
    select,
)
from .plan import Plan
from .results import RESULTS, Result, choose, first_failure, is_successful, traced
from .step import EventPhase, Outcome, State, Step, Verdict


def run(plan: Plan, state: State) -> Outcome:
    """The whole solve, from a state without records to the outputs of the recorders."""
    return finish(plan, integrate(plan, begin(plan, state)))


def begin(plan: Plan, state: State) -> State:
    """`state` with the recorders' first states."""
    records = {name: recorder.init(plan, state) for name, recorder in plan.recorders.items()}
    return eqx.tree_at(lambda state: state.records, state, records)


def finish(plan: Plan, state: State) -> Outcome:
    """The outcome of a loop that has ended in `state`."""
    records, state = state.records, replace(state, records={}, result=final_result(plan, state))
    outputs = {name: recorder.finish(plan, records[name], state) for name, recorder in plan.recorders.items()}
    return Outcome(state, state.result, outputs)


def integrate(plan: Plan, state: State) -> State:
    """Step until every batch element has reached the end or failed; record on the way."""
    state = match_varying(state, (plan, state))
    if state.is_suspect is None:
        return make_attempts(plan, state)

    def turn(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state = make_attempts(plan, carry[0])
        assert state.is_suspect is not None, "as before the loop"
        return examine(plan, state), any_element(state.is_suspect)

    # If none is suspect, no batch element needs another attempt.
    return lax.while_loop(lambda carry: carry[1], turn, (state, any_element(jnp.ones_like(state.is_suspect))))[0]


def make_attempts(plan: Plan, state: State) -> State:
    """Attempt steps until no batch element needs one, or one of them is suspect."""

    def goes_on(state: State) -> jax.Array:
        needed = any_element(needs_attempt(plan, state))
        return needed if state.is_suspect is None else needed & ~any_element(state.is_suspect)

    return lax.while_loop(goes_on, lambda state: attempt_step(plan, state), state)


def examine(plan: Plan, state: State) -> State:
    """The state, no longer suspect: batch elements from whose state no attempt can succeed have failed."""
    suspect = state.is_suspect
    assert suspect is not None, "the loop asks only in solves that reject steps"
    nothing = traced(RESULTS.successful)

    def found() -> Result:
        # An attempt that cannot be made shorter has failed because of what comes within a few roundings.
        soon = state.t + 4 * resolution(state.t)
        t0 = jnp.where(is_stuck(state.t, state.t_next), soon, state.t)
        t1 = jnp.where(state.t_next > t0, state.t_next, t0 + 4 * resolution(t0))
        return choose(suspect, plan.failure_at_start(t0, t1, state.y, state.solver_state), nothing)

    like = (plan, state)
    failure = lax.cond(
        any_element(suspect), lambda: match_varying(traced(found()), like), lambda: match_varying(nothing, like)
    )
    return replace(state, result=first_failure(failure, state.result), is_suspect=jnp.zeros_like(suspect))


def needs_attempt(plan: Plan, state: State) -> jax.Array:
    """True if this batch element is running, and not a failed solve on an endless interval.

    Controllers of fixed steps continue after the state has stopped being finite (`failed_at`), and would never stop
    there.
    """
    failed_at = plan.controller.failed_at(state.controller_state)
    if failed_at is None:
        return is_running(plan, state)
    return is_running(plan, state) & (jnp.isfinite(plan.problem.t1) | jnp.isinf(failed_at))


def is_running(plan: Plan, state: State) -> jax.Array:
    """True if this batch element has steps left to make, and may make them."""
    running = ~has_ended(plan, state) & ~is_stuck(state.t, state.t_next) & is_successful(state.result)
    return running if plan.max_steps is None else running & (state.num_steps < plan.max_steps)


def attempt_step(plan: Plan, state: State) -> State:
    """The state after one attempt, accepted or not. Batch elements that have ended keep their state."""
    running = optimization_barrier(is_running(plan, state))
    step = plan.attempt(state)
    verdict = plan.judge(state, step)
    if plan.detector is not None:
        verdict = plan.detector.detect(plan, state, step, verdict, running)
    return next_state(plan, state, step, verdict, running)


def next_state(plan: Plan, state: State, step: Step, verdict: Verdict, running: BoolScalar) -> State:
    """The state after an attempt and the verdict on it."""
    y1, events, is_searched = step.y1, verdict.events, False
    failure = first_failure(verdict.result, step_failure(plan, step, verdict))
    result = first_failure(state.result, failure)
    if events is not None:
        running = running & (events.phase != EventPhase.POSTPONED)
        is_searched = events.phase == EventPhase.SEARCHED
        step, y1 = replace(step, active_events=events.active), events.y
        result = choose(events.phase == EventPhase.ENDED, RESULTS.event_occurred, result)
    accepted = optimization_barrier(running & verdict.accepted)
    rejected = running & jnp.logical_not(accepted)
    # The state of the drivers after a rejected step is valid, but continuing from it is slower. So it is reset after a
    # rejection, and solves that never reject select nothing.
    may_reject = plan.controller.may_reject or plan.detector is not None
    drivers = select(accepted, step.drivers, state.drivers) if may_reject else step.drivers
    rejected_state = plan.solver.after_rejection(state.solver_state, step.solver_state)
    return State(
        t=select(accepted, verdict.next_t0, state.t),
        t_next=select(running, plan.next_end(verdict), state.t_next),
        y=select(accepted, y1, state.y),
        drivers=drivers,
        solver_state=select(accepted, step.solver_state, select(running, rejected_state, state.solver_state)),
        controller_state=select(running, verdict.controller_state, state.controller_state),
        made_jump=None if state.made_jump is None else select(accepted, verdict.made_jump, state.made_jump),
        counts=state.counts.after_attempt(running, accepted, is_successful(step.result), is_searched),
        result=select(running, result, state.result),
        records={
            name: recorder.record(plan, state.records[name], step, accepted, state.num_accepted)
            for name, recorder in plan.recorders.items()
        },
        events=None if events is None else events.state,
        user_state=select(accepted, plan.updated_user_state(step.t1, y1, state.user_state), state.user_state),
        is_suspect=None if state.is_suspect is None else rejected & ~all_finite(y1),
        tangents=select(accepted, plan.next_tangents(state, step), state.tangents),
        proposed_end=select(running, proposed_end(plan, state, step, verdict), state.proposed_end),
    )


def proposed_end(plan: Plan, state: State, step: Step, verdict: Verdict) -> Time | None:
    """The end proposed for the attempt after this one, before it is clipped; `None` if it is not stored."""
    if state.proposed_end is None:
        return None
    proposed, ends = verdict.proposed_end, ~(verdict.next_t0 < plan.problem.t1)
    if verdict.events is not None:
        phase = verdict.events.phase
        # The attempts of a search, and the one after it, are parts of the attempt inside which the event lies.
        in_search = (phase == EventPhase.SEARCHED) | (phase == EventPhase.FOUND)
        proposed = jnp.where(in_search, state.proposed_end, proposed)
        ends = ends | (phase == EventPhase.ENDED)
    # If the end of the solve cut its last step, that step says little about the size of the next one.
    is_cut = verdict.accepted & ends & (state.proposed_end > step.t1)
    uncut = verdict.next_t0 + (state.proposed_end - step.t0)
    # Clipping may lengthen a step by a few roundings.
    return jnp.where(is_cut, uncut, jnp.maximum(proposed, plan.next_end(verdict)))


def has_ended(plan: Plan, state: State) -> jax.Array:
    """True if this batch element has reached the end of its interval."""
    return ~(state.t < plan.problem.t1)


def step_failure(plan: Plan, step: Step, verdict: Verdict) -> Result:
    """The failure of a step whose equations were not solved, if the step is not retried with a smaller size.

    Solvers report such a step with an infinite error, so that error control rejects it.
    """
    if step.result is RESULTS.successful:
        return step.result
    failure = choose(verdict.accepted | jnp.isnan(verdict.next_t1), step.result, RESULTS.successful)
    if plan.controller.may_reject:
        return failure

    def found() -> Result:
        at_start = plan.failure_at_start(step.t0, step.t1, step.y0, step.solver_state0)
        return choose(is_successful(failure), failure, first_failure(at_start, failure))

    return lax.cond(
        any_element(jnp.logical_not(is_successful(failure))),
        lambda: match_varying(found(), (plan, step)),
        lambda: match_varying(failure, (plan, step)),
    )


def final_result(plan: Plan, state: State) -> Result:
    """The result of the solve, from the state in which the loop left it.

    Reasons that this state shows are determined here, so that the loop need not carry them.
    """
    stuck = choose(jnp.isnan(state.t_next), RESULTS.nonfinite, RESULTS.dt_min_reached)
    stuck = first_failure(index_failure(plan, state), stuck)
    reason = choose(is_stuck(state.t, state.t_next), stuck, RESULTS.max_steps_reached)
    ended = choose(has_ended(plan, state), RESULTS.successful, reason)
    failed_at = plan.controller.failed_at(state.controller_state)
    if failed_at is not None:
        ended = choose(jnp.isinf(failed_at), ended, RESULTS.nonfinite)
    return first_failure(state.result, ended)


def index_failure(plan: Plan, state: State) -> Result:
    """The failure of algebraic equations that no longer determine their part of a state which no step can leave."""
    constraints = plan.constraints
    if constraints is None:
        return RESULTS.successful
    return lax.cond(
        any_element(is_stuck(state.t, state.t_next)),
        lambda: match_varying(traced(constraints.index_failure(state.t, state.y)), (plan, state)),
        lambda: match_varying(traced(RESULTS.successful), (plan, state)),
    )
