"""The time of an event inside an attempt, by a root finder on the interpolation of the step."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array

from ..jaxkit import RealScalar, Time, Y, any_element, match_varying, resolution
from ..plan import Plan
from ..results import RESULTS, Result, choose, traced
from ..step import Step
from .conditions import Conditions, Crossings

MAX_SEARCH_STEPS = 256
"""The number of iterations that a root finder may take."""


class EventSearch(eqx.Module):
    """The search for the times at which conditions are zero.

    Parameters
    ----------
    conditions
        The conditions.
    root_finder
        The root finder for real conditions; without one an event is at the end of its step.
    """

    conditions: Conditions
    root_finder: optx.AbstractRootFinder[Any, Any, Any, Any] | None

    @property
    def finds_time(self) -> tuple[bool, ...]:
        """For each condition, whether the time of its event is searched for, so that it has a derivative."""
        return tuple(real and self.root_finder is not None for real in self.conditions.is_real)

    def times(self, plan: Plan, step: Step, crossings: Crossings, wanted: Sequence[Array]) -> tuple[Array, Result]:
        """The time of each `wanted` event, infinity for the others; and the failure of the search, if it failed."""
        never = jnp.full_like(step.t1, jnp.inf)
        at_end = jnp.stack([jnp.where(w, step.t1, never) for w in wanted])
        searched = [i for i, finds in enumerate(self.finds_time) if finds]
        if not searched:
            return at_end, RESULTS.successful

        def search() -> tuple[Array, Result]:
            evaluate, times, result = plan.interpolate(step).evaluate, at_end, RESULTS.successful
            for i in searched:
                time, ended = self._search(plan, i, evaluate, crossings, wanted[i])
                times = times.at[i].set(jnp.where(wanted[i], time, never))
                result = choose(wanted[i] & (ended != RESULTS.successful), ended, result)
            return times, traced(result)

        nothing = lambda: match_varying((at_end, traced(RESULTS.successful)), (plan, step))
        anyone = any_element(jnp.any(jnp.stack([wanted[i] for i in searched])))
        return lax.cond(anyone, lambda: match_varying(search(), (plan, step)), nothing)

    def _search(
        self, plan: Plan, i: int, evaluate: Callable[..., Y], crossings: Crossings, wanted: Array
    ) -> tuple[Time, Result]:
        """The time at which condition `i` is zero, if it is `wanted`."""
        problem, lower, upper = plan.problem, crossings.lower[i], crossings.upper[i]
        # A condition that starts at zero, up to rounding, has the sign with which it was found to pass.
        before = jnp.where(crossings.before[i] == 0, -crossings.after[i], crossings.before[i])

        def value(t: RealScalar, args: Any) -> RealScalar:
            del args
            found = self.conditions.functions[i](t * problem.direction, evaluate(t), problem.args)
            at_start = (jnp.abs(found) + jnp.finfo(found.dtype).tiny) * before.astype(found.dtype)
            found = jnp.where(t <= lower, at_start, found)
            # Batch elements in which it is not wanted get a function with a root, so that no root finder fails on them.
            return jnp.where(wanted, found, (t - 0.5 * (lower + upper)).astype(found.dtype))

        assert self.root_finder is not None, "asked only then"
        options = {"lower": lower, "upper": upper}
        root = optx.root_find(value, self.root_finder, upper, None, options, max_steps=MAX_SEARCH_STEPS, throw=False)
        time = jnp.clip(root.value, lower + 4 * resolution(lower), upper)
        ended = RESULTS.promote(root.result)
        return time, choose(jnp.isnan(time), RESULTS.nonfinite, ended)
