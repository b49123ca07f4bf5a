"""The replay of a solve that may make more steps than a tape has room for, one stretch of steps after another.

The tape of such a solve holds the times of its first steps only. If it made more, the loop makes them again, from a
state of the solve, and leaves the tape of one stretch at a time: forwards from the first stretch to the last, in
reverse from the last to the first. The states to go back to are found by halving what lies before them, so that few are
stored: going back over n stretches makes each step again up to log2(n) + 1 times, more if states are so large that the
tape has room for less than log2(n) of them.
"""

from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ..jaxkit import BoolScalar, IntScalar, any_element, match_varying, select, without_derivatives
from ..loop import attempt_step, begin, needs_attempt
from ..plan import Plan
from ..results import RESULTS, choose
from ..saving import Slots, Tape, TapeRecorder, TapeSize
from ..step import Start, State
from .operands import Solve
from .replay import Parts, Replay, nothing_filled, play_bounded, play_on
from .reverse import Cotangents

_MOST_STEPS = 2**31 - 1
"""The largest number of steps that can be counted."""


class ReverseStretch(Protocol):
    """The way back over the steps on a tape, the last of which led to the start."""

    def __call__(self, tape: Tape, carry: Cotangents, end: Start) -> Cotangents: ...


class Stretches(NamedTuple):
    """The accepted steps of a solve, in stretches of at most `size.max_steps`.

    Parameters
    ----------
    solve
        The solve, at the values at which it was made.
    size
        The room on the tape of a stretch.
    tape
        The tape of the solve, on which its first steps are.
    end
        The start of the step that would follow the last one.
    """

    solve: Solve
    size: TapeSize
    tape: Tape
    end: Start

    def made_again(self, state: State, limit: IntScalar, known: BoolScalar) -> tuple[State, Tape]:
        """The state after the steps from `state` up to number `limit`, and their tape; the solve's if it is `known`."""
        made = self.solve.captured.within(_made_again)
        end, tape = made(self.solve.plan, self.size, state, jnp.where(known, state.num_accepted, limit))
        whole = replace(self.tape, offset=jnp.zeros_like(self.tape.num_accepted))
        return end, select(known, whole, tape)

    def following(self, index: IntScalar, state: State) -> tuple[IntScalar, State, Tape]:
        """The index and the state after the stretch that starts with step `index` from `state`, and its tape.

        A batch element that has come to its end has an empty one: others may have more.
        """
        total, room = self.tape.num_accepted, self.size.max_steps
        known, is_over = (index == 0) & (total <= room), index >= total
        limit = jnp.where(is_over, state.num_accepted, jnp.minimum(index + room, total))
        after, tape = self.made_again(state, limit, known)
        # Where no step can be made again, rounding has shortened the solve.
        is_over = is_over | known | (after.num_accepted == index)
        return jnp.where(is_over, total, after.num_accepted), after, tape

    def start_after(self, state: State) -> Start:
        """The start of the step from `state`."""
        start = self.solve.captured.within(Plan.start)
        return start(self.solve.plan, state.y, state.solver_state, state.user_state)


def _made_again(plan: Plan, size: TapeSize, state: State, limit: IntScalar) -> tuple[State, Tape]:
    """The loop from `state` until `limit` steps are accepted, and their tape."""
    recorder = TapeRecorder(size, state)
    plan = eqx.tree_at(lambda p: p.recorders, plan, {"tape": recorder})

    def goes_on(state: State) -> BoolScalar:
        return needs_attempt(plan, state) & (state.num_accepted < limit)

    def attempt(state: State) -> State:
        # A batch element that has come to its limit stays as it is, as one that has failed does.
        active = goes_on(state)
        after = attempt_step(plan, replace(state, result=choose(active, state.result, RESULTS.internal_error)))
        return replace(after, result=choose(active, after.result, state.result))

    state = begin(plan, state)
    state = match_varying(state, (plan, state, limit))
    state = lax.while_loop(lambda state: any_element(goes_on(state)), attempt, state)
    return replace(state, records={}), recorder.finish(plan, state.records["tape"], state)


