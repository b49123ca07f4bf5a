"""The nodes of a tree, and increments between two times as sums over nodes.

The increment from `a` to `b` is a sum over adjacent intervals: a part of the leaf that holds `a`, the largest nodes
between the two leaves, and a part of the leaf that holds `b`. The nodes are found on the way down from the root to both
leaves. Sums are never subtracted from each other, so increments over short intervals far from `t0` keep their digits,
`H` and `K` included. All lengths are relative to the length of the tree's interval.
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
from .ticks import Grid, LeafPosition, Ticks, node_at, turns_right

type Pair = tuple[Values, Values]

# The normals of this number make the values over the whole interval. The nodes have the numbers from 1 on: the normals
# of node 1, the root, split the values over the whole interval between its children.
WHOLE_INTERVAL = 0


class Segment(NamedTuple):
    """The values of the path over an interval, and the length of the interval."""

    values: Values
    length: Float[Array, ""]

    def join(self, right: "Segment", bridge: AbstractBridge) -> "Segment":
        """This segment together with `right`, which begins where this one ends."""
        return Segment(bridge.join(self.values, right.values, self.length, right.length), self.length + right.length)


class SplitLeaf(NamedTuple):
    """A leaf, split at the time that it holds.

    Attributes
    ----------
    position
        The time.
    noise
        The leaf's normals.
    parts
        The parts of the leaf before and after the time.
    """

    position: LeafPosition
    noise: Values
    parts: Pair


class Gap(NamedTuple):
    """The nodes between two branches of the tree, joined as far as the descent has come.

    `left` reaches from the node on the earlier branch to the point where the branches separate, `right` from there to
    the node on the later branch.
    """

    left: Segment
    right: Segment

    def extended_left(self, included: BoolScalar, node: Segment, bridge: AbstractBridge) -> "Gap":
        """The gap with `node` joined to its left end where `included`: a right sibling of the earlier branch."""
        return self._replace(left=select(included, node.join(self.left, bridge), self.left))

    def extended_right(self, included: BoolScalar, node: Segment, bridge: AbstractBridge) -> "Gap":
        """The gap with `node` joined to its right end where `included`: a left sibling of the later branch."""
        return self._replace(right=select(included, self.right.join(node, bridge), self.right))


class Nodes(eqx.Module):
    """All nodes of a tree. None is stored: each is made from its parent and the normals of its parent's number."""

    grid: Grid
    layout: Layout
    source: NormalSource

    @property
    def bridge(self) -> AbstractBridge:
        """The bridge that makes nodes from their parents."""
        return self.layout.bridge

    @property
    def empty(self) -> Segment:
        """A segment of length zero."""
        zero = jnp.zeros(self.layout.space.size, self.layout.dtype)
        return Segment((zero,) * len(self.bridge.deviations), jnp.zeros((), self.layout.dtype))

    def noise(self, number: Ticks) -> Values:
        """The standard normals of the node with this number, one for each of its values."""
        return self.layout.rows(self.source.draw(number))

    def root(self) -> Values:
        """The values over the whole interval."""
        return self.bridge.unconditional(self.noise(jnp.asarray(WHOLE_INTERVAL)), 1.0)

    def children(self, node: Values, ticks: Ticks, level: IntScalar) -> Pair:
        """The two halves of `node`, which is the node at `level` that holds `ticks`."""
        return self.bridge.halves(node, self.noise(node_at(ticks, level)), self.root_length(level))

    def child_length(self, level: IntScalar) -> jax.Array:
        """The length of the children of nodes at `level`."""
        return 0.5 * self.root_length(level) ** 2

    def root_length(self, level: IntScalar) -> jax.Array:
        """The square root of the length of nodes at `level`, from a table, so that every program finds the same."""
        table = jnp.asarray(np.exp2(-0.5 * np.arange(self.grid.capacity + 1)), self.layout.dtype)
        return table[level]

    def is_inner(self, level: Int[Array, ""]) -> BoolScalar:
        """True if nodes at `level` have children; for levels at which some tree of a batch has inner nodes."""
        return True if self.grid.known_depth is not None else level < self.grid.depth

    def leaf_position(self, ticks: Ticks) -> LeafPosition:
        """The position of a time in its leaf, with fractions in the dtype of the values."""
        position = self.grid.leaf_position(ticks)
        before, after = (x.astype(self.layout.dtype) for x in (position.before, position.after))
        return LeafPosition(position.ticks, before, after)

    def split_leaf(self, leaf: Values, ticks: Ticks) -> SplitLeaf:
        """`leaf`, split at the time `ticks` that it holds."""
        position, depth = self.leaf_position(ticks), self.grid.depth
        noise, root_length = self.noise(node_at(position.ticks, depth)), self.root_length(depth)
        parts = self.bridge.split(leaf, noise, root_length, position.before, position.after)
        return SplitLeaf(position, noise, parts)

    def leaf_segments(self, leaf: SplitLeaf) -> tuple[Segment, Segment]:
        """The parts of a leaf before and after the time at which it is split, with their lengths."""
        length = self.root_length(self.grid.depth) ** 2
        before, after = leaf.parts
        return Segment(before, length * leaf.position.before), Segment(after, length * leaf.position.after)

    def between(self, lower: SplitLeaf, upper: SplitLeaf, gap: Gap, common_level: Int[Array, ""]) -> Values:
        """The increment between two times: the gap between their leaves, joined with a part of the leaf at each end."""
        start, end = self.leaf_segments(lower)[1], self.leaf_segments(upper)[0]
        across = start.join(gap.left, self.bridge).join(gap.right.join(end, self.bridge), self.bridge).values
        return select(common_level == self.grid.depth, self._within_leaf(lower, upper), across)

    def _within_leaf(self, lower: SplitLeaf, upper: SplitLeaf) -> Values:
        """The increment between two times in one leaf, exact if one of them is an end of the leaf.

        Otherwise `W` is additive, and the areas have the right variance but are drawn independently of the path. Areas
        computed from the path would grow without bound as the interval shrinks, because inside a leaf the values have
        the right distribution only at a single time.
        """
        distance = jnp.maximum(upper.position.before - lower.position.before, 0.0)
        root_length = self.root_length(self.grid.depth) * jnp.sqrt(distance)
        independent = self.bridge.unconditional(upper.noise, root_length)
        inside = (upper.parts[0][0] - lower.parts[0][0], *independent[1:])
        to_end = select(upper.position.after == 0, lower.parts[1], inside)
        return select(lower.position.before == 0, upper.parts[0], to_end)


