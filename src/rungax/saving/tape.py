"""The tape: the accepted steps of a solve, in a form from which they can be made again and differentiated."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..jaxkit import BoolScalar, IntScalar, Time, any_element
from ..plan import AbstractRecorder, Plan
from ..step import Flags, Start, State, Step
from .slots import Slots

UNBOUNDED_STEPS = 2**17
"""The number of steps whose times a tape has room for if `max_steps=None`."""


class TapeSize(NamedTuple):
    """The room on a tape.

    Parameters
    ----------
    slots
        The largest number of checkpoints; even, unless there is one for every step.
    max_steps
        The number of steps whose times are stored.
    bounded
        Whether the solve cannot make more steps than that.
    """

    slots: int
    max_steps: int
    bounded: bool

    @classmethod
    def of(cls, plan: Plan, slots: int) -> Self:
        """A tape with `slots` checkpoints, an even number because it is halved; or with one for every possible step."""
        bounded = plan.max_steps is not None
        max_steps = plan.max_steps if plan.max_steps is not None else UNBOUNDED_STEPS
        return cls(min(max(slots - slots % 2, 2), max_steps), max_steps, bounded)


class TapedTimes(eqx.Module):
    """The times of accepted steps, one entry for each.

    Parameters
    ----------
    t1
        The ends of the steps.
    jumps
        The starts of the steps, and whether the equation jumped before each; `None` in solves that never jump, where
        every step starts at the end of the one before it.
    events
        The events that changed the state at the end of each step; `None` in solves in which none does.
    """

    t1: Float[Array, " steps"]
    jumps: tuple[Float[Array, " steps"], Bool[Array, " steps"]] | None
    events: Bool[Array, "steps conditions"] | None


class Tape(eqx.Module):
    """The accepted steps: their times, and checkpoints from which they can be made again.

    Parameters
    ----------
    begin
        The start of the first step.
    times
        The times of every accepted step.
    checkpoints
        The start of every `2 ** log_stride`-th step, stacked along the first axis of each leaf.
    log_stride
        The logarithm of the number of steps from one checkpoint to the next; it grows as the tape fills up.
    num_accepted
        The number of accepted steps.
    effect_counts
        For each step and each event, the number of its effects in earlier steps; `None` if no effect depends on it.
    """

    begin: Time
    times: TapedTimes
    checkpoints: Start
    log_stride: IntScalar
    num_accepted: IntScalar
    effect_counts: Int[Array, "steps conditions"] | None = None

    def ends(self, index: IntScalar) -> tuple[Time, Time]:
        """The ends of a step."""
        times = self.times
        before = jnp.where(index > 0, times.t1[jnp.maximum(index - 1, 0)], self.begin)
        return before if times.jumps is None else times.jumps[0][index], times.t1[index]

    def made_jump(self, index: IntScalar) -> BoolScalar | None:
        """True if the equation jumped before a step; `None` in solves that never jump."""
        return None if self.times.jumps is None else self.times.jumps[1][index]

    def active_events(self, index: IntScalar) -> Flags | None:
        """The events that changed the state at the end of a step; `None` in solves in which none does."""
        return None if self.times.events is None else self.times.events[index]

    def num_effects(self, index: IntScalar) -> Int[Array, " conditions"]:
        """The number of effects of each event before a step; zeros if no effect depends on it."""
        assert self.times.events is not None, "asked only in a solve with effects"
        if self.effect_counts is None:
            return jnp.zeros(self.times.events.shape[1], jnp.int32)
        return self.effect_counts[index]


class TapeRecorder(AbstractRecorder):
    """The recorder of the tape.

    The tape holds at most `size.slots` checkpoints. When they are full, their number is halved: every second one goes,
    and from then on half as many are recorded. So any number of steps leaves between half of `size.slots` and all.

    Parameters
    ----------
    size
        The room on the tape.
    """

    size: TapeSize = eqx.field(static=True)

    def init(self, plan: Plan, state: State) -> Tape:
        """An empty tape; steps that are never made have no length, so that they can be replayed without harm."""
        times = jnp.broadcast_to(state.t, (self.size.max_steps,))
        jumps = None if state.made_jump is None else (times, jnp.zeros(self.size.max_steps, bool))
        events = None
        if plan.detector is not None and plan.detector.has_effects:
            assert state.events is not None, "the loop of a solve with events carries their state"
            events = jnp.zeros((self.size.max_steps, state.events.active.size), bool)
        checkpoints = Slots.zeros(self.size.slots, plan.start(state.y, state.solver_state, state.user_state)).entries
        zero = jnp.asarray(0, jnp.int32)
        return Tape(state.t, TapedTimes(times, jumps, events), checkpoints, zero, zero)

    def record(self, plan: Plan, record: Tape, step: Step, accepted: BoolScalar, index: IntScalar) -> Tape:
        """The tape with one more step, if it is accepted."""
        if self.size.slots < self.size.max_steps:
            full = accepted & (index >> record.log_stride >= self.size.slots)
            record = lax.cond(any_element(full), lambda: halved_tape(record, full), lambda: record)
        is_checkpoint = accepted & (index & ((1 << record.log_stride) - 1) == 0)
        start = plan.start(step.y0, step.solver_state0, step.user_state0)
        checkpoints = Slots(record.checkpoints).write(index >> record.log_stride, start, is_checkpoint)
        jumps = None if step.made_jump is None else (step.t0, jnp.asarray(step.made_jump))
        entry = TapedTimes(step.t1, jumps, step.active_events)
        return Tape(
            begin=record.begin,
            times=Slots(record.times).write(index, entry, accepted).entries,
            checkpoints=checkpoints.entries,
            log_stride=record.log_stride,
            num_accepted=record.num_accepted + jnp.asarray(accepted).astype(jnp.int32),
        )

    def finish(self, plan: Plan, record: Tape, state: State) -> Tape:
        """The tape, with its effects counted."""
        events = record.times.events
        if events is None or plan.detector is None or not plan.detector.event_map.uses_index:
            return record
        happened = events.astype(jnp.int32)
        counts = jnp.cumsum(happened, axis=0, dtype=jnp.int32) - happened
        return eqx.tree_at(lambda t: t.effect_counts, record, counts, is_leaf=lambda x: x is None)


def halved_tape(tape: Tape, full: BoolScalar) -> Tape:
    """The tape without every second checkpoint, where it is `full`."""

    def halved(buffer: jax.Array) -> jax.Array:
        every_second = jnp.concatenate([buffer[::2], jnp.zeros_like(buffer[1::2])])
        return jnp.where(full, every_second, buffer)

    log_stride = tape.log_stride + jnp.asarray(full).astype(jnp.int32)
    return Tape(tape.begin, tape.times, jax.tree.map(halved, tape.checkpoints), log_stride, tape.num_accepted)
