"""The virtual Brownian tree: a Brownian path that is a function of its key and never stored.

The tree halves its interval `[t0, t1]` repeatedly until the parts, its leaves, are no longer than `tol`. Every node has
a number. The key and the number give the normals with which the values over the node are split between its two children
(`bridges`); the normals of a leaf split it at the time of the query. Two methods find the same values:

- `evaluate` descends from the root: `log2((t1 - t0) / tol)` draws for each end (`descent`).
- `initial_carry` and `increment_and_carry` carry the current branch through a stepping loop: `2 + log2(h / tol)` draws
  on average for steps of length `h` (`branch`).

References
----------
A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high order
SDE solvers*, arXiv:2405.06464.
"""

import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import AbstractChecked, BoolScalar, Condition, RealScalar, compiled, is_traced, known, operand
from .base import AbstractBrownianPath, Layout, check_no_complex_K, layout_of, query_time, shape_of, typed_key
from .branch import Branch, first_branch, increment_and_branch
from .bridges import Values
from .descent import Nodes, increment_from_root, value_from_root
from .increments import AbstractBrownianIncrement, BrownianIncrement
from .normals import NormalSource
from .ticks import Grid, depth_of


class VirtualBrownianTree(AbstractBrownianPath[Any], AbstractChecked):
    """A Brownian path on `[t0, t1]` whose values do not depend on which times are asked for, or in which order.

    At times that are at least `tol` apart the joint distribution is exact. Closer times may be asked for as well, and
    `W` stays additive, but between them the path is smoother than Brownian motion.

    Parameters
    ----------
    t0, t1
        Ends of the interval, `t0 < t1`.
    tol
        The distance of times above which their joint distribution is exact, in units of time; positive. For steps of
        length `h`, `h / 2` is enough. It may be as small as you like: halving it costs one more draw. The path depends
        on it only through the number of halvings of the interval, `ceil(log2((t1 - t0) / tol))`, at most 60 (28 without
        64-bit numbers).
    shape
        The shape of the path's value at one time: a tuple of integers, or a pytree of `jax.ShapeDtypeStruct`. Dtypes
        are real or complex floating point and may be mixed; `SpaceTimeTimeLevyArea` needs real ones.
    key
        The random key.
    levy_area
        The kind of increment that the path returns: `BrownianIncrement`, `SpaceTimeLevyArea` or
        `SpaceTimeTimeLevyArea`. They need one, two and three normals for each entry; the default is the cheapest. The
        sample path depends on it.

    Raises
    ------
    ValueError
        Unless `t0 < t1` and `tol > 0`, and `shape`, `key` and `levy_area` are as described above. If times or `tol` are
        known only at run time, and inside `jax.jit` and the like, the path is NaN instead.

    Differentiability
    -----------------
    Differentiating with respect to the times of a query raises a `RuntimeError`. `t0`, `t1` and `tol` are constants.

    Cost
    ----
    `evaluate`: one draw for each halving of the interval, two if both ends are given; no memory. A solve with steps of
    length `h` carries the current branch of the tree: `2 + log2(h / tol)` draws a step on average, and memory for one
    branch.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.VirtualBrownianTree(
    ...     0.0, 1.0, 1e-3, (2,), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea
    ... )
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
    # The number of halvings, or None if it is known only at run time, or if times or `tol` are wrong.
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
        self.known_depth = None if is_traced(t0, t1, tol) else depth_of(float(t0), float(t1), float(tol))

    def value_conditions(self) -> Iterator[Condition]:
        """`t0` is before `t1`, both are finite, and `tol` is positive."""
        if self.known_depth is not None:
            return  # only values that are right have one
        t0, t1, tol = self.t0, self.t1, self.tol
        as_float = lambda x: operand(x).astype(float)
        yield Condition(
            (t0, t1),
            lambda: (as_float(t0) < as_float(t1)) & (as_float(t1) - as_float(t0) < math.inf),
            "`t0` must be less than `t1`, both finite",
            lambda: f"; found t0 = {float(t0)}, t1 = {float(t1)}.",
        )
        yield Condition(
            tol,
            lambda: as_float(tol) > 0,
            "`tol` must be positive",
            lambda: f"; found {float(tol)}. Half the length of the shortest step is small enough.",
        )

    @property
    def shape(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the path's values."""
        return shape_of(self.layout)

    @property
    def resolution(self) -> float | None:
        """The length of a leaf, or `None` if it is known only at run time."""
        if self.known_depth is None or is_traced(self.t0, self.t1):
            return None
        return (float(self.t1) - float(self.t0)) / 2**self.known_depth

    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """The increment from `t0` to `t1`, or from the beginning of the tree to `t0` if `t1` is not given.

        Parameters
        ----------
        t0, t1
            Times, scalars, in any order: `evaluate(b, a)` is `evaluate(a, b)` with `dt`, `W` and `K` negated.
        left
            Ignored: the path is continuous.
        use_levy
            Whether to return an instance of `levy_area` instead of `W` alone.

        Returns
        -------
        PyTree or AbstractBrownianIncrement
            `W`, a pytree of arrays of `shape`; or an instance of `levy_area`.

        Raises
        ------
        ValueError
            If a time lies outside the tree's interval by more than rounding. If the time is known only at run time, and
            inside `jax.jit` and the like, the increment is NaN instead.
        """
        del left
        _grid(self).check_inside(t0, "t0")
        if t1 is not None:
            _grid(self).check_inside(t1, "t1")
        increment = _value(self, t0) if t1 is None else _increment(self, t0, t1)
        return increment if known(use_levy, "`use_levy`") else increment.W

    def initial_carry(self) -> Branch:
        """The carry before the first `increment_and_carry`: a branch that does not lead to a time yet."""
        return first_branch(_nodes(self))

    def increment_and_carry(
        self, carry: Branch, t0: RealScalar, t1: RealScalar, use_levy: bool = True
    ) -> tuple[PyTree[Any] | AbstractBrownianIncrement, Branch]:
        """`evaluate(t0, t1, use_levy=use_levy)`, computed from a carried branch, and the branch to `t1`.

        Parameters
        ----------
        carry
            Any branch of this tree. The closer its time is to `t0`, the fewer nodes are drawn. A branch to `t0` itself
            is used as it is, so after a rejected step the next attempt uses the same carry.
        t0, t1, use_levy
            See `evaluate`, except that times outside the interval give NaN.

        Returns
        -------
        increment, carry
            The increment as `evaluate` returns it, and the branch to `t1`.
        """
        t0, t1 = query_time(t0, "t0"), query_time(t1, "t1")
        (start, inside0), (end, inside1) = _grid(self).ticks(t0), _grid(self).ticks(t1)
        values, branch = increment_and_branch(_nodes(self, carry.source), carry, start, end)
        increment = _on_interval(self, values, t1 - t0, inside0 & inside1)
        return (increment if known(use_levy, "`use_levy`") else increment.W), branch


