"""The virtual Brownian tree: a Brownian path that is a function of its key alone.

The tree halves its interval `[t0, t1]` until pieces, its leaves, are no longer than `tol`. Every node has a key of its
own, made from its parent's, and from it the normals that split what is known over the node (`bridges`) over its two
children; in a leaf the normals split it at the time asked. Nothing is stored: an increment over `[a, b]` is put
together from the largest nodes that fit, found on the way down from the root to `a` and to `b`. It is a sum of adjacent
pieces, never a difference of sums, so short intervals far from `t0` keep their digits, in `H` and `K` too.

One descent has two drivers:

- `evaluate` starts from the root: `log2((t1 - t0) / tol)` draws for each end.
- `initial_carry` and `move` carry the current branch, as a stepping loop does. Going from `a` to `b` leaves alone what the two
  branches share, so it draws `1 + log2(h / tol)` nodes on average for steps of length `h`. Same values.

Inside, time is a whole number of ticks: comparisons and lengths are exact, and every program that asks for the same
time, compiled however, finds the same leaf and the same place in it.

References
----------
A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high order
SDE solvers*, arXiv:2405.06464.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ..jaxkit import BoolScalar, IntScalar, RealScalar, any_lane, compiled, is_traced, match_varying, select
from .base import AbstractBrownianPath, Layout, check_no_complex_K, layout_of, query_time, shape_of, typed_key
from .bridges import AbstractBridge, Values
from .increments import AbstractBrownianIncrement, BrownianIncrement

type Ticks = Int[Array, ""]

# What a node's key is folded with. Its own normals use the counters 0, 1, ..., far below these.
LEFT, RIGHT = np.uint32(0xFFFFFFFE), np.uint32(0xFFFFFFFF)


class Branch(eqx.Module):
    """A way down the tree, to the leaf that holds a time: what the next one can share.

    Attributes
    ----------
    ticks
        The time.
    pairs
        Left nodes and right ones, a row each. Row 0: the root, twice. Row `k`: the children of the node at level
        `k - 1`. Last row: the parts of the leaf before and after the time.
    keys
        The key of the node at each level.
    """

    ticks: Ticks
    pairs: tuple[Values, Values]
    keys: Key[Array, " levels"]


class VirtualBrownianTree(AbstractBrownianPath):
    """A Brownian path on `[t0, t1]`: the same at every time, whatever is asked and in whatever order.

    At any set of times at least `tol` apart the joint distribution is exact. Nearer ones are answered as well, and
    `W` stays additive, but within a leaf the path is smoother than Brownian motion.

    Parameters
    ----------
    t0, t1
        Ends of the interval, `t0 < t1`.
    tol
        How near the times asked may come, in units of time; positive. For steps of length `h`, `h / 2` is enough. It
        may be as small as you like: each halving costs one more draw. The path depends on it only through the number
        of halvings, `ceil(log2((t1 - t0) / tol))`, at most 60 (28 without 64-bit numbers).
    shape
        A tuple of integers, or a pytree of `jax.ShapeDtypeStruct`, for the value at one time. Dtypes are real or
        complex floating point, mixed as you like; not complex with `SpaceTimeTimeLevyArea`.
    key
        The random key.
    levy_area
        `BrownianIncrement`, `SpaceTimeLevyArea` or `SpaceTimeTimeLevyArea`: what the path can be asked for. The sample
        depends on it.

    Raises
    ------
    ValueError
        If `t0 < t1`, `tol > 0`, a shape, a key or `levy_area` is not as said above. Times known only at run time give
        NaN instead.

    Differentiability
    -----------------
    With respect to the times asked: none, a `RuntimeError`. `t0`, `t1` and `tol` are constants.

    Cost
    ----
    Of `evaluate`: one draw for each halving, two with both ends given; no memory. Of `move`: see the module.

    Examples
    --------
    >>> import jax
    >>> from rungax.brownian import SpaceTimeLevyArea, VirtualBrownianTree
    >>> path = VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(0), levy_area=SpaceTimeLevyArea)
    >>> path.evaluate(0.3, 0.7).shape
    (2,)
    >>> increment = path.evaluate(0.3, 0.7, use_levy=True)
    >>> bool(abs(increment.W - (path.evaluate(0.7) - path.evaluate(0.3))).max() < 1e-6)
    True

    References
    ----------
    A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high
    order SDE solvers*, arXiv:2405.06464.
    """

    t0: RealScalar
    t1: RealScalar
    tol: RealScalar
    key: jax.Array
    levy_area: type[AbstractBrownianIncrement] = eqx.field(static=True)
    layout: Layout
    # How often the interval is halved; None if that is known only at run time.
    known_depth: int | None = eqx.field(static=True)

    def __init__(
        self,
        t0: RealScalar,
        t1: RealScalar,
        tol: RealScalar,
        shape: tuple[int, ...] | PyTree[jax.ShapeDtypeStruct],
        key: jax.Array,
        levy_area: type[AbstractBrownianIncrement] = BrownianIncrement,
    ):
        self.layout = layout_of(shape, levy_area)
        check_no_complex_K(self.layout)
        self.t0, self.t1, self.tol, self.levy_area = t0, t1, tol, levy_area
        self.key = typed_key(key)
        self.known_depth = None if is_traced(t0, t1, tol) else _checked_depth(float(t0), float(t1), float(tol))

    @property
    def shape(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the path's values."""
        return shape_of(self.layout)

    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """The increment from `t0` to `t1`; with `t0` alone, that from the beginning of the tree to `t0`.

        Parameters
        ----------
        t0, t1
            Times, scalars; in either order: `evaluate(b, a)` is `evaluate(a, b)` with `dt`, `W` and `K` negated.
        left
            Ignored: the path is continuous.
        use_levy
            Whether to return all of `levy_area` instead of `W` alone.

        Raises
        ------
        ValueError
            If a time lies outside the tree's interval by more than rounding. Found only at run time: NaN.
        """
        del left
        _check_inside(self, t0, "t0")
        if t1 is None:
            return _value(self, t0, use_levy)
        _check_inside(self, t1, "t1")
        return _increment(self, t0, t1, use_levy)

    def initial_carry(self) -> Branch:
        """The branch to the tree's `t0`, where a loop begins."""
        return _first_branch(self)

    def move(
        self, carry: Branch, t0: RealScalar, t1: RealScalar, use_levy: bool = True
    ) -> tuple[PyTree[Any] | AbstractBrownianIncrement, Branch]:
        """`evaluate(t0, t1, use_levy=use_levy)`, by way of a branch; and the branch to `t1`.

        Parameters
        ----------
        carry
            Any branch of this tree. The nearer it is to `t0` the less is drawn; on it, the way there costs nothing, so
            a rejected step is simply asked for again with another end.
        t0, t1, use_levy
            As in `evaluate`, except that times outside the interval give NaN.
        """
        t0, t1 = query_time(t0, "t0"), query_time(t1, "t1")
        (start, inside0), (end, inside1) = _ticks_of(self, t0), _ticks_of(self, t1)
        values, branch = _travelled(self, carry, start, end)
        return _finished(self, values, t1 - t0, inside0 & inside1, use_levy), branch


