"""A way down the tree that a stepping loop carries, so that each step draws only what the last one did not.

From one time to the next, the ways down share all nodes down to the smallest that holds both, and that node's children
too. With steps of length `h` in order, a step draws `1 + log2(h / tol)` nodes on average, and its leaf.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ..jaxkit import IntScalar, any_element, match_varying, optimization_barrier, select
from .bridges import Values
from .descent import Cut, Gap, Nodes, Pair, Piece, child
from .normals import NormalSource
from .ticks import Ticks, turns_right

# The ticks of a branch to no time.
NOWHERE = -1


class Branch(eqx.Module):
    """A way down the tree, to the leaf that holds a time: what the next one can share.

    Attributes
    ----------
    ticks
        The time.
    pairs
        Left nodes and right ones, a row each. Row 0: the root, twice. Row `k`: the children of the node at level
        `k - 1`. Last row: the parts of the leaf before and after the time.
    source
        Of the normals of all nodes: made once, for the whole loop.
    """

    ticks: Ticks
    pairs: Pair
    source: NormalSource


def first_branch(nodes: Nodes) -> Branch:
    """A branch to nowhere yet, which shares with others the root alone."""
    root = nodes.root()
    rows = tuple(jnp.zeros((nodes.grid.capacity + 2, x.size), x.dtype).at[0].set(x) for x in root)
    nowhere = jnp.asarray(NOWHERE, jnp.result_type(nodes.grid.ticks(nodes.grid.ends[0])[0]))
    return match_varying(Branch(nowhere, (rows, rows), nodes.source), nodes)


def travelled(nodes: Nodes, branch: Branch, start: Ticks, end: Ticks) -> tuple[Values, Branch]:
    """The increment from `start` to `end`, by a branch that goes to `start` first if it is not there."""

    def leg(carry: Any) -> Any:
        i, _, (ticks, pairs) = carry
        values, moved = _moved(nodes, Branch(ticks, pairs, branch.source), jnp.where(i == 0, start, end))
        return i + 1, values, (moved.ticks, moved.pairs)

    # A loop of one or two rounds: one program for both, and the first costs nothing where it is not needed.
    skip = jnp.where(any_element(branch.ticks != start), 0, 1)
    # The source stays outside, so that the loop around this one sees that it never changes.
    first = match_varying((skip, nodes.empty.values, (branch.ticks, branch.pairs)), (nodes, branch, start, end))
    _, values, (ticks, pairs) = lax.while_loop(lambda s: s[0] < 2, leg, first)
    return values, Branch(ticks, pairs, branch.source)


def _moved(nodes: Nodes, branch: Branch, ticks: Ticks) -> tuple[Values, Branch]:
    """The increment from the branch's time to `ticks`, for an interval of length one, and the branch to there."""
    bridge, grid = nodes.bridge, nodes.grid
    old, new = nodes.place(branch.ticks), nodes.place(ticks)
    parting = grid.parting(old.position, new.position)
    forwards = ticks >= branch.ticks
    earlier, later = jnp.where(forwards, old.position, new.position), jnp.where(forwards, new.position, old.position)

    def down(carry: Any) -> Any:
        level, node, gap, pairs = carry
        # Read before it is overwritten, in the program's order too, or all rows would be copied.
        pair, old_pair = optimization_barrier((nodes.children(node, new.position, level), _row(pairs, level + 1)))
        below, above = select(forwards, old_pair[1], pair[1]), select(forwards, pair[0], old_pair[0])
        live, length = nodes.is_inner(level), nodes.child_length(level)
        counts = live & (level > parting)
        gap = gap.grown_below(counts & ~turns_right(earlier, level), Piece(below, length), bridge)
        gap = gap.grown_above(counts & turns_right(later, level), Piece(above, length), bridge)
        node = select(live, child(pair, new.position, level), node)
        return level + 1, node, gap, _with_row(pairs, level + 1, pair)

    last = grid.capacity + 1
    level = _first_level(nodes, jnp.minimum(parting + 1, grid.depth))
    pairs, pair, old_leaf = optimization_barrier((branch.pairs, _row(branch.pairs, level), _row(branch.pairs, last)))
    node = child(pair, new.position, level - 1)
    first = match_varying((level, node, Gap(nodes.empty, nodes.empty), pairs), (nodes, branch, ticks))
    _, leaf, gap, pairs = lax.while_loop(lambda s: any_element(s[0] < grid.depth), down, first)

    new_cut = nodes.cut(leaf, ticks)
    old_cut = Cut(old, new_cut.noise, old_leaf)
    lower, upper = select(forwards, old_cut, new_cut), select(forwards, new_cut, old_cut)
    values = nodes.between(lower, upper, gap, parting)
    values = select(forwards, values, bridge.reversed(values))
    return values, Branch(ticks, _with_row(pairs, last, new_cut.pair), branch.source)


def _first_level(nodes: Nodes, level: IntScalar) -> IntScalar:
    """The least level of all lanes, so that rows are written as slices; nodes that a lane had come out the same."""
    levels = jnp.arange(nodes.grid.capacity, dtype=jnp.int32)
    return jnp.sum(~any_element(level <= levels), dtype=jnp.int32)


def _row[T](arrays: T, i: IntScalar) -> T:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), arrays)


def _with_row[T](arrays: T, i: IntScalar, row: T) -> T:
    return jax.tree.map(lambda x, new: lax.dynamic_update_index_in_dim(x, new, i, 0), arrays, row)
