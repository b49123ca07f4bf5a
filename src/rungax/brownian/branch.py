"""The branch of the tree that a stepping loop carries, so that a step draws only the nodes that the last one did not.

The branches to two times share all nodes down to the smallest that holds both times, and the children of that node.
Where steps of length `h` follow each other, a step draws `1 + log2(h / tol)` nodes on average, and its leaf.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ..jaxkit import IntScalar, any_element, match_varying, optimization_barrier, select
from .bridges import Values
from .descent import Gap, Nodes, Pair, Segment, SplitLeaf, child
from .normals import NormalSource
from .ticks import Ticks, turns_right

# The ticks of a branch that does not lead to a time yet.
NO_TIME = -1


class Branch(eqx.Module):
    """The nodes from the root down to the leaf that holds a time, which the branch to the next time can share.

    Attributes
    ----------
    ticks
        The time.
    pairs
        The left nodes and the right ones, a row for each level. Row 0: the root, twice. Row `k`: the children of the
        node at level `k - 1`. Last row: the parts of the leaf before and after the time.
    source
        The source of all nodes' normals, made once for the whole loop.
    """

    ticks: Ticks
    pairs: Pair
    source: NormalSource


def first_branch(nodes: Nodes) -> Branch:
    """A branch that does not lead to a time yet and shares only the root with others."""
    root = nodes.root()
    rows = tuple(jnp.zeros((nodes.grid.capacity + 2, x.size), x.dtype).at[0].set(x) for x in root)
    no_time = jnp.asarray(NO_TIME, jnp.result_type(nodes.grid.ticks(nodes.grid.ends[0])[0]))
    return match_varying(Branch(no_time, (rows, rows), nodes.source), nodes)


def increment_and_branch(nodes: Nodes, branch: Branch, start: Ticks, end: Ticks) -> tuple[Values, Branch]:
    """The increment from `start` to `end` and the branch to `end`; if `branch` is not at `start`, it is moved there."""

    def move(carry: Any) -> Any:
        i, _, (ticks, pairs) = carry
        values, moved = _move(nodes, Branch(ticks, pairs, branch.source), jnp.where(i == 0, start, end))
        return i + 1, values, (moved.ticks, moved.pairs)

    # A loop of one or two rounds, so that both share one program and the first is skipped where it is not needed.
    first_round = jnp.where(any_element(branch.ticks != start), 0, 1)
    # The source is not part of the carry, so that JAX sees that the surrounding loop never changes it.
    initial = (first_round, nodes.empty.values, (branch.ticks, branch.pairs))
    initial = match_varying(initial, (nodes, branch, start, end))
    _, values, (ticks, pairs) = lax.while_loop(lambda s: s[0] < 2, move, initial)
    return values, Branch(ticks, pairs, branch.source)


def _move(nodes: Nodes, branch: Branch, ticks: Ticks) -> tuple[Values, Branch]:
    """The increment from the branch's time to `ticks`, for a tree of length one, and the branch to `ticks`."""
    bridge, grid = nodes.bridge, nodes.grid
    old, new = nodes.leaf_position(branch.ticks), nodes.leaf_position(ticks)
    common_level = grid.common_level(old.ticks, new.ticks)
    forwards = ticks >= branch.ticks
    earlier, later = jnp.where(forwards, old.ticks, new.ticks), jnp.where(forwards, new.ticks, old.ticks)

    def down(carry: Any) -> Any:
        level, node, gap, pairs = carry
        # The old row is read before it is overwritten, in the compiled program too; otherwise all rows would be copied.
        pair, old_pair = optimization_barrier((nodes.children(node, new.ticks, level), _row(pairs, level + 1)))
        right_sibling, left_sibling = select(forwards, old_pair[1], pair[1]), select(forwards, pair[0], old_pair[0])
        is_inner, length = nodes.is_inner(level), nodes.child_length(level)
        in_gap = is_inner & (level > common_level)
        gap = gap.extended_left(in_gap & ~turns_right(earlier, level), Segment(right_sibling, length), bridge)
        gap = gap.extended_right(in_gap & turns_right(later, level), Segment(left_sibling, length), bridge)
        node = select(is_inner, child(pair, new.ticks, level), node)
        return level + 1, node, gap, _with_row(pairs, level + 1, pair)

    last = grid.capacity + 1
    level = _lowest_of_batch(nodes, jnp.minimum(common_level + 1, grid.depth))
    pairs, pair, old_leaf = optimization_barrier((branch.pairs, _row(branch.pairs, level), _row(branch.pairs, last)))
    node = child(pair, new.ticks, level - 1)
    initial = match_varying((level, node, Gap(nodes.empty, nodes.empty), pairs), (nodes, branch, ticks))
    _, leaf, gap, pairs = lax.while_loop(lambda s: any_element(s[0] < grid.depth), down, initial)

    new_leaf = nodes.split_leaf(leaf, ticks)
    old_split = SplitLeaf(old, new_leaf.noise, old_leaf)
    lower, upper = select(forwards, old_split, new_leaf), select(forwards, new_leaf, old_split)
    values = nodes.between(lower, upper, gap, common_level)
    values = select(forwards, values, bridge.reversed(values))
    return values, Branch(ticks, _with_row(pairs, last, new_leaf.parts), branch.source)


def _lowest_of_batch(nodes: Nodes, level: IntScalar) -> IntScalar:
    """The lowest `level` of all batch elements, so that rows are written as slices.

    An element with a higher level draws nodes again that it has already; they come out the same.
    """
    levels = jnp.arange(nodes.grid.capacity, dtype=jnp.int32)
    return jnp.sum(~any_element(level <= levels), dtype=jnp.int32)


def _row[T](arrays: T, i: IntScalar) -> T:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), arrays)


def _with_row[T](arrays: T, i: IntScalar, row: T) -> T:
    return jax.tree.map(lambda x, new: lax.dynamic_update_index_in_dim(x, new, i, 0), arrays, row)