def child(pair: Pair, ticks: Ticks, level: IntScalar) -> Values:
    """The child that holds `ticks`, of the two children of a node at `level`."""
    return select(turns_right(ticks, level), pair[1], pair[0])


def value_from_root(nodes: Nodes, ticks: Ticks) -> Values:
    """The increment from the beginning of the tree's interval to `ticks`."""
    gap, (leaf,) = _descend(nodes, [ticks], jnp.asarray(-1, jnp.int32))
    return gap.right.join(nodes.leaf_segments(leaf)[0], nodes.bridge).values


def increment_from_root(nodes: Nodes, start: Ticks, end: Ticks) -> Values:
    """The increment from `start` to `end`, which may be the earlier time."""
    ticks = jnp.minimum(start, end), jnp.maximum(start, end)
    common_level = nodes.grid.common_level(*(nodes.grid.leaf_position(q).ticks for q in ticks))
    gap, (lower, upper) = _descend(nodes, ticks, common_level)
    values = nodes.between(lower, upper, gap, common_level)
    return select(end < start, nodes.bridge.reversed(values), values)


def _descend(nodes: Nodes, ticks: Sequence[Ticks], common_level: Int[Array, ""]) -> tuple[Gap, list[SplitLeaf]]:
    """The descent from the root to the leaves that hold `ticks`: one time, or two with the earlier one first.

    Returns the gap between the branches, of nodes below `common_level`, and the leaf at the end of each branch. With
    one time, the gap is that from the beginning of the interval to its leaf.
    """
    leaf_ticks = [nodes.grid.leaf_position(q).ticks for q in ticks]

    def down(carry: Any) -> Any:
        level, current, gap = carry
        pairs = [nodes.children(node, q, level) for node, q in zip(current, leaf_ticks, strict=True)]
        right, length = [turns_right(q, level) for q in leaf_ticks], nodes.child_length(level)
        is_inner = nodes.is_inner(level)
        in_gap = is_inner & (level > common_level)
        if len(ticks) == 2:
            gap = gap.extended_left(in_gap & ~right[0], Segment(pairs[0][1], length), nodes.bridge)
        gap = gap.extended_right(in_gap & right[-1], Segment(pairs[-1][0], length), nodes.bridge)
        children = [child(pair, q, level) for pair, q in zip(pairs, leaf_ticks, strict=True)]
        return level + 1, select(is_inner, children, current), gap

    initial = (jnp.zeros((), jnp.int32), [nodes.root()] * len(ticks), Gap(nodes.empty, nodes.empty))
    initial = match_varying(initial, (nodes, ticks))
    _, leaves, gap = lax.while_loop(lambda s: any_element(s[0] < nodes.grid.depth), down, initial)
    return gap, [nodes.split_leaf(leaf, q) for leaf, q in zip(leaves, ticks, strict=True)]
