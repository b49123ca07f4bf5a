"""Replaying a tape backwards: one vector–Jacobian product for each kept step, from the last to the first."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import BoolScalar, IntScalar, any_element, match_varying, select
from ..saving import SavedParts
from .replay import Replay, Start
from .taped import TapeSize


class Cotangents(eqx.Module):
    """What has been pulled back so far.

    Parameters
    ----------
    start
        Cotangents of what the next step to be pulled back leads to.
    parameters
        Cotangents of the arrays that the derivative is taken with respect to.
    cursors
        For each saved_parts, the last entry whose cotangent has not been used yet.
    """

    start: PyTree[Any]
    parameters: list[jax.Array]
    cursors: list[IntScalar]


class Pullback(eqx.Module):
    """The chain of kept steps, seen from its end.

    Parameters
    ----------
    replay_with
        Makes the `Replay` from values of the arrays that the derivative is taken with respect to.
    parameters
        Their values.
    emitted
        Cotangents of the emitted values.
    """

    replay_with: Callable[[Sequence[jax.Array]], Replay] = eqx.field(static=True)
    parameters: list[jax.Array]
    emitted: list[PyTree[Any]]

    @property
    def replay(self) -> Replay:
        """The chain at the parameters' values."""
        return self.replay_with(self.parameters)

    def step(self, index: IntScalar, start: Start, carry: Cotangents, active: BoolScalar) -> Cotangents:
        """Pull back through the kept step `index`, which starts from `start`, in lanes that are `active`."""
        moving, still = eqx.partition(start, eqx.is_inexact_array)

        def advance(parameters: list[jax.Array], moving: PyTree[Any]) -> Any:
            replay = self.replay_with(parameters)
            following, parts = replay.advance(index, eqx.combine(moving, still))
            return eqx.filter((following, parts), eqx.is_inexact_array)

        (_, parts), pull = jax.vjp(advance, self.parameters, moving)
        emitted, cursors = self._emitted_by(index, parts, carry.cursors, active)
        parameters, before = pull((carry.start, emitted))
        parameters = jax.tree.map(jnp.add, carry.parameters, parameters)
        return select(active, Cotangents(before, parameters, cursors), carry)

    def _emitted_by(
        self, index: IntScalar, parts: dict[Any, PyTree[Any]], cursors: list[IntScalar], active: BoolScalar
    ) -> tuple[dict[Any, PyTree[Any]], list[IntScalar]]:
        """Cotangents of what this step emitted, summed over the entries that hold it."""
        sums = jax.tree.map(jnp.zeros_like, parts)
        moved: list[IntScalar] = []
        for saved_parts, values, cursor in zip(self.replay.saved_parts, self.emitted, cursors, strict=True):
            cursor, sums[saved_parts.kind] = _gather(saved_parts, values, index, active, cursor, sums[saved_parts.kind])
            moved.append(cursor)
        return sums, moved


def _gather(
    saved_parts: SavedParts,
    values: PyTree[Any],
    index: IntScalar,
    active: BoolScalar,
    cursor: IntScalar,
    total: PyTree[Any],
) -> tuple[IntScalar, PyTree[Any]]:
    if saved_parts.index.size == 0:
        return cursor, total

    def is_due(carry: Any) -> jax.Array:
        return active & (carry[0] >= 0) & (saved_parts.index[jnp.maximum(carry[0], 0)] == index)

    def add(carry: Any) -> Any:
        cursor, total = carry
        due, at = is_due(carry), jnp.maximum(cursor, 0)
        total = jax.tree.map(lambda s, x: jnp.where(due, s + x[at], s), total, values)
        return cursor - due.astype(cursor.dtype), total

    carry = match_varying((cursor, total), (saved_parts, values, index, total))
    return lax.while_loop(lambda carry: any_element(is_due(carry)), add, carry)


