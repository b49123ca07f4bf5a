"""The replay in reverse: one vector–Jacobian product for each accepted step, from the last to the first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, IntScalar, any_element, match_varying, select
from ..saving import SavedParts, Slots, TapeSize, visit_due
from ..step import Start
from .replay import Parts, Replay


class Cotangents(eqx.Module):
    """The cotangents at one step of the way back.

    Parameters
    ----------
    start
        Cotangents of the end of the step that is reversed next, which is the start of the step after it.
    parameters
        Cotangents of the arrays that the derivative is taken with respect to.
    cursors
        For each saver, the last entry whose cotangent has not been used yet.
    """

    start: PyTree[Array]
    parameters: list[jax.Array]
    cursors: Mapping[str, IntScalar]


class ReverseReplay(eqx.Module):
    """The chain of accepted steps, seen from its end.

    Parameters
    ----------
    replay_with
        Makes the `Replay` from values of the arrays that the derivative is taken with respect to.
    parameters
        These values.
    saved_cotangents
        Cotangents of the saved values, by saver.
    failed
        Whether the solve failed, so that its end has no derivatives.
    """

    replay_with: Callable[[Sequence[jax.Array]], Replay] = eqx.field(static=True)
    parameters: list[jax.Array]
    saved_cotangents: Parts
    failed: BoolScalar

    @property
    def replay(self) -> Replay:
        """The chain at the parameters' values."""
        return self.replay_with(self.parameters)

    def step(self, index: IntScalar, start: Start, carry: Cotangents, active: BoolScalar) -> Cotangents:
        """The cotangents before the accepted step `index`, which starts from `start`, where it is `active`."""
        differentiable, static = eqx.partition(start, eqx.is_inexact_array)

        def following(parameters: list[jax.Array], differentiable: PyTree[Array]) -> Any:
            replay = self.replay_with(parameters)
            outputs = replay.step_with_parts(index, eqx.combine(differentiable, static))
            return eqx.filter(outputs, eqx.is_inexact_array)

        (_, parts), vjp = jax.vjp(following, self.parameters, differentiable)
        of_parts, cursors = self._cotangents_of(index, parts, carry.cursors, active)
        cotangents = (carry.start, of_parts)
        parameters, before = vjp(cotangents)
        parameters = jax.tree.map(jnp.add, carry.parameters, parameters)
        # Zero times a Jacobian that is not finite is NaN, and must be zero.
        before, parameters = select(
            active & _any_nonzero(cotangents), (before, parameters), (carry.start, carry.parameters)
        )
        return Cotangents(before, parameters, select(active, cursors, carry.cursors))

    def last_with_cotangent(self) -> IntScalar:
        """The last accepted step of which a saved value has a cotangent; -1 if there is none."""
        last = jnp.asarray(-1, jnp.int32)
        for name, parts in self.replay.saved.items():
            if parts.index.size > 0:
                given = jax.vmap(_any_nonzero)(self.saved_cotangents[name]) & (
                    parts.index < self.replay.tape.num_accepted
                )
                last = jnp.maximum(last, jnp.max(jnp.where(given, parts.index, -1)))
        return last

    def _cotangents_of(
        self, index: IntScalar, parts: Parts, cursors: Mapping[str, IntScalar], active: BoolScalar
    ) -> tuple[Parts, Mapping[str, IntScalar]]:
        """Cotangents of the parts of this step, summed over the entries that hold them; and the cursors after them."""
        replay = self.replay
        totals, after = dict(jax.tree.map(jnp.zeros_like, parts)), dict(cursors)
        for name, source in replay.sources.items():
            entries = replay.saved[name], self.saved_cotangents[name]
            after[name], totals[source] = _gather(*entries, index, active, cursors[name], totals[source])
        return totals, after


def _any_nonzero(tree: PyTree[Array]) -> BoolScalar:
    return jnp.any(jnp.stack([jnp.any(x != 0) for x in jax.tree.leaves(tree)]))


def _gather(
    saved: SavedParts,
    cotangents: PyTree[Array],
    index: IntScalar,
    active: BoolScalar,
    cursor: IntScalar,
    total: PyTree[Array],
) -> tuple[IntScalar, PyTree[Array]]:
    """`total` and the entries, from `cursor` downwards, that belong to step `index`; and the cursor after them."""
    if saved.index.size == 0:
        return cursor, total

    def is_due(cursor: IntScalar) -> Array:
        return active & (cursor >= 0) & (saved.index[jnp.maximum(cursor, 0)] == index)

    def add(cursor: IntScalar, due: Array, total: PyTree[Array]) -> PyTree[Array]:
        at = jnp.maximum(cursor, 0)
        return jax.tree.map(lambda s, x: jnp.where(due, s + x[at], s), total, cotangents)

    cursor, total = match_varying((cursor, total), (saved, cotangents, index, total))
    return visit_due(is_due, add, cursor, total, by=-1)