# ---------------------------------------------------------------------------------------------------------------- ticks


def tick_bits() -> int:
    """The tree's interval has 2 to this power of ticks: finer than rounding in times, and an integer holds them all."""
    return 62 if jnp.result_type(float) == jnp.float64 else 30


def _ends(tree: VirtualBrownianTree) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(float)
    t0, t1 = (lax.stop_gradient(jnp.asarray(t).astype(dtype)) for t in (tree.t0, tree.t1))
    return t0, jnp.where(t0 < t1, t1, jnp.nan)


def _depth(tree: VirtualBrownianTree) -> IntScalar:
    """How often the interval is halved."""
    if tree.known_depth is not None:
        return tree.known_depth
    t0, t1 = _ends(tree)
    tol = lax.stop_gradient(jnp.asarray(tree.tol).astype(t0.dtype))
    too_long = t1 - t0 > tol * jnp.asarray(2.0 ** np.arange(_capacity(tree)), t0.dtype)
    return jnp.sum(too_long, dtype=jnp.int32)


def _capacity(tree: VirtualBrownianTree) -> int:
    """The largest depth a branch must have room for."""
    return tree.known_depth if tree.known_depth is not None else tick_bits() - 8


def _checked_depth(t0: float, t1: float, tol: float) -> int:
    if not (t0 < t1 and math.isfinite(t1 - t0)):
        raise ValueError(f"`t0` must be less than `t1`, both finite; found t0 = {t0}, t1 = {t1}.")
    if not tol > 0:
        raise ValueError(f"`tol` must be positive; found {tol}. Half the length of the shortest step is small enough.")
    depth = 0
    while depth < tick_bits() - 2 and t1 - t0 > tol * 2.0**depth:
        depth += 1
    return depth


