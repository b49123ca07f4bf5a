"""The protocol of interpolations over one step."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Time, scaled
from ..paths import AbstractPath


class AbstractLocalInterpolation(AbstractPath):
    """A continuous function over one step, from `t0` to `t1`, that a solver makes from the step's results.

    To define your own, subclass it and implement `t0`, `t1` and either `value` or `evaluate`. A solver uses it if the
    class, or a function that makes it, is its `interpolation_cls`.

    See Also
    --------
    LocalLinearInterpolation, ThirdOrderHermitePolynomialInterpolation : for solvers without dense output of their own.
    """

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value at `t`."""
        raise NotImplementedError(f"A `{type(self).__name__}` implements neither `value` nor `evaluate`.")

    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The value at `t0`, or the increment to `t1` if that is given; without jumps, `left` is ignored."""
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
    """The fraction of the way from `t0` to `t1` at which `t` lies, `(t - t0) / (t1 - t0)`; 0 if `t0 == t1`."""
    length = jnp.asarray(t1 - t0)
    elapsed = jnp.asarray(t - t0)
    empty = length == 0
    # The inner `where` keeps the derivative finite, too.
    return jnp.where(empty, jnp.zeros_like(elapsed), elapsed / jnp.where(empty, jnp.ones_like(length), length))


def chord(theta: Time, y0: jax.Array, y1: jax.Array) -> jax.Array:
    """The straight line from `y0` at `theta` 0 to `y1` at 1, exactly these values there, in their dtype."""
    change = y1 - y0
    return jnp.where(theta < 0.5, y0 + scaled(theta, change), y1 - scaled(1 - theta, change))


def bridge(theta: Time, y0: jax.Array, y1: jax.Array, inner: jax.Array) -> jax.Array:
    """The straight line from `y0` to `y1`, and `theta * (1 - theta)` times `inner`, which vanishes at both ends."""
    return chord(theta, y0, y1) + scaled(theta * (1 - theta), inner)
