"""Piecewise polynomial paths, for equations driven by data."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from ..jaxkit import (
    AbstractChecked,
    Condition,
    RealScalar,
    Time,
    all_hold,
    as_array,
    is_traced,
    kind_of,
    known,
    operand,
    optimization_barrier,
    scaled,
    time_dtype,
)
from .base import AbstractPath


class AbstractGlobalInterpolation(AbstractPath):
    """A path of smooth pieces that meet at knots, where it may jump.

    To define your own, subclass it and implement `t0`, `t1` and either `value` or `evaluate`; also `derivative` if the
    path has jumps or kinks.

    See Also
    --------
    LinearInterpolation, CubicInterpolation, DenseInterpolation : the interpolations that Rungax has.
    """

    def value(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The value at one time `t`; at a jump the limit from the left, or from the right if `left=False`."""
        raise NotImplementedError(f"A `{type(self).__name__}` implements neither `value` nor `evaluate`.")

    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The value at `t0`, or the increment to `t1` if that is given; at a knot, `left` selects the piece before.

        The times may be arrays. Their axes come first in each leaf of the result.
        """
        value = lambda t: self.value(t, left)
        if t1 is None:
            return over_times(value, t0)
        return over_times(lambda t0, t1: jax.tree.map(jnp.subtract, value(t1), value(t0)), t0, t1)


class _AbstractKnots(AbstractGlobalInterpolation, AbstractChecked):
    """A path with knots at the times `ts`."""

    ts: eqx.AbstractVar[Float[Array, " knots"]]

    @abc.abstractmethod
    def slope(self, t: RealScalar, left: bool) -> PyTree[Any]:
        """The derivative at one time `t`; at a knot, `left` selects the piece before."""

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative at `t`, which may be an array; at a knot, `left` selects the piece before."""
        return over_times(lambda t: self.slope(t, left), t)

    @property
    def ts_size(self) -> int:
        """The number of knots."""
        return len(self.ts)

    def value_conditions(self) -> Iterator[Condition]:
        """`ts` are in order; equal times are allowed."""
        ts, in_order = self.ts, are_in_order(self.ts, repeats=True)
        # The constructor has made traced times NaN unless they are in order.
        yield in_order if in_order.is_known else in_order._replace(holds=lambda: ts[0] == ts[0])

    # Equinox's abstract variables may be properties; type checkers take them for variables.
    @property
    def t0(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The time of the first knot."""
        return self.ts[0]

    @property
    def t1(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The time of the last knot."""
        return self.ts[-1]


class LinearInterpolation(_AbstractKnots):
    r"""Straight lines through the knots $(t_i, y_i)$; the first and the last line extend beyond the knots.

    $$x(t) = (1 - \theta)\,y_i + \theta\,y_{i+1}, \qquad \theta = \frac{t - t_i}{t_{i+1} - t_i},
    \qquad t_i \le t \le t_{i+1}$$

    Its derivative jumps at every knot. In an adaptive solve of `ControlTerm(...).to_ode()`, let the steps end there:
    `ClipStepSizeController(controller, jump_ts=ts)`.

    Parameters
    ----------
    ts
        Times of the knots in increasing order, shape `(n,)` with `n >= 2`. Where two times are equal the path jumps
        from the value of the first knot to that of the second. Of three or more equal times, only the first and the
        last count. If the path begins or ends with a jump, it is constant beyond.
    ys
        Values at the knots: a pytree of arrays, real or complex, each of shape `(n, ...)`. Where a value is NaN, so is
        the path up to the neighbouring knots; `linear_interpolation` fills missing values.

    Raises
    ------
    ValueError
        If the shapes are not as described, or the times are not in order or are NaN; if times are known only at run
        time, and inside `jax.jit` and the like, the path is NaN instead.

    Notes
    -----
    `evaluate` and `derivative` take arrays of times too. Their axes come first in each leaf of the result.

    Differentiability
    -----------------
    With respect to `ys`, `ts` and the times of evaluation. At a knot, the piece that `left` selects is differentiated.

    Cost
    ----
    A binary search in `ts` for each value or derivative.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts, ys = jnp.array([0.0, 1.0, 1.0, 2.0]), jnp.array([0.0, 4.0, 6.0, 6.0])
    >>> path = rungax.LinearInterpolation(ts, ys)
    >>> [float(path.evaluate(t)) for t in (0.5, 1.0, 1.5)]
    [2.0, 4.0, 6.0]
    >>> (
    ...     float(path.evaluate(1.0, left=False)),
    ...     float(path.evaluate(0.5, 1.5)),
    ...     float(path.derivative(0.5)),
    ... )
    (6.0, 4.0, 4.0)
    """

    ts: Float[Array, " knots"]
    ys: PyTree[Shaped[Array, "knots ..."]]

    def __init__(self, ts: Any, ys: PyTree[Any]):
        times = knot_times(ts, least=2)
        self.ts, self.ys = _nan_unless_in_order(times, knot_values("ys", ys, len(times)))

    def value(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The value at `t` on the line between two knots; at a jump `left` selects the side."""
        i, t, start, end = _piece(self.ts, t, left)
        length, is_jump = _length(start, end)
        # `_piece` returns a jump only for times at or beyond the ends of a path that begins or ends with one.
        is_past = (t > end) | ((t == end) & (not left))
        theta = jnp.where(is_jump, is_past.astype(t.dtype), (t - start) / length)

        def leaf(y: Array) -> Array:
            first, second = _neighbours(y, i)
            return scaled(1 - theta, first) + scaled(theta, second)

        return jax.tree.map(leaf, self.ys)

    def slope(self, t: RealScalar, left: bool) -> PyTree[Any]:
        """The slope of the line at `t`; at a knot `left` selects the line."""
        i, _, start, end = _piece(self.ts, t, left)
        length, is_jump = _length(start, end)
        rate = jnp.where(is_jump, jnp.zeros_like(length), 1 / length)

        def leaf(y: Array) -> Array:
            first, second = _neighbours(y, i)
            return scaled(rate, second - first)

        return jax.tree.map(leaf, self.ys)


class CubicInterpolation(_AbstractKnots):
    r"""A cubic between each two knots; the first and the last cubic extend beyond the knots.

    $$x(t) = d_i s^3 + c_i s^2 + b_i s + a_i, \qquad s = t - t_i, \qquad t_i \le t \le t_{i+1}$$

    Its smoothness depends on the coefficients: those of `backward_hermite_coefficients` give a continuous derivative.

    Parameters
    ----------
    ts
        Times of the knots in increasing order, shape `(n,)` with `n >= 2`. Where two times are equal, the row of
        coefficients between them is used only if they are the first two or the last two.
    coeffs
        The coefficients `(d, c, b, a)`, highest power first: four pytrees of arrays, each of shape `(n - 1, ...)`.

    Raises
    ------
    ValueError
        If the shapes are not as described, or the times are not in order or are NaN; if times are known only at run
        time, and inside `jax.jit` and the like, the path is NaN instead.

    Notes
    -----
    `evaluate` and `derivative` take arrays of times too. Their axes come first in each leaf of the result.

    Differentiability
    -----------------
    With respect to `coeffs`, `ts` and the times of evaluation. At a knot, the piece that `left` selects is
    differentiated.

    Cost
    ----
    A binary search in `ts` for each value or derivative.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts, ys = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 0.0])
    >>> path = rungax.CubicInterpolation(ts, rungax.backward_hermite_coefficients(ts, ys))
    >>> [float(path.evaluate(t)) for t in (0.5, 1.0, 1.5)]
    [0.5, 1.0, 0.75]
    """

    ts: Float[Array, " knots"]
    coeffs: tuple[PyTree[Any], PyTree[Any], PyTree[Any], PyTree[Any]]

    def __init__(self, ts: Any, coeffs: tuple[PyTree[Any], PyTree[Any], PyTree[Any], PyTree[Any]]):
        times = knot_times(ts, least=2)
        if not isinstance(coeffs, tuple | list) or len(coeffs) != 4:
            found = f"{len(coeffs)} of them" if isinstance(coeffs, tuple | list) else kind_of(coeffs)
            raise ValueError(
                "`coeffs` are the coefficients of the cubics, highest power first.\n"
                f"Expected: a tuple (d, c, b, a)\nFound:    {found}\n"
                "Use the value of `backward_hermite_coefficients(ts, ys)`."
            )
        d, c, b, a = (knot_values("coeffs", x, len(times) - 1) for x in coeffs)
        self.ts, self.coeffs = _nan_unless_in_order(times, (d, c, b, a))

    def value(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The value at `t` of the cubic between two knots; at a knot `left` selects the cubic."""
        i, t, start, _ = _piece(self.ts, t, left)
        s = t - start

        def leaf(d: Array, c: Array, b: Array, a: Array) -> Array:
            return scaled(s, scaled(s, scaled(s, d[i]) + c[i]) + b[i]) + a[i]

        return jax.tree.map(leaf, *self.coeffs)

    def slope(self, t: RealScalar, left: bool) -> PyTree[Any]:
        """The slope of the cubic at `t`; at a knot `left` selects the cubic."""
        i, t, start, _ = _piece(self.ts, t, left)
        s = t - start
        return jax.tree.map(lambda d, c, b: scaled(s, scaled(3 * s, d[i]) + scaled(2.0, c[i])) + b[i], *self.coeffs[:3])