def _check_inside(tree: VirtualBrownianTree, t: RealScalar, name: str) -> None:
    if is_traced(t, tree.t0, tree.t1) or jnp.ndim(t) != 0:
        return
    dtype = np.dtype(jnp.result_type(float))
    t0, t1, time = (float(np.asarray(x, dtype)) for x in (tree.t0, tree.t1, t))
    slack = _slack() * (t1 - t0) + 4 * float(np.finfo(dtype).eps) * max(abs(t0), abs(t1))
    if not t0 - slack <= time <= t1 + slack:
        raise ValueError(f"`{name}` must lie in the tree's interval [{t0}, {t1}]; found {time}.")


def _slack() -> float:
    """Rounding in a time, relative to the tree's interval."""
    return 8 * float(jnp.finfo(jnp.result_type(float)).eps)


def _ticks_of(tree: VirtualBrownianTree, t: jax.Array) -> tuple[Ticks, BoolScalar]:
    """A time in ticks, and whether it is inside the interval; outside, the nearer end, or the beginning for NaN."""
    t0, t1 = _ends(tree)
    bits = tick_bits()
    length = t1 - t0
    x = (t - t0) / length
    slack = _slack() + 4 * float(jnp.finfo(t.dtype).eps) * jnp.maximum(jnp.abs(t0), jnp.abs(t1)) / length
    inside = (x >= -slack) & (x <= 1 + slack)
    x = jnp.where(inside, jnp.clip(x, 0.0, 1.0), 0.0)
    # No addition follows the division, so no compiler can fuse the two and round otherwise in another program.
    ticks = jnp.round(x * 2.0**bits).astype(jnp.int64 if bits == 62 else jnp.int32)
    return _on_boundary(tree, ticks), inside


def _on_boundary(tree: VirtualBrownianTree, ticks: Ticks) -> Ticks:
    """`ticks`, but the boundary of leaves from which rounding may have moved it.

    A path that is only Hölder continuous turns a distance of 1e-16 there into 1e-8.
    """
    shift = jnp.asarray(tick_bits() - _depth(tree), ticks.dtype)
    rounding = tick_bits() - jnp.finfo(jnp.result_type(float)).nmant + 1
    reach = jnp.left_shift(jnp.ones_like(ticks), jnp.minimum(rounding, jnp.maximum(shift - 6, 0)))
    half = jnp.left_shift(jnp.ones_like(ticks), jnp.maximum(shift - 1, 0))
    nearest = jnp.left_shift(jnp.right_shift(ticks + half, shift), shift)
    return jnp.where(jnp.abs(ticks - nearest) < reach, nearest, ticks)


class _Place(NamedTuple):
    """Where a time is: its leaf, and how far it is in it."""

    leaf: Ticks
    before: Float[Array, ""]
    after: Float[Array, ""]


def _place(tree: VirtualBrownianTree, ticks: Ticks) -> _Place:
    """The leaf, and the fractions of it before and after the time; the tree's end belongs to the last leaf."""
    depth = jnp.asarray(_depth(tree), ticks.dtype)
    shift = tick_bits() - depth
    leaf = jnp.minimum(jnp.right_shift(ticks, shift), jnp.left_shift(jnp.ones_like(ticks), depth) - 1)
    before = ticks - jnp.left_shift(leaf, shift)
    width = jnp.left_shift(jnp.ones_like(ticks), shift)
    dtype = tree.layout.dtype
    scale = 1 / width.astype(dtype)
    return _Place(leaf, before.astype(dtype) * scale, (width - before).astype(dtype) * scale)


def _parting(tree: VirtualBrownianTree, a: Ticks, b: Ticks) -> Int[Array, ""]:
    """The level of the smallest node that holds both leaves; the depth if they are the same one."""
    bits = jnp.iinfo(a.dtype).bits
    different = bits - lax.clz(jnp.bitwise_xor(a, b))
    return jnp.asarray(_depth(tree), jnp.int32) - different.astype(jnp.int32)


