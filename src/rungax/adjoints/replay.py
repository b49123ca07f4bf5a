"""Making the kept steps of a solve again, from its tape: forwards, backwards, and in a form that JAX differentiates.

The chain of kept steps is a function of the plan's arrays and of the start; `Replay` holds what that function needs
besides. Nothing here decides whether a step is kept, and rejected attempts never appear.
"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import BoolScalar, IntScalar, Y, any_element, match_varying, select
from ..saving import NEVER, Kind, SavedParts, Tape, part_of
from ..step import Plan, Step

type Start = tuple[Y, PyTree[Any]]
"""What a step starts from: the state, and what the solver must remember."""


class Replay(eqx.Module):
    """The kept steps of one solve.

    Parameters
    ----------
    plan
        The solve.
    tape
        Its kept steps.
    saved_parts
        What of them is asked for besides the end; their values are not read.
    """

    plan: Plan
    tape: Tape
    saved_parts: tuple[SavedParts, ...]

    def step(self, index: IntScalar, start: Start) -> Step:
        """The kept step `index`, made again from `start`."""
        t0, t1 = self.plan.differentiable_step_times(*self.tape.ends(index), index)
        y0, memory = start
        problem = self.plan.problem
        solver_state = self.plan.solver.restore(problem.terms, t0, y0, problem.args, memory)
        return self.plan.attempt_from(t0, t1, y0, (), solver_state, self.tape.made_jump(index))

    def advance(self, index: IntScalar, start: Start) -> tuple[Start, dict[Kind, PyTree[Any]]]:
        """What the next step starts from, and the parts that are emitted."""
        step = self.step(index, start)
        ended, after = self._end(index, step)
        parts: dict[Kind, PyTree[Any]] = {
            kind: part_of(self.plan, ended if kind == "end" else step, kind) for kind in self.kinds
        }
        return self.plan.start(after, step.solver_state), parts

    def _end(self, index: IntScalar, step: Step) -> tuple[Step, Y]:
        """`step` with an end that moves where an event has set it, and the state that the next step starts from."""
        due, detector = self.tape.due(index), self.plan.detector
        if due is None or detector is None:
            return step, step.y1
        apply_effects = lambda: detector.event_map.apply_effects(self.plan, due, step.t1, step.y1)
        t1, y1, after = lax.cond(any_element(jnp.any(due)), apply_effects, lambda: (step.t1, step.y1, step.y1))
        return replace(step, t1=t1, y1=y1), after

    @property
    def kinds(self) -> list[Kind]:
        """The parts of a step that some saved_parts holds."""
        return sorted({saved_parts.kind for saved_parts in self.saved_parts})


def play(replay: Replay, start: Start) -> tuple[Start, list[PyTree[Any]]]:
    """The start that follows the last kept step, and the emitted values: as fast as the solve itself was."""
    num_steps = replay.tape.num_steps

    def advance(carry: Any) -> Any:
        index, start, filled = carry
        active = index < num_steps
        following, parts = replay.advance(index, start)
        filled = [
            _fill(saved_parts, parts[saved_parts.kind], active, index, *entry)
            for saved_parts, entry in zip(replay.saved_parts, filled, strict=True)
        ]
        return index + 1, select(active, following, start), filled

    zero = jnp.asarray(0, jnp.int32)
    empty = [(zero, jax.tree.map(jnp.zeros_like, saved_parts.value)) for saved_parts in replay.saved_parts]
    carry = match_varying((zero, start, empty), (replay, start))
    _, start, filled = lax.while_loop(lambda carry: any_element(carry[0] < num_steps), advance, carry)
    return start, [values for _, values in filled]


def _fill(
    saved_parts: SavedParts,
    part: PyTree[Any],
    active: BoolScalar,
    index: IntScalar,
    cursor: IntScalar,
    values: PyTree[Any],
) -> tuple[IntScalar, PyTree[Any]]:
    """`values` with `part` in every entry, from `cursor` on, that belongs to step `index`."""
    if saved_parts.index.size == 0:
        return cursor, values
    owners = jnp.append(saved_parts.index, NEVER)

    def is_due(carry: Any) -> jax.Array:
        return active & (owners[carry[0]] == index)

    def write(carry: Any) -> Any:
        cursor, values = carry
        at = jnp.where(is_due(carry), cursor, saved_parts.index.size)
        values = jax.tree.map(lambda buffer, x: buffer.at[at].set(x, mode="drop"), values, part)
        return cursor + is_due(carry).astype(cursor.dtype), values

    return lax.while_loop(lambda carry: any_element(is_due(carry)), write, (cursor, values))


def play_bounded(replay: Replay, start: Start, max_steps: int) -> tuple[Start, list[PyTree[Any]]]:
    """The same as `play` in loops of known length, which JAX differentiates in every mode."""
    num_steps, block = replay.tape.num_steps, min(_BLOCK, max_steps)
    num_blocks = -(-max_steps // block)

    def one(start: Start, index: IntScalar) -> tuple[Start, dict[Kind, PyTree[Any]]]:
        active = index < num_steps
        following, parts = replay.advance(jnp.minimum(index, max_steps - 1), start)
        return select(active, following, start), parts

    def skip(start: Start, indices: jax.Array) -> tuple[Start, dict[Kind, PyTree[Any]]]:
        shapes = jax.eval_shape(lambda: replay.advance(indices[0], start)[1])
        return start, jax.tree.map(lambda x: jnp.zeros((block, *x.shape), x.dtype), shapes)

    def steps(start: Start, indices: jax.Array) -> tuple[Start, dict[Kind, PyTree[Any]]]:
        anyone = any_element(indices[0] < num_steps)
        return lax.cond(
            anyone, lambda: lax.scan(one, start, indices), lambda: match_varying(skip(start, indices), (replay, start))
        )

    indices = jnp.arange(num_blocks * block, dtype=jnp.int32).reshape(num_blocks, block)
    start, parts = lax.scan(steps, match_varying(start, (replay, start)), indices)
    parts = jax.tree.map(lambda x: x.reshape(num_blocks * block, *x.shape[2:]), parts)

    def gather(saved_parts: SavedParts) -> PyTree[Any]:
        used = saved_parts.index != NEVER
        at = jnp.where(used, saved_parts.index, 0)
        return jax.tree.map(
            lambda x: jnp.where(used.reshape(-1, *[1] * (x.ndim - 1)), x[at], jnp.zeros((), x.dtype)),
            parts[saved_parts.kind],
        )

    return start, [gather(saved_parts) for saved_parts in replay.saved_parts]


_BLOCK = 64