def reverse_from_checkpoints(reverse: ReverseReplay, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents:
    """The cotangents at the start of the solve.

    The tape holds the start of every step, or, if there were too many, of every k-th. Then the steps between two
    checkpoints are computed again first, if need be recursively; each level stores `size.slots` starts at a time.
    """
    del end
    tape, slots, max_steps = reverse.replay.tape, size.slots, size.max_steps
    if slots >= max_steps:
        return _backward_steps(reverse, tape.first, tape.num_accepted, tape.checkpoints, carry)
    longest = 1 << max(0, -(-max_steps // slots) - 1).bit_length()
    whole = _Steps(tape.first, tape.num_accepted, tape.checkpoints, 1 << tape.log_stride)
    return _reverse_segments(reverse, whole, carry, longest, slots)


class _Steps(NamedTuple):
    """Steps `low` to `high - 1`: the start of every `stride`-th, stacked."""

    low: IntScalar
    high: IntScalar
    checkpoints: Start
    stride: IntScalar | int


def _reverse_segments(reverse: ReverseReplay, steps: _Steps, carry: Cotangents, longest: int, slots: int) -> Cotangents:
    """The cotangents before `steps`, between two of whose checkpoints there are at most `longest`."""
    low, high, checkpoints, stride = steps

    def segment(state: tuple[IntScalar, Cotangents]) -> tuple[IntScalar, Cotangents]:
        checkpoint, carry = state[0] - 1, state[1]
        at = jnp.maximum(checkpoint, 0)
        begin = low + at * stride
        end = jnp.where(checkpoint >= 0, jnp.minimum(begin + stride, high), begin)
        return checkpoint, _reverse_segment(reverse, begin, end, Slots(checkpoints)[at], carry, longest, slots)

    count = (high - low + stride - 1) // stride
    init = match_varying((count, carry), (reverse, carry, low))
    return lax.while_loop(lambda state: any_element(state[0] > 0), segment, init)[1]


def _reverse_segment(
    reverse: ReverseReplay, low: IntScalar, high: IntScalar, start: Start, carry: Cotangents, longest: int, slots: int
) -> Cotangents:
    """The cotangents before steps `low` to `high - 1`, at most `longest`, the first of which starts from `start`."""
    stride = -(-longest // slots)
    checkpoints = _collect(reverse.replay, low, high, start, stride, min(slots, longest))
    if stride == 1:
        return _backward_steps(reverse, low, high, checkpoints, carry)
    return _reverse_segments(reverse, _Steps(low, high, checkpoints, stride), carry, stride, slots)


def _collect(replay: Replay, low: IntScalar, high: IntScalar, start: Start, stride: int, size: int) -> Start:
    """The starts of every `stride`-th step from `low` to `high - 1`, stacked."""

    def body(state: tuple[IntScalar, Start, Start]) -> tuple[IntScalar, Start, Start]:
        index, start, starts = state
        active = index + 1 < high
        start = select(active, replay.step_with_parts(jnp.where(active, index, 0), start)[0], start)
        index = index + jnp.asarray(active).astype(jnp.int32)
        is_checkpoint = active & ((index - low) % stride == 0)
        starts = Slots(starts).write((index - low) // stride, start, is_checkpoint).entries
        return index, start, starts

    # The first start is known, and the end of the last step is not needed: a segment of one step costs nothing.
    starts = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *jnp.shape(x))), start)
    init = match_varying((low, start, starts), (replay, low, start))
    return lax.while_loop(lambda state: any_element(state[0] + 1 < high), body, init)[2]


def _backward_steps(
    reverse: ReverseReplay, low: IntScalar, high: IntScalar, starts: Start, carry: Cotangents
) -> Cotangents:
    """The cotangents before steps `high - 1` to `low`, whose starts are all known."""

    def body(state: tuple[IntScalar, Cotangents]) -> tuple[IntScalar, Cotangents]:
        index, carry = state[0] - 1, state[1]
        active = index >= low
        at = jnp.where(active, index, low)
        return index, reverse.step(at, Slots(starts)[at - low], carry, active)

    init = match_varying((high, carry), (reverse, carry, low))
    return lax.while_loop(lambda state: any_element(state[0] > low), body, init)[1]
