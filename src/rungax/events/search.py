"""The search for the first event inside an attempt, by further attempts that end closer and closer to it.

The interpolation of an attempt proposes the end of the next one, and the state at that end shows whether a condition
has passed zero. The search ends with an attempt just before the passage; its end is the time of the event.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array

from ..jaxkit import BoolScalar, Time, optimization_barrier, resolution, select
from ..plan import Plan
from ..step import EventBracket, EventState, Flags, Step
from .conditions import Conditions, Crossings, Values, slope_of
from .root import bracketed_root

INTERPOLATED = 5
"""The number of attempts of a search that end where the interpolation of the one before is zero."""


class Crossed(NamedTuple):
    """The conditions that crossed zero in an attempt, and where the first of them did.

    Parameters
    ----------
    flags
        The conditions that crossed zero, or became true.
    lower, upper
        The times between which the first of the searched conditions did.
    at_lower, at_upper
        The values of the conditions at these times.
    is_at_end
        Whether the upper one is the end of the attempt.
    """

    flags: Flags
    lower: Time
    upper: Time
    at_lower: Values
    at_upper: Values
    is_at_end: BoolScalar


class Sought(NamedTuple):
    """The search after an attempt.

    Parameters
    ----------
    bracket
        The search, which may have ended.
    happens
        The searched conditions whose event is at the end of the attempt.
    active
        The conditions that have passed zero at the upper end of the bracket.
    """

    bracket: EventBracket
    happens: Flags
    active: Flags


class Margins(NamedTuple):
    """The margins of the conditions during a search: their values, positive before their passage.

    Infinite for conditions that are not searched for, or whose next passage does not count.

    Parameters
    ----------
    values_at
        The values of the conditions on the interpolation of an attempt.
    signs
        The signs of their values before the passage.
    counts
        The conditions whose next passage counts.
    """

    values_at: Callable[[Time], Values]
    signs: Values
    counts: Flags

    def of(self, values: Values) -> Values:
        """The margins of given values."""
        margins = self.signs * values
        return jnp.where(self.counts & ~jnp.isnan(margins), margins, jnp.inf)

    def slope(self, values: Values, rates: Values) -> Array:
        """The slope of the smallest margin, where the conditions have the `values` and the `rates`."""
        return (self.signs * rates)[jnp.argmin(self.of(values))]

    def on_interpolation(self, t: Time) -> Values:
        """The margins on the interpolation of the attempt."""
        return self.of(self.values_at(t))


class EventSearch(eqx.Module):
    """The search for the times at which conditions are zero.

    Parameters
    ----------
    conditions
        The conditions.
    root_finder
        The root finder, whose tolerances hold for times and values; without one an event is at the end of its step.
    interior
        The number of times inside a step at which the conditions are evaluated too.
    """

    conditions: Conditions
    root_finder: optx.AbstractRootFinder[Any, Any, Any, Any] | None
    interior: int = eqx.field(static=True)

    @property
    def finds_time(self) -> tuple[bool, ...]:
        """For each condition, whether the time of its event is searched for, so that it has a derivative."""
        return tuple(real and self.root_finder is not None for real in self.conditions.is_real)

    @property
    def searched(self) -> np.ndarray:
        """The conditions whose time is searched for."""
        return np.array(self.finds_time)

    def tolerances(self, t: Time) -> Values:
        """The size up to which the value of each condition counts as zero; 0 where it is not searched for."""
        atol = 0.0 if self.root_finder is None else self.root_finder.atol
        return jnp.where(self.searched, jnp.asarray(atol).astype(t.dtype), 0.0)

    def may_happen(self, plan: Plan, events: EventState, step: Step) -> BoolScalar:
        """False only if no condition is near zero, passes it or becomes true in an attempt: a cheap test."""
        at = lambda values: jnp.any(self.conditions.may_happen(values, events.signs, events.zero_within))
        at_end = at(self.conditions.values(plan.problem, step.t1, step.y1))
        return at_end if self.interior == 0 else at_end | jnp.any(jax.vmap(at)(self._inside(plan, step)[1]))

    def crossed(self, plan: Plan, events: EventState, step: Step, at_end: Crossings) -> Crossed:
        """The conditions that crossed zero in an attempt, at its end or at the interior times."""
        at_start = self.conditions.values(plan.problem, step.t0, step.y0)
        if self.interior == 0:
            return Crossed(at_end.crossed, step.t0, step.t1, at_start, at_end.values, True)
        times, inside = self._inside(plan, step)

        def next_point(carry: tuple[Array, Array], values: Values) -> tuple[tuple[Array, Array], tuple[Array, Flags]]:
            found = self.conditions.crossings(values, *carry)
            return (found.signs, found.zero_within), (carry[0], found.crossed)

        values = jnp.concatenate([inside, at_end.values[None]])
        _, (signs, crossed) = lax.scan(next_point, (events.signs, events.zero_within), values)
        first = jnp.argmax(jnp.any(crossed & self.searched[None], axis=1))
        ends = jnp.concatenate([step.t0[None], times, step.t1[None]])
        flags = jnp.where(self.conditions.real, jnp.any(crossed, axis=0), at_end.crossed)
        # If a condition has passed before, in a direction that does not count, a step has to end after that passage.
        has_moved = jnp.any(self.searched & (signs[first] != events.signs))
        before, after = jnp.where(has_moved, 0, first), jnp.where(has_moved, first, first + 1)
        values = jnp.concatenate([at_start[None], values])
        return Crossed(flags, ends[before], ends[after], values[before], values[after], after == self.interior + 1)

    def _inside(self, plan: Plan, step: Step) -> tuple[Array, Array]:
        """The interior times of an attempt, and the values there."""
        evaluate = plan.interpolate(step).evaluate
        parts = jnp.arange(1, self.interior + 1) / (self.interior + 1)
        times = step.t0 + parts.astype(step.t0.dtype) * (step.t1 - step.t0)
        return times, jax.vmap(lambda t: self.conditions.values(plan.problem, t, evaluate(t)))(times)

    def after(self, plan: Plan, events: EventState, step: Step, at_end: Crossings, crossed: Crossed) -> Sought:
        """The search after an attempt that was one of a search, or in which a searched condition crossed zero."""
        is_open, here = events.bracket.is_open, at_end.crossed & self.searched
        has_passed = jnp.any(here & (at_end.values != 0))
        ends_at_upper = jnp.where(is_open, has_passed, crossed.is_at_end)
        active = jnp.where(ends_at_upper & jnp.any(here), here, events.active & is_open)
        margins = self._margins(plan, events, step, active)
        narrowed = self._narrowed(events.bracket, step, jnp.min(margins.of(at_end.values)), has_passed)
        # The barriers keep XLA from computing what stands before them anew wherever it is used.
        bracket = optimization_barrier(select(is_open, narrowed, _begun(step, crossed, margins)))
        lower, upper = bracket.lower, bracket.upper

        is_closed = is_open & ~has_passed & (upper - lower <= shortest(upper))
        rates = self.conditions.rates(plan.problem, step.t1, step.y1)
        rates, within = optimization_barrier((rates, self._time_tolerance(step)))
        passed = active & (upper - step.t1 <= within)
        near = passed | (self._margins_soon(plan, margins, at_end, step, rates, within) <= 0)
        near = near & self.searched & (jnp.abs(at_end.values) <= self.tolerances(step.t1))
        near = jnp.where(is_closed, active, near) & is_open & ~jnp.any(here)
        # A step cannot be arbitrarily short: then its end counts, although something has passed there.
        is_short = has_passed & (step.t1 - step.t0 <= shortest(step.t1))
        counts = here & (~has_passed | is_short) & (is_open | crossed.is_at_end)
        # A value that moves away from zero, after an event a few roundings earlier, has not passed it yet.
        happens = (near | counts) & ((events.signs.astype(rates.dtype) * rates <= 0) | (at_end.values == 0))
        happens, has_ended = optimization_barrier((happens, is_closed | is_short | jnp.any(happens)))
        slope = jnp.where(step.t1 == upper, margins.slope(at_end.values, rates), jnp.nan)
        # After the search no root is needed, so the width does not matter.
        width = jnp.where(has_ended, jnp.inf, 0.5 * shortest(upper))
        margin = lambda t: jnp.min(margins.on_interpolation(t))
        at_ends = bracket.at_lower, bracket.at_upper
        root = bracketed_root(margin, (lower, upper), at_ends, slope, width, (step, bracket, active))
        next_end = jnp.where(has_ended, bracket.target, _next_end(step, bracket, active, within, root))
        count = jnp.where(has_ended, 0, bracket.num_attempts)
        return Sought(replace(bracket, next_end=next_end, num_attempts=count), happens, active)

    def _narrowed(self, bracket: EventBracket, step: Step, here: Array, has_passed: Array) -> EventBracket:
        """The bracket after an attempt of its search, with the value `here` at its end."""
        # An attempt that ends at the lower end once more may round differently, and pass.
        lower = jnp.where(step.t1 > bracket.lower, bracket.lower, step.t0)
        bracket = replace(bracket, next_end=step.t1, num_attempts=bracket.num_attempts + 1)
        after = replace(bracket, lower=lower, upper=step.t1, at_upper=here)
        before = replace(bracket, lower=step.t1, at_lower=here)
        return select(has_passed, after, before)

    def _margins(self, plan: Plan, events: EventState, step: Step, active: Flags) -> Margins:
        """The margins of the conditions during a search."""
        counts = self.searched & self.conditions.may_cross(events.signs) & ((events.zero_within < 0) | active)
        evaluate = plan.interpolate(step).evaluate
        values_at = lambda t: self.conditions.values(plan.problem, t, evaluate(t))
        return Margins(values_at, events.signs.astype(step.t1.dtype), jnp.asarray(counts))

    def _margins_soon(
        self, plan: Plan, margins: Margins, at_end: Crossings, step: Step, rates: Values, within: Time
    ) -> Values:
        """The margins of the conditions, with their `rates` at the end of an attempt, at a time `within` after it."""
        if slope_of(plan.problem, step.t1, step.y1) is None:
            return margins.on_interpolation(step.t1 + within)
        return margins.of(at_end.values + rates * within)

    def _time_tolerance(self, step: Step) -> Time:
        """The distance up to which two times at the end of a step are the same; a small part of the step."""
        assert self.root_finder is not None, "asked only in a search"
        t = step.t1
        rtol, atol = (jnp.asarray(tol).astype(t.dtype) for tol in (self.root_finder.rtol, self.root_finder.atol))
        part = 1e-3 * (t - step.t0)
        return jnp.maximum(jnp.minimum(atol + rtol * jnp.abs(t), part), shortest(t))


def _next_end(step: Step, bracket: EventBracket, active: Flags, within: Time, root: Time) -> Time:
    """The end of the next attempt: just before the passage, as far as it is known.

    The first attempts take the interpolation of the one before them for the solution, and its `root` for the passage.
    Where that is not exact enough, as with noise, the later ones take the line through the values at the ends of the
    bracket, or its middle. `within` is the time tolerance.
    """
    lower, upper, count = bracket.lower, bracket.upper, bracket.num_attempts
    least, is_made = 0.5 * shortest(upper), jnp.any(active)
    line = lower + (upper - lower) * (bracket.at_lower / (bracket.at_lower - bracket.at_upper))
    root = jnp.where(count > INTERPOLATED, line, root)
    # The first root is as good as the interpolation, the later ones are better the nearer they are to the last.
    uncertainty = jnp.where(count == 1, 0.0, 1e-3 * jnp.abs(root - step.t1))
    before = root - jnp.clip(uncertainty, least, jnp.maximum(least, 0.5 * within))
    is_known = jnp.where(count > INTERPOLATED, is_made & (count & 3 != 0), bracket.at_upper < 0)
    # Where no attempt has ended at the upper end yet, one has to.
    end = jnp.where(is_known, before, jnp.where(is_made, 0.5 * (lower + upper), upper))
    end = jnp.clip(end, lower + least, jnp.where(is_made, upper - least, upper))
    end = jnp.where(upper - lower <= shortest(upper), jnp.where(is_made, lower, upper), end)
    return jnp.maximum(end, step.t0 + least)


def _begun(step: Step, crossed: Crossed, margins: Margins) -> EventBracket:
    """The bracket of a new search, after an attempt in which a condition crossed zero."""
    return EventBracket(
        lower=crossed.lower,
        upper=crossed.upper,
        at_lower=jnp.min(margins.of(crossed.at_lower)),
        at_upper=jnp.min(margins.of(crossed.at_upper)),
        target=step.t1,
        next_end=step.t1,
        num_attempts=jnp.asarray(1, jnp.int32),
    )


def shortest(t: Time) -> Time:
    """The length that a bracket and a step at `t` keep: a few roundings."""
    return 8 * resolution(t)
