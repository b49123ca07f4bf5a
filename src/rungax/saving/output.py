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
from jaxtyping import Array, Float, PyTree

from ..jaxkit import BoolScalar, IntScalar, Time, Y, any_lane, match_varying
from ..step import AbstractRecorder, Plan, State, Step


class Output(eqx.Module):
    """Times and values saved so far, and how many; `next_time` counts the requested times already passed."""

    ts: Float[Array, " slots"]
    ys: PyTree[Any]
    count: IntScalar
    next_time: IntScalar

    def append(self, keep: BoolScalar, t: Time, value: PyTree[Any]) -> "Output":
        """With one more entry, where `keep`."""
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
        buffers = jax.tree.map(lambda v: jnp.full((size, *v.shape), _padding(v.dtype), v.dtype), value)
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
            steps = state.num_accepted
            just_saved = (steps > 0) & (steps % self.stride == 0) if self.stride > 0 else False
            record = record.append(jnp.logical_not(just_saved), state.t, value)
        ts = jnp.where(jnp.isfinite(record.ts), record.ts * plan.problem.direction, jnp.inf)
        return ts, record.ys

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

            return lax.while_loop(lambda record: any_lane(is_due(record)), save, record)

        return lax.cond(any_lane(is_due(record)), save_all, lambda: record)

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

    def _num_slots(self, max_steps: int | None) -> int:
        size = int(self.t0) + self.ts.size
        divides = False
        if self.stride > 0:
            assert max_steps is not None, "checked before the loop"
            size += max_steps // self.stride
            divides = max_steps % self.stride == 0
        return size + int(self.t1 and not divides)

    def _value(self, plan: Plan, t: Time, y: Y) -> PyTree[Any]:
        return jax.tree.map(jnp.asarray, self.fn(t * plan.problem.direction, y, plan.problem.args))


def _padding(dtype: Any) -> Any:
    if jnp.issubdtype(dtype, jnp.bool_):
        return True
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).min
    return jnp.inf