def _grid(tree: VirtualBrownianTree) -> Grid:
    return Grid(tree.t0, tree.t1, tree.tol, tree.known_depth)


def _nodes(tree: VirtualBrownianTree, source: NormalSource | None = None) -> Nodes:
    """The nodes of `tree`; their normals come from `source`, which is created if it is not given."""
    layout = tree.layout
    return Nodes(_grid(tree), layout, source or NormalSource(tree.key, layout.size, layout.dtype))


@compiled
def _value(tree: VirtualBrownianTree, t: RealScalar) -> AbstractBrownianIncrement:
    t = query_time(t, "t0")
    ticks, inside = _grid(tree).ticks(t)
    values = value_from_root(_nodes(tree), ticks)
    return _on_interval(tree, values, t - _grid(tree).ends[0], inside)


@compiled
def _increment(tree: VirtualBrownianTree, t0: RealScalar, t1: RealScalar) -> AbstractBrownianIncrement:
    t0, t1 = query_time(t0, "t0"), query_time(t1, "t1")
    (start, inside0), (end, inside1) = _grid(tree).ticks(t0), _grid(tree).ticks(t1)
    values = increment_from_root(_nodes(tree), start, end)
    return _on_interval(tree, values, t1 - t0, inside0 & inside1)


def _on_interval(
    tree: VirtualBrownianTree, values: Values, dt: jax.Array, inside: BoolScalar
) -> AbstractBrownianIncrement:
    """The increment with `values` for a tree of length one, scaled to the length of this tree; NaN outside it."""
    t0, t1 = _grid(tree).ends
    valid = inside & (jnp.asarray(tree.tol) > 0)
    root_length = jnp.sqrt(jnp.where(valid, t1 - t0, jnp.nan)).astype(tree.layout.dtype)
    return tree.layout.increment(tuple(root_length * row for row in values), dt)