class _Piece(NamedTuple):
    """The interval between knot `i` and the next one, and the time of evaluation in the same dtype as theirs."""

    i: Int[Array, ""]
    t: Time
    start: Time
    end: Time


def _piece(ts: Array, t: RealScalar, left: bool) -> _Piece:
    """The piece that holds `t`, or the first or last one if `t` lies beyond the ends."""
    t = jnp.asarray(t)
    # The wider of both dtypes, because a time just past a knot must not be rounded to the knot.
    dtype = time_dtype(ts, t)
    ts, t = ts.astype(dtype), t.astype(dtype)
    after = jnp.searchsorted(ts, t, side="left" if known(left, "`left`") else "right", method="scan_unrolled")
    index = jnp.clip(after - 1, 0, len(ts) - 2)
    start, end = _neighbours(ts, index)
    return _Piece(index, t, start, end)


def _neighbours(y: Array, i: Array) -> tuple[Array, Array]:
    """`y[i]` and `y[i + 1]`, by a single read, which in reverse mode becomes a single write."""
    pair = lax.dynamic_slice_in_dim(y, i, 2)
    return pair[0], pair[1]


def _length(start: Time, end: Time) -> tuple[Time, Array]:
    """The length of a piece, and whether it is a jump; the length of a jump is given as 1, to divide by."""
    length = end - start
    is_jump = length == 0
    return jnp.where(is_jump, jnp.ones_like(length), length), is_jump


