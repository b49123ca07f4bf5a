"""From a series of observations, some of them missing, to the knots and coefficients of an interpolation.

NaN means missing, entry by entry: of what was observed at one time, some entries may be missing and others not.

References
----------
P. Kidger, J. Morrill, J. Foster, T. Lyons, *Neural controlled differential equations for irregular time series*,
NeurIPS 2020, arXiv:2005.08926.
J. Morrill, P. Kidger, L. Yang, T. Lyons, *On the choice of interpolation scheme for neural CDEs*, TMLR 2022
(arXiv:2106.11028), which compares the schemes that are here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .global_interpolation import knot_times, knot_values


def linear_interpolation(
    ts: Any,
    ys: PyTree[Any],
    *,
    fill_forward_nans_at_end: bool = False,
    replace_nans_at_start: PyTree[Any] | None = None,
) -> PyTree[Any]:
    """Fill missing values by the straight line from the observation before to the one after.

    The values of a `LinearInterpolation` with these times.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, strictly increasing.
    ys
        Values there, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    fill_forward_nans_at_end
        Whether to repeat the last observation after it; by default NaN stays there.
    replace_nans_at_start
        What to take for the values at the first time where they are missing: a pytree like `ys` without the axis of
        time, or one number for all. By default NaN stays there, up to the first observation.

    Returns
    -------
    PyTree
        `ys` with missing values filled.

    Raises
    ------
    ValueError
        If a shape is not as said, or the times are not strictly increasing. Times known only at run time make all
        values NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations and `replace_nans_at_start`; the derivative by a missing value is zero.

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
    if fill_forward_nans_at_end:
        ys = jax.tree.map(_fill_end, ys)
    return jax.tree.map(lambda y: _invalidate(_fill_linearly(ts, y), ts), ys)


def rectilinear_interpolation(
    ts: Any, ys: PyTree[Any], replace_nans_at_start: PyTree[Any] | None = None
) -> tuple[Float[Array, " points"], PyTree[Any]]:
    r"""The corners of the path on which first time moves and then the values, for `LinearInterpolation`.

    $$(t_0, y_0) \to (t_1, y_0) \to (t_1, y_1) \to (t_2, y_1) \to \dots \to (t_{n-1}, y_{n-1})$$

    A missing value is the last one observed. Nothing on this path depends on what is observed later, so a model driven
    by it can predict while data come in. For that, let time be one of the values, and let the path be
    parametrised by something else, such as the number of the corner.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, strictly increasing.
    ys
        Values there, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    replace_nans_at_start
        What to take for values that are missing before the first observation: a pytree like `ys` without the axis of
        time, or one number for all. By default NaN stays there.

    Returns
    -------
    ts
        Times of the corners, shape `(2 n - 1,)`.
    ys
        Values there, like `ys` but of shape `(2 n - 1, ...)`.

    Raises
    ------
    ValueError
        If a shape is not as said, or the times are not strictly increasing. Times known only at run time make all
        values NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations and `replace_nans_at_start`; the derivative by a missing value is zero.

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
    ys = jax.tree.map(lambda y: _invalidate(_fill_forward(y), ts), ys)
    return jnp.repeat(ts, 2)[1:], jax.tree.map(lambda y: jnp.repeat(y, 2, axis=0)[:-1], ys)


def backward_hermite_coefficients(
    ts: Any,
    ys: PyTree[Any],
    *,
    deriv0: PyTree[Any] | None = None,
    replace_nans_at_start: PyTree[Any] | None = None,
    fill_forward_nans_at_end: bool = False,
) -> tuple[PyTree[Any], PyTree[Any], PyTree[Any], PyTree[Any]]:
    r"""Coefficients of cubics through the observations, with slopes from the past only, for `CubicInterpolation`.

    With $h = t_{i+1} - t_i$, $m = (y_{i+1} - y_i)/h$, and $k$ the same over the interval before:

    $$x(t_i + s) = y_i + k s + 2 (m - k) \frac{s^2}{h} - (m - k) \frac{s^3}{h^2}$$

    Its derivative is continuous, $k$ at the beginning and $m$ at the end of the interval. On an interval the path
    depends on the observations at its ends and the one before, and on none that come later.

    A missing value counts as if there were no knot at its time for that entry: the cubic goes on to the next
    observation.

    Parameters
    ----------
    ts
        Times, shape `(n,)`, at least two and strictly increasing.
    ys
        Values there, NaN where missing: a pytree of arrays, real or complex, each of shape `(n, ...)`.
    deriv0
        The derivative at the first time: a pytree like `ys` without the axis of time, or one number for all. By
        default, and for entries that begin with a missing value, the first interval is a straight line.
    replace_nans_at_start
        What to take for the values at the first time where they are missing: a pytree like `ys` without the axis of
        time, or one number for all. By default the path is NaN up to the first observation.
    fill_forward_nans_at_end
        Whether to repeat the last observation at every later time; by default the path is NaN after it.

    Returns
    -------
    d, c, b, a
        Coefficients of the third to the zeroth power of `t - ts[i]` on each interval: four pytrees like `ys`, but of
        shape `(n - 1, ...)`.

    Raises
    ------
    ValueError
        If a shape is not as said, or the times are not strictly increasing. Times known only at run time make all
        coefficients NaN instead.

    Differentiability
    -----------------
    With respect to `ts`, the observations, `deriv0` and `replace_nans_at_start`; the derivative by a missing value is
    zero.

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
    if fill_forward_nans_at_end:
        ys = jax.tree.map(_fill_end, ys)
    leaves, structure = jax.tree.flatten(ys)
    slopes = [None] * len(leaves) if deriv0 is None else jax.tree.leaves(_at_start("deriv0", deriv0, ys))
    rows = [_hermite(ts, y, slope) for y, slope in zip(leaves, slopes, strict=True)]
    d, c, b, a = (jax.tree.unflatten(structure, [row[i] for row in rows]) for i in range(4))
    return d, c, b, a


