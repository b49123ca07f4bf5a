"""The event detector: it turns the controller's verdict on an attempt into one that takes events into account.

An event ends a step and never undoes one. An attempt in which a condition crosses zero is rejected: its interpolation
gives the time of the event, and the step is retried with that length. State, saved values, dense output and tape
see an ordinary, shorter step, which *ends at the event*. There the solve ends, or effects change the state.
"""

import functools
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
    resolution,
    select,
)
from ..plan import Plan
from ..results import RESULTS, Result, choose, first_failure, traced
from ..step import EventState, EventVerdict, Flags, Problem, State, Step, Verdict
from .conditions import Conditions, Crossings, Signs
from .event import Event
from .event_map import EventMap, signs_after, traced_effects
from .search import EventSearch

# Events nearer to each other than this many floating-point numbers happen at the same time.
SAME_TIME = 4

# A condition that is zero after an effect gets the sign that it will have after this fraction of the next step.
LOOK_AHEAD = 1e-3


class _Located(NamedTuple):
    """The events of an attempt.

    Parameters
    ----------
    is_inside, time
        Whether an event lies inside the attempt, which is then retried and ends at `time`.
    is_at_end
        Whether events happen at the end of the attempt.
    active
        The events that lie at `time`, or happen at the end.
    result
        The failure of the search, if it failed.
    """

    is_inside: Array
    time: Time
    is_at_end: Array
    active: Flags
    result: Result


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
        search = EventSearch(Conditions.of(event, context, t0, y0, args), event.root_finder)
        effects = traced_effects(event.leaves_of("effect"), t0, y0, args)
        return cls(search, EventMap(search.conditions.functions, effects, search.finds_time), event.max_effects)

    @property
    def conditions(self) -> Conditions:
        """The conditions."""
        return self.search.conditions

    @property
    def has_effects(self) -> bool:
        """True if any event changes the state."""
        return any(effect is not None for effect in self.event_map.effects)

    def init(self, problem: Problem, t_next: Time) -> EventState:
        """The detector's state before the first step; no real condition can have crossed zero yet."""
        signs = self.conditions.signs(problem, problem.t0, problem.y0)
        zero, counts = jnp.asarray(0, jnp.int32), jnp.zeros(self.conditions.number, jnp.int32)
        return EventState(signs, jnp.asarray(False), t_next, (signs > 0) & self._ending_booleans, zero, counts)

    def ended_by(self, events: EventState) -> Flags:
        """The condition that ended the solve, if events did: the first in the order of the conditions."""
        ending = events.active & self._ending
        return ending & (jnp.cumsum(ending) == 1)

    def has_differentiable_time(self, events: EventState) -> BoolScalar:
        """True if the event that ended the solve has a time with a derivative, because it was searched for."""
        return jnp.any(self.ended_by(events) & jnp.asarray(self.search.finds_time))

    def detect(self, plan: Plan, state: State, step: Step, verdict: Verdict, running: BoolScalar) -> Verdict:
        """The verdict on an attempt of a `running` batch element, with the events inside it.

        An attempt in which an event is found is rejected. The controller's verdict on the step that then ends there
        counts for its acceptance only: the step after it ends where the rejected attempt would have ended.
        """
        assert state.events is not None, "the loop of a solve with events carries their state"
        events, no = state.events, jnp.asarray(False)
        crossings = self.conditions.crossings(plan, events.signs, step, self._ending)
        crossed = functools.reduce(jnp.logical_or, crossings.crossed)
        # Under `vmap` a search takes as long for one batch element as for all. In solves that end at their first event,
        # an element that needs one waits until all others need one too or have ended.
        is_new = running & verdict.accepted & crossed & ~events.ends_at_event
        postponed = is_new & any_other_element(running & ~is_new) if self._searches_once else no
        accepted = running & verdict.accepted & ~postponed
        located = self._located(plan, events, step, accepted, crossings)
        accepted = accepted & ~located.is_inside
        ends = located.is_at_end & jnp.any(located.active & self._ending)
        effective = located.active & located.is_at_end & ~ends if self.has_effects else None
        has_effect = no if effective is None else located.is_at_end & ~ends
        after = EventState(
            signs=jnp.where(accepted, crossings.signs, events.signs),
            ends_at_event=located.is_inside,
            target=jnp.where(located.is_inside, step.t1, events.target),
            active=located.active,
            num_changes=events.num_changes + has_effect.astype(jnp.int32),
            num_effects=self._counted(events.num_effects, effective),
        )
        too_many = has_effect & (after.num_changes > self.max_effects)
        result = choose(too_many, RESULTS.max_effects_reached, located.result)
        at_event = located.is_inside | (accepted & events.ends_at_event)
        verdict = Verdict(
            accepted=accepted,
            next_t0=select(at_event, jnp.where(located.is_inside, step.t0, step.t1), verdict.next_t0),
            next_t1=select(at_event, jnp.where(located.is_inside, located.time, events.target), verdict.next_t1),
            made_jump=verdict.made_jump | has_effect,
            controller_state=select(at_event, state.controller_state, verdict.controller_state),
            result=first_failure(verdict.result, result),
            events=EventVerdict(postponed, effective, step.y1, ends, after),
        )
        if effective is None:
            return verdict
        return self._with_effects(plan, events.num_effects, step, verdict, (effective, has_effect))

    def _counted(self, num_effects: Array, effective: Flags | None) -> Array:
        """`num_effects` after the effects of the `effective` events; left alone if no effect depends on them."""
        if effective is None or not self.event_map.uses_index:
            return num_effects
        return num_effects + effective.astype(jnp.int32)

    def _located(self, plan: Plan, events: EventState, step: Step, accepted: Array, crossings: Crossings) -> _Located:
        """The events of an attempt, inside it or at its end."""
        # Most steps cross nothing, and must not cost more than to see that. What a branch returns is copied.
        busy = accepted & (functools.reduce(jnp.logical_or, crossings.crossed) | events.ends_at_event)
        no = jnp.asarray(False)
        nothing = _Located(no, step.t1, no, events.active, traced(RESULTS.successful))
        like = (plan, events, step, accepted)
        return lax.cond(
            any_element(busy),
            lambda: match_varying(self._locate(plan, events, step, accepted, crossings), like),
            lambda: match_varying(nothing, like),
        )

    def _locate(self, plan: Plan, events: EventState, step: Step, accepted: Array, crossings: Crossings) -> _Located:
        """The events of an attempt in which a condition crosses zero, or which ends at an event."""
        at_event = accepted & events.ends_at_event
        new = [accepted & ~events.ends_at_event & crossed for crossed in crossings.crossed]
        times, result = self.search.times(plan, step, crossings, new)
        time = jnp.min(times)
        any_crossed = jnp.isfinite(time) & (result == RESULTS.successful)
        is_inside = any_crossed & (time < step.t1 - SAME_TIME * resolution(step.t1))
        is_at_end = (any_crossed & ~is_inside) | at_event
        # Conditions that cross zero in a step that ends at an event happen with that event. A boolean condition that
        # ends the solve is tested once more, after the effects.
        first = jnp.isfinite(times) & (times <= time + SAME_TIME * resolution(time))
        active = jnp.where(at_event, events.active | (jnp.stack(crossings.crossed) & ~self._ending_booleans), first)
        active = jnp.where(is_inside | is_at_end, active, events.active)
        return _Located(is_inside, time, is_at_end, active, traced(result))

    def _with_effects(
        self, plan: Plan, num_effects: Array, step: Step, verdict: Verdict, effects: tuple[Flags, Array]
    ) -> Verdict:
        """The verdict with effects applied to the state: of the events in `effects`, if there are any.

        A condition at zero gets the sign that it is moving to, so that it does not fire again at once. A boolean
        condition that ends the solve, and is true in the new state, ends it there: a solve whose steps all end in
        effects could not end otherwise.
        """
        assert verdict.events is not None, "made by `detect`"
        before, y, (effective, has_effect) = verdict.events, verdict.events.y, effects
        margin = LOOK_AHEAD * jnp.abs(plan.next_end(verdict) - step.t1)

        def affected() -> tuple[Y, Signs]:
            _, _, after = self.event_map.apply_effects(plan, effective, num_effects, step.t1, y)
            functions, is_real = self.conditions.functions, self.conditions.is_real
            signs = signs_after(plan, functions, is_real, step.t1, after, margin)
            return after, jnp.where(has_effect, signs, before.state.signs)

        like = (plan, verdict, step)
        unchanged = lambda: match_varying((y, before.state.signs), like)
        y, signs = lax.cond(any_element(has_effect), lambda: match_varying(affected(), like), unchanged)
        met = has_effect & (signs > 0) & self._ending_booleans
        active = jnp.where(jnp.any(met), met, before.state.active)
        state = replace(before.state, signs=signs, active=active)
        event_verdict = EventVerdict(before.postponed, effective, y, before.ends | jnp.any(met), state)
        return replace(verdict, events=event_verdict)

    @property
    def _searches_once(self) -> bool:
        """True if a search is followed by nothing but the end of the solve."""
        return any(self.search.finds_time) and not self.has_effects

    @property
    def _ending(self) -> np.ndarray:
        """The conditions that end the solve."""
        return np.array([effect is None for effect in self.event_map.effects])

    @property
    def _ending_booleans(self) -> np.ndarray:
        """The boolean ones among them."""
        return self._ending & ~np.array(self.conditions.is_real)