def over_times(function: Callable[..., PyTree[Any]], *times: Any) -> PyTree[Any]:
    """`function` of single times, at each entry of arrays of times, whose axes come first in each leaf of the result.

    Raises
    ------
    ValueError
        If a time is not a number, or the shapes of the times do not fit together.
    """
    arrays = [jnp.asarray(as_array(t, "A time", "a number, or an array of numbers")) for t in times]
    arrays = jnp.broadcast_arrays(*arrays)
    for _ in range(arrays[0].ndim):
        function = jax.vmap(function)
    return function(*arrays)


# ------------------------------------------------------------------------------------------------------------- checking


def knot_times(ts: Any, *, least: int) -> Float[Array, " knots"]:
    """`ts` as floating-point times; known ones stay known inside a compiled function.

    Raises
    ------
    ValueError
        If `ts` is not one-dimensional, or has fewer than `least` times.
    """
    given = as_array(ts, "`ts`", f"a one-dimensional array, length at least {least}")
    if given.ndim != 1 or given.size < least:
        raise ValueError(
            f"`ts` are the times of the knots.\nExpected: a one-dimensional array, length at least {least}\n"
            f"Found:    shape {given.shape}\nFor a batch of series use `jax.vmap`."
        )
    if is_traced(given):
        return jnp.asarray(given).astype(time_dtype(given))
    with jax.ensure_compile_time_eval():
        return jnp.asarray(given).astype(time_dtype(given))


