"""Interpolation over all steps of a solve."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..jaxkit import (
    BoolScalar,
    DenseInfo,
    IntScalar,
    RealScalar,
    Time,
    Y,
    all_finite,
    constant_where,
    known,
    nan_derivative_where,
    scaled,
    with_derivatives_of,
)
from ..paths import AbstractGlobalInterpolation, over_times
from .base import AbstractLocalInterpolation


class _Maker(eqx.Module):
    """A function that makes interpolations, as a pytree: its arrays are leaves, all else is static."""

    arrays: PyTree[Any]
    static: PyTree[Any] = eqx.field(static=True)

    @classmethod
    def of(cls, make: Callable[..., AbstractLocalInterpolation]) -> Self:
        """The function `make` as a pytree."""
        return cls(*eqx.partition(make, eqx.is_array))

    def function(self) -> Callable[..., AbstractLocalInterpolation]:
        """The function itself."""
        return eqx.combine(self.arrays, self.static)


class DenseInterpolation(AbstractGlobalInterpolation):
    """The solution as a function of time, from the interpolation over every step; NaN outside the solve's interval.

    It is the `Solution.interpolation` of a solve with `SaveAt(dense=True)`, and can be the control of a `ControlTerm`.

    Parameters
    ----------
    ts
        The start of the first step, and the end of each step, padded with infinity, shape `(max_steps + 1,)`. Like all
        times here they are in the solve's increasing time, `t * direction`.
    ts_size
        The number of times in `ts` before the padding: one more than there are steps.
    infos
        The data that `interpolation_cls` needs from each step, stacked along the first axis of each leaf.
    interpolation_cls
        A function that makes the interpolation over one step: `interpolation_cls(t0=, t1=, **info)`. It may be a pytree
        with arrays, such as the arrays of an equation that its interpolations evaluate.
    direction
        1, or -1 for a solve backwards in time.
    t0_if_trivial, y0_if_trivial
        The start and the state there, which are the only time and value if no step was made.
    starts
        The start of each step, padded with infinity, shape `(max_steps,)`, for an equation that jumps: at a jump the
        end of a step and the start of the next differ. By default each step starts where the one before it ends.

    Differentiability
    -----------------
    With respect to everything on which the solution depends, and the times of evaluation.

    Cost
    ----
    A binary search in `ts` for each value or derivative. Memory: the data of `max_steps` steps.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> saveat = rungax.SaveAt(dense=True)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Euler(), 0.0, 1.0, 0.5, 1.0, saveat=saveat
    ... )
    >>> print(solution.interpolation.evaluate(jnp.array([0.25, 0.5])))
    [0.75 0.5 ]
    """

    ts: Float[Array, " times"]
    ts_size: IntScalar
    infos: DenseInfo
    maker: _Maker
    direction: Time
    t0_if_trivial: Time
    y0_if_trivial: Y
    starts: Float[Array, " steps"] | None

    def __init__(
        self,
        ts: Any,
        ts_size: Any,
        infos: DenseInfo,
        interpolation_cls: Callable[..., AbstractLocalInterpolation],
        direction: Any,
        t0_if_trivial: Any,
        y0_if_trivial: Y,
        starts: Any = None,
    ):
        self.ts = jnp.asarray(ts)
        self.ts_size = jnp.asarray(ts_size)
        self.infos = infos
        self.maker = _Maker.of(interpolation_cls)
        self.direction, self.t0_if_trivial = (jnp.asarray(x).astype(self.ts.dtype) for x in (direction, t0_if_trivial))
        self.y0_if_trivial = jax.tree.map(jnp.asarray, y0_if_trivial)
        self.starts = starts

    # Equinox's abstract variables may be properties; type checkers take them for variables.
    @property
    def t0(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The start of the solve, in true time."""
        return self._start() * self.direction

    @property
    def t1(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The end of the solve, in true time."""
        return self._end() * self.direction

    @property
    def is_trivial(self) -> BoolScalar:
        """True if no step was made."""
        return self.ts_size <= 1

    @property
    def interpolation_cls(self) -> Callable[..., AbstractLocalInterpolation]:
        """The class, or another function, that makes the interpolation over one step."""
        return self.maker.function()

    def value(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The solution at `t`; where two steps meet, `left` selects the earlier one."""
        s = self._to_solve_time(t)
        step, at, is_known = self._step_at(s, left)
        trivial = lambda v, y: jnp.where(self.is_trivial, y.astype(v.dtype), v)
        value = jax.tree.map(trivial, step.evaluate(at), self.y0_if_trivial)
        inside = self._is_inside(s)
        return self._nan_unless(inside, inside & (is_known | self.is_trivial), value)

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative of the solution with respect to time at `t`."""
        return over_times(lambda t: self._slope(self._to_solve_time(t), left), t)

    def _slope(self, s: Time, left: bool) -> PyTree[Any]:
        step, at, is_known = self._step_at(s, left)
        slope = jax.tree.map(lambda x: scaled(self.direction, x), step.derivative(at))
        # A single time has no slope.
        return self._nan_unless(self._is_inside(s) & jnp.logical_not(self.is_trivial), is_known, slope)

    def _to_solve_time(self, t: RealScalar) -> Time:
        return jnp.asarray(t).astype(self.ts.dtype) * self.direction

    def _start(self) -> Time:
        return jnp.where(self.is_trivial, self.t0_if_trivial, self.ts[0])

    def _end(self) -> Time:
        return jnp.where(self.is_trivial, self.t0_if_trivial, self.ts[self.ts_size - 1])

    def _step_at(self, s: Time, left: bool) -> tuple[AbstractLocalInterpolation, Time, Array]:
        """The interpolation over the step that contains `s`; `s`; and whether there is one, with finite data.

        Where there is none, what is evaluated has derivatives of zero: a cotangent of zero has to stay zero.
        """
        index = jnp.searchsorted(self.ts, s, side="left" if known(left, "`left`") else "right") - 1
        index = jnp.clip(index, 0, jnp.maximum(self.ts_size - 2, 0))
        info = jax.tree.map(lambda leaf: leaf[index], self.infos)
        start = self.ts[index] if self.starts is None else self.starts[index]
        is_known = self._is_inside(s) & jnp.logical_not(self.is_trivial) & all_finite(info)
        start, end, info, s = constant_where(~is_known, (start, self.ts[index + 1], info, s))
        return self.interpolation_cls(t0=start, t1=end, **info), s, is_known

    def _is_inside(self, s: Time) -> Array:
        return (s >= self._start()) & (s <= self._end())

    def _nan_unless(self, inside: Array, has_derivative: Array, value: PyTree[Any]) -> PyTree[Any]:
        # Where there is no solution there is no derivative either; zero times NaN must not be one.
        value = nan_derivative_where(~has_derivative, value, self.y0_if_trivial)
        return jax.tree.map(
            lambda v: with_derivatives_of(jnp.where(inside, v, jnp.asarray(jnp.nan, v.dtype)), v), value
        )
