"""The nodes of a tree, and how an increment is put together from them on the way down.

An increment over `[a, b]` consists of the largest nodes that fit, found on the way down from the root to `a` and to
`b`, and of a part of the leaf at each end. It is a sum of adjacent pieces, never a difference of sums, so short
intervals far from `t0` keep their digits, in `H` and `K` too. All lengths are relative to the tree's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..jaxkit import BoolScalar, IntScalar, any_element, match_varying, select
from .base import Layout
from .bridges import AbstractBridge, Values
from .normals import NormalSource
from .ticks import Grid, Place, Ticks, node_at, turns_right

type Pair = tuple[Values, Values]

# All other nodes have numbers from 1 on; that of the whole interval splits it, and this one draws it.
WHOLE = 0


class Piece(NamedTuple):
    """What is known over an interval of some length."""

    values: Values
    length: Float[Array, ""]

    def join(self, right: "Piece", bridge: AbstractBridge) -> "Piece":
        """With the piece that begins where this one ends."""
        return Piece(bridge.join(self.values, right.values, self.length, right.length), self.length + right.length)


class Cut(NamedTuple):
    """The leaf that holds a time, cut there.

    Attributes
    ----------
    place
        The time.
    noise
        The leaf's normals.
    pair
        The parts before and after the time.
    """

    place: Place
    noise: Values
    pair: Pair


class Gap(NamedTuple):
    """The nodes between two ways down, as far as the descent has come.

    `below` reaches from the earlier way's node to where the two parted, `above` from there to the later way's node.
    """

    below: Piece
    above: Piece

    def grown_below(self, counts: BoolScalar, node: Piece, bridge: AbstractBridge) -> "Gap":
        """With `node`, the right sibling of the earlier way's next node, if it counts."""
        return self._replace(below=select(counts, node.join(self.below, bridge), self.below))

    def grown_above(self, counts: BoolScalar, node: Piece, bridge: AbstractBridge) -> "Gap":
        """With `node`, the left sibling of the later way's next node, if it counts."""
        return self._replace(above=select(counts, self.above.join(node, bridge), self.above))


class Nodes(eqx.Module):
    """All nodes of a tree, none of them stored: each is made from its parent and the normals of its number."""

    grid: Grid
    layout: Layout
    source: NormalSource

    @property
    def bridge(self) -> AbstractBridge:
        """How a node is made from its parent."""
        return self.layout.bridge

    @property
    def empty(self) -> Piece:
        """A piece of no length."""
        zero = jnp.zeros(self.layout.space.size, self.layout.dtype)
        return Piece((zero,) * len(self.bridge.deviations), jnp.zeros((), self.layout.dtype))

    def noise(self, number: Ticks) -> Values:
        """Standard normals of a node, like its values."""
        return self.layout.rows(self.source.draw(number))

    def root(self) -> Values:
        """What is known over the whole interval."""
        return self.bridge.fresh(self.noise(jnp.asarray(WHOLE)), 1.0)

    def children(self, node: Values, position: Ticks, level: IntScalar) -> Pair:
        """The halves of the node that holds `position`."""
        return self.bridge.halves(node, self.noise(node_at(position, level)), self.root_width(level))

    def child_length(self, level: IntScalar) -> jax.Array:
        """The length of the children of nodes at `level`."""
        return 0.5 * self.root_width(level) ** 2

    def root_width(self, level: IntScalar) -> jax.Array:
        """The square root of the length of a node; from a table, the same in every program."""
        table = jnp.asarray(np.exp2(-0.5 * np.arange(self.grid.capacity + 1)), self.layout.dtype)
        return table[level]

    def is_inner(self, level: Int[Array, ""]) -> BoolScalar:
        """Whether nodes at `level` have children; asked of levels that have them in some tree of a `vmap`."""
        return True if self.grid.known_depth is not None else level < self.grid.depth

    def place(self, ticks: Ticks) -> Place:
        """Where a time is, in the dtype of values."""
        place = self.grid.place(ticks)
        before, after = (x.astype(self.layout.dtype) for x in (place.before, place.after))
        return Place(place.position, before, after)

    def cut(self, leaf: Values, ticks: Ticks) -> Cut:
        """The leaf that holds a time, cut there."""
        place, depth = self.place(ticks), self.grid.depth
        noise = self.noise(node_at(place.position, depth))
        return Cut(place, noise, self.bridge.split(leaf, noise, self.root_width(depth), place.before, place.after))

    def pieces(self, cut: Cut) -> tuple[Piece, Piece]:
        """The parts of a leaf, before and after the time at which it is cut."""
        width = self.root_width(self.grid.depth) ** 2
        return Piece(cut.pair[0], width * cut.place.before), Piece(cut.pair[1], width * cut.place.after)

    def between(self, lower: Cut, upper: Cut, gap: Gap, parting: Int[Array, ""]) -> Values:
        """The increment between two times: the gap with the parts of the leaves at its ends."""
        start, end = self.pieces(lower)[1], self.pieces(upper)[0]
        apart = start.join(gap.below, self.bridge).join(gap.above.join(end, self.bridge), self.bridge).values
        return select(parting == self.grid.depth, self._within_leaf(lower, upper), apart)

    def _within_leaf(self, lower: Cut, upper: Cut) -> Values:
        """The increment between two times in one leaf, exact if one of them is an end of it.

        Otherwise `W` is additive, and the areas have the right variance but nothing to do with the path: those that
        follow from it would grow without bound as the interval shrinks, for inside a leaf only single times are exact.
        """
        apart = jnp.maximum(upper.place.before - lower.place.before, 0.0)
        fresh = self.bridge.fresh(upper.noise, self.root_width(self.grid.depth) * jnp.sqrt(apart))
        inside = (upper.pair[0][0] - lower.pair[0][0], *fresh[1:])
        to_end = select(upper.place.after == 0, lower.pair[1], inside)
        return select(lower.place.before == 0, upper.pair[0], to_end)


