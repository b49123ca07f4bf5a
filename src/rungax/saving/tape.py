"""The tape: the accepted steps of a solve, in a form from which they can be made again and differentiated."""

from dataclasses import replace
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..jaxkit import BoolScalar, IntScalar, Time, any_element
from ..plan import AbstractRecorder, Plan
from ..step import Flags, Start, State, Step
from .slots import Slots

WHOLE_STEPS = 2**20
"""The largest bound on the number of steps with which the times of all steps are stored."""

STRETCH_STEPS = 2**17
"""The number of steps whose times a tape has room for in a solve that may make more than `WHOLE_STEPS`."""


class TapeSize(NamedTuple):
    """The room on a tape.

    Parameters
    ----------
    slots
        The largest number of checkpoints; even, unless there is one for every step.
    max_steps
        The number of steps whose times are stored.
    bound
        The bound on the number of steps of the solve, `None` if there is none.
    """

    slots: int
    max_steps: int
    bound: int | None

    @property
    def is_whole(self) -> bool:
        """True if there is room for the times of all steps that the solve may make."""
        return self.bound is not None and self.bound <= self.max_steps

    @classmethod
    def of(cls, plan: Plan, slots: int) -> Self:
        """A tape with `slots` checkpoints, an even number because it is halved; or with one for every possible step."""
        bound = plan.max_steps
        max_steps = STRETCH_STEPS if bound is None or bound > WHOLE_STEPS else bound
        return cls(min(max(slots - slots % 2, 2), max_steps), max_steps, bound)


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
    choices
        The choices of the solver by which each step was made; `None` for solvers without.
    """

    t1: Float[Array, " steps"]
    jumps: tuple[Float[Array, " steps"], Bool[Array, " steps"]] | None
    events: Bool[Array, "steps conditions"] | None
    choices: PyTree[Array] = None


class Tape(eqx.Module):
    """The accepted steps, or a stretch of them: their times, and checkpoints from which they can be made again.

    Parameters
    ----------
    begin
        The start of the first step.
    times
        The times of every accepted step, as far as there is room.
    checkpoints
        The start of every `2 ** log_stride`-th step, stacked along the first axis of each leaf.
    log_stride
        The logarithm of the number of steps from one checkpoint to the next; it grows as the tape fills up.
    num_accepted
        The number of accepted steps that can be made again: those up to which the state was finite.
    effect_counts
        For each step and each event, the number of its effects in earlier steps; `None` if no effect depends on it.
    offset
        The number of steps before the first one on the tape; `None` if that is the first of the solve. Arguments named
        `index` and `num_accepted` count from the start of the solve.
    """

    begin: Time
    times: TapedTimes
    checkpoints: Start
    log_stride: IntScalar
    num_accepted: IntScalar
    effect_counts: Int[Array, "steps conditions"] | None = None
    offset: IntScalar | None = None

    @property
    def first(self) -> IntScalar:
        """The index of the first step on the tape."""
        return jnp.zeros_like(self.num_accepted) if self.offset is None else self.offset

    def ends(self, index: IntScalar) -> tuple[Time, Time]:
        """The ends of a step."""
        times, index = self.times, self._place(index)
        before = jnp.where(index > 0, times.t1[jnp.maximum(index - 1, 0)], self.begin)
        return before if times.jumps is None else times.jumps[0][index], times.t1[index]

    def made_jump(self, index: IntScalar) -> BoolScalar | None:
        """True if the equation jumped before a step; `None` in solves that never jump."""
        return None if self.times.jumps is None else self.times.jumps[1][self._place(index)]

    def active_events(self, index: IntScalar) -> Flags | None:
        """The events that changed the state at the end of a step; `None` in solves in which none does."""
        return None if self.times.events is None else self.times.events[self._place(index)]

    def choices(self, index: IntScalar) -> PyTree[Array]:
        """The choices of the solver by which a step was made; `None` for solvers without."""
        place = self._place(index)
        return jax.tree.map(lambda x: x[place], self.times.choices)

    def num_effects(self, index: IntScalar) -> Int[Array, " conditions"]:
        """The number of effects of each event before a step; zeros if no effect depends on it."""
        assert self.times.events is not None, "asked only in a solve with effects"
        if self.effect_counts is None:
            return jnp.zeros(self.times.events.shape[1], jnp.int32)
        return self.effect_counts[self._place(index)]

    def _place(self, index: IntScalar) -> IntScalar:
        return index if self.offset is None else index - self.offset


class TapeRecorder(AbstractRecorder):
    """The recorder of the tape.

    The tape holds at most `size.slots` checkpoints. When they are full, every second one is discarded, and from then on
    half as many are recorded. So after any number of steps at least half of the `size.slots` are in use, if there were
    that many steps.

    Parameters
    ----------
    size
        The room on the tape.
    before
        The state of the solve before the first step on the tape; `None` if that is the first of the solve.
    """

    size: TapeSize = eqx.field(static=True)
    before: State | None = None

    def init(self, plan: Plan, state: State) -> Tape:
        """An empty tape; steps that are never made have no length, so that they can be replayed without harm."""
        times = jnp.broadcast_to(state.t, (self.size.max_steps,))
        jumps = None if state.made_jump is None else (times, jnp.zeros(self.size.max_steps, bool))
        events = None
        if plan.detector is not None and plan.detector.has_effects:
            assert state.events is not None, "the loop of a solve with events carries their state"
            events = jnp.zeros((self.size.max_steps, state.events.active.size), bool)
        checkpoints = Slots.zeros(self.size.slots, plan.start(state.y, state.solver_state, state.user_state)).entries
        choices = Slots.zeros(self.size.max_steps, plan.solver.choices(state.solver_state)).entries
        zero = jnp.asarray(0, jnp.int32)
        offset = None if self.before is None else self.before.num_accepted
        return Tape(
            begin=state.t,
            times=TapedTimes(times, jumps, events, choices),
            checkpoints=checkpoints,
            log_stride=zero,
            num_accepted=zero if offset is None else offset,
            offset=offset,
        )

    def record(self, plan: Plan, record: Tape, step: Step, accepted: BoolScalar, index: IntScalar) -> Tape:
        """The tape with one more step, if it is accepted."""
        if record.offset is not None:
            index = index - record.offset
        if self.size.slots < self.size.max_steps:
            full = accepted & (index >> record.log_stride >= self.size.slots)
            record = lax.cond(any_element(full), lambda: halved_tape(record, full), lambda: record)
        is_checkpoint = accepted & (index & ((1 << record.log_stride) - 1) == 0)
        start = plan.start(step.y0, step.solver_state0, step.user_state0)
        checkpoints = Slots(record.checkpoints).write(index >> record.log_stride, start, is_checkpoint)
        jumps = None if step.made_jump is None else (step.t0, jnp.asarray(step.made_jump))
        entry = TapedTimes(step.t1, jumps, step.active_events, plan.solver.choices(step.solver_state))
        return Tape(
            begin=record.begin,
            times=Slots(record.times).write(index, entry, accepted).entries,
            checkpoints=checkpoints.entries,
            log_stride=record.log_stride,
            num_accepted=record.num_accepted + jnp.asarray(accepted).astype(jnp.int32),
            offset=record.offset,
        )

    def finish(self, plan: Plan, record: Tape, state: State) -> Tape:
        """The tape, with its effects counted, and without the steps after the state had stopped being finite."""
        failed_at = plan.controller.failed_at(state.controller_state)
        if failed_at is not None:
            made = jnp.arange(self.size.max_steps, dtype=jnp.int32) < record.num_accepted - record.first
            after = lambda: jnp.sum(made & (record.times.t1 > failed_at)).astype(jnp.int32)
            not_finite = lax.cond(
                any_element(jnp.isfinite(failed_at)), after, lambda: jnp.zeros_like(record.num_accepted)
            )
            record = replace(record, num_accepted=record.num_accepted - not_finite)
        events = record.times.events
        if events is None or plan.detector is None or not plan.detector.event_map.uses_index:
            return record
        happened = events.astype(jnp.int32)
        counts = jnp.cumsum(happened, axis=0, dtype=jnp.int32) - happened
        if self.before is not None and self.before.events is not None:
            counts = counts + self.before.events.num_effects[None]
        return eqx.tree_at(lambda t: t.effect_counts, record, counts, is_leaf=lambda x: x is None)


def halved_tape(tape: Tape, full: BoolScalar) -> Tape:
    """The tape without every second checkpoint, where it is `full`."""

    def halved(buffer: jax.Array) -> jax.Array:
        every_second = jnp.concatenate([buffer[::2], jnp.zeros_like(buffer[1::2])])
        return jnp.where(full, every_second, buffer)

    log_stride = tape.log_stride + jnp.asarray(full).astype(jnp.int32)
    return replace(tape, checkpoints=jax.tree.map(halved, tape.checkpoints), log_stride=log_stride)
