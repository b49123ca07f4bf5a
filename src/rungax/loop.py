"""The stepping loop: attempt, judge, keep, record."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .jaxkit import BoolScalar, any_element, clip_to_end, is_stuck, match_varying, select
from .results import RESULTS, Result, choose, first_failure, is_successful
from .step import EventDetector, Outcome, Plan, State, Step, Verdict


def run(plan: Plan, state: State) -> Outcome:
    """The whole solve, from a state without records to what the recorders hand out."""
    return finish(plan, integrate(plan, begin(plan, state)))


def begin(plan: Plan, state: State) -> State:
    """`state` with the records that the recorders start with."""
    records = tuple(recorder.init(plan, state) for recorder in plan.recorders)
    return eqx.tree_at(lambda state: state.records, state, records)


def finish(plan: Plan, state: State) -> Outcome:
    """What the recorders hand out, and how the solve ended."""
    pairs = zip(plan.recorders, state.records, strict=True)
    outputs = tuple(recorder.finish(plan, record, state) for recorder, record in pairs)
    return Outcome(eqx.tree_at(lambda state: state.records, state, ()), final_result(plan, state), outputs)


def integrate(plan: Plan, state: State) -> State:
    """Step until every lane has reached the end or failed; record on the way."""
    state = match_varying(state, (plan, state))
    return lax.while_loop(lambda state: any_element(goes_on(plan, state)), lambda state: advance(plan, state), state)


def goes_on(plan: Plan, state: State) -> jax.Array:
    """Whether this lane needs another attempt: if it is running, unless without hope and without end."""
    failed_at = plan.controller.failed_at(state.controller_state)
    if failed_at is None:
        return is_running(plan, state)
    return is_running(plan, state) & (jnp.isfinite(plan.problem.t1) | jnp.isinf(failed_at))


def is_running(plan: Plan, state: State) -> jax.Array:
    """Whether this lane has steps left to make, and may make them."""
    running = ~has_ended(plan, state) & ~is_stuck(state.t, state.t_next) & is_successful(state.result)
    return running if plan.max_steps is None else running & (state.num_steps < plan.max_steps)


def advance(plan: Plan, state: State) -> State:
    """One attempt, kept or not. Lanes that have ended are carried along unchanged."""
    running = is_running(plan, state)
    step = plan.attempt(state)
    verdict = plan.judge(state, step)
    if plan.detector is None:
        return _went_on(plan, state, step, verdict, running)
    return _went_on_watched(plan, plan.detector, state, step, verdict, running)


def _went_on(plan: Plan, state: State, step: Step, verdict: Verdict, running: BoolScalar) -> State:
    """The state after an attempt and the verdict on it."""
    kept = running & verdict.accepted
    records = tuple(
        recorder.record(plan, record, step, kept, state.num_accepted)
        for recorder, record in zip(plan.recorders, state.records, strict=True)
    )
    # Landing may lengthen a step by some roundings; a rejected one must become shorter, or it is made for ever.
    end = plan.problem.t1
    t_next = jnp.where(verdict.accepted, clip_to_end(end, verdict.next_t1), jnp.minimum(end, verdict.next_t1))
    failure = first_failure(step_failure(step, verdict), verdict.result)
    # Carried on in every lane, for it is never wrong; but where a step may be made again, what led to it serves better.
    may_reject = plan.controller.may_reject or plan.detector is not None
    drivers = select(kept, step.drivers, state.drivers) if may_reject else step.drivers
    again = plan.solver.after_rejection(state.solver_state, step.solver_state)
    return State(
        t=select(kept, verdict.next_t0, state.t),
        t_next=select(running, t_next, state.t_next),
        y=select(kept, step.y1, state.y),
        drivers=drivers,
        solver_state=select(kept, step.solver_state, select(running, again, state.solver_state)),
        controller_state=select(running, verdict.controller_state, state.controller_state),
        made_jump=None if state.made_jump is None else select(kept, verdict.made_jump, state.made_jump),
        num_steps=state.num_steps + jnp.asarray(running).astype(jnp.int32),
        num_accepted=state.num_accepted + jnp.asarray(kept).astype(jnp.int32),
        result=select(running, first_failure(state.result, failure), state.result),
        records=records,
        events=state.events,
    )


def _went_on_watched(
    plan: Plan, detector: EventDetector, state: State, step: Step, verdict: Verdict, running: BoolScalar
) -> State:
    """The same in a solve with events.

    An attempt inside which an event is found is made again, up to the event; what the controller says of the step that
    then ends there does not count, but for whether to keep it: the next one leads to where that attempt would have led.
    """
    check = detector.detect(plan, state.events, step, running, verdict.accepted)
    running = running & ~check.postponed
    at_event = check.found | (check.kept & state.events.ends_at_event)
    going_on = jnp.where(check.found, check.time, state.events.target)
    verdict = Verdict(
        accepted=check.kept,
        next_t0=select(at_event, jnp.where(check.found, step.t0, step.t1), verdict.next_t0),
        next_t1=select(at_event, going_on, verdict.next_t1),
        made_jump=verdict.made_jump | check.has_effect,
        controller_state=select(at_event, state.controller_state, verdict.controller_state),
        result=first_failure(verdict.result, check.result),
    )
    active = check.state.active & check.has_effect
    step = replace(step, active=active if detector.has_effects else None)
    after = _went_on(plan, state, step, verdict, running)
    events = select(running, check.state, state.events)
    y, ends = after.y, check.ends
    if detector.has_effects:
        y, met, affected = detector.with_effects(plan, check, step, y, after.t_next)
        events, ends = select(running, affected, state.events), ends | met
    over = choose(ends, RESULTS.event_occurred, after.result)
    return replace(after, y=y, result=select(running, over, state.result), events=events)


def has_ended(plan: Plan, state: State) -> jax.Array:
    """Whether this lane has reached the end of its interval."""
    return ~(state.t < plan.problem.t1)


def step_failure(step: Step, verdict: Verdict) -> Result:
    """A step whose equations were not solved is the solve's failure only if nobody can make it again."""
    if step.result is RESULTS.successful:
        return step.result
    return choose(verdict.accepted | jnp.isnan(verdict.next_t1), step.result, RESULTS.successful)


def final_result(plan: Plan, state: State) -> Result:
    """How the solve ended, from the state in which the loop left it.

    Most solves end without anybody having said why, so that the loop need not carry it.
    """
    stuck = choose(jnp.isnan(state.t_next), RESULTS.nonfinite, RESULTS.dt_min_reached)
    reason = choose(is_stuck(state.t, state.t_next), stuck, RESULTS.max_steps_reached)
    ended = choose(has_ended(plan, state), RESULTS.successful, reason)
    failed_at = plan.controller.failed_at(state.controller_state)
    if failed_at is not None:
        ended = choose(jnp.isinf(failed_at), ended, RESULTS.nonfinite)
    return first_failure(state.result, ended)
