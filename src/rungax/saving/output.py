"""The saved values of one `SubSaveAt`: a buffer that fills from the front as the solve passes its times.

Order of entries: the start; then for each kept step the requested times inside it and after them its end, if steps are
asked for; at last the end of the solve, unless it is the end of a step just saved.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..jaxkit import BoolScalar, DenseInfo, IntScalar, Time, Y, any_element
from ..results import RESULTS, is_event
from ..step import AbstractRecorder, Plan, State, Step
from .tape import NEVER, SavedParts, StepsSaver, TimesSaver


class Output(eqx.Module):
    """Times and values saved so far, and how many; `next_time` counts the requested times already passed."""

    ts: Float[Array, " slots"]
    ys: PyTree[Any]
    count: Int[Array, ""]
    next_time: Int[Array, ""]

    def append(self, keep: BoolScalar, t: Time, value: PyTree[Any]) -> "Output":
        """With one more entry, where `keep`."""
        if self.ts.size == 0:
            return self
        slot = jnp.where(keep, self.count, self.ts.size)  # one past the end: the write is dropped

        def write(buffer: jax.Array, entry: jax.Array) -> jax.Array:
            return buffer.at[slot].set(entry, mode="drop")

        count = self.count + jnp.asarray(keep).astype(self.count.dtype)
        return Output(write(self.ts, t), jax.tree.map(write, self.ys, value), count, self.next_time)


class OutputRecorder(AbstractRecorder):
    """Saves `fn(t, y, args)` at the start, at given times, at steps, at the end: whichever are asked for.

    Parameters
    ----------
    ts
        Requested times in the direction of travel, increasing; may be empty.
    t0, t1, stride
        Whether to save the start and the end, and every how many-th step (0 for none).
    fn
        What is saved.
    """

    ts: Float[Array, " times"]
    fn: Callable[..., PyTree[Any]]
    t0: bool = eqx.field(static=True)
    t1: bool = eqx.field(static=True)
    stride: int = eqx.field(static=True)

    def init(self, plan: Plan, state: State) -> Output:
        """All slots empty but the first, if the start is saved."""
        value = self._value(plan, state.t, state.y)
        size = self._num_slots(plan.max_steps)
        zero = jnp.asarray(0, jnp.int32)
        invalid = state.result == RESULTS.invalid_input
        buffers = jax.tree.map(lambda v: jnp.full((size, *v.shape), _padding(v.dtype, invalid), v.dtype), value)
        output = Output(jnp.full(size, jnp.inf, state.t.dtype), buffers, zero, zero)
        return output.append(True, state.t, value) if self.t0 else output

    def record(self, plan: Plan, record: Output, step: Step, kept: BoolScalar, index: IntScalar) -> Output:
        """The requested times that this step passes, then its end."""
        if self.ts.size > 0:
            record = self._save_times(plan, record, step, kept)
        if self.stride > 0:
            due = kept if self.stride == 1 else kept & ((index + 1) % self.stride == 0)
            record = record.append(due, step.t1, self._value(plan, step.t1, step.y1))
        return record

    def finish(self, plan: Plan, record: Output, state: State) -> tuple[Array, PyTree[Any]]:
        """Times, in the true direction, and values."""
        value = self._value(plan, state.t, state.y)
        if self.ts.size > 0:
            record = self._save_empty_interval(plan, record, value)
        if self.t1:
            record = record.append(jnp.logical_not(self._just_saved(state)), state.t, value)
        ts = jnp.where(jnp.isfinite(record.ts), record.ts * plan.problem.direction, jnp.inf)
        return ts, record.ys

    def savers(self) -> tuple[AbstractRecorder, ...]:
        """One for the requested times and one for the steps, whichever there are."""
        times = (TimesSaver(self.ts),) if self.ts.size > 0 else ()
        steps = (StepsSaver(self.stride, "end"),) if self.stride > 0 else ()
        return (*times, *steps)

    def rebuild(self, plan: Plan, parts: tuple[Any, ...], state: State) -> tuple[Array, PyTree[Any]]:
        """The same entries in the same slots."""
        timed = parts[0] if self.ts.size > 0 else None
        stepped = parts[-1] if self.stride > 0 else None
        offset = int(self.t0)
        entries = [_first_entry(plan)] if self.t0 else []
        count = jnp.asarray(offset, jnp.int32)
        if timed is not None:
            entries.append(_timed_entries(plan, self.ts, timed, offset, self.stride))
            count = count + entries[-1].num_used
        if stepped is not None:
            entries.append(_stepped_entries(plan, stepped, timed, offset, state))
            count = count + entries[-1].num_used
        if self.t1:
            used = jnp.logical_not(self._just_saved(state))
            entries.append(_Entries(count[None], used[None], state.t[None], _stacked(state.y)))
        return self._place(plan, state, _joined(entries))

    def _place(self, plan: Plan, state: State, entries: "_Entries") -> tuple[Array, PyTree[Any]]:
        # Entries that are not used must still be safe to compute with, for 0 times NaN is NaN in a derivative.
        y = jax.tree.map(lambda x, y0: _where(entries.used, x, y0), entries.y, plan.problem.y0)
        t = jnp.where(entries.used, entries.t, plan.problem.t0)
        values = jax.vmap(lambda t, y: self._value(plan, t, y))(t, y)
        empty = self.init(plan, state)
        slot = jnp.where(entries.used, entries.slot, empty.ts.size)
        ts = empty.ts.at[slot].set(t, mode="drop")
        ys = jax.tree.map(lambda buffer, v: buffer.at[slot].set(v, mode="drop"), empty.ys, values)
        return jnp.where(jnp.isfinite(ts), ts * plan.problem.direction, jnp.inf), ys

    def _save_times(self, plan: Plan, record: Output, step: Step, kept: BoolScalar) -> Output:
        times = jnp.append(self.ts, jnp.inf)

        def is_due(record: Output) -> jax.Array:
            return kept & (times[record.next_time] <= step.t1)

        def save_all() -> Output:
            # Inside the branch: stages that only dense output needs are evaluated in steps that have something to save.
            interpolation = plan.interpolate(step)

            def save(record: Output) -> Output:
                due, t = is_due(record), times[record.next_time]
                y = interpolation.evaluate(t)
                record = record.append(due, t, self._value(plan, t, y))
                next_time = record.next_time + due.astype(record.next_time.dtype)
                return Output(record.ts, record.ys, record.count, next_time)

            return lax.while_loop(lambda record: any_element(is_due(record)), save, record)

        return lax.cond(any_element(is_due(record)), save_all, lambda: record)

    def _save_empty_interval(self, plan: Plan, record: Output, value: PyTree[Any]) -> Output:
        """Where the interval has no length no step passes the requested times, and all are its one time."""
        empty = plan.problem.t0 == plan.problem.t1
        slots = jnp.arange(record.ts.size) - int(self.t0)
        here = empty & (slots >= 0) & (slots < self.ts.size)

        def fill(buffer: jax.Array, entry: jax.Array) -> jax.Array:
            mask = here.reshape(-1, *[1] * (buffer.ndim - 1))
            return jnp.where(mask, entry[None], buffer)

        count = record.count + jnp.where(empty, self.ts.size, 0).astype(record.count.dtype)
        ts = fill(record.ts, plan.problem.t0)
        return Output(ts, jax.tree.map(fill, record.ys, value), count, record.next_time)

    def _just_saved(self, state: State) -> BoolScalar:
        """Whether the end of the solve is the end of a step that has been saved."""
        steps = state.num_accepted
        return (steps > 0) & (steps % self.stride == 0) if self.stride > 0 else False

    def _num_slots(self, max_steps: int | None) -> int:
        size = int(self.t0) + self.ts.size
        divides = False
        if self.stride > 0:
            assert max_steps is not None, "checked before the loop"
            size += max_steps // self.stride
            divides = max_steps % self.stride == 0
        return size + int(self.t1 and not divides)

    def _value(self, plan: Plan, t: Time, y: Y) -> PyTree[Any]:
        return self.fn(t * plan.problem.direction, y, plan.problem.args)


class _Entries(eqx.Module):
    """Things to be saved: which slot each goes to, whether there is such a thing, its time and its state."""

    slot: Int[Array, " entries"]
    used: Bool[Array, " entries"]
    t: Float[Array, " entries"]
    y: PyTree[Any]

    @property
    def num_used(self) -> IntScalar:
        return jnp.sum(self.used).astype(jnp.int32)


def _first_entry(plan: Plan) -> _Entries:
    one = jnp.ones(1, bool)
    return _Entries(jnp.zeros(1, jnp.int32), one, plan.problem.t0[None], _stacked(plan.problem.y0))


def _timed_entries(plan: Plan, ts: Array, saved_parts: SavedParts, offset: int, stride: int) -> _Entries:
    problem = plan.problem
    empty = problem.t0 == problem.t1
    used = (saved_parts.index != NEVER) | empty

    def at(t: Time, t0: Time, t1: Time, index: IntScalar, info: DenseInfo) -> Y:
        t0, t1 = plan.differentiable_step_times(t0, t1, index)
        return plan.solver.interpolation_cls(t0=t0, t1=t1, **info).evaluate(t)

    y = jax.vmap(at)(
        jnp.where(used, ts, problem.t0), saved_parts.t0, saved_parts.t1, saved_parts.index, saved_parts.value
    )
    y = jax.tree.map(lambda x, y0: _where(jnp.broadcast_to(~empty, used.shape), x, y0), y, problem.y0)
    steps_before = jnp.where(saved_parts.index == NEVER, 0, saved_parts.index // stride) if stride > 0 else 0
    return _Entries(offset + jnp.arange(ts.size, dtype=jnp.int32) + steps_before, used, ts, y)


def _stepped_entries(
    plan: Plan, saved_parts: SavedParts, timed: SavedParts | None, offset: int, state: State
) -> _Entries:
    used = saved_parts.index != NEVER
    times_before = 0 if timed is None else jnp.searchsorted(timed.index, saved_parts.index, side="right")
    slot = offset + jnp.arange(used.size, dtype=jnp.int32) + times_before
    t1, y1 = saved_parts.value
    if plan.detector is None:
        return _Entries(slot, used, t1, y1)
    # An event that ends the solve, where it is found, moves the end of its step.
    is_moved = is_event(state.result) & plan.detector.has_moved(state.events)
    is_last = (saved_parts.index == state.num_accepted - 1) & is_moved
    y1 = jax.tree.map(lambda end, x: _where(~is_last, x, end), state.y, y1)
    return _Entries(slot, used, jnp.where(is_last, state.t, t1), y1)


def _joined(entries: list[_Entries]) -> _Entries:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *entries)


def _stacked(y: Y) -> Y:
    return jax.tree.map(lambda x: x[None], y)


def _where(mask: Array, x: Array, other: Array) -> Array:
    """`x` where `mask` holds along the first axis, `other` elsewhere."""
    return jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, other[None])


def _padding(dtype: Any, invalid: jax.Array) -> Any:
    """What fills unused slots: infinity, so that it sorts last; NaN where the input was not valid."""
    if jnp.issubdtype(dtype, jnp.bool_):
        return True
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).min
    return jnp.where(invalid, jnp.nan, jnp.inf).astype(dtype)