def play_stretches(stretches: Stretches, replay: Replay, start: Start) -> tuple[Start, Parts]:
    """The result of `play` for a solve of any length."""
    total = stretches.tape.num_accepted

    def body(carry: Any) -> Any:
        index, state, start, filled = carry
        index, state, tape = stretches.following(index, state)
        start, filled = play_on(replace(replay, tape=tape), start, filled)
        return index, state, start, filled

    init = jnp.zeros_like(total), stretches.solve.state, start, nothing_filled(replay.saved)
    init = match_varying(init, (replay, start, init))
    _, _, start, filled = lax.while_loop(lambda carry: any_element(carry[0] < total), body, init)
    return start, {name: values for name, (_, values) in filled.items()}


def play_stretches_bounded(stretches: Stretches, replay: Replay, start: Start) -> tuple[Start, Parts]:
    """The result of `play_bounded` for a solve of any length, which stores one stretch and the starts of all others."""
    total, (_, room, bound) = stretches.tape.num_accepted, stretches.size
    assert bound is not None, "checked before"
    stretches = stretches._replace(solve=without_derivatives(stretches.solve))

    @jax.checkpoint
    def stretch(carry: Any) -> Any:
        index, state, start, values = carry
        index, state, tape = stretches.following(index, state)
        start, added = play_bounded(replace(replay, tape=tape), start, room)
        return index, state, start, jax.tree.map(jnp.add, values, added)

    def one(carry: Any, _: None) -> tuple[Any, None]:
        same = lambda: match_varying(carry, carry)
        return lax.cond(any_element(carry[0] < total), lambda: stretch(carry), same), None

    values = {name: jax.tree.map(jnp.zeros_like, parts.value) for name, parts in replay.saved.items()}
    init = jnp.zeros_like(total), stretches.solve.state, start, values
    init = match_varying(init, (replay, start, init))
    _, _, start, values = lax.scan(one, init, None, length=-(-bound // room))[0]
    return start, values


class _WayBack(eqx.Module):
    """The way back over the stretches.

    Parameters
    ----------
    states
        Stored states of the solve, in order of time; the last one is used first.
    count
        The number of them.
    before
        The number of steps that have not been reversed.
    carry
        The cotangents there.
    """

    states: State
    count: IntScalar
    before: IntScalar
    carry: Cotangents


def reverse_stretches(stretches: Stretches, reverse: ReverseStretch, carry: Cotangents) -> Cotangents:
    """The cotangents before all accepted steps of a solve of any length."""
    room, total = stretches.size.max_steps, stretches.tape.num_accepted
    num_stretches = -(-(stretches.size.bound or _MOST_STEPS) // room)
    depth = min(num_stretches.bit_length() + 1, max(stretches.size.slots, 2))

    def turn(way: _WayBack) -> _WayBack:
        active = way.count > 0
        state = Slots(way.states)[jnp.maximum(way.count - 1, 0)]
        low = state.num_accepted
        near = way.before - low <= room
        known = (low == 0) & (way.before == total) & near
        # With room for one more state, it is that before the last stretch.
        middle = jnp.where(way.count + 1 < depth, low + (way.before - low + 1) // 2, way.before - room)
        limit = jnp.where(near, way.before, middle)
        after, tape = stretches.made_again(state, jnp.where(active, limit, low), known & active)
        further = active & ~near & (after.num_accepted > low)
        high = jnp.where(active & near, jnp.minimum(way.before, tape.num_accepted), tape.first)
        end = select(known, stretches.end, stretches.start_after(after))
        carry = reverse(replace(tape, num_accepted=high), way.carry, end)
        return _WayBack(
            states=Slots(way.states).write(way.count, after, further).entries,
            count=jnp.where(active, jnp.where(further, way.count + 1, way.count - 1), way.count),
            before=jnp.where(active & ~further, low, way.before),
            carry=carry,
        )

    first = stretches.solve.state
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (depth, *jnp.shape(x))), first)
    way = _WayBack(states, jnp.ones_like(total), total, carry)
    way = match_varying(way, (stretches.solve, way))
    return lax.while_loop(lambda way: any_element(way.count > 0), turn, way).carry
