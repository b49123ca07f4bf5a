"""The entries of an output, made again from saved parts as differentiable functions of them."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..jaxkit import BoolScalar, DenseInfo, IntScalar, Time, Y, select, without_derivatives
from ..plan import Plan
from ..results import is_event
from ..step import State
from .savers import SavedParts
from .slots import where_used


class Entries(eqx.Module):
    """Entries of an output: the slot of each, whether there is such an entry, its time and its state."""

    slot: Int[Array, " entries"]
    used: Bool[Array, " entries"]
    t: Float[Array, " entries"]
    y: PyTree[Array]

    @property
    def num_used(self) -> IntScalar:
        """The number of entries that there are."""
        return jnp.sum(self.used).astype(jnp.int32)


def single_entry(slot: IntScalar, used: BoolScalar, t: Time, y: Y) -> Entries:
    """One entry."""
    slot, used = jnp.asarray(slot), jnp.asarray(used)
    return Entries(slot[None], used[None], t[None], jax.tree.map(lambda x: x[None], y))


def time_entries(plan: Plan, ts: Array, saved: SavedParts, offset: int, stride: int, state: State) -> Entries:
    """The entries of the requested times `ts`, from the dense information of the steps that they lie in.

    `offset` entries come before them, and one for every `stride`-th step (0: none) among them.
    """
    problem = plan.problem
    empty = problem.t0 == problem.t1
    used = saved.used | empty
    interpolation = plan.solver.interpolation_for(problem.terms, problem.args)

    def at(t: Time, t0: Time, t1: Time, index: IntScalar, info: DenseInfo, finite: BoolScalar) -> Y:
        t0, t1 = plan.differentiable_step_times(t0, t1, index)
        # A step that is not finite is taken for a constant: its derivatives would be zero times NaN.
        t, t0, t1, info = select(finite, (t, t0, t1, info), without_derivatives((t, t0, t1, info)))
        return interpolation(t0=t0, t1=t1, **info).evaluate(t)

    finite = plan.was_finite(state, saved.t1)
    y = jax.vmap(at)(jnp.where(used, ts, problem.t0), saved.t0, saved.t1, saved.index, saved.value, finite)
    y = where_used(jnp.broadcast_to(~empty, used.shape), y, problem.y0)
    steps_before = jnp.where(saved.used, saved.index // stride, 0) if stride > 0 else 0
    return Entries(offset + jnp.arange(ts.size, dtype=jnp.int32) + steps_before, used, ts, y)


def step_entries(plan: Plan, saved: SavedParts, times: SavedParts | None, offset: int, state: State) -> Entries:
    """The entries of saved steps, from their ends; `times` are the saved parts of the requested times among them."""
    times_before = 0 if times is None else jnp.searchsorted(times.index, saved.index, side="right")
    slot = offset + jnp.arange(saved.index.size, dtype=jnp.int32) + times_before
    t1, y1 = saved.value
    if plan.detector is None:
        return Entries(slot, saved.used, t1, y1)
    # The end of the step in which an event ends the solve has the derivatives of the event's time, if that was found.
    assert state.events is not None, "the loop of a solve with events carries their state"
    at_event = is_event(state.result) & plan.detector.has_differentiable_time(state.events)
    is_last = (saved.index == state.num_accepted - 1) & at_event
    return Entries(slot, saved.used, jnp.where(is_last, state.t, t1), where_used(~is_last, y1, state.y))


def joined(entries: Sequence[Entries]) -> Entries:
    """All entries as one record."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *entries)
