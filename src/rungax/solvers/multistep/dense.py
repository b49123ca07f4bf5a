"""Dense output of multistep methods."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...interpolation import AbstractLocalInterpolation
from ...interpolation.base import bridge, fraction
from ...jaxkit import RealScalar, Y, scaled


class BackwardDifferenceInterpolation(AbstractLocalInterpolation):
    r"""The polynomial through the last values of a multistep method, of the order of the step.

    With $\theta = (t - t_0) / (t_1 - t_0)$ and $s = \theta - 1$ it is
    $y_1 + \sum_j \nabla^j y_1 \prod_{m=0}^{j-1} (s + m) / (m + 1)$. It is evaluated as the straight line from `y0` to
    `y1` and $\theta (1 - \theta)$ times a polynomial, which is exact at both ends.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends.
    differences
        The backward differences of orders 2 and more, each like `y0`, stacked along the first axis of each leaf; those
        of a higher order than that of the step are zero.
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y
    differences: PyTree[Any]

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the polynomial at `t`."""
        theta = fraction(t, self.t0, self.t1)

        def leaf(y0: jax.Array, y1: jax.Array, differences: jax.Array) -> jax.Array:
            total, weight = jnp.zeros_like(y1), jnp.asarray(-0.5, theta.dtype)
            for row in range(differences.shape[0]):
                total = total + scaled(weight, differences[row])
                weight = weight * (theta + (row + 1)) / (row + 3)
            return bridge(theta, y0, y1, total)

        return jax.tree.map(leaf, self.y0, self.y1, self.differences)
