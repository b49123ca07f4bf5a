"""What the adjoints that replay a tape have in common: leaving it, and making the solve's outcome of what it kept."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import jvp_skipping_zeros, scaled_derivative
from ..loop import run
from ..results import Result, is_event, is_okay
from ..saving import SavedParts, Tape, TapeRecorder
from ..step import Outcome, Plan, State
from .replay import Start

type Restore = Callable[[Sequence[Any]], tuple[Any, ...]]
"""Puts a plan, a state, and whatever else a derivative needs together again from their arrays."""

UNBOUNDED_STEPS = 2**17
"""How many steps' times the tape has room for if `max_steps=None`."""


def flatten(*parts: Any) -> tuple[list[jax.Array], Restore]:
    """The arrays of some records, and how to put them back.

    A derivative's rule runs when the trace in which it was defined is over, so it may capture no array: whatever it
    uses must come through its arguments.
    """
    arrays, static = eqx.partition(parts, eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)

    def restore(leaves: Sequence[jax.Array]) -> tuple[Any, ...]:
        return eqx.combine(jax.tree.unflatten(tree, list(leaves)), static)

    return leaves, restore


def differentiated_as(
    replayed: Callable[[Restore, Sequence[jax.Array]], Outcome], plan: Plan, state: State, *others: Any
) -> Outcome:
    """The solve itself, whose derivatives are those of `replayed(restore, leaves)`.

    Evaluated, it is the plain loop, which leaves no tape. `restore(leaves)` gives plan, state and the others.
    """
    leaves, restore = flatten(plan, state, *others)

    @jax.custom_jvp
    def solve(*leaves: jax.Array) -> Outcome:
        plan, state, *_ = restore(leaves)
        return run(plan, state)

    def solve_jvp(primals: Any, tangents: Any) -> Any:
        return jvp_skipping_zeros(lambda *leaves: replayed(restore, leaves), primals, tangents)

    solve.defjvp(solve_jvp, symbolic_zeros=True)
    return solve(*leaves)


def nan_if_failed[T](tree: T, result: Result) -> T:
    """`tree`, with derivatives that are NaN if the solve failed, rather than those of a part of it."""
    factor = jnp.where(is_okay(result), 1.0, jnp.nan)
    return jax.tree.map(lambda x: scaled_derivative(x, factor) if eqx.is_inexact_array(x) else x, tree)


class TapeSize(NamedTuple):
    """How many starts a tape holds, how many steps' times, and whether the solve cannot make more steps than that."""

    slots: int
    max_steps: int
    bounded: bool


def tape_size(plan: Plan, slots: int) -> TapeSize:
    """A tape with `slots` starts, an even number, for thinning halves it; or with as many as there can be steps."""
    bounded = plan.max_steps is not None
    max_steps = plan.max_steps if plan.max_steps is not None else UNBOUNDED_STEPS
    return TapeSize(min(max(slots - slots % 2, 2), max_steps), max_steps, bounded)


class Kept(eqx.Module):
    """What a taped solve leaves.

    Parameters
    ----------
    end
        What a further step would start from.
    values
        The values of the saved_parts, in their order.
    tape, parts, outcome
        The tape, what the savers hand out, and how the solve ended; none of it moves.
    """

    end: Start
    values: list[PyTree[Any]]
    tape: Tape
    parts: tuple[Any, ...]
    outcome: Outcome

    @property
    def saved_parts(self) -> tuple[SavedParts, ...]:
        """Those of the parts that are saved_parts, without their values."""
        return tuple(part for part in self.parts if isinstance(part, SavedParts))


def record(plan: Plan, state: State, size: TapeSize) -> Kept:
    """The solve, leaving its tape."""
    savers = [saver for recorder in plan.recorders for saver in recorder.savers()]
    recorders = (TapeRecorder(size.slots, size.max_steps), *savers)
    outcome = run(eqx.tree_at(lambda p: p.recorders, plan, recorders), state)
    tape, *parts = outcome.outputs
    end = plan.start(outcome.state.y, outcome.state.solver_state)
    values = [part.value for part in parts if isinstance(part, SavedParts)]
    return Kept(end, values, tape, tuple(parts), Outcome(outcome.state, outcome.result, ()))


def rebuild(plan: Plan, kept: Kept) -> Outcome:
    """The solve's outcome as a differentiable function of what its taped version kept."""
    state = _moving_state(plan, kept)
    values = iter(kept.values)
    parts = iter(
        eqx.tree_at(lambda p: p.value, part, next(values)) if isinstance(part, SavedParts) else part
        for part in kept.parts
    )
    outputs = tuple(
        recorder.rebuild(plan, tuple(next(parts) for _ in recorder.savers()), state) for recorder in plan.recorders
    )
    return Outcome(state, kept.outcome.result, outputs)


def _moving_state(plan: Plan, kept: Kept) -> State:
    """The final state, with the derivatives that it has."""
    state, tape = kept.outcome.state, kept.tape
    last = jnp.maximum(state.num_accepted - 1, 0)
    reached = plan.differentiable_step_times(*tape.ends(last), last)[1]
    reached = jnp.where(state.num_accepted > 0, reached, plan.problem.t0)
    t = lax.stop_gradient(state.t) + (reached - lax.stop_gradient(reached))
    y, memory = kept.end
    if plan.detector is not None:
        due = plan.detector.ended_by(state.events) & is_event(state.result)
        t, y = plan.detector.event_map.at_event_time(plan, due, t, y)
    # A memory that is all there is to remember moves; one that the next solve makes again from `y` need not.
    remembered = jax.tree.structure(memory) == jax.tree.structure(state.solver_state)
    solver_state = memory if remembered else state.solver_state
    return eqx.tree_at(lambda s: (s.t, s.y, s.solver_state), state, (t, y, solver_state), is_leaf=lambda x: x is None)
