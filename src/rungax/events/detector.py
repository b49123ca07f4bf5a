"""Seeing events in the steps of a solve.

An event ends a step and never undoes one. The attempt in which a condition passes zero is not kept: its interpolation
gives the time, and the step is made again with that length, so that state, saves, dense output and tape see an
ordinary, shorter step. That one *lands*: at its end the event happens.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Int

from ..jaxkit import (
    Args,
    BoolScalar,
    RealScalar,
    Time,
    Y,
    any_element,
    any_other_element,
    match_varying,
    resolution,
    trace_once,
)
from ..results import RESULTS, Result, choose, traced
from ..step import Plan, Step
from .event import Event, check_parameters
from .event_map import EventMap, signs_after

UNKNOWN = 2
"""The sign of a condition that has not been a number yet: it can pass nothing."""

MAX_SEARCH_STEPS = 256
"""How many iterations a root finder may take."""


class EventState(eqx.Module):
    """What is remembered of events from one attempt to the next.

    Parameters
    ----------
    signs
        For each condition, the sign that it had last, `UNKNOWN` if it was no number yet; of a boolean one, whether it
        was true.
    ends_at_event
        Whether the next attempt leads to the time of an event.
    target
        Where the attempt would have led, had there been no event.
    active
        The conditions that are being ends_at_event_now on, or whose events happened last.
    num_effects
        How often the state was changed.
    """

    signs: Int[Array, " conditions"]
    ends_at_event: Bool[Array, ""]
    target: Time
    active: Bool[Array, " conditions"]
    num_effects: Int[Array, ""]


class EventCheck(eqx.Module):
    """What an attempt means for events.

    Parameters
    ----------
    postponed
        Whether the attempt does not count, and is to be made once more as it is.
    kept
        Whether the attempt is kept after all.
    found, time
        Whether it is to be made again, and until when.
    ends
        Whether an event at its end ends the solve.
    has_effect
        Whether one changes the state.
    state
        What to remember.
    result
        How looking failed, if it did.
    """

    postponed: BoolScalar
    kept: BoolScalar
    found: BoolScalar
    time: Time
    ends: BoolScalar
    has_effect: BoolScalar
    state: EventState
    result: Result


class _Found(NamedTuple):
    """What a search found: that the attempt is to be made again until `time`, or that the events `active` happened."""

    found: Array
    time: Time
    happened: Array
    active: Array
    result: Result


class ConditionDetector(eqx.Module):
    """The conditions of an `Event`, as functions of true time, state and arguments."""

    conditions: tuple[Callable[..., Any], ...]
    effects: tuple[Callable[..., Y] | None, ...]
    root_finder: optx.AbstractRootFinder[Any, Any, Any, Any] | None
    is_real: tuple[bool, ...] = eqx.field(static=True)
    directions: tuple[bool | None, ...] = eqx.field(static=True)
    interior: int = eqx.field(static=True)
    max_effects: int = eqx.field(static=True)

    @classmethod
    def of(cls, event: Event, context: dict[str, Any], t0: Time, y0: Y, args: Args) -> Self:
        """The watch for a solve; `context` is what conditions are told besides time, state and arguments."""
        conditions: list[Any] = []
        is_real: list[bool] = []
        for condition in event.conditions:
            check_parameters(condition, ("t", "y", "args", *context))
            told = lambda t, y, args, c=condition: jnp.asarray(c(t=t, y=y, args=args, **context))
            closed = trace_once(told, t0, y0, args)
            is_real.append(_is_real(jax.eval_shape(closed, t0, y0, args)))
            conditions.append(closed)
        effects = [None if e is None else trace_once(_like_state(e), t0, y0, args) for e in event.leaves_of("effect")]
        return cls(
            tuple(conditions),
            tuple(effects),
            event.root_finder,
            tuple(is_real),
            tuple(event.leaves_of("direction")),
            event.interior,
            event.max_effects,
        )

    @property
    def has_effects(self) -> bool:
        """Whether any event changes the state."""
        return any(effect is not None for effect in self.effects)

    @property
    def event_map(self) -> EventMap:
        """What happens at an event."""
        moves = tuple(real and self.root_finder is not None for real in self.is_real)
        return EventMap(self.conditions, self.effects, moves)

    def has_moved(self, events: EventState) -> BoolScalar:
        """Of a solve that events ended: whether one did whose time was found, so that it moves with the parameters."""
        return jnp.any(self.ended_by(events) & jnp.asarray(self.event_map.moves))

    def begin(self, t0: Time, t_next: Time, y0: Y, direction: Time, args: Args) -> EventState:
        """What is known before the first step, in which no real condition can have passed zero."""
        signs = self._signs(t0 * direction, y0, args)
        active = (signs > 0) & self._ending_booleans
        return EventState(signs, jnp.asarray(False), t_next, active, jnp.asarray(0, jnp.int32))

    def ended_by(self, events: EventState) -> Bool[Array, " conditions"]:
        """Of a solve that events ended: which did; the first in the order of the conditions."""
        ending = events.active & self._ending
        return ending & (jnp.cumsum(ending) == 1)

    def detect(
        self, plan: Plan, events: EventState, step: Step, running: BoolScalar, accepted: BoolScalar
    ) -> EventCheck:
        """Whether something happens in an attempt of a `running` lane that was `accepted`."""
        no = jnp.asarray(False)
        signs, fired, brackets = self._seen(plan, events, step)
        passed = functools.reduce(jnp.logical_or, fired)
        # A search takes as long for one lane as for all: where it ends the solve, the first lanes wait for the others.
        found_something = running & accepted & passed & ~events.ends_at_event
        postponed = found_something & any_other_element(running & ~found_something) if self._searches_once else no
        accepted = running & accepted & ~postponed
        busy = accepted & (passed | events.ends_at_event)
        # Most steps pass nothing, and shall cost no more than to see that. What comes out of a branch is copied.
        nothing = _Found(no, step.t1, no, events.active, traced(RESULTS.successful))
        like = (plan, events, step, accepted)
        found, time, happened, active, result = lax.cond(
            any_element(busy),
            lambda: match_varying(self._find(plan, events, step, accepted, (signs, fired, brackets)), like),
            lambda: match_varying(nothing, like),
        )
        kept = accepted & ~found
        ends = happened & jnp.any(active & self._ending)
        has_effect = happened & ~ends if self.has_effects else no
        state = EventState(
            signs=jnp.where(kept, signs, events.signs),
            ends_at_event=found,
            target=jnp.where(found, step.t1, events.target),
            active=active,
            num_effects=events.num_effects + has_effect.astype(jnp.int32),
        )
        too_many = has_effect & (state.num_effects > self.max_effects)
        result = choose(too_many, RESULTS.max_effects_reached, result)
        return EventCheck(postponed, kept, found, time, ends, has_effect, state, result)

    def _find(
        self,
        plan: Plan,
        events: EventState,
        step: Step,
        accepted: Array,
        seen: tuple[Array, list[Array], list[tuple[Time, Time]]],
    ) -> "_Found":
        """What is found where some lane has something to see."""
        ends_at_event_now = accepted & events.ends_at_event
        signs, fired, brackets = seen
        new = [accepted & ~events.ends_at_event & f for f in fired]
        interpolate = lambda: plan.interpolate(step).evaluate
        times, result = self._times(plan, step, interpolate, (events.signs, signs), new, brackets)
        time = jnp.min(times)
        any_fired = jnp.isfinite(time) & (result == RESULTS.successful)
        found = any_fired & (time < step.t1 - 4 * resolution(step.t1))
        happened = (any_fired & ~found) | ends_at_event_now
        # What passes zero in a step that lands happens with the event that it lands on: it is as good as there. A
        # boolean condition that ends the solve is asked once more, after the effects.
        first = jnp.isfinite(times) & (times <= time + 4 * resolution(time))
        active = jnp.where(ends_at_event_now, events.active | (jnp.stack(fired) & ~self._ending_booleans), first)
        return _Found(found, time, happened, jnp.where(found | happened, active, events.active), traced(result))

    def _seen(self, plan: Plan, events: EventState, step: Step) -> tuple[Array, list[Array], list[tuple[Time, Time]]]:
        """Signs at the end of an attempt, which conditions have passed, and between which times."""
        problem = plan.problem
        signs = self._signs(step.t1 * problem.direction, step.y1, problem.args, events.signs)
        if self.interior > 0:
            return signs, *self._inside(plan, events, step, signs)
        fired = [self._fires(i, events.signs[i], signs[i]) for i in self._indices]
        return signs, fired, [(step.t0, step.t1) for _ in self._indices]

    def with_effects(
        self, plan: Plan, check: EventCheck, step: Step, y: Y, t_next: Time
    ) -> tuple[Y, BoolScalar, EventState]:
        """The state after the active effects at the end of a step, whether that ends the solve, and the event state.

        A condition at zero has the sign that it is moving to, so that it does not fire again at once. A boolean one
        that ends the solve, and holds in the new state, does so there: steps that all end in effects have no other end.
        """
        state, effective = check.state, check.has_effect
        margin = 1e-3 * jnp.abs(t_next - step.t1)

        def affected() -> tuple[Y, Array]:
            _, _, after = self.event_map.apply_effects(plan, state.active & effective, step.t1, y)
            signs = signs_after(plan, self.conditions, self.is_real, step.t1, after, margin)
            return after, jnp.where(effective, signs, state.signs)

        like = (plan, check, step, y)
        unchanged = lambda: match_varying((y, state.signs), like)
        y, signs = lax.cond(any_element(effective), lambda: match_varying(affected(), like), unchanged)
        met = effective & (signs > 0) & self._ending_booleans
        active = jnp.where(jnp.any(met), met, state.active)
        return y, jnp.any(met), replace(state, signs=signs, active=active)

    @property
    def _searches_once(self) -> bool:
        """Whether there is nothing after a search but the end of the solve."""
        return any(self.event_map.moves) and not self.has_effects

    @property
    def _ending(self) -> np.ndarray:
        """Which conditions end the solve."""
        return np.array([self._ends(i) for i in self._indices])

    @property
    def _ending_booleans(self) -> np.ndarray:
        """Which of them are boolean."""
        return self._ending & ~np.array(self.is_real)

    @property
    def _indices(self) -> range:
        return range(len(self.conditions))

    def _ends(self, i: int) -> bool:
        return self.effects[i] is None

    def _signs(self, t: Time, y: Y, args: Args, last: Array | None = None) -> Array:
        signs: list[Array] = []
        for i, condition in enumerate(self.conditions):
            value = condition(t, y, args)
            sign = jnp.sign(value) if self.is_real[i] else value
            # What is not a number has not passed zero.
            known = ~jnp.isnan(value) if self.is_real[i] else jnp.asarray(True)
            before = jnp.asarray(UNKNOWN, jnp.int32) if last is None else last[i]
            signs.append(jnp.where(known, sign.astype(jnp.int32), before))
        return jnp.stack(signs)

    def _fires(self, i: int, before: Array, after: Array) -> Array:
        if not self.is_real[i]:
            return after > 0 if self._ends(i) else (after > 0) & (before == 0)
        passes = before != after
        match self.directions[i]:
            case None:
                pass
            case True:
                passes = (before <= 0) & (after > 0)
            case False:
                passes = (before > 0) & (after <= 0)
        return passes & (before != UNKNOWN)

    def _inside(
        self, plan: Plan, events: EventState, step: Step, signs: Array
    ) -> tuple[list[Array], list[tuple[Time, Time]]]:
        """The first passage of each condition between times inside the step, and the two times round it."""
        problem, evaluate = plan.problem, plan.interpolate(step).evaluate
        parts = jnp.arange(1, self.interior + 1) / (self.interior + 1)
        times = step.t0 + parts.astype(step.t0.dtype) * (step.t1 - step.t0)
        ends = jnp.concatenate([step.t0[None], times, step.t1[None]])
        inside = jax.vmap(lambda t: self._signs(t * problem.direction, evaluate(t), problem.args, events.signs))(times)
        all_signs = jnp.concatenate([events.signs[None], inside, signs[None]])
        fired: list[Array] = []
        brackets: list[tuple[Time, Time]] = []
        for i in self._indices:
            if self.is_real[i]:
                passes = self._fires(i, all_signs[:-1, i], all_signs[1:, i])
                first = jnp.argmax(passes)
                fired.append(jnp.any(passes))
                brackets.append((ends[first], ends[first + 1]))
            else:
                fired.append(self._fires(i, events.signs[i], signs[i]))
                brackets.append((step.t0, step.t1))
        return fired, brackets

    def _times(
        self,
        plan: Plan,
        step: Step,
        interpolate: Callable[[], Any],
        signs: tuple[Array, Array],
        fired: list[Array],
        brackets: list[tuple[Time, Time]],
    ) -> tuple[Array, Result]:
        """When each event happens, infinity where none does; and how the search failed, if it did."""
        never = jnp.full_like(step.t1, jnp.inf)
        at_end = jnp.stack([jnp.where(f, step.t1, never) for f in fired])
        searched = [i for i in self._indices if self.is_real[i]] if self.root_finder is not None else []
        if not searched:
            return at_end, RESULTS.successful

        def search() -> tuple[Array, Result]:
            evaluate, times, result = interpolate(), at_end, RESULTS.successful
            for i in searched:
                # Where a condition starts at zero it has the sign that it is remembered with.
                before = jnp.where(signs[0][i] == 0, -signs[1][i], signs[0][i])
                lower, upper = brackets[i]
                before = jnp.where(lower <= step.t0, before, 0)
                time, ended = self._search(plan, i, evaluate, (fired[i], before), lower, upper)
                times = times.at[i].set(jnp.where(fired[i], time, never))
                result = choose(fired[i] & (ended != RESULTS.successful), ended, result)
            return times, traced(result)

        nothing = lambda: match_varying((at_end, traced(RESULTS.successful)), (plan, step))
        anyone = any_element(jnp.any(jnp.stack([fired[i] for i in searched])))
        return lax.cond(anyone, lambda: match_varying(search(), (plan, step)), nothing)

    def _search(
        self, plan: Plan, i: int, evaluate: Callable[..., Y], state: tuple[Array, Array], lower: Time, upper: Time
    ) -> tuple[Time, Result]:
        """When condition `i` is zero, if it `fired`, having had the sign `before` at `lower` (0: its own)."""
        problem, (fired, before) = plan.problem, state

        def value(t: RealScalar, args: Any) -> RealScalar:
            del args
            found = self.conditions[i](t * problem.direction, evaluate(t), problem.args)
            at_start = (jnp.abs(found) + jnp.finfo(found.dtype).tiny) * before.astype(found.dtype)
            found = jnp.where((t <= lower) & (before != 0), at_start, found)
            # Lanes in which nothing fired have a root too, so that no root finder stumbles over them.
            return jnp.where(fired, found, (t - 0.5 * (lower + upper)).astype(found.dtype))

        assert self.root_finder is not None, "asked only then"
        options = {"lower": lower, "upper": upper}
        root = optx.root_find(value, self.root_finder, upper, None, options, max_steps=MAX_SEARCH_STEPS, throw=False)
        time = jnp.clip(root.value, lower + 4 * resolution(lower), upper)
        ended = RESULTS.promote(root.result)
        return time, choose(jnp.isnan(time), RESULTS.nonfinite, ended)


def _is_real(value: Any) -> bool:
    is_bool, is_float = (jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.floating))
    if value.shape == () and (is_bool or is_float):
        return is_float
    raise ValueError(
        "The condition of an `Event` must return one boolean or one real number.\n"
        f"Expected: shape (), bool or float\nFound:    shape {value.shape}, {value.dtype}\n"
        "Reduce it, for example by `jnp.any` or `jnp.min`, or give a pytree of conditions."
    )


def _like_state(effect: Callable[..., Y]) -> Callable[..., Y]:
    """`effect`, checked to return something like the state."""

    def changed(t: RealScalar, y: Y, args: Args) -> Y:
        value = effect(t, y, args)
        expected = [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(y)]
        found = [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(value)]
        if jax.tree.structure(value) != jax.tree.structure(y) or expected != found:
            raise ValueError(
                "The effect of an `Event` must return a state like `y`, of the same structure, shapes and dtypes.\n"
                f"Expected: {jax.tree.structure(y)} of {expected}\nFound:    {jax.tree.structure(value)} of {found}"
            )
        return jax.tree.map(jnp.asarray, value)

    return changed
