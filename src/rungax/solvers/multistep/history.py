r"""Backward differences of the solution at equidistant times, from which a multistep method makes its next step.

The row $j - 1$ of a history holds $\nabla^j y_n = \nabla^{j-1} y_n - \nabla^{j-1} y_{n-1}$ for the step size $h$ of the
history. A history of order $k$ stands for the polynomial through the last $k + 1$ values,

$$p(t_n + s h) = y_n + \sum_{j=1}^k \nabla^j y_n \prod_{m=0}^{j-1} \frac{s + m}{m + 1},$$

and for a step of another size the differences of this polynomial are taken anew.

References
----------
L. F. Shampine, M. W. Reichelt, The MATLAB ODE Suite, SIAM J. Sci. Comput. 18 (1997), 1–22: section 2.1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.polynomial.polynomial as P
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...jaxkit import RealScalar, any_element, match_varying
from ...nonlinear import Vector

type Order = Int[Array, ""]
"""The order of a step."""

type Differences = Float[Array, "order n"]
"""The backward differences of orders 1 to the largest one, a row for each."""


def used(differences: Differences, order: Order) -> Bool[Array, "order 1"]:
    """For each row whether a method of this order uses it."""
    return (jnp.arange(differences.shape[0], dtype=order.dtype) < order)[:, None]


def weighted_sum(weights: np.ndarray, differences: Differences) -> Vector:
    """The sum of the rows with the given weights, in the dtype of the rows."""
    return jnp.sum(jnp.asarray(weights, differences.dtype)[:, None] * differences, axis=0)


def resized(differences: Differences, order: Order, ratio: RealScalar) -> Differences:
    """The differences for a step size multiplied by `ratio`; rows above the order stay as they are.

    They depend differentiably on the ratio, and for a ratio of one it costs nothing to evaluate them.
    """
    rows = used(differences, order)
    zero = jnp.zeros((), differences.dtype)
    return jnp.where(rows, _resized(jnp.where(rows, differences, zero), jnp.asarray(ratio)), differences)


@jax.custom_jvp
def _resized(differences: Differences, ratio: Array) -> Differences:
    changes, like = ratio != 1, (differences, ratio)
    return lax.cond(
        any_element(changes),
        lambda: match_varying(jnp.where(changes, _formula(differences, ratio), differences), like),
        lambda: match_varying(differences, like),
    )


@_resized.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Differences, Differences]:
    return _resized(*primals), jax.jvp(_formula, primals, tangents)[1]


def _formula(differences: Differences, ratio: Array) -> Differences:
    """The differences of the polynomial at times whose distance is multiplied by `ratio`."""
    number = differences.shape[0]
    ratio = ratio.astype(differences.dtype)
    powers = jnp.cumprod(jnp.broadcast_to(ratio, (number,)))
    weights = jnp.asarray(_RESIZING[number], differences.dtype)
    matrix = jnp.sum(weights * powers[None, None, :], axis=-1)
    # Sums of products: under `vmap` XLA fuses them, but not a matrix product.
    return jnp.sum(matrix[:, :, None] * differences[None, :, :], axis=1)


def _resizing(number: int) -> np.ndarray:
    """The coefficients of the matrix of `_formula`: new row, old row, power of the ratio, from 1 on."""
    coefficients = np.zeros((number, number, number))
    for old in range(1, number + 1):
        # The old difference's polynomial in s, whose values at s = 0, -ratio, -2 ratio, ... have the new differences.
        basis = np.array([1.0])
        for m in range(old):
            basis = P.polymul(basis, [m / (m + 1), 1 / (m + 1)])
        for power in range(1, old + 1):
            values = basis[power] * (-np.arange(number + 1.0)) ** power
            for new in range(1, number + 1):
                values = values[:-1] - values[1:]
                coefficients[new - 1, old - 1, power - 1] = values[0]
    return coefficients


_RESIZING = {number: _resizing(number) for number in range(1, 6)}
"""The coefficients by the number of rows."""


def advanced(differences: Differences, order: Order, correction: Vector) -> Differences:
    """The differences at the end of a step that has corrected the polynomial's value there by `correction`.

    The correction is the difference of one order more than that of the step.
    """
    number = differences.shape[0]
    index = jnp.arange(number, dtype=order.dtype)[:, None]
    # The rows of the two orders above that of the step; by them a later step may have a higher order.
    above = lax.dynamic_index_in_dim(differences, jnp.minimum(order, number - 1), keepdims=False)
    rows = jnp.where(index < order, differences, jnp.zeros((), differences.dtype))
    # The sum from each row of the step on; `correction` is the last term of each.
    sums = lax.cumsum(rows, axis=0, reverse=True) + correction[None, :]
    return jnp.where(index <= order, sums, jnp.where(index == order + 1, (correction - above)[None, :], differences))
