"""The event detector: it turns the controller's verdict on an attempt into one that takes events into account.

An event ends a step and never undoes one. An attempt in which a condition passes zero is rejected, and made again with
other ends, until one of them is the time of the event. State, saved values, dense output and tape see an ordinary,
shorter step. At its end the solve ends, or effects change the state.
"""

from dataclasses import replace
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ..jaxkit import (
    Args,
    BoolScalar,
    Time,
    Y,
    any_element,
    any_other_element,
    match_varying,
    select,
    update_if,
    warn_user,
)
from ..plan import Plan
from ..results import RESULTS, Result, choose, first_failure, traced
from ..step import EventBracket, EventPhase, EventState, EventVerdict, Flags, Problem, State, Step, Verdict
from .conditions import HAS_LEFT, Conditions, Crossings
from .event import Event
from .event_map import EventMap, traced_effects
from .search import Crossed, EventSearch, Sought, shortest


class _AtEnd(NamedTuple):
    """The events at the end of an accepted step.

    Parameters
    ----------
    active
        The events that happen; without one, those of the last event.
    effective
        Those that change the state; `None` in solves in which none does.
    ends
        Whether one ends the solve.
    """

    active: Flags
    effective: Flags | None
    ends: BoolScalar


def _warn_of_late_effects(event: Event, conditions: Conditions) -> None:
    """Warn if the state would change at the end of a step in which a real condition crosses zero."""
    changes = zip(event.names, conditions.is_real, conditions.ending, strict=True)
    late = [f"`{name}`" for name, is_real, ends in changes if is_real and not ends]
    if late and event.root_finder is None:
        warn_user(
            f"Without `Event(root_finder=...)` the effect of {', '.join(late)} comes at the end of the step in which "
            "the condition crosses zero, up to a step too late, and its time has no derivative.\n"
            "Give `root_finder=optimistix.Newton(rtol=1e-8, atol=1e-8)`, or return a boolean if the end of the step is "
            "meant."
        )


