r"""What happens to the state at an event, as a differentiable function of what led there.

The time of an event moves with the parameters: it is where the condition $c(t, y) = 0$. From a state at the fixed time
$t$ that time is reached after the delay $\delta$ with

$$c(t + \delta, \Phi_\delta(t, y)) = 0, \qquad \Phi_\delta(t, y) = y + \delta\, f(t, y) + \dots,$$

which is zero in value and moves when the state does. The state after the event is the effect's value at the moved time,
taken back to the fixed one by the vector field that holds then, so that no other time has to move. (The first
derivative of all that is called the saltation matrix.)
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import Time, Y, scaled, scaled_derivative, select
from ..step import Plan
from ..terms import is_term


class EventMap(eqx.Module):
    """The conditions of events and their effects.

    Parameters
    ----------
    conditions
        Functions of true time, state and arguments.
    effects
        The same for the new state; `None` where the solve ends.
    moves
        Which events happen where their condition is zero, so that their time moves.
    """

    conditions: tuple[Callable[..., Any], ...]
    effects: tuple[Callable[..., Y] | None, ...]
    moves: tuple[bool, ...] = eqx.field(static=True)

    def at_event_time(self, plan: Plan, active: Array, t: Time, y: Y) -> tuple[Time, Y]:
        """Time and state where events are `active`, with the derivatives of where they happen; the same in value."""
        return self._at_event_time(plan, t, y, self._delay(plan, active, t, y))

    def apply_effects(self, plan: Plan, active: Array, t: Time, y: Y) -> tuple[Time, Y, Y]:
        """Time and state where events are `active`, as `at_event_time` has them, and the state to go on with from `t`.

        That is the state after their effects, one after another; `y` where no event is active.
        """
        problem, delay = plan.problem, self._delay(plan, active, t, y)
        event_time, before = self._at_event_time(plan, t, y, delay)
        after = before
        for i, effect in enumerate(self.effects):
            if effect is not None:
                after = select(active[i], effect(event_time * problem.direction, after, problem.args), after)
        if delay is not None:
            after = _ahead(plan, event_time, after, -delay)
        return event_time, before, select(jnp.any(active), after, y)

    def _at_event_time(self, plan: Plan, t: Time, y: Y, delay: Time | None) -> tuple[Time, Y]:
        return (t, y) if delay is None else (t + delay, _ahead(plan, t, y, delay))

    def _delay(self, plan: Plan, active: Array, t: Time, y: Y) -> Time | None:
        """Zero, with the first and second derivatives of the event's time: those of two steps of Newton's method.

        Of events at the same time the first that is found by its condition decides. Without a slope of the state the
        derivatives are not numbers. `None` where no event has a time that moves.
        """
        if not any(self.moves):
            return None
        problem = plan.problem
        moving = active & jnp.asarray(self.moves)
        which, moves = jnp.argmax(moving), jnp.any(moving)

        def condition(delay: Time) -> Array:
            there, total = _ahead(plan, t, y, delay), jnp.zeros_like(t)
            for i, c in enumerate(self.conditions):
                if self.moves[i]:
                    value = c((t + delay) * problem.direction, there, problem.args).astype(t.dtype)
                    total = jnp.where(which == i, value, total)
            return jnp.where(moves, total, 0.0)

        delay = rate = jnp.zeros_like(t)
        value = condition(delay)
        offset = lax.stop_gradient(value)
        if _slope(plan, t, y) is None:
            return scaled_derivative(value - offset, _nan_like(t))
        for _ in range(2):
            value, rate = jax.jvp(condition, (delay,), (jnp.ones_like(t),))
            delay = delay - (value - offset) / jnp.where(moves & (rate != 0), rate, 1.0)
        touches = moves & (rate == 0)
        delay = jnp.where(touches, 0.0, delay - lax.stop_gradient(delay))
        return scaled_derivative(delay, jnp.where(touches, jnp.nan, 1.0))


def signs_after(
    plan: Plan, conditions: tuple[Callable[..., Any], ...], is_real: tuple[bool, ...], t: Time, y: Y, margin: Time
) -> Array:
    """The signs that conditions have shortly after `t`; of boolean ones, whether they are true."""
    problem, signs = plan.problem, list[Array]()
    slope = _slope(plan, t, y)
    for condition, real in zip(conditions, is_real, strict=True):
        of_time = lambda t, y, c=condition: c(t * problem.direction, y, problem.args)
        if real and slope is not None:
            value, rate = jax.jvp(of_time, (t, y), (jnp.ones_like(t), slope))
            signs.append(jnp.sign(value + margin.astype(value.dtype) * rate))
        else:
            value = of_time(t, y)
            signs.append(jnp.sign(value) if real else value)
    return jnp.stack([sign.astype(jnp.int32) for sign in signs])


def _slope(plan: Plan, t: Time, y: Y) -> Y | None:
    """dy/dt in the direction of travel; `None` where the solution has none, as with noise."""
    terms = plan.problem.terms
    return None if plan.is_noisy or not is_term(terms) else terms.time_derivative(t, y, plan.problem.args)


def _ahead(plan: Plan, t: Time, y: Y, dt: Time) -> Y:
    """The solution `dt` later, to second order: the midpoint rule. Without a slope nobody knows how `dt` moves it."""
    slope = _slope(plan, t, y)
    if slope is None:
        shift = scaled_derivative(dt, _nan_like(dt))
        return jax.tree.map(lambda y: y + shift.astype(y.dtype), y)
    middle = jax.tree.map(lambda y, f: y + scaled(0.5 * dt, f), y, slope)
    slope = _slope(plan, t + 0.5 * dt, middle)
    return jax.tree.map(lambda y, f: y + scaled(dt, f), y, slope)


def _nan_like(t: Time) -> Time:
    return jnp.full_like(t, jnp.nan)