def are_in_order(ts: Float[Array, " knots"], *, repeats: bool) -> Condition:
    """The condition that times are in order; `repeats` says whether neighbouring ones may be equal.

    They are compared in the dtype in which they are used: times that differ in double precision may be equal in single.
    """

    def holds() -> Any:
        times = operand(ts)
        later, earlier = times[1:], times[:-1]
        return ((later >= earlier) if repeats else (later > earlier)).all() & (times[0] == times[0])

    expected = "in order, repeats allowed" if repeats else "strictly increasing"
    return Condition(
        ts,
        holds,
        "`ts` are the times of the knots.",
        lambda: (
            f"\nExpected: {expected}\nFound:    {_excerpt(np.asarray(ts), repeats)}\n"
            f"Sort the knots by time{'.' if repeats else ', and keep one for each time.'}"
        ),
    )


def nan_unless(condition: Condition, tree: PyTree[Array]) -> PyTree[Array]:
    """`tree`, or all NaN if `condition` does not hold."""
    holds = all_hold([condition])
    if holds is True:
        return tree
    # Without the barrier, fusion would compare all times again for each use of the tree.
    holds = optimization_barrier(jnp.asarray(holds))
    return jax.tree.map(lambda x: jnp.where(holds, x, jnp.full_like(x, jnp.nan)), tree)


def _excerpt(times: np.ndarray, repeats: bool) -> str:
    """The times around the first one that is out of order, as text."""
    is_fine = np.append(times[0] == times[0], times[1:] >= times[:-1] if repeats else times[1:] > times[:-1])
    at = int(np.argmin(is_fine))
    low, high = max(0, at - 2), at + 2
    inner = ", ".join(f"{t:.9g}" for t in times[low:high])
    return f"[{'..., ' if low > 0 else ''}{inner}{', ...' if high < len(times) else ''}]"


def _nan_unless_in_order[Values](ts: Array, values: Values) -> tuple[Array, Values]:
    """Times and values at the knots, of which one is NaN unless the times are in order.

    It is the times if they are traced, because they are fewer, and else the values: a message shows known times.
    """
    in_order = are_in_order(ts, repeats=True)
    return (ts, nan_unless(in_order, values)) if in_order.is_known else (nan_unless(in_order, ts), values)


def knot_values(name: str, ys: PyTree[Any], length: int) -> PyTree[Any]:
    """`ys` as a pytree of inexact arrays whose first axis has the given length.

    Raises
    ------
    ValueError
        If the first axis of a leaf has another length.
    """

    def leaf(path: Any, y: Any) -> Array:
        y = jnp.asarray(y)
        if y.ndim == 0 or y.shape[0] != length:
            where = f"leaf {jax.tree_util.keystr(path)} of `{name}`" if path else f"`{name}`"
            raise ValueError(
                f"The first axis of {where} is that of time.\n"
                f"Expected: length {length}{', one less than there are knots' if name == 'coeffs' else ''}\n"
                f"Found:    shape {y.shape}\nConvert lists to arrays; for a batch of series use `jax.vmap`."
            )
        return y if jnp.issubdtype(y.dtype, jnp.inexact) else y.astype(jnp.result_type(float))

    return jax.tree.map_with_path(leaf, ys)
