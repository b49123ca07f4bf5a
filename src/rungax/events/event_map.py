r"""The event map: the state after an event as a differentiable function of the state before it.

The time of an event depends on the parameters: it is where the condition $c(t, y) = 0$. From a state at the fixed time
$t$ that time is reached after the time shift $\delta$ with

$$c(t + \delta, \Phi_\delta(t, y)) = 0, \qquad \Phi_\delta(t, y) = y + \delta\, f(t, y) + \dots,$$

which is zero in value, and whose derivatives follow those of the state. The state after the event is the effect's value
at the time $t + \delta$, taken back to $t$ along the vector field that holds then, so that no other time depends on the
event's. (The first derivative of this map is the saltation matrix.)
"""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import (
    Args,
    IntScalar,
    RealScalar,
    Time,
    TracedFunction,
    Y,
    call_user,
    check_parameters,
    check_structure,
    layout,
    scaled,
    scaled_derivative,
    select,
    standing_for,
    trace_once,
)
from ..plan import Plan
from ..results import RESULTS, Result, choose
from ..step import Flags
from .conditions import slope_of
from .event import Event

INDEX = 3
"""The position of the index among the arguments of an effect."""


class EventMap(eqx.Module):
    """The effects of events, and the derivatives of the times at which the events happen.

    Parameters
    ----------
    conditions
        Functions of true time, state and arguments.
    effects
        Functions of true time, state, arguments and the index of the event, that return the new state; `None` for
        events that end the solve.
    differentiable_time
        For each event, whether it happens where its condition is zero, so that its time has a derivative.
    """

    conditions: tuple[Callable[..., Any], ...]
    effects: tuple[TracedFunction | None, ...]
    differentiable_time: tuple[bool, ...] = eqx.field(static=True)

    @property
    def uses_index(self) -> bool:
        """True if the value of any effect depends on the index of the event."""
        return any(effect is not None and effect.uses[INDEX] for effect in self.effects)

    def at_event_time(self, plan: Plan, active: Flags, t: Time, y: Y) -> tuple[Time, Y]:
        """Time and state at the `active` events: `t` and `y` in value, with the derivatives of the event's time."""
        return self._at(plan, t, y, self._time_shift(plan, active, t, y))

    def apply_effects(self, plan: Plan, active: Flags, num_effects: Array, t: Time, y: Y) -> tuple[Time, Y, Y, Result]:
        """Time and state at the `active` events, as from `at_event_time`, and the state in which the solve continues.

        That is the state at `t` after their effects, one after another, made consistent with algebraic equations; `y`
        where no event is active. The result is the reason if there is no consistent state. `num_effects` counts, for
        each event, its earlier effects: it is the index of this one.
        """
        problem, shift = plan.problem, self._time_shift(plan, active, t, y)
        event_time, before = self._at(plan, t, y, shift)
        after = before
        for i, effect in enumerate(self.effects):
            if effect is not None:
                changed = effect(event_time * problem.direction, after, problem.args, num_effects[i])
                after = select(active[i], changed, after)
        result: Result = RESULTS.successful
        if plan.constraints is not None:
            after, result = plan.constraints.made_consistent(event_time, after)
            result = choose(jnp.any(active), result, RESULTS.successful)
        if shift is not None:
            after = _solution_after(plan, event_time, after, -shift)
        return event_time, before, select(jnp.any(active), after, y), result

    def _at(self, plan: Plan, t: Time, y: Y, shift: Time | None) -> tuple[Time, Y]:
        return (t, y) if shift is None else (t + shift, _solution_after(plan, t, y, shift))

    def _time_shift(self, plan: Plan, active: Flags, t: Time, y: Y) -> Time | None:
        """The time shift to the event: zero in value, with the first and second derivatives of the event's time.

        The derivatives are those of two steps of Newton's method. Of events at the same time, the first one found by
        its condition decides. Where the state has no slope the derivatives are NaN. `None` where no event has a time
        with a derivative.
        """
        if not any(self.differentiable_time):
            return None
        problem = plan.problem
        differentiable = active & jnp.asarray(self.differentiable_time)
        which, any_active = jnp.argmax(differentiable), jnp.any(differentiable)

        def condition(shift: Time) -> Array:
            there, total = _solution_after(plan, t, y, shift), jnp.zeros_like(t)
            for i, c in enumerate(self.conditions):
                if self.differentiable_time[i]:
                    value = c((t + shift) * problem.direction, there, problem.args).astype(t.dtype)
                    total = jnp.where(which == i, value, total)
            return jnp.where(any_active, total, 0.0)

        shift = rate = jnp.zeros_like(t)
        value = condition(shift)
        offset = lax.stop_gradient(value)
        if slope_of(plan.problem, t, y) is None:
            return scaled_derivative(value - offset, _nan_like(t))
        for _ in range(2):
            value, rate = jax.jvp(condition, (shift,), (jnp.ones_like(t),))
            shift = shift - (value - offset) / jnp.where(any_active & (rate != 0), rate, 1.0)
        grazes = any_active & (rate == 0)
        shift = jnp.where(grazes, 0.0, shift - lax.stop_gradient(shift))
        return scaled_derivative(shift, jnp.where(grazes, jnp.nan, 1.0))


