"""The protocol of a path: something with a value, or at least an increment, at every time of an interval."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from ..jaxkit import RealScalar


class AbstractPath(eqx.Module):
    """A function of time on an interval, with values in a pytree of arrays.

    Subclass it for a driver of your own: give `t0`, `t1` and `evaluate`, and `derivative` where it exists.

    Attributes
    ----------
    t0, t1
        Ends of the interval: fields or properties.
    """

    t0: eqx.AbstractVar[RealScalar]
    t1: eqx.AbstractVar[RealScalar]

    @abc.abstractmethod
    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The value at `t0`, or with `t1` the increment from `t0` to `t1`; `left` picks the limit at a jump."""

    def initial_carry(self) -> PyTree[Any] | None:
        """What a solve carries from step to step so that `move` is cheaper than `evaluate`; by default nothing."""

    def move(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[PyTree[Any], PyTree[Any]]:
        """All that this path tells of the interval from `t0` to `t1`, and the carry at `t1`.

        Asked only of paths with something to carry, step after step in the direction of travel, which may be
        backwards. It must be what `evaluate` says, up to rounding.
        """
        raise NotImplementedError(f"A `{type(self).__name__}` carries nothing, so nothing moves it.")

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative with respect to time at `t`; not every path has one."""
        raise NotImplementedError(f"A `{type(self).__name__}` has no derivative with respect to time.")