def pull_back(pullback: Pullback, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents:
    """Pull back through all kept steps.

    The tape holds where every step started, or, if there were too many, where every k-th did; then the steps between
    two marks are made again first. `size.slots` starts are held at a time at each level of that.
    """
    del end
    tape, slots, max_steps = pullback.replay.tape, size.slots, size.max_steps
    if slots >= max_steps:
        return _retreat(pullback, jnp.zeros_like(tape.num_steps), tape.num_steps, tape.start, carry)
    longest = 1 << max(0, -(-max_steps // slots) - 1).bit_length()

    def segment(state: tuple[IntScalar, Cotangents]) -> tuple[IntScalar, Cotangents]:
        mark, carry = state[0] - 1, state[1]
        low = jnp.maximum(mark, 0) << tape.log_stride
        high = jnp.where(mark >= 0, jnp.minimum(low + (1 << tape.log_stride), tape.num_steps), low)
        start = jax.tree.map(lambda x: x[jnp.maximum(mark, 0)], tape.start)
        return mark, _pull_segment(pullback, low, high, start, carry, longest, slots)

    marks = (tape.num_steps + (1 << tape.log_stride) - 1) >> tape.log_stride
    init = match_varying((marks, carry), (pullback, carry))
    return lax.while_loop(lambda state: any_element(state[0] > 0), segment, init)[1]


def _pull_segment(
    pullback: Pullback, low: IntScalar, high: IntScalar, start: Start, carry: Cotangents, longest: int, slots: int
) -> Cotangents:
    """Pull back through steps `low` to `high - 1`, at most `longest`, the first of which starts from `start`."""
    stride = -(-longest // slots)
    marks = _collect(pullback.replay, low, high, start, stride, min(slots, longest))
    if stride == 1:
        return _retreat(pullback, low, high, marks, carry)

    def segment(state: tuple[IntScalar, Cotangents]) -> tuple[IntScalar, Cotangents]:
        mark, carry = state[0] - 1, state[1]
        at = jnp.maximum(mark, 0)
        begin = low + at * stride
        end = jnp.where(mark >= 0, jnp.minimum(begin + stride, high), begin)
        first = jax.tree.map(lambda x: x[at], marks)
        return mark, _pull_segment(pullback, begin, end, first, carry, stride, slots)

    count = (high - low + stride - 1) // stride
    init = match_varying((count, carry), (pullback, carry, low))
    return lax.while_loop(lambda state: any_element(state[0] > 0), segment, init)[1]


def _collect(replay: Replay, low: IntScalar, high: IntScalar, start: Start, stride: int, size: int) -> Start:
    """Where every `stride`-th step from `low` to `high - 1` starts."""

    def advance(state: Any) -> Any:
        index, start, buffer = state
        active = index + 1 < high
        start = select(active, replay.advance(jnp.where(active, index, 0), start)[0], start)
        index = index + active.astype(index.dtype)
        at = jnp.where(active & ((index - low) % stride == 0), (index - low) // stride, size)
        buffer = jax.tree.map(lambda buffer, x: buffer.at[at].set(x, mode="drop"), buffer, start)
        return index, start, buffer

    # The first start is known, and where the last step leads to is not asked for: a segment of one step costs nothing.
    buffer = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *jnp.shape(x))), start)
    init = match_varying((low, start, buffer), (replay, low, start))
    return lax.while_loop(lambda state: any_element(state[0] + 1 < high), advance, init)[2]


def _retreat(pullback: Pullback, low: IntScalar, high: IntScalar, starts: Start, carry: Cotangents) -> Cotangents:
    """Pull back through steps `high - 1` to `low`, whose starts are all known."""

    def retreat(state: tuple[IntScalar, Cotangents]) -> tuple[IntScalar, Cotangents]:
        index, carry = state[0] - 1, state[1]
        active = index >= low
        at = jnp.where(active, index, low)
        start = jax.tree.map(lambda x: x[at - low], starts)
        return index, pullback.step(at, start, carry, active)

    init = match_varying((high, carry), (pullback, carry, low))
    return lax.while_loop(lambda state: any_element(state[0] > low), retreat, init)[1]