def traced_effects(event: Event, t0: Time, y0: Y, args: Args) -> tuple[TracedFunction | None, ...]:
    """The effects of an `Event`, each traced once as a function of time, state, arguments and index."""
    index = jnp.asarray(0, jnp.int32)

    def traced(name: str, effect: Callable[..., Y] | None) -> TracedFunction | None:
        if effect is None:
            return None
        return trace_once(_checked(name, effect), t0, y0, args, index)

    return tuple(traced(*pair) for pair in zip(event.names, event.leaves_of("effect"), strict=True))


def _checked(name: str, effect: Callable[..., Y]) -> Callable[..., Y]:
    """`effect` as a function of the index too, which returns a state like `y` or raises a `ValueError`."""
    wants_index = _needs_argument(effect, "index")
    given, by_name = ("time", "state", "`args`"), ("index",) if wants_index else ()
    check_parameters(effect, f"`Event(effect=...)` of `{name}`", "effect(t, y, args)", given, by_name)

    @standing_for(effect)
    def changed(t: RealScalar, y: Y, args: Args, index: IntScalar) -> Y:
        others = {"index": index} if wants_index else {}
        value = call_user(f"the effect of the event `{name}`", effect, t, y, args, **others)
        what = f"The effect of the event `{name}` must return a state like `y`"
        check_structure(value, y, what, name="y", returned="the effect returned")
        if [layout(leaf) for leaf in jax.tree.leaves(value)] != [layout(leaf) for leaf in jax.tree.leaves(y)]:
            raise ValueError(
                f"{what}, of the same shapes and dtypes.\nExpected: {layout(y)}\nFound:    {layout(value)}\n"
                "Return every leaf of the state, also those that do not change, cast by `.astype(y.dtype)`."
            )
        return jax.tree.map(jnp.asarray, value)

    return changed


def _needs_argument(function: Callable[..., Any], name: str) -> bool:
    """True if a parameter has this name and no default: an `index` with a default is the user's own."""
    try:
        parameter = inspect.signature(function).parameters.get(name)
    except ValueError:  # not everything that can be called has a signature
        return False
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _solution_after(plan: Plan, t: Time, y: Y, dt: Time) -> Y:
    """The solution `dt` later, to second order, by the midpoint rule; where it has no slope its derivative is NaN."""
    slope = slope_of(plan.problem, t, y)
    if slope is None:
        shift = scaled_derivative(dt, _nan_like(dt))
        return jax.tree.map(lambda y: y + shift.astype(y.dtype), y)
    middle = jax.tree.map(lambda y, f: y + scaled(0.5 * dt, f), y, slope)
    slope = slope_of(plan.problem, t + 0.5 * dt, middle)
    return jax.tree.map(lambda y, f: y + scaled(dt, f), y, slope)


def _nan_like(t: Time) -> Time:
    return jnp.full_like(t, jnp.nan)
