"""Interpolation over all steps of a solve."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..jaxkit import DenseInfo, IntScalar, RealScalar, Time, Y, known, nan_derivative_where, scaled, with_derivatives_of
from ..paths import AbstractGlobalInterpolation, scalar_time
from .base import AbstractLocalInterpolation


class _Maker(eqx.Module):
    """A function that makes interpolations, as a pytree: its arrays are leaves, all else is static."""

    arrays: PyTree[Any]
    static: PyTree[Any] = eqx.field(static=True)

    @classmethod
    def of(cls, make: Callable[..., AbstractLocalInterpolation]) -> "_Maker":
        """`make` itself if it is a `_Maker`."""
        return make if isinstance(make, cls) else cls(*eqx.partition(make, eqx.is_array))

    def __call__(self, **info: Any) -> AbstractLocalInterpolation:
        return eqx.combine(self.arrays, self.static)(**info)


class DenseInterpolation(AbstractGlobalInterpolation):
    """The solution as a function of time, from the interpolation over every step; NaN outside the solve's interval.

    It is the `Solution.interpolation` of a solve with `SaveAt(dense=True)`, and can be the control of a `ControlTerm`.

    Parameters
    ----------
    start
        The start of the first step. Like all times here it is in the solve's increasing time, `t * direction`.
    ends, starts
        The end and the start of each step, padded with infinity, shape `(max_steps,)`. The end of a step and the start
        of the next differ only at jumps.
    num_steps
        The number of steps that were made.
    infos
        The data that `interpolation_cls` needs from each step, stacked along the first axis of each leaf.
    direction
        1, or -1 for a solve backwards in time.
    y0
        The initial state, which is the value at `start`.
    interpolation_cls
        A function that makes the interpolation over one step: `interpolation_cls(t0=, t1=, **info)`. It may be a pytree
        with arrays, such as the arrays of an equation that its interpolations evaluate.

    Differentiability
    -----------------
    With respect to everything on which the solution depends, and the times of evaluation.

    Cost
    ----
    A binary search in `ends` for each value or derivative. Memory: the data of `max_steps` steps.

    Examples
    --------
    >>> import rungax
    >>> saveat = rungax.SaveAt(dense=True)
    >>> solution = rungax.diffeqsolve(lambda t, y, args: -y, rungax.Euler(), 0.0, 1.0, 0.5, 1.0, saveat=saveat)
    >>> [float(solution.interpolation.evaluate(t)) for t in (0.25, 0.5)]
    [0.75, 0.5]
    """

    start: Time
    ends: Float[Array, " steps"]
    starts: Float[Array, " steps"]
    num_steps: IntScalar
    infos: DenseInfo
    direction: Time
    y0: Y
    interpolation_cls: Callable[..., AbstractLocalInterpolation] = eqx.field(converter=_Maker.of)

    # Equinox's abstract variables may be properties; type checkers take them for variables.
    @property
    def t0(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The start of the solve, in true time."""
        return self.start * self.direction

    @property
    def t1(self) -> RealScalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The end of the solve, in true time."""
        return self._last_end() * self.direction

    def value(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The solution at `t`; where two steps meet, `left` selects the earlier one."""
        s = self._to_solve_time(t)
        value = self._step_at(s, left).evaluate(s)
        at_start = (s == self.start) | (self.num_steps == 0)
        value = jax.tree.map(lambda v, y: jnp.where(at_start, y, v), value, self.y0)
        return self._nan_outside(s, value)

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative of the solution with respect to time at `t`."""
        s = self._to_solve_time(t)
        slope = self._step_at(s, left).derivative(s)
        slope = jax.tree.map(lambda x: scaled(self.direction, x), slope)
        return self._nan_outside(s, slope)

    def _to_solve_time(self, t: RealScalar) -> Time:
        return scalar_time(t).astype(self.ends.dtype) * self.direction

    def _last_end(self) -> Time:
        last = self.ends[jnp.maximum(self.num_steps - 1, 0)]
        return jnp.where(self.num_steps == 0, self.start, last)

    def _step_at(self, s: Time, left: bool) -> AbstractLocalInterpolation:
        index = jnp.searchsorted(self.ends, s, side="left" if known(left, "`left`") else "right")
        index = jnp.clip(index, 0, jnp.maximum(self.num_steps - 1, 0))
        info = jax.tree.map(lambda leaf: leaf[index], self.infos)
        return self.interpolation_cls(t0=self.starts[index], t1=self.ends[index], **info)

    def _nan_outside(self, s: Time, value: PyTree[Any]) -> PyTree[Any]:
        inside = (s >= self.start) & (s <= self._last_end())
        # Where there is no solution there is no derivative either; zero times NaN must not be one.
        value = nan_derivative_where(~inside, value, self.y0)
        return jax.tree.map(
            lambda v: with_derivatives_of(jnp.where(inside, v, jnp.asarray(jnp.nan, v.dtype)), v), value
        )
