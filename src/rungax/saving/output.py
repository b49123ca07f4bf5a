"""The saved values of one `SubSaveAt`: a buffer that is filled from the front as the solve passes its times.

Order of entries: the start; then, for each accepted step, the requested times inside it and after them its end, if
steps are asked for; finally the end of the solve, unless it is the end of a step just saved.
"""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from ..interpolation import AbstractLocalInterpolation
from ..jaxkit import (
    BoolScalar,
    IntScalar,
    Time,
    Y,
    all_finite,
    any_element,
    constant_where,
    finite_or_one,
    nan_derivative_where,
    select,
    without_derivatives,
)
from ..plan import AbstractRecorder, Plan
from ..results import RESULTS, is_okay
from ..step import Start, State, Step
from .entries import Entries, joined, single_entry, step_entries, time_entries
from .savers import AbstractSaver, SavedParts, StepsSaver, TimesSaver, end_of
from .slots import Slots, visit_passed_times, where_used


class Output(eqx.Module):
    """Times and values saved so far, and how many; `num_passed` counts the requested times already passed."""

    ts: Float[Array, " slots"]
    ys: PyTree[Array]
    count: IntScalar
    num_passed: IntScalar

    def append(self, where: BoolScalar, t: Time, value: PyTree[Array]) -> "Output":
        """The output with one more entry, `where` there is one."""
        ts, ys = Slots((self.ts, self.ys)).write(self.count, (t, value), where).entries
        return Output(ts, ys, self.count + jnp.asarray(where).astype(jnp.int32), self.num_passed)


