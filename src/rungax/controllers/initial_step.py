"""The size of the first step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, RealScalar, Time, Y, scaled

FALLBACK = 0.01
"""The first step of an equation whose time derivative nobody knows."""


def initial_step(
    terms: Any,
    t0: Time,
    t1: Time,
    y0: Y,
    args: Args,
    scaled_norm: Callable[[PyTree[Any]], RealScalar],
    error_order: RealScalar,
) -> Time:
    """A first step by the algorithm of Hairer, Nørsett and Wanner; costs two evaluations of the vector field.

    It compares the sizes of the state, of its slope and of its curvature along an explicit Euler step.

    Parameters
    ----------
    scaled_norm
        Norm of a pytree like `y0` after division by the tolerances at `y0`.
    error_order
        Order of the error estimate in the step size, the p + 1 of the reference.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.4, p. 169.
    """
    slope = terms.time_derivative(t0, y0, args)
    span = t1 - t0
    if slope is None:
        return jnp.minimum(jnp.asarray(FALLBACK, t0.dtype), span)

    d0, d1 = (jnp.asarray(scaled_norm(x)).astype(t0.dtype) for x in (y0, slope))
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = jnp.where(small, 1e-6, 0.01 * d0 / jnp.where(small, 1.0, d1))
    h0 = jnp.minimum(h0, span)
    y_euler = jax.tree.map(lambda y, f: y + scaled(h0, f), y0, slope)
    bend = jax.tree.map(jnp.subtract, terms.time_derivative(t0 + h0, y_euler, args), slope)
    positive_h0 = jnp.where(h0 > 0, h0, 1.0)
    d2 = jnp.asarray(scaled_norm(bend)).astype(t0.dtype) / positive_h0
    largest = jnp.maximum(d1, d2)
    flat = ~(largest > 1e-15)
    exponent = jnp.asarray(1 / error_order, t0.dtype)
    h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), (0.01 / jnp.where(flat, 1.0, largest)) ** exponent)
    h = jnp.minimum(jnp.minimum(100 * h0, h1), span)
    # A vector field that is not finite here says nothing; start small and let the error control see.
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(h) & (h > 0), h, jnp.minimum(1e-6, span)))