def _turns_right(tree: VirtualBrownianTree, leaf: Ticks, level: jax.Array) -> Bool[Array, ""]:
    """Whether the way to `leaf` takes the right child of its node at `level`."""
    shift = jnp.maximum(_depth(tree) - 1 - level, 0).astype(leaf.dtype)
    return jnp.bitwise_and(jnp.right_shift(leaf, shift), 1) == 1


# -------------------------------------------------------------------------------------------------------------- descent


def _root(tree: VirtualBrownianTree) -> tuple[jax.Array, Values]:
    """The key of the root, and what is known over it, for an interval of length one."""
    values = tree.layout.bridge.fresh(tree.layout.noise(tree.key), 1.0)
    return jr.fold_in(tree.key, RIGHT), values


def _root_width(tree: VirtualBrownianTree, level: IntScalar) -> jax.Array:
    """The square root of the length of a node; from a table, the same in every program."""
    table = jnp.asarray(np.exp2(-0.5 * np.arange(_capacity(tree) + 1)), tree.layout.dtype)
    return table[level]


def _child(turns_right: BoolScalar, key: jax.Array, pair: tuple[Values, Values]) -> tuple[jax.Array, Values]:
    key = jr.fold_in(key, jnp.where(turns_right, RIGHT, LEFT))
    return key, select(turns_right, pair[1], pair[0])


class _Piece(NamedTuple):
    """What is known over an interval of some length, as a part of the tree's."""

    values: Values
    length: Float[Array, ""]

    def join(self, right: "_Piece", bridge: AbstractBridge) -> "_Piece":
        return _Piece(bridge.join(self.values, right.values, self.length, right.length), self.length + right.length)


def _nothing(tree: VirtualBrownianTree) -> _Piece:
    layout = tree.layout
    zero = jnp.zeros(layout.space.size, layout.dtype)
    return _Piece((zero,) * len(layout.bridge.deviations), jnp.zeros((), layout.dtype))


class _Gap(NamedTuple):
    """The nodes between two ways down, as far as the descent has come.

    `below` reaches from the earlier way's node to where the two parted, `above` from there to the later way's node.
    """

    below: _Piece
    above: _Piece

    def grown_below(self, counts: BoolScalar, node: _Piece, bridge: AbstractBridge) -> "_Gap":
        """With `node`, the right sibling of the earlier way's next node, if it counts."""
        return self._replace(below=select(counts, node.join(self.below, bridge), self.below))

    def grown_above(self, counts: BoolScalar, node: _Piece, bridge: AbstractBridge) -> "_Gap":
        """With `node`, the left sibling of the later way's next node, if it counts."""
        return self._replace(above=select(counts, self.above.join(node, bridge), self.above))


def _shut(tree: VirtualBrownianTree, gap: _Gap, lower: "_Cut", upper: "_Cut") -> Values:
    """The increment between two times: the gap with the parts of the leaves at its ends."""
    bridge = tree.layout.bridge
    start, end = lower.pieces(tree)[1], upper.pieces(tree)[0]
    apart = start.join(gap.below, bridge).join(gap.above.join(end, bridge), bridge).values
    return select(lower.place.leaf == upper.place.leaf, _within_leaf(tree, lower, upper), apart)


class _Cut(NamedTuple):
    """The leaf that holds a time, and its parts before and after the time."""

    place: _Place
    noise: Values
    pair: tuple[Values, Values]

    def pieces(self, tree: VirtualBrownianTree) -> tuple[_Piece, _Piece]:
        """The parts with their lengths."""
        width = _root_width(tree, _depth(tree)) ** 2
        return _Piece(self.pair[0], width * self.place.before), _Piece(self.pair[1], width * self.place.after)


def _cut(tree: VirtualBrownianTree, ticks: Ticks, key: jax.Array, node: Values) -> _Cut:
    place = _place(tree, ticks)
    noise = tree.layout.noise(key)
    pair = tree.layout.bridge.split(node, noise, _root_width(tree, _depth(tree)), place.before, place.after)
    return _Cut(place, noise, pair)


