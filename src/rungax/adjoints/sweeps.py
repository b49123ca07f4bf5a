"""The taped solve, whose derivative is a sweep over the tape.

Three layers: the whole solve, evaluated, leaves no tape. Differentiated, it is replaced by `rebuild` of what `taped`
kept. The derivative of `taped` is the linear map from the movements of its inputs to the movements of what it kept: the
sweep, which runs forwards or backwards over the tape.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import IntScalar, LinearPrograms, known_zero, scaled, sweep, zero_tangent
from ..results import is_okay
from ..saving import NEVER, SavedParts, Tape
from ..step import Plan, State
from .pullback import Cotangents, Pullback
from .replay import Replay, Start, play, play_bounded
from .taped import Kept, Restore, TapeSize, record


class PullBack(Protocol):
    """Pulls back through all kept steps, the last of which led to `end`."""

    def __call__(self, pullback: Pullback, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents: ...


def taped(restore: Restore, leaves: Sequence[jax.Array], size: TapeSize, pull_back: PullBack) -> Kept:
    """The solve, leaving its tape; reverse mode goes back over it by `pull_back`."""

    @jax.custom_jvp
    def solve(*leaves: jax.Array) -> Kept:
        plan, state = restore(leaves)
        return record(plan, state, size)

    def solve_jvp(primals: Any, tangents: Any) -> tuple[Kept, Kept]:
        kept = solve(*primals)
        moving = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
        layout = _Layout(restore, moving, size, pull_back)
        moved = _sweep(layout, primals, [tangents[i] for i in moving], kept)
        still = jax.tree.map(zero_tangent, kept)
        return kept, eqx.tree_at(lambda k: (k.end, k.values), still, moved)

    solve.defjvp(solve_jvp, symbolic_zeros=True)
    return solve(*leaves)


class _Layout(NamedTuple):
    """How the flat arrays of a solve are put together again, and which of them move."""

    restore: Restore
    moving: list[int]
    size: TapeSize
    pull_back: PullBack


def _sweep(
    layout: _Layout, leaves: Sequence[jax.Array], tangents: list[jax.Array], kept: Kept
) -> tuple[Start, list[PyTree[Any]]]:
    """How the end and the emitted values move when the `moving` leaves do."""
    saved_parts = kept.saved_parts
    kept_arrays, kept_tree = jax.tree.flatten((kept.tape, saved_parts, kept.end))
    outputs, still = eqx.partition((kept.end, kept.values), eqx.is_inexact_array)
    output_leaves, output_tree = jax.tree.flatten(outputs)
    split = len(leaves), len(leaves) + len(kept_arrays)

    def unpack(args: Sequence[jax.Array]) -> tuple[_Chain, Sequence[jax.Array]]:
        tape, saved_parts, end = jax.tree.unflatten(kept_tree, args[split[0] : split[1]])
        return _Chain(layout, args[: split[0]], tape, saved_parts, end), args[split[1] :]

    def played(player: Callable[..., Any], args: Sequence[jax.Array]) -> list[jax.Array]:
        chain, tangents = unpack(args)

        def outputs(*parameters: jax.Array) -> list[jax.Array]:
            replay = chain.replay_with(parameters)
            return jax.tree.leaves(eqx.filter(player(replay, chain.first(parameters)), eqx.is_inexact_array))

        return jax.jvp(outputs, chain.parameters, list(tangents))[1]

    def forward(*args: jax.Array) -> list[jax.Array]:
        return played(play, args)

    def bounded(*args: jax.Array) -> list[jax.Array]:
        if not layout.size.bounded:
            raise ValueError(
                "A second derivative of a solve needs a bound on its number of steps.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`; first derivatives do without."
            )
        return played(partial(play_bounded, max_steps=layout.size.max_steps), args)

    def backward(*args: jax.Array) -> list[jax.Array]:
        chain, cotangents = unpack(args)
        end, emitted = jax.tree.unflatten(output_tree, cotangents)
        return chain.pull_back(end, emitted)

    programs = LinearPrograms(forward, backward, bounded)
    moved = sweep(programs, [*leaves, *kept_arrays], tangents, output_leaves)
    # The derivative of a solve that failed is no number, rather than the number of a part of it.
    complete = is_okay(kept.outcome.result) & (kept.tape.num_steps <= layout.size.max_steps)
    one = jnp.where(complete, 1.0, jnp.nan)
    moved = [scaled(one, x) for x in moved]
    return eqx.combine(jax.tree.unflatten(output_tree, moved), jax.tree.map(zero_tangent, still))


class _Chain(NamedTuple):
    """The chain of kept steps as a function of the leaves that move, the `parameters`."""

    layout: _Layout
    leaves: Sequence[jax.Array]
    tape: Tape
    saved_parts: tuple[SavedParts, ...]
    end: Start

    @property
    def parameters(self) -> list[jax.Array]:
        """The values of the leaves that move."""
        return [self.leaves[i] for i in self.layout.moving]

    def replay_with(self, parameters: Sequence[jax.Array]) -> Replay:
        """The chain for other values of them."""
        return Replay(self._restore(parameters)[0], self.tape, self.saved_parts)

    def first(self, parameters: Sequence[jax.Array]) -> Start:
        """Where the first step starts."""
        plan, state = self._restore(parameters)
        return plan.start(state.y, state.solver_state)

    def pull_back(self, end: PyTree[Any], emitted: list[PyTree[Any]]) -> list[jax.Array]:
        """Cotangents of the parameters from those of the end and of the emitted values."""
        cursors: list[IntScalar] = [jnp.sum(e.index != NEVER).astype(jnp.int32) - 1 for e in self.saved_parts]
        parameters = self.parameters
        pullback = Pullback(self.replay_with, parameters, emitted)
        carry = Cotangents(end, [jnp.zeros_like(x) for x in parameters], cursors)
        carry = self.layout.pull_back(pullback, carry, self.end, self.layout.size)

        def first(*parameters: jax.Array) -> PyTree[Any]:
            return eqx.filter(self.first(parameters), eqx.is_inexact_array)

        direct = jax.vjp(first, *parameters)[1](carry.start)
        return [a + b for a, b in zip(carry.parameters, direct, strict=True)]

    def _restore(self, parameters: Sequence[jax.Array]) -> tuple[Plan, State]:
        leaves = list(self.leaves)
        for i, value in zip(self.layout.moving, parameters, strict=True):
            leaves[i] = value
        return self.layout.restore(leaves)
