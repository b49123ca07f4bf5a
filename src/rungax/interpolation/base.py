"""The protocol of an interpolation over one step."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Time, scaled
from ..paths import AbstractPath


class AbstractLocalInterpolation(AbstractPath):
    """A continuous function over one step, from `t0` to `t1`, that a solver makes from what it computed there.

    Subclass it for one of your own: give `t0`, `t1` and `value`, or `evaluate` whole, and name it, or what makes
    it, as the `interpolation_cls` of a solver.

    See Also
    --------
    LocalLinearInterpolation, ThirdOrderHermitePolynomialInterpolation : for solvers without one of their own.
    """

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value at `t`."""
        raise NotImplementedError(f"A `{type(self).__name__}` has neither `value` nor an `evaluate` of its own.")

    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The value at `t0`, or with `t1` the increment from `t0` to `t1`; there are no jumps, so `left` is ignored."""
        del left
        if t1 is None:
            return self.value(t0)
        return jax.tree.map(jnp.subtract, self.value(t1), self.value(t0))

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative with respect to time at `t`."""
        del left
        t = jnp.asarray(t, jnp.result_type(self.t0, self.t1))
        return jax.jvp(self.evaluate, (t,), (jnp.ones_like(t),))[1]


def fraction(t: RealScalar, t0: RealScalar, t1: RealScalar) -> Time:
    """How far `t` is from `t0` to `t1`, as a number between 0 and 1; 0 in a step of no length."""
    length = jnp.asarray(t1 - t0)
    elapsed = jnp.asarray(t - t0)
    empty = length == 0
    # The inner `where` keeps the derivative finite as well as the value.
    return jnp.where(empty, jnp.zeros_like(elapsed), elapsed / jnp.where(empty, jnp.ones_like(length), length))


def blend(weights: list[Time], leaves: list[jax.Array], start: jax.Array) -> jax.Array:
    """`start + sum(weight * leaf)` in the dtype of `start`."""
    total = start
    for weight, leaf in zip(weights, leaves, strict=True):
        total = total + scaled(weight, leaf)
    return total