def _within_leaf(tree: VirtualBrownianTree, lower: _Cut, upper: _Cut) -> Values:
    """The increment between two times in one leaf, exact if one of them is an end of it.

    Otherwise `W` is additive, and the areas have the right variance but nothing to do with the path: those that follow
    from it would grow without bound as the interval shrinks, for inside a leaf only single times are exact.
    """
    bridge = tree.layout.bridge
    root_h = _root_width(tree, _depth(tree)) * jnp.sqrt(jnp.maximum(upper.place.before - lower.place.before, 0.0))
    inside = (upper.pair[0][0] - lower.pair[0][0], *bridge.fresh(upper.noise, root_h)[1:])
    to_end = select(upper.place.after == 0, lower.pair[1], inside)
    return select(lower.place.before == 0, upper.pair[0], to_end)


# ------------------------------------------------------------------------------------------------------- from the root


def _ways_down(tree: VirtualBrownianTree, ticks: Sequence[Ticks], parting: IntScalar) -> tuple[_Gap, list[_Cut]]:
    """All ways from the root to `ticks`: one time, the later, or two, the earlier first.

    Returns the gap between them, from level `parting` on, and the leaf at the end of each.
    """
    bridge, depth = tree.layout.bridge, _depth(tree)
    leaves = [_place(tree, q).leaf for q in ticks]

    def down(carry: Any) -> Any:
        level, ways, gap = carry
        root_h = _root_width(tree, level)
        pairs = [bridge.halves(node, tree.layout.noise(key), root_h) for key, node in ways]
        right = [_turns_right(tree, leaf, level) for leaf in leaves]
        length = 0.5 * root_h**2
        # In a vmap over trees of different depth, this one may have come to its end.
        live = True if tree.known_depth is not None else level < depth
        counts = live & (level > parting)
        if len(ticks) == 2:
            gap = gap.grown_below(counts & ~right[0], _Piece(pairs[0][1], length), bridge)
        gap = gap.grown_above(counts & right[-1], _Piece(pairs[-1][0], length), bridge)
        moved = [_child(turn, key, pair) for turn, (key, _), pair in zip(right, ways, pairs, strict=True)]
        return level + 1, select(live, moved, ways), gap

    first = (jnp.zeros((), jnp.int32), [_root(tree)] * len(ticks), _Gap(_nothing(tree), _nothing(tree)))
    first = match_varying(first, (tree, ticks))
    _, ways, gap = lax.while_loop(lambda s: any_lane(s[0] < depth), down, first)
    return gap, [_cut(tree, q, key, node) for q, (key, node) in zip(ticks, ways, strict=True)]


@compiled
def _value(tree: VirtualBrownianTree, t: RealScalar, use_levy: bool) -> PyTree[Any] | AbstractBrownianIncrement:
    t = query_time(t, "t0")
    ticks, inside = _ticks_of(tree, t)
    gap, (cut,) = _ways_down(tree, [ticks], -1)
    values = gap.above.join(cut.pieces(tree)[0], tree.layout.bridge).values
    return _finished(tree, values, t - _ends(tree)[0], inside, use_levy)


@compiled
def _increment(
    tree: VirtualBrownianTree, t0: RealScalar, t1: RealScalar, use_levy: bool
) -> PyTree[Any] | AbstractBrownianIncrement:
    t0, t1 = query_time(t0, "t0"), query_time(t1, "t1")
    (start, inside0), (end, inside1) = _ticks_of(tree, t0), _ticks_of(tree, t1)
    ticks = jnp.minimum(start, end), jnp.maximum(start, end)
    parting = _parting(tree, _place(tree, ticks[0]).leaf, _place(tree, ticks[1]).leaf)
    gap, (lower, upper) = _ways_down(tree, ticks, parting)
    values = _shut(tree, gap, lower, upper)
    values = select(end < start, tree.layout.bridge.reversed(values), values)
    return _finished(tree, values, t1 - t0, inside0 & inside1, use_levy)


def _finished(
    tree: VirtualBrownianTree, values: Values, dt: jax.Array, inside: BoolScalar, use_levy: bool
) -> PyTree[Any] | AbstractBrownianIncrement:
    """`values` on an interval of length one, on the tree's; NaN if it was asked outside."""
    t0, t1 = _ends(tree)
    valid = inside & (jnp.asarray(tree.tol) > 0)
    root_length = jnp.sqrt(jnp.where(valid, t1 - t0, jnp.nan)).astype(tree.layout.dtype)
    return tree.layout.increment(tuple(root_length * row for row in values), dt, use_levy)


# ---------------------------------------------------------------------------------------------------- carrying a branch