def child(pair: Pair, position: Ticks, level: IntScalar) -> Values:
    """That one of the children of a node at `level` that holds `position`."""
    return select(turns_right(position, level), pair[1], pair[0])


def value_from_root(nodes: Nodes, ticks: Ticks) -> Values:
    """The increment from the beginning of the tree."""
    gap, (cut,) = _ways_down(nodes, [ticks], jnp.asarray(-1, jnp.int32))
    return gap.above.join(nodes.pieces(cut)[0], nodes.bridge).values


def increment_from_root(nodes: Nodes, start: Ticks, end: Ticks) -> Values:
    """The increment from one time to another, in whichever order."""
    ticks = jnp.minimum(start, end), jnp.maximum(start, end)
    parting = nodes.grid.parting(*(nodes.grid.place(q).position for q in ticks))
    gap, (lower, upper) = _ways_down(nodes, ticks, parting)
    values = nodes.between(lower, upper, gap, parting)
    return select(end < start, nodes.bridge.reversed(values), values)


def _ways_down(nodes: Nodes, ticks: Sequence[Ticks], parting: Int[Array, ""]) -> tuple[Gap, list[Cut]]:
    """All ways from the root to `ticks`: one time, the later, or two, the earlier first.

    Returns the gap between them, from below level `parting` on, and the leaf at the end of each.
    """
    positions = [nodes.grid.place(q).position for q in ticks]

    def down(carry: Any) -> Any:
        level, ways, gap = carry
        pairs = [nodes.children(node, p, level) for node, p in zip(ways, positions, strict=True)]
        right, length = [turns_right(p, level) for p in positions], nodes.child_length(level)
        live = nodes.is_inner(level)
        counts = live & (level > parting)
        if len(ticks) == 2:
            gap = gap.grown_below(counts & ~right[0], Piece(pairs[0][1], length), nodes.bridge)
        gap = gap.grown_above(counts & right[-1], Piece(pairs[-1][0], length), nodes.bridge)
        moved = [child(pair, p, level) for pair, p in zip(pairs, positions, strict=True)]
        return level + 1, select(live, moved, ways), gap

    first = (jnp.zeros((), jnp.int32), [nodes.root()] * len(ticks), Gap(nodes.empty, nodes.empty))
    first = match_varying(first, (nodes, ticks))
    _, ways, gap = lax.while_loop(lambda s: any_element(s[0] < nodes.grid.depth), down, first)
    return gap, [nodes.cut(leaf, q) for leaf, q in zip(ways, ticks, strict=True)]