# ---------------------------------------------------------------------------------------- leaf by leaf, time axis first


class _Observed(NamedTuple):
    """Where values are observed: all of shape `(n, ...)`, counted along the first axis.

    `last` is the latest observation up to each time, -1 for none; `following` the earliest from then on, n for none.
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
    """The entries of `y` at `index` along the first axis; any of them where there is no such index."""
    return jnp.take_along_axis(y, jnp.clip(index, 0, len(y) - 1), axis=0)


def _known(y: Array, at: Array) -> Array:
    """`y` with zeros for what is missing, so that no derivative meets a NaN."""
    return jnp.where(at, y, jnp.zeros_like(y))


def _nan_unless(valid: Array, y: Array) -> Array:
    return jnp.where(valid, y, jnp.full_like(y, jnp.nan))


@jax.jit
def _fill_linearly(ts: Array, y: Array) -> Array:
    at, last, following = _observed(y)
    values = _known(y, at)
    between = (last >= 0) & (following < len(y))
    # As a fraction, in the times' own dtype, for the difference of two times needs their precision.
    start, end = (ts[jnp.clip(index, 0, len(y) - 1)] for index in (last, following))
    now = jnp.broadcast_to(ts.reshape(-1, *[1] * (y.ndim - 1)), y.shape)
    gap = jnp.where(between & ~at, end - start, jnp.ones_like(start))
    theta = ((now - start) / gap).astype(y.dtype)
    line = (1 - theta) * _pick(values, last) + theta * _pick(values, following)
    return jnp.where(at, values, _nan_unless(between, line))


@jax.jit
def _fill_forward(y: Array) -> Array:
    """Missing values are the last one observed, if there is one."""
    at, last, _ = _observed(y)
    return _nan_unless(last >= 0, _pick(_known(y, at), last))


@jax.jit
def _fill_end(y: Array) -> Array:
    """Values after the last observation are that one."""
    _, _, following = _observed(y)
    return jnp.where(following == len(y), _fill_forward(y), y)


@jax.jit
def _hermite(ts: Array, y: Array, deriv0: Array | None) -> tuple[Array, Array, Array, Array]:
    """The coefficients of one leaf, `(d, c, b, a)`."""
    at, last, following = _observed(y)
    values = _known(y, at)
    # Each interval lies between the observations p and q; m is the slope of the straight line between them.
    p, q = last[:-1], following[1:]
    valid = (p >= 0) & (q < len(y))
    start, end = (ts[jnp.clip(index, 0, len(y) - 1)] for index in (p, q))
    h = jnp.where(valid, end - start, jnp.ones_like(start)).astype(y.dtype)
    m = (_pick(values, q) - _pick(values, p)) / h
    # k is the slope of the line that ends in p, which is that over the interval just before it.
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


def _invalidate(y: Array, ts: Array) -> Array:
    """`y`, or all NaN if `ts` has been found out of order."""
    return _nan_unless(ts[0] == ts[0], y)


# ------------------------------------------------------------------------------------------------------------- checking


def _series(ts: Any, ys: PyTree[Any], least: int) -> tuple[Array, PyTree[Any]]:
    times = knot_times(ts, least=least, repeats=False)
    return times, knot_values("ys", ys, len(times))


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
        If it does not fit.
    """
    structure = jax.tree.structure(ys)
    if jax.tree.structure(given) == jax.tree.structure(0) and jnp.ndim(given) == 0:
        given = jax.tree.unflatten(structure, [given] * structure.num_leaves)
    if jax.tree.structure(given) != structure:
        raise ValueError(
            f"`{name}` is for one time what `ys` is for all.\nExpected: {structure}\n"
            f"Found:    {jax.tree.structure(given)}\nGive one number, or a pytree of the same structure."
        )

    def leaf(path: Any, x: Any, y: Array) -> Array:
        x = jnp.asarray(x)
        is_too_complex = jnp.iscomplexobj(x) and not jnp.iscomplexobj(y)
        if x.shape not in ((), y.shape[1:]) or is_too_complex:
            where = f"leaf {jax.tree_util.keystr(path)} of `{name}`" if path else f"`{name}`"
            raise ValueError(
                f"The {where} must fit one time of `ys`.\nExpected: shape {y.shape[1:]}, {y.dtype}\n"
                f"Found:    shape {x.shape}, {x.dtype}"
            )
        return jnp.broadcast_to(x.astype(y.dtype), y.shape[1:])

    return jax.tree.map_with_path(leaf, given, ys)