def _first_branch(tree: VirtualBrownianTree) -> Branch:
    """The branch to the beginning of the tree."""
    capacity = _capacity(tree)
    key, root = _root(tree)
    # As if it were at the other end, with which the way to the beginning shares the root only.
    end = jnp.asarray(2 ** tick_bits(), jnp.int64 if tick_bits() == 62 else jnp.int32)
    rows = tuple(jnp.zeros((capacity + 2, x.size), x.dtype).at[0].set(x) for x in root)
    branch = match_varying(Branch(end, (rows, rows), jnp.broadcast_to(key, (capacity + 1,))), tree)
    return _moved(tree, branch, match_varying(jnp.zeros_like(end), tree))[1]


def _moved(tree: VirtualBrownianTree, branch: Branch, ticks: Ticks) -> tuple[Values, Branch]:
    """The increment from the branch's time to `ticks`, for an interval of length one, and the branch to there."""
    bridge, depth = tree.layout.bridge, _depth(tree)
    old, new = _place(tree, branch.ticks), _place(tree, ticks)
    parting = _parting(tree, old.leaf, new.leaf)
    forwards = ticks >= branch.ticks
    earlier, later = jnp.where(forwards, old.leaf, new.leaf), jnp.where(forwards, new.leaf, old.leaf)

    def down(carry: Any) -> Any:
        level, key, node, gap, pairs, keys = carry
        root_h = _root_width(tree, level)
        pair = bridge.halves(node, tree.layout.noise(key), root_h)
        old_pair = _row(pairs, level + 1)
        below, above = select(forwards, old_pair[1], pair[1]), select(forwards, pair[0], old_pair[0])
        length = 0.5 * root_h**2
        live = True if tree.known_depth is not None else level < depth
        counts = live & (level > parting)
        gap = gap.grown_below(counts & ~_turns_right(tree, earlier, level), _Piece(below, length), bridge)
        gap = gap.grown_above(counts & _turns_right(tree, later, level), _Piece(above, length), bridge)
        key, node = select(live, _child(_turns_right(tree, new.leaf, level), key, pair), (key, node))
        return level + 1, key, node, gap, _with_row(pairs, level + 1, pair), _with_row(keys, level + 1, key)

    # One level for all lanes, so that rows are written as slices. Nodes that a lane had already come out the same.
    levels = jnp.arange(_capacity(tree), dtype=jnp.int32)
    level = jnp.sum(~any_lane(parting <= levels), dtype=jnp.int32)
    pair = _row(branch.pairs, level)
    node = select(_turns_right(tree, new.leaf, level - 1), pair[1], pair[0])
    key = _row(branch.keys, level)
    first = (level, key, node, _Gap(_nothing(tree), _nothing(tree)), branch.pairs, branch.keys)
    first = match_varying(first, (tree, branch, ticks))
    _, key, node, gap, pairs, keys = lax.while_loop(lambda s: any_lane(s[0] < depth), down, first)

    new_cut = _cut(tree, ticks, key, node)
    last = _capacity(tree) + 1
    old_cut = _Cut(old, new_cut.noise, _row(branch.pairs, last))
    values = _shut(tree, gap, select(forwards, old_cut, new_cut), select(forwards, new_cut, old_cut))
    values = select(forwards, values, bridge.reversed(values))
    return values, Branch(ticks, _with_row(pairs, last, new_cut.pair), keys)


def _row[T](arrays: T, i: IntScalar) -> T:
    return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), arrays)


def _with_row[T](arrays: T, i: IntScalar, row: T) -> T:
    return jax.tree.map(lambda x, new: lax.dynamic_update_index_in_dim(x, new, i, 0), arrays, row)


def _travelled(tree: VirtualBrownianTree, branch: Branch, start: Ticks, end: Ticks) -> tuple[Values, Branch]:
    """The increment from `start` to `end`; the branch goes to `start` first if it is not there."""

    def leg(carry: Any) -> Any:
        i, _, branch = carry
        return i + 1, *_moved(tree, branch, jnp.where(i == 0, start, end))

    # A loop of one or two rounds: one program for both, and the first costs nothing where it is not needed.
    skip = jnp.where(any_lane(branch.ticks != start), 0, 1)
    first = match_varying((skip, _nothing(tree).values, branch), (tree, branch, start, end))
    _, values, branch = lax.while_loop(lambda s: s[0] < 2, leg, first)
    return values, branch
