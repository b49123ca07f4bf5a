"""Hermite interpolation: polynomials with given values and slopes at the ends of a step."""

from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Time, Y, combination, scaled
from .base import AbstractLocalInterpolation, bridge, fraction


class ThirdOrderHermitePolynomialInterpolation(AbstractLocalInterpolation):
    r"""The cubic with given values and slopes at both ends of a step.

    $$y_0 + \theta \Delta + \theta (1 - \theta) \big((1 - \theta)(k_0 - \Delta) + \theta (\Delta - k_1)\big),
    \qquad \Delta = y_1 - y_0$$

    At both ends of the step it is exactly $y_0$ and $y_1$.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends.
    k0, k1
        Slopes at the ends, times the length of the step.

    Differentiability
    -----------------
    With respect to all parameters and the times of evaluation.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.6.

    Examples
    --------
    The cubic t³ over a step from 0 to 2, from its values and its slopes times 2:

    >>> import rungax
    >>> cubic = rungax.ThirdOrderHermitePolynomialInterpolation(
    ...     t0=0.0, t1=2.0, y0=0.0, y1=8.0, k0=0.0, k1=24.0
    ... )
    >>> float(cubic.evaluate(1.0)), float(cubic.derivative(1.0))
    (1.0, 3.0)
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y
    k0: Y
    k1: Y

    def __init__(self, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k0: Y, k1: Y):
        self.t0, self.t1, self.y0, self.y1, self.k0, self.k1 = t0, t1, y0, y1, k0, k1

    @property
    def coeffs(self) -> PyTree[jax.Array]:
        r"""The coefficients of the cubic in $\theta$, highest power first along the first axis of each leaf."""
        return jax.tree.map(_coefficients_of_cubic, self.y0, self.y1, self.k0, self.k1)

    @classmethod
    def from_k(cls, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: Y) -> Self:
        """The cubic whose slopes are the first and the last Runge–Kutta stage, `k[0]` and `k[-1]`."""
        first, last = (jax.tree.map(lambda leaf, i=i: leaf[i], k) for i in (0, -1))
        return cls(t0=t0, t1=t1, y0=y0, y1=y1, k0=first, k1=last)

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the cubic at `t`."""
        theta = fraction(t, self.t0, self.t1)

        def leaf(y0: jax.Array, y1: jax.Array, k0: jax.Array, k1: jax.Array) -> jax.Array:
            return bridge(theta, y0, y1, _bend(theta, y1 - y0, k0, k1))

        return jax.tree.map(leaf, self.y0, self.y1, self.k0, self.k1)


class FourthOrderPolynomialInterpolation(AbstractLocalInterpolation):
    r"""The quartic with given values and slopes at both ends of a step and a given value at its midpoint.

    Subclass it with the class attribute `c_mid`: the value at the midpoint is $y_0 + \sum_i c_{\text{mid},i} k_i$. The
    slopes are the first and the last stage, so it is for methods that are first same as last (FSAL).

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends.
    k
        Runge–Kutta stages, times the length of the step, stacked along the first axis of each leaf.

    Differentiability
    -----------------
    With respect to all parameters and the times of evaluation.

    References
    ----------
    L. F. Shampine, Some practical Runge–Kutta formulas, Math. Comp. 46 (1986), 135–150.

    Examples
    --------
    For three stages with the slopes at the start, the midpoint and the end of a step, here those of t³:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import rungax
    >>> class Simpson(rungax.FourthOrderPolynomialInterpolation):
    ...     c_mid = np.array([5 / 24, 8 / 24, -1 / 24])
    >>> quartic = Simpson(t0=0.0, t1=1.0, y0=0.0, y1=1.0, k=jnp.array([0.0, 0.75, 3.0]))
    >>> float(quartic.evaluate(0.5))
    0.125
    """

    c_mid: ClassVar[np.ndarray]
    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y
    k0: Y
    k1: Y
    y_mid: Y

    def __init__(self, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: Y):
        stages = [jax.tree.map(lambda leaf, i=i: leaf[i], k) for i in range(len(self.c_mid))]
        self.t0, self.t1, self.y0, self.y1 = t0, t1, y0, y1
        self.k0, self.k1 = stages[0], stages[-1]
        self.y_mid = combination(self.c_mid, stages, y0)

    @property
    def coeffs(self) -> PyTree[jax.Array]:
        r"""The coefficients of the quartic in $\theta$, highest power first along the first axis of each leaf."""

        def leaf(y0: jax.Array, y1: jax.Array, k0: jax.Array, k1: jax.Array, y_mid: jax.Array) -> jax.Array:
            missing = 16 * _missing(y0, y1, k0, k1, y_mid)
            cubic = _coefficients_of_cubic(y0, y1, k0, k1)
            quartic = jnp.stack([missing, -2 * missing, missing, jnp.zeros_like(missing), jnp.zeros_like(missing)])
            return quartic.at[1:].add(cubic)

        return jax.tree.map(leaf, self.y0, self.y1, self.k0, self.k1, self.y_mid)

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the quartic at `t`."""
        theta = fraction(t, self.t0, self.t1)

        def leaf(y0: jax.Array, y1: jax.Array, k0: jax.Array, k1: jax.Array, y_mid: jax.Array) -> jax.Array:
            # What the cubic misses at the midpoint is added times 16 θ²(1-θ)², which is 1 there, and whose value and
            # slope are 0 at both ends.
            missing = _missing(y0, y1, k0, k1, y_mid)
            bend = _bend(theta, y1 - y0, k0, k1) + scaled(16 * theta * (1 - theta), missing)
            return bridge(theta, y0, y1, bend)

        return jax.tree.map(leaf, self.y0, self.y1, self.k0, self.k1, self.y_mid)


def _missing(y0: jax.Array, y1: jax.Array, k0: jax.Array, k1: jax.Array, y_mid: jax.Array) -> jax.Array:
    """The difference of the value at the midpoint from that of the cubic, (y0 + y1)/2 + (k0 - k1)/8."""
    return y_mid - y0 - 0.5 * (y1 - y0) - 0.125 * (k0 - k1)


def _coefficients_of_cubic(y0: jax.Array, y1: jax.Array, k0: jax.Array, k1: jax.Array) -> jax.Array:
    """The coefficients of the cubic, highest power first."""
    change = y1 - y0
    return jnp.stack(jnp.broadcast_arrays(k0 + k1 - 2 * change, 3 * change - 2 * k0 - k1, k0, y0))


def _bend(theta: Time, change: jax.Array, k0: jax.Array, k1: jax.Array) -> jax.Array:
    """The difference of the cubic from the straight line, divided by `theta * (1 - theta)`."""
    return scaled(1 - theta, k0 - change) + scaled(theta, change - k1)