class OutputRecorder(AbstractRecorder):
    """The recorder of `fn(t, y, args)` at the start, at given times, at steps, at the end: whichever are requested.

    Parameters
    ----------
    ts
        Requested times in the direction of travel, increasing; may be empty.
    fn
        The function whose values are saved.
    t0, t1
        Whether to save the start, and the end.
    stride
        The number of accepted steps from one saved step to the next, 0 for none.
    """

    ts: Float[Array, " times"]
    fn: Callable[..., PyTree[Any]]
    t0: bool = eqx.field(static=True)
    t1: bool = eqx.field(static=True)
    stride: int = eqx.field(static=True)

    def init(self, plan: Plan, state: State) -> Output:
        """An output without entries, or with the start if that is saved."""
        value = self._value(plan, state.t, state.y) if self.t0 else self._value_like(plan, state)
        empty = self._empty(plan, state, value)
        return empty.append(True, state.t, value) if self.t0 else empty

    def record(self, plan: Plan, record: Output, step: Step, accepted: BoolScalar, index: IntScalar) -> Output:
        """The output with the requested times that this step passes, then its end."""
        if self.ts.size > 0:
            record = self._save_times(plan, record, step, accepted)
        if self.stride > 0:
            due = accepted if self.stride == 1 else accepted & ((index + 1) % self.stride == 0)
            record = record.append(due, step.t1, self._value(plan, step.t1, step.y1))
        return record

    def finish(self, plan: Plan, record: Output, state: State) -> tuple[Array, PyTree[Array]]:
        """Times, in the true direction, and values."""
        value = self._value(plan, state.t, state.y)
        if self.ts.size > 0:
            record = self._save_empty_interval(plan, record, value)
        before_end = record.count
        if self.t1:
            record = record.append(jnp.logical_not(self._just_saved(state)), state.t, value)
        return _finished(plan, state, record, self._num_reached(state, before_end))

    def savers(self) -> Mapping[str, AbstractSaver]:
        """A saver for the requested times and one for the steps, whichever there are."""
        times: dict[str, AbstractSaver] = {"times": TimesSaver(ts=self.ts)} if self.ts.size > 0 else {}
        return times | ({"steps": StepsSaver(end_of, self.stride)} if self.stride > 0 else {})

    def rebuild(
        self, plan: Plan, saved: Mapping[str, SavedParts], state: State, end: Start
    ) -> tuple[Array, PyTree[Array]]:
        """The output of `finish`: its entries in their slots, made from the saved parts."""
        del end
        times, steps = saved.get("times"), saved.get("steps")
        entries: list[Entries] = []
        if self.t0:
            entries.append(single_entry(jnp.asarray(0, jnp.int32), True, plan.problem.t0, plan.problem.y0))
        if times is not None:
            entries.append(time_entries(plan, self.ts, times, int(self.t0), self.stride, state))
        if steps is not None:
            entries.append(step_entries(plan, steps, times, int(self.t0), state))
        before_end = sum((e.num_used for e in entries), start=jnp.asarray(0, jnp.int32))
        if self.t1:
            entries.append(single_entry(before_end, jnp.logical_not(self._just_saved(state)), state.t, state.y))
        placed = self._placed(plan, state, joined(entries))
        return _finished(plan, state, placed, self._num_reached(state, before_end))

    def _value_like(self, plan: Plan, state: State) -> PyTree[Any]:
        """Shapes and dtypes of a value."""
        return jax.eval_shape(lambda: self._value(plan, state.t, state.y))

    def _empty(self, plan: Plan, state: State, value: PyTree[Any]) -> Output:
        """An output without entries, for values like `value`."""
        size = self._num_slots(plan.max_steps)
        zero = jnp.asarray(0, jnp.int32)
        invalid = state.result == RESULTS.invalid_input
        buffers = jax.tree.map(lambda v: jnp.full((size, *v.shape), _padding(v.dtype, invalid), v.dtype), value)
        return Output(jnp.full(size, jnp.inf, state.t.dtype), buffers, zero, zero)

    def _placed(self, plan: Plan, state: State, entries: Entries) -> Output:
        values = jax.vmap(lambda t, y: self._value(plan, t, y))
        # Entries whose derivative is not wanted must still be safe to compute with: 0 times NaN is NaN in a derivative.
        safe = entries.used & jax.vmap(all_finite)(entries.y)
        t = jnp.where(safe, entries.t, plan.problem.t0)
        y = where_used(safe, entries.y, finite_or_one(plan.problem.y0))
        at_safe = values(*jax.vmap(constant_where)(~safe, (t, y)))
        missing = entries.used & ~safe
        others = lax.cond(any_element(jnp.any(missing)), lambda: values(entries.t, entries.y), lambda: at_safe)
        saved = jax.vmap(select)(missing, without_derivatives((entries.t, others)), (t, at_safe))
        empty = self._empty(plan, state, jax.eval_shape(lambda: jax.tree.map(lambda value: value[0], at_safe)))
        ts, ys = Slots((empty.ts, empty.ys)).write(entries.slot, saved, entries.used).entries
        return Output(ts, ys, entries.num_used, empty.num_passed)

    def _save_times(self, plan: Plan, record: Output, step: Step, accepted: BoolScalar) -> Output:
        def save(solution: AbstractLocalInterpolation, i: IntScalar, t: Time, due: Array, output: Output) -> Output:
            del i
            return output.append(due, t, self._value(plan, t, solution.evaluate(t)))

        times = self.ts, record.num_passed
        num_passed, output = visit_passed_times(times, step, accepted, lambda: plan.interpolate(step), save, record)
        return Output(output.ts, output.ys, output.count, num_passed)

    def _save_empty_interval(self, plan: Plan, record: Output, value: PyTree[Array]) -> Output:
        """The output of a solve over an interval without length: its one time, in place of all requested times."""
        empty = plan.problem.t0 == plan.problem.t1
        slots = jnp.arange(record.ts.size) - int(self.t0)
        filled = empty & (slots >= 0) & (slots < self.ts.size)
        count = record.count + jnp.where(empty, self.ts.size, 0).astype(jnp.int32)
        times = jnp.broadcast_to(plan.problem.t0, record.ts.shape)
        ts = jnp.where(filled, times, record.ts)
        ys = jax.tree.map(lambda x, v: where_used(~filled, x, v), record.ys, value)
        return Output(ts, ys, count, record.num_passed)

    def _just_saved(self, state: State) -> BoolScalar:
        """True if the end of the solve is the end of a step that has been saved."""
        steps = state.num_accepted
        return (steps > 0) & (steps % self.stride == 0) if self.stride > 0 else False

    def _num_reached(self, state: State, before_end: IntScalar) -> IntScalar:
        """The number of entries with derivatives, of which `before_end` come before the end of the solve."""
        return before_end + jnp.where(state.lacks_end, 0, 1).astype(jnp.int32) if self.t1 else before_end

    def _num_slots(self, max_steps: int | None) -> int:
        size = int(self.t0) + self.ts.size
        divides = False
        if self.stride > 0:
            assert max_steps is not None, "checked before the loop"
            size += max_steps // self.stride
            divides = max_steps % self.stride == 0
        return size + int(self.t1 and not divides)

    def _value(self, plan: Plan, t: Time, y: Y) -> PyTree[Array]:
        return self.fn(t * plan.problem.direction, y, plan.problem.args)


def _finished(plan: Plan, state: State, output: Output, num_reached: IntScalar) -> tuple[Array, PyTree[Array]]:
    """Times, in the true direction, and values; of a failed solve, those not reached have derivatives of NaN.

    These are all values but the first `num_reached`, and those that are not finite.
    """
    reached = (jnp.arange(output.ts.size, dtype=jnp.int32) < num_reached) & plan.was_finite(state, output.ts)
    failed = jnp.logical_not(is_okay(state.result))
    missing = failed & ~(reached & (state.result != RESULTS.invalid_input))
    return nan_derivative_where(missing, (_true_times(plan, output.ts), output.ys), state.y)


def _true_times(plan: Plan, ts: Array) -> Array:
    return jnp.where(jnp.isfinite(ts), ts * plan.problem.direction, jnp.inf)


def _padding(dtype: Any, invalid: jax.Array) -> Any:
    """The content of unused slots: infinity, `True`, or the least integer; NaN where the input was not valid."""
    if jnp.issubdtype(dtype, jnp.bool_):
        return True
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).min
    return jnp.where(invalid, jnp.nan, jnp.inf).astype(dtype)
