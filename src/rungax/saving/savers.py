"""Savers: the recorders of a taped solve, which save parts of accepted steps instead of finished values.

A recorder writes finished values into the loop's carry. In a taped solve its *savers* write what these values are made
of: the ends, or the dense information, of the steps concerned. The recorder's `rebuild` makes the finished values from
the saved parts, outside the loop and in operations that JAX differentiates by itself. So the replay knows nothing of
interpolation, of saved functions, or of slots.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ..jaxkit import BoolScalar, IntScalar, Time, Y
from ..plan import AbstractRecorder, Plan
from ..step import State, Step
from .slots import Slots, visit_passed_times

NEVER = jnp.iinfo(jnp.int32).max
"""The index of the step of an entry that no step has filled."""


class SavedParts(eqx.Module):
    """Parts of some of the accepted steps, in their order.

    Parameters
    ----------
    index
        The accepted step that each entry belongs to, increasing; `NEVER` for entries not filled.
    t0, t1
        The ends of that step.
    value
        The part itself, stacked along the first axis of each leaf.
    """

    index: Int[Array, " entries"]
    t0: Float[Array, " entries"]
    t1: Float[Array, " entries"]
    value: PyTree[Array]

    @classmethod
    def empty(cls, size: int, t: Time, part: PyTree[jax.ShapeDtypeStruct]) -> "SavedParts":
        """Entries for parts like `part`, none of which is filled."""
        times = jnp.broadcast_to(t, (size,))
        return cls(jnp.full(size, NEVER, jnp.int32), times, times, Slots.zeros(size, part).entries)

    @property
    def used(self) -> Array:
        """The entries that are filled."""
        return self.index != NEVER

    def write(
        self, slot: IntScalar, where: BoolScalar, index: IntScalar, step: Step, part: PyTree[Array]
    ) -> "SavedParts":
        """The entries with one more filled, `where` it is to be."""
        entries = Slots((self.index, self.t0, self.t1, self.value))
        return SavedParts(*entries.write(slot, (index, step.t0, step.t1, part), where).entries)


type Part = Callable[[Plan, Step, tuple[Time, Y]], PyTree[Array]]
"""A part of a step, `part(plan, step, end)`. `end` is the step's end with the derivatives of an event there, if any.

Savers of the same function share its value in the replay.
"""


def end_of(plan: Plan, step: Step, end: tuple[Time, Y]) -> tuple[Time, Y]:
    """Time and state at the end of the step."""
    del plan, step
    return end


def dense_info_of(plan: Plan, step: Step, end: tuple[Time, Y]) -> PyTree[Array]:
    """The dense information of the step."""
    del end
    return plan.solver.densify(step)


class AbstractSaver(AbstractRecorder):
    """A recorder that saves one part of some of the accepted steps; its output is `SavedParts`.

    Attributes
    ----------
    part
        The part that it saves.
    """

    part: eqx.AbstractVar[Part]

    def part_of(self, plan: Plan, step: Step) -> PyTree[Array]:
        """The part of `step` in value."""
        return self.part(plan, step, (step.t1, step.y1))

    def empty_parts(self, plan: Plan, state: State, size: int) -> SavedParts:
        """Room for the parts of `size` steps."""
        part = jax.eval_shape(lambda: self.part_of(plan, plan.attempt(state)))
        return SavedParts.empty(size, state.t, part)


class StepsSaver(AbstractSaver):
    """A saver of a part of every `stride`-th accepted step.

    Parameters
    ----------
    part
        The part that it saves.
    stride
        The number of accepted steps from one saved step to the next.
    """

    part: Part = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    def init(self, plan: Plan, state: State) -> SavedParts:
        """Room for as many parts as there may be."""
        assert plan.max_steps is not None, "checked before the loop"
        return self.empty_parts(plan, state, plan.max_steps // self.stride)

    def record(self, plan: Plan, record: SavedParts, step: Step, accepted: BoolScalar, index: IntScalar) -> SavedParts:
        """The saved parts after an attempt."""
        number = index + 1
        due = accepted & (number % self.stride == 0)
        return record.write(number // self.stride - 1, due, index, step, self.part_of(plan, step))

    def finish(self, plan: Plan, record: SavedParts, state: State) -> SavedParts:
        """The saved parts."""
        return record


class TimesRecord(eqx.Module):
    """The state of a `TimesSaver`: its saved parts, and the number of requested times passed so far."""

    saved_parts: SavedParts
    count: IntScalar


class TimesSaver(AbstractSaver):
    """A saver, for each requested time, of the dense information of the accepted step that the time lies in.

    Parameters
    ----------
    ts
        The requested times in the direction of travel, increasing.
    part
        The dense information.
    """

    ts: Float[Array, " times"]
    part: Part = eqx.field(static=True, default=dense_info_of)

    def init(self, plan: Plan, state: State) -> TimesRecord:
        """Room for one part for each requested time."""
        return TimesRecord(self.empty_parts(plan, state, self.ts.size), jnp.asarray(0, jnp.int32))

    def record(
        self, plan: Plan, record: TimesRecord, step: Step, accepted: BoolScalar, index: IntScalar
    ) -> TimesRecord:
        """The saved parts with the step's, once for each requested time inside it."""

        def save(part: PyTree[Array], i: IntScalar, t: Time, due: Array, saved: SavedParts) -> SavedParts:
            del t
            return saved.write(i, due, index, step, part)

        count, saved_parts = visit_passed_times(
            (self.ts, record.count), step, accepted, lambda: self.part_of(plan, step), save, record.saved_parts
        )
        return TimesRecord(saved_parts, count)

    def finish(self, plan: Plan, record: TimesRecord, state: State) -> SavedParts:
        """The saved parts."""
        return record.saved_parts
