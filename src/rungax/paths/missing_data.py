"""Knots and coefficients of interpolations from a series of observations, of which some are missing.

NaN stands for a missing value. Of the entries observed at one time, some may be missing and others not.

References
----------
P. Kidger, J. Morrill, J. Foster, T. Lyons, *Neural controlled differential equations for irregular time series*,
NeurIPS 2020, arXiv:2005.08926.
J. Morrill, P. Kidger, L. Yang, T. Lyons, *On the choice of interpolation scheme for neural CDEs*, TMLR 2022
(arXiv:2106.11028), which compares the schemes in this file.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..jaxkit import Condition, in_wrapper, known, layout, require
from .global_interpolation import are_in_order, knot_times, knot_values, nan_unless


@in_wrapper
def linear_interpolation(
    ts: Any,
    ys: PyTree[Any],
    *,
    fill_forward_nans_at_end: bool = False,
    replace_nans_at_start: PyTree[Any] | None = None,
) -> PyTree[Any]:
    """Fill missing values by linear interpolation between the observations before and after.

    The result is meant for `LinearInterpolation(ts, ...)`.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, strictly increasing.
    ys
        Values at these times, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    fill_forward_nans_at_end
        Whether to repeat the last observation after it; by default NaN stays there.
    replace_nans_at_start
        Replacements for values that are missing at the first time: a pytree like `ys` without the time axis, or one
        number for all. By default NaN stays there, up to the first observation.

    Returns
    -------
    PyTree
        `ys` with missing values filled.

    Raises
    ------
    ValueError
        If a shape is not as described, or the times are not strictly increasing; if times are known only at run time,
        and inside `jax.jit` and the like, all values are NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations and `replace_nans_at_start`. The derivative with respect to a
    missing value is zero.

    Cost
    ----
    O(log n) passes over `ys`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts, ys = jnp.array([0.0, 1.0, 3.0, 4.0]), jnp.array([0.0, jnp.nan, 6.0, jnp.nan])
    >>> print(rungax.linear_interpolation(ts, ys))
    [ 0.  2.  6. nan]
    >>> print(rungax.linear_interpolation(ts, ys, fill_forward_nans_at_end=True))
    [0. 2. 6. 6.]
    """
    ts, ys = _series(ts, ys, least=1)
    ys = _replace_start(ys, replace_nans_at_start)
    if known(fill_forward_nans_at_end, "`fill_forward_nans_at_end`"):
        ys = jax.tree.map(_fill_end, ys)
    return nan_unless(_increasing(ts), jax.tree.map(lambda y: _fill_linearly(ts, y), ys))


@in_wrapper
def rectilinear_interpolation(
    ts: Any, ys: PyTree[Any], replace_nans_at_start: PyTree[Any] | None = None
) -> tuple[Float[Array, " points"], PyTree[Any]]:
    r"""The corners of the path that moves first in time and then in the values, for `LinearInterpolation`.

    $$(t_0, y_0) \to (t_1, y_0) \to (t_1, y_1) \to (t_2, y_1) \to \dots \to (t_{n-1}, y_{n-1})$$

    A missing value is replaced by the last observation. No point of this path depends on later observations, so a model
    driven by it can predict while data arrive. To do so, make time one of the values and parametrise the path by
    something else, such as the index of the corner, as in the example.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, strictly increasing.
    ys
        Values at these times, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    replace_nans_at_start
        Replacements for values that are missing before the first observation: a pytree like `ys` without the time
        axis, or one number for all. By default NaN stays there.

    Returns
    -------
    ts
        Times of the corners, shape `(2 n - 1,)`.
    ys
        Values at the corners, like `ys` but of shape `(2 n - 1, ...)`.

    Raises
    ------
    ValueError
        If a shape is not as described, or the times are not strictly increasing; if times are known only at run time,
        and inside `jax.jit` and the like, all values are NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations and `replace_nans_at_start`. The derivative with respect to a
    missing value is zero.

    Cost
    ----
    O(log n) passes over `ys`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts, ys = jnp.array([0.0, 1.0, 3.0]), jnp.array([5.0, jnp.nan, 6.0])
    >>> ts, ys = rungax.rectilinear_interpolation(ts, ys)
    >>> print(ts, ys)
    [0. 1. 1. 3. 3.] [5. 5. 5. 5. 6.]
    >>> path = rungax.LinearInterpolation(jnp.arange(5.0), (ts, ys))
    >>> [float(x) for x in path.evaluate(2.5)]
    [2.0, 5.0]
    """
    ts, ys = _series(ts, ys, least=1)
    ys = jax.tree.map(_fill_end, _replace_start(ys, replace_nans_at_start))
    ys = nan_unless(_increasing(ts), jax.tree.map(_fill_forward, ys))
    return jnp.repeat(ts, 2)[1:], jax.tree.map(lambda y: jnp.repeat(y, 2, axis=0)[:-1], ys)


@in_wrapper
def backward_hermite_coefficients(
    ts: Any,
    ys: PyTree[Any],
    *,
    deriv0: PyTree[Any] | None = None,
    replace_nans_at_start: PyTree[Any] | None = None,
    fill_forward_nans_at_end: bool = False,
) -> tuple[PyTree[Any], PyTree[Any], PyTree[Any], PyTree[Any]]:
    r"""Coefficients of cubics through the observations, with slopes from the past only, for `CubicInterpolation`.

    With $h = t_{i+1} - t_i$, $m = (y_{i+1} - y_i)/h$, and $k$ the value of $m$ on the interval before:

    $$x(t_i + s) = y_i + k s + 2 (m - k) \frac{s^2}{h} - (m - k) \frac{s^3}{h^2}$$

    The derivative is continuous: $k$ at the beginning and $m$ at the end of the interval. On an interval the path
    depends on the observations at its ends and on the one before, but on none that come later.

    Where an entry is missing, it has no knot: its cubic extends to the next observation.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, at least two and strictly increasing.
    ys
        Values at these times, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    deriv0
        The derivative at the first time: a pytree like `ys` without the time axis, or one number for all. By default,
        and for entries that begin with a missing value, the path is a straight line on the first interval.
    replace_nans_at_start
        Replacements for values that are missing at the first time: a pytree like `ys` without the time axis, or one
        number for all. By default the path is NaN up to the first observation.
    fill_forward_nans_at_end
        Whether to repeat the last observation at every later time; by default the path is NaN after it.

    Returns
    -------
    d, c, b, a
        Coefficients of the powers 3, 2, 1 and 0 of `t - ts[i]` on each interval: four pytrees like `ys`, but with
        arrays of shape `(n - 1, ...)`.

    Raises
    ------
    ValueError
        If a shape is not as described, or the times are not strictly increasing; if times are known only at run time,
        and inside `jax.jit` and the like, all coefficients are NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations, `deriv0` and `replace_nans_at_start`. The derivative with respect to a
    missing value is zero.

    Cost
    ----
    O(log n) passes over `ys`.

    References
    ----------
    J. Morrill, P. Kidger, L. Yang, T. Lyons, *On the choice of interpolation scheme for neural CDEs*, TMLR 2022
    (arXiv:2106.11028): Hermite cubic splines with backward differences.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts, ys = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 0.0])
    >>> for coefficient in rungax.backward_hermite_coefficients(ts, ys):
    ...     print(coefficient)
    [0. 2.]
    [ 0. -4.]
    [1. 1.]
    [0. 1.]
    """
    ts, ys = _series(ts, ys, least=2)
    ys = _replace_start(ys, replace_nans_at_start)
    if known(fill_forward_nans_at_end, "`fill_forward_nans_at_end`"):
        ys = jax.tree.map(_fill_end, ys)
    leaves, structure = jax.tree.flatten(ys)
    slopes = [None] * len(leaves) if deriv0 is None else jax.tree.leaves(_at_start("deriv0", deriv0, ys))
    rows = [_hermite(ts, y, slope) for y, slope in zip(leaves, slopes, strict=True)]
    d, c, b, a = (jax.tree.unflatten(structure, [row[i] for row in rows]) for i in range(4))
    return nan_unless(_increasing(ts), (d, c, b, a))


# ---------------------------------------------------------------------------------------- leaf by leaf, time axis first


class _Observed(NamedTuple):
    """Positions of the observations along the first axis, all arrays of shape `(n, ...)`.

    `at` is true where a value is observed. `last` is the index of the latest observation up to each time, -1 if there
    is none; `following` is the index of the earliest from each time on, n if there is none.
    """

    at: Bool[Array, "times ..."]
    last: Int[Array, "times ..."]
    following: Int[Array, "times ..."]


def _observed(y: Array) -> _Observed:
    n = len(y)
    at = ~jnp.isnan(y)
    index = lax.broadcasted_iota(jnp.int32, y.shape, 0)
    last = lax.cummax(jnp.where(at, index, -1), axis=0)
    following = lax.cummin(jnp.where(at, index, n), axis=0, reverse=True)
    return _Observed(at, last, following)


def _pick(y: Array, index: Array) -> Array:
    """The entries of `y` at `index` along the first axis; an arbitrary entry where `index` is out of range."""
    return jnp.take_along_axis(y, jnp.clip(index, 0, len(y) - 1), axis=0)


def _known(y: Array, at: Array) -> Array:
    """`y` with zeros for missing values, so that no derivative becomes NaN."""
    return jnp.where(at, y, jnp.zeros_like(y))


def _nan_unless(valid: Array, y: Array) -> Array:
    return jnp.where(valid, y, jnp.full_like(y, jnp.nan))


@jax.jit
def _fill_linearly(ts: Array, y: Array) -> Array:
    at, last, following = _observed(y)
    values = _known(y, at)
    between = (last >= 0) & (following < len(y))
    # The fraction is computed in the dtype of the times, because differences of times need their precision.
    start, end = (ts[jnp.clip(index, 0, len(y) - 1)] for index in (last, following))
    now = jnp.broadcast_to(ts.reshape(-1, *[1] * (y.ndim - 1)), y.shape)
    gap = jnp.where(between & ~at, end - start, jnp.ones_like(start))
    theta = ((now - start) / gap).astype(y.dtype)
    line = (1 - theta) * _pick(values, last) + theta * _pick(values, following)
    return jnp.where(at, values, _nan_unless(between, line))


@jax.jit
def _fill_forward(y: Array) -> Array:
    """`y` with missing values replaced by the last observation before, if there is one."""
    at, last, _ = _observed(y)
    return _nan_unless(last >= 0, _pick(_known(y, at), last))


@jax.jit
def _fill_end(y: Array) -> Array:
    """`y` with the last observation repeated at all later times."""
    _, _, following = _observed(y)
    return jnp.where(following == len(y), _fill_forward(y), y)


@jax.jit
def _hermite(ts: Array, y: Array, deriv0: Array | None) -> tuple[Array, Array, Array, Array]:
    """The coefficients `(d, c, b, a)` of one leaf."""
    at, last, following = _observed(y)
    values = _known(y, at)
    # Each interval lies between the observations p and q; m is the slope of the straight line between them.
    p, q = last[:-1], following[1:]
    valid = (p >= 0) & (q < len(y))
    start, end = (ts[jnp.clip(index, 0, len(y) - 1)] for index in (p, q))
    h = jnp.where(valid, end - start, jnp.ones_like(start)).astype(y.dtype)
    m = (_pick(values, q) - _pick(values, p)) / h
    # k is the slope of the line that ends in p: the value of m on the interval just before p.
    k = jnp.where(_pick(valid, p - 1) & (p > 0), _pick(m, p - 1), m)
    if deriv0 is not None:
        k = jnp.where(p == 0, deriv0.astype(y.dtype)[None], k)
    now = jnp.broadcast_to(ts[:-1].reshape(-1, *[1] * (y.ndim - 1)), p.shape)
    s = jnp.where(valid, now - start, jnp.zeros_like(start)).astype(y.dtype)
    c, d = 2 * (m - k) / h, (k - m) / (h * h)
    # The same cubic in powers of the time from the knot inside a gap.
    b, a = k + s * (2 * c + s * (3 * d)), _pick(values, p) + s * (k + s * (c + s * d))
    c = c + s * (3 * d)
    return _nan_unless(valid, d), _nan_unless(valid, c), _nan_unless(valid, b), _nan_unless(valid, a)


# ------------------------------------------------------------------------------------------------------------- checking


def _series(ts: Any, ys: PyTree[Any], least: int) -> tuple[Array, PyTree[Any]]:
    times = knot_times(ts, least=least)
    require([_increasing(times)])
    return times, knot_values("ys", ys, len(times))


def _increasing(ts: Array) -> Condition:
    return are_in_order(ts, repeats=False)


def _replace_start(ys: PyTree[Any], replacement: PyTree[Any] | None) -> PyTree[Any]:
    """`ys` with missing values at the first time replaced."""
    if replacement is None:
        return ys

    def leaf(y: Array, first: Array) -> Array:
        return jnp.concatenate([jnp.where(jnp.isnan(y[:1]), first[None], y[:1]), y[1:]])

    return jax.tree.map(leaf, ys, _at_start("replace_nans_at_start", replacement, ys))


def _at_start(name: str, given: PyTree[Any], ys: PyTree[Any]) -> PyTree[Any]:
    """`given`, one number or a pytree like `ys`, with the shapes and dtypes of `ys` at one time.

    Raises
    ------
    ValueError
        If its structure, a shape or a dtype does not fit.
    """
    structure = jax.tree.structure(ys)
    if jax.tree.structure(given) == jax.tree.structure(0) and jnp.ndim(given) == 0:
        given = jax.tree.unflatten(structure, [given] * structure.num_leaves)
    if jax.tree.structure(given) != structure:
        raise ValueError(
            f"`{name}` must have the structure of `ys`, for one time.\nExpected: {layout(ys)}\n"
            f"Found:    {layout(given)}\nGive one number, or a pytree of the same structure."
        )

    def leaf(path: Any, x: Any, y: Array) -> Array:
        x = jnp.asarray(x)
        is_too_complex = jnp.iscomplexobj(x) and not jnp.iscomplexobj(y)
        if x.shape not in ((), y.shape[1:]) or is_too_complex:
            where = f"Leaf {jax.tree_util.keystr(path)} of `{name}`" if path else f"`{name}`"
            raise ValueError(
                f"{where} must fit `ys` at one time.\nExpected: shape {y.shape[1:]}, {y.dtype}\n"
                f"Found:    shape {x.shape}, {x.dtype}"
            )
        return jnp.broadcast_to(x.astype(y.dtype), y.shape[1:])

    return jax.tree.map_with_path(leaf, given, ys)