class ConditionDetector(eqx.Module):
    """The detector of the events of an `Event`.

    Parameters
    ----------
    search
        The conditions, and the search for the times at which they are zero.
    event_map
        The effects.
    max_effects
        The number of times that the state may be changed before the solve fails.
    """

    search: EventSearch
    event_map: EventMap
    max_effects: int = eqx.field(static=True)

    @classmethod
    def of(cls, event: Event, context: dict[str, Any], t0: Time, y0: Y, args: Args) -> Self:
        """The detector for a solve; `context` is the call, which conditions receive."""
        search = EventSearch(Conditions.of(event, context, t0, y0, args), event.root_finder, event.interior)
        effects = traced_effects(event, t0, y0, args)
        _warn_of_late_effects(event, search.conditions)
        return cls(search, EventMap(search.conditions.functions, effects, search.finds_time), event.max_effects)

    @property
    def conditions(self) -> Conditions:
        """The conditions."""
        return self.search.conditions

    @property
    def has_effects(self) -> bool:
        """True if any event changes the state."""
        return any(effect is not None for effect in self.event_map.effects)

    def values(self, problem: Problem, t: Time, y: Y) -> Array:
        """The values of the conditions at `t` in the direction of travel."""
        return self.conditions.values(problem, t, y)

    def init(self, problem: Problem, t_next: Time) -> EventState:
        """The detector's state before the first step; no real condition can have passed zero yet."""
        signs, zero_within = self.conditions.at_start(problem, self.search.tolerances(problem.t0))
        zero, counts = jnp.asarray(0, jnp.int32), jnp.zeros(self.conditions.number, jnp.int32)
        zeros = jnp.zeros_like(problem.t0)
        closed = EventBracket(problem.t0, t_next, zeros, zeros, t_next, t_next, zero)
        active = (signs > 0) & self.conditions.ending_booleans
        return EventState(signs, zero_within, closed, active, zero, counts)

    def ended_by(self, events: EventState) -> Flags:
        """The condition that ended the solve, if events did: the first in the order of the conditions."""
        ending = events.active & self._ending
        return ending & (jnp.cumsum(ending) == 1)

    def has_differentiable_time(self, events: EventState) -> BoolScalar:
        """True if the event that ended the solve has a time with a derivative, because it was searched for."""
        return jnp.any(self.ended_by(events) & jnp.asarray(self.search.finds_time))

    def detect(self, plan: Plan, state: State, step: Step, verdict: Verdict, running: BoolScalar) -> Verdict:
        """The verdict on an attempt of a `running` batch element, with the events inside it.

        An attempt inside which an event lies is rejected. The controller's verdict on the attempts of a search counts
        for their acceptance only: the step after the event ends where the rejected attempt would have ended.
        """
        assert state.events is not None, "the loop of a solve with events carries their state"
        events, running = state.events, jnp.asarray(running)
        accepted = running & jnp.asarray(verdict.accepted)
        # In most steps no event happens; these must cost no more than this test.
        may_happen = accepted & self.search.may_happen(plan, events, step)
        is_needed = may_happen | (running & events.bracket.is_open)
        effects = (jnp.zeros_like(events.active), step.y1) if self.has_effects else (None, None)
        result = traced(RESULTS.successful) if self.has_effects else RESULTS.successful
        unchanged = EventVerdict(jnp.asarray(EventPhase.NOTHING, jnp.int32), *effects, events, result)

        def found(unchanged: EventVerdict, inputs: tuple[Step, Array, Array, Array]) -> EventVerdict:
            step, running, accepted, is_needed = inputs
            return select(is_needed, self._found(plan, unchanged.state, step, running, accepted), unchanged)

        # The errors of the step have been judged.
        judged = replace(step, y_error=None, tangents=None, tangent_error=None)
        inputs = (judged, running, accepted, is_needed)
        return self._revised(state, step, verdict, update_if(is_needed, found, unchanged, inputs))

    def _found(self, plan: Plan, events: EventState, step: Step, running: Array, accepted: Array) -> EventVerdict:
        """The events in an attempt that the controller `accepted`, or that is one of a search."""
        values = self.conditions.values(plan.problem, step.t1, step.y1)
        # Once a value has passed zero by more than counts as zero, the search is for zero itself.
        was_open = jnp.asarray(events.bracket.is_open)
        zero_within = jnp.where(was_open & events.active, HAS_LEFT, events.zero_within)
        at_end = self.conditions.crossings(values, events.signs, zero_within)
        crossed = self.search.crossed(plan, events, step, at_end)
        # Under `vmap` a search takes as long for one batch element as for all. In solves that end at their first event,
        # an element that needs one waits until all others need one too or have ended.
        is_new = accepted & jnp.any(crossed.flags) & ~was_open
        waits = is_new & any_other_element(running & ~is_new) if self._searches_once else jnp.asarray(False)
        sought = self._sought(plan, events, step, accepted & ~waits, at_end, crossed)
        accepted = accepted & ~waits & jnp.logical_not(sought.bracket.is_open)
        end = self._at_end(events, accepted, sought, crossed)
        # What has passed and did not happen moves away from zero again: it is still to come.
        to_come = at_end.crossed & self.search.searched & ~sought.happens
        zero_within = jnp.where(to_come, jnp.abs(values), at_end.zero_within)
        after = EventState(
            signs=jnp.where(accepted & ~to_come, at_end.signs, events.signs),
            zero_within=jnp.where(accepted, zero_within, events.zero_within),
            bracket=sought.bracket,
            active=jnp.where(sought.bracket.is_open, sought.active, end.active),
            num_changes=events.num_changes,
            num_effects=events.num_effects,
        )
        phase = self._phase(step, sought.bracket, waits, accepted & was_open, end.ends)
        if end.effective is None:
            return EventVerdict(phase, None, None, after, RESULTS.successful)
        found = EventVerdict(phase, end.effective, step.y1, after, RESULTS.successful)
        return self._with_effects(plan, step, found, events, at_end)

    def _phase(self, step: Step, bracket: EventBracket, waits: Array, has_ended: Array, ends: BoolScalar) -> Array:
        """The phase after an attempt: a search is open or `has_ended`, the attempt `waits`, or an event `ends` it."""
        # After an event there may be no room for a step to the target.
        goes_on = has_ended & (bracket.target - step.t1 > shortest(step.t1))
        phase = jnp.where(bracket.is_open, EventPhase.SEARCHED, EventPhase.NOTHING)
        phase = jnp.where(goes_on, EventPhase.FOUND, phase)
        phase = jnp.where(waits, EventPhase.POSTPONED, phase)
        return jnp.where(ends, EventPhase.ENDED, phase).astype(jnp.int32)

    def _sought(
        self, plan: Plan, events: EventState, step: Step, accepted: Array, at_end: Crossings, crossed: Crossed
    ) -> Sought:
        """The search after an attempt, if one is open or begins."""
        closed = replace(events.bracket, num_attempts=jnp.zeros_like(events.bracket.num_attempts))
        nothing = Sought(closed, jnp.zeros_like(events.active), events.active)
        if not any(self.search.finds_time):
            return nothing
        # Effects of boolean conditions, and the attempt after a search, need none.
        is_needed = accepted & (jnp.any(crossed.flags & self.search.searched) | events.bracket.is_open)
        like = (plan, events, step, accepted)
        after = lambda: select(is_needed, self.search.after(plan, events, step, at_end, crossed), nothing)
        return lax.cond(
            any_element(is_needed), lambda: match_varying(after(), like), lambda: match_varying(nothing, like)
        )

    def _at_end(self, events: EventState, accepted: Array, sought: Sought, crossed: Crossed) -> _AtEnd:
        """The events at the end of an attempt, if it is `accepted`.

        A boolean condition that ends the solve does not happen with a real one: it is tested once more, after the
        effects.
        """
        at_event = jnp.any(sought.happens)
        others = crossed.flags & ~self.search.searched & ~(self.conditions.ending_booleans & at_event)
        happens = accepted & (sought.happens | others)
        ends = jnp.any(happens & self._ending)
        active = jnp.where(jnp.any(happens), happens, events.active)
        return _AtEnd(active, happens & ~ends if self.has_effects else None, ends)

    def _revised(self, state: State, step: Step, verdict: Verdict, found: EventVerdict) -> Verdict:
        """The controller's verdict on an attempt, revised by the events found in it."""
        phase, next_end = found.phase, found.state.bracket.next_end
        is_open = jnp.asarray(phase == EventPhase.SEARCHED)
        has_ended = jnp.asarray(phase == EventPhase.FOUND)
        in_search = is_open | has_ended
        verdict = replace(
            verdict,
            accepted=verdict.accepted & ~is_open & (phase != EventPhase.POSTPONED),
            next_t0=select(in_search, select(has_ended, step.t1, step.t0), verdict.next_t0),
            next_t1=select(in_search, next_end, verdict.next_t1),
            controller_state=select(in_search, state.controller_state, verdict.controller_state),
            events=found,
        )
        if found.active is None:
            return replace(verdict, events=replace(found, y=step.y1))
        too_many = choose(found.state.num_changes > self.max_effects, RESULTS.max_effects_reached, RESULTS.successful)
        has_effect = jnp.any(found.active)
        failure = first_failure(too_many, found.result)
        return replace(verdict, made_jump=verdict.made_jump | has_effect, result=first_failure(verdict.result, failure))

    def _with_effects(
        self, plan: Plan, step: Step, found: EventVerdict, before: EventState, at_end: Crossings
    ) -> EventVerdict:
        """The verdict with effects applied to the state: of its `active` events, if there are any.

        A boolean condition that ends the solve, and is true in the new state, ends it there: a solve whose steps all
        end in effects could not end otherwise.
        """
        assert found.active is not None, "made for solves with effects"
        events, effective = found.state, found.active
        has_effect, conditions, searched = jnp.any(effective), self.conditions, self.search.searched
        # An event that is searched for ends a step before its passage.
        passed = at_end._replace(signs=jnp.where(effective & searched, -before.signs, at_end.signs))
        # Where time or the equations of a stage do not resolve the tolerance, what was found is as good as zero.
        tolerances = self.search.tolerances(step.t1)
        tolerances = jnp.where(searched, jnp.maximum(tolerances, 2 * jnp.abs(at_end.values)), tolerances)

        def affected() -> tuple[Y, Array, Array, Result]:
            _, _, after, result = self.event_map.apply_effects(plan, effective, before.num_effects, step.t1, step.y1)
            signs = conditions.after_effect(plan.problem, step.t1, after, passed, effective, tolerances)
            return after, *signs, traced(result)

        like = (plan, events, at_end, step)
        unchanged = (step.y1, events.signs, events.zero_within, traced(RESULTS.successful))
        y, signs, zero_within, result = select(
            has_effect,
            lax.cond(
                any_element(has_effect),
                lambda: match_varying(affected(), like),
                lambda: match_varying(unchanged, like),
            ),
            unchanged,
        )
        met = has_effect & (signs > 0) & conditions.ending_booleans
        after = replace(
            events,
            signs=signs,
            zero_within=zero_within,
            active=jnp.where(jnp.any(met), met, events.active),
            num_changes=events.num_changes + has_effect.astype(jnp.int32),
            num_effects=events.num_effects + effective.astype(jnp.int32),
        )
        return EventVerdict(jnp.where(jnp.any(met), EventPhase.ENDED, found.phase), effective, y, after, result)

    @property
    def _searches_once(self) -> bool:
        """True if a search is followed by nothing but the end of the solve."""
        return any(self.search.finds_time) and not self.has_effects

    @property
    def _ending(self) -> np.ndarray:
        """The conditions that end the solve."""
        return np.array(self.conditions.ending)
