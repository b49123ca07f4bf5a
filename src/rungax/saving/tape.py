"""The tape: what a solve leaves behind so that its kept steps can be made again, and differentiated.

Where a recorder writes finished values into the loop's carry, its *saver* writes what they are made of: the dense
information, or the end, of the steps concerned. A recorder's `rebuild` makes the finished values of that outside the
loop, in operations that JAX differentiates by itself. So the sweeps over the tape know nothing of interpolation, of
saved functions, or of slots.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ..jaxkit import BoolScalar, FlatSpace, IntScalar, Time, any_element
from ..step import AbstractRecorder, Plan, State, Step

type Kind = Literal["end", "dense_info", "internals"]
"""Which part of a step is emitted."""

NEVER = jnp.iinfo(jnp.int32).max
"""The index of the step that fills a slot no step fills."""


class SavedParts(eqx.Module):
    """Parts of some of the kept steps, in their order.

    Parameters
    ----------
    index
        Which kept step each entry belongs to, increasing; `NEVER` for entries not filled.
    t0, t1
        The ends of that step.
    value
        The part itself, stacked along the first axis of each leaf.
    kind
        Which part.
    """

    index: Int[Array, " entries"]
    t0: Float[Array, " entries"]
    t1: Float[Array, " entries"]
    value: PyTree[Any]
    kind: Kind = eqx.field(static=True)


class Tape(eqx.Module):
    """The kept steps: their ends, and what each started from.

    Parameters
    ----------
    begin
        Where the first step starts.
    t1
        Where every kept step ends, shape `(max_steps,)`.
    jumps
        Where the steps start, and whether the equation jumped before each; `None` where it never does, and every step
        starts where the one before it ended.
    start
        What every `2 ** log_stride`-th step started from, stacked along the first axis of each leaf.
    log_stride
        Grows as the tape fills up.
    num_steps
        How many steps were kept.
    events
        Which events changed the state at the end of each step; `None` where none ever does.
    """

    begin: Time
    t1: Float[Array, " steps"]
    jumps: tuple[Float[Array, " steps"], Bool[Array, " steps"]] | None
    start: PyTree[Any]
    log_stride: IntScalar
    num_steps: IntScalar
    events: Bool[Array, "steps conditions"] | None

    def ends(self, index: IntScalar) -> tuple[Time, Time]:
        """The ends of a step."""
        before = jnp.where(index > 0, self.t1[jnp.maximum(index - 1, 0)], self.begin)
        return before if self.jumps is None else self.jumps[0][index], self.t1[index]

    def made_jump(self, index: IntScalar) -> BoolScalar | None:
        """Whether the equation jumped before a step; `None` where it never does."""
        return None if self.jumps is None else self.jumps[1][index]

    def due(self, index: IntScalar) -> Bool[Array, " conditions"] | None:
        """Which events changed the state at the end of a step; `None` where none ever does."""
        return None if self.events is None else self.events[index]


class TapeRecorder(AbstractRecorder):
    """Records the tape.

    It holds at most `slots` starts. When they are full it forgets every second one and from then on keeps half as
    many as before, so that any number of steps leaves between `slots / 2` and `slots` marks.

    Parameters
    ----------
    slots
        How many starts are kept; even, unless there are as many as steps.
    max_steps
        How many steps' times are kept.
    """

    slots: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def init(self, plan: Plan, state: State) -> Tape:
        """An empty tape; a step never made has no length, so that it can be replayed without harm."""
        times = jnp.broadcast_to(state.t, (self.max_steps,))
        jumps = None if state.made_jump is None else (times, jnp.zeros(self.max_steps, bool))
        start = jax.tree.map(
            lambda x: jnp.zeros((self.slots, *x.shape), x.dtype), plan.start(state.y, state.solver_state)
        )
        zero = jnp.asarray(0, jnp.int32)
        has_effects = plan.detector is not None and plan.detector.has_effects
        events = jnp.zeros((self.max_steps, state.events.due.size), bool) if has_effects else None
        return Tape(state.t, times, jumps, start, zero, zero, events)

    def record(self, plan: Plan, record: Tape, step: Step, kept: BoolScalar, index: IntScalar) -> Tape:
        """One more step, where kept."""
        if self.slots < self.max_steps:
            full = kept & (index >> record.log_stride >= self.slots)
            record = lax.cond(any_element(full), lambda: self._thinned(record, full), lambda: record)
        at = jnp.where(kept, index, self.max_steps)
        is_mark = kept & (index & ((1 << record.log_stride) - 1) == 0)
        slot = jnp.where(is_mark, index >> record.log_stride, self.slots)
        jumps = record.jumps
        if jumps is not None and step.made_jump is not None:
            jumps = _write(jumps[0], at, step.t0), _write(jumps[1], at, step.made_jump)
        events = record.events
        if events is not None and step.due is not None:
            events = _write(events, at, step.due)
        return Tape(
            begin=record.begin,
            t1=_write(record.t1, at, step.t1),
            jumps=jumps,
            start=jax.tree.map(
                lambda buffer, x: _write(buffer, slot, x), record.start, plan.start(step.y0, step.solver_state0)
            ),
            log_stride=record.log_stride,
            num_steps=record.num_steps + jnp.asarray(kept).astype(jnp.int32),
            events=events,
        )

    def finish(self, plan: Plan, record: Tape, state: State) -> Tape:
        """The tape itself."""
        return record

    def _thinned(self, tape: Tape, full: BoolScalar) -> Tape:
        def halve(buffer: jax.Array) -> jax.Array:
            kept = jnp.concatenate([buffer[::2], jnp.zeros_like(buffer[1::2])])
            return jnp.where(full, kept, buffer)

        start = jax.tree.map(halve, tape.start)
        log_stride = tape.log_stride + jnp.asarray(full).astype(jnp.int32)
        return Tape(tape.begin, tape.t1, tape.jumps, start, log_stride, tape.num_steps, tape.events)


class StepsSaver(AbstractRecorder):
    """Emits a part of every `stride`-th kept step.

    Parameters
    ----------
    stride
        Every how many-th step.
    kind
        Which part.
    """

    stride: int = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)

    def init(self, plan: Plan, state: State) -> SavedParts:
        """Nothing emitted yet."""
        assert plan.max_steps is not None, "checked before the loop"
        return _empty_parts(plan, state, plan.max_steps // self.stride, self.kind)

    def record(self, plan: Plan, record: SavedParts, step: Step, kept: BoolScalar, index: IntScalar) -> SavedParts:
        """The part, if this step is one of them."""
        due = kept & ((index + 1) % self.stride == 0)
        return _emit(record, due, (index + 1) // self.stride - 1, index, step, part_of(plan, step, self.kind))

    def finish(self, plan: Plan, record: SavedParts, state: State) -> SavedParts:
        """What was emitted."""
        return record


class _TimesRecord(eqx.Module):
    saved_parts: SavedParts
    next_time: Int[Array, ""]


class TimesSaver(AbstractRecorder):
    """Emits, for each requested time, the dense information of the kept step that it lies in.

    Parameters
    ----------
    ts
        Requested times in the direction of travel, increasing.
    """

    ts: Float[Array, " times"]

    def init(self, plan: Plan, state: State) -> _TimesRecord:
        """Nothing emitted yet."""
        saved_parts = _empty_parts(plan, state, self.ts.size, "dense_info")
        return _TimesRecord(saved_parts, jnp.asarray(0, jnp.int32))

    def record(self, plan: Plan, record: _TimesRecord, step: Step, kept: BoolScalar, index: IntScalar) -> _TimesRecord:
        """The step, once for each requested time inside it."""
        times = jnp.append(self.ts, jnp.inf)

        def is_due(record: _TimesRecord) -> jax.Array:
            return kept & (times[record.next_time] <= step.t1)

        def emit_all() -> _TimesRecord:
            dense_info = plan.densify(step)

            def emit(record: _TimesRecord) -> _TimesRecord:
                due, slot = is_due(record), record.next_time
                saved_parts = _emit(record.saved_parts, due, slot, index, step, dense_info)
                return _TimesRecord(saved_parts, slot + due.astype(slot.dtype))

            return lax.while_loop(lambda record: any_element(is_due(record)), emit, record)

        return lax.cond(any_element(is_due(record)), emit_all, lambda: record)

    def finish(self, plan: Plan, record: _TimesRecord, state: State) -> SavedParts:
        """What was emitted."""
        return record.saved_parts


def part_of(plan: Plan, step: Step, kind: Kind) -> PyTree[Any]:
    """The part of a step that an saved_parts of this kind holds."""
    match kind:
        case "end":
            return step.t1, step.y1
        case "dense_info":
            return plan.densify(step)
        case "internals":
            return internals_of(plan, step)


def internals_of(plan: Plan, step: Step) -> tuple[Time, Time]:
    """The step's error estimate times its size, and its stiffness estimate."""
    stiffness = plan.solver.stiffness(step)
    if step.y_error is None or stiffness is None:
        raise ValueError(
            "`SaveAt(internals=True)` needs a solver that estimates its error and sees stiffness.\n"
            "Expected: an explicit Runge–Kutta method with an embedded estimate\n"
            f"Found:    {type(plan.solver).__name__}\nUse `Tsit5`, for example."
        )
    size = jnp.abs(step.t1 - step.t0)
    error = jnp.asarray(optx.two_norm(FlatSpace(step.y_error).ravel(step.y_error))).astype(size.dtype)
    return size * error, jnp.asarray(stiffness).astype(size.dtype)


def _empty_parts(plan: Plan, state: State, size: int, kind: Kind) -> SavedParts:
    part = jax.eval_shape(lambda: part_of(plan, plan.attempt(state), kind))
    value = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), part)
    times = jnp.broadcast_to(state.t, (size,))
    return SavedParts(jnp.full(size, NEVER, jnp.int32), times, times, value, kind)


def _emit(
    record: SavedParts, due: BoolScalar, slot: IntScalar, index: IntScalar, step: Step, part: PyTree[Any]
) -> SavedParts:
    at = jnp.where(due, slot, record.index.size)
    return SavedParts(
        index=_write(record.index, at, index),
        t0=_write(record.t0, at, step.t0),
        t1=_write(record.t1, at, step.t1),
        value=jax.tree.map(lambda buffer, x: _write(buffer, at, x), record.value, part),
        kind=record.kind,
    )


def _write(buffer: jax.Array, at: IntScalar, entry: ArrayLike) -> jax.Array:
    """`entry` written into its place; a place past the end is no place."""
    if buffer.shape[0] == 0:
        return buffer
    return buffer.at[at].set(entry, mode="drop")
