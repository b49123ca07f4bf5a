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

    It compares the sizes of the state, of its slope and of its curvature along an explicit Euler step. Noise counts as
    part of the slope, with three times its standard deviation in a unit of time, of either sign.

    Parameters
    ----------
    scaled_norm
        Norm of a pytree like `y0` after division by the tolerances at `y0`.
    error_order
        Order of the error estimate in the step size, the p + 1 of the reference.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.4, p. 169.
    C. Rackauckas, Q. Nie, Adaptive methods for stochastic differential equations via natural embeddings and rejection
    sampling with memory, Discrete Contin. Dyn. Syst. B 22 (2017), 2731–2761, for noise.
    """
    span = t1 - t0
    slope = terms.time_derivative(t0, y0, args)
    if slope is None:
        return jnp.minimum(jnp.asarray(FALLBACK, t0.dtype), span)
    noise = _noise(terms, t0, y0, args)

    d0, d1 = (jnp.asarray(scaled_norm(x)).astype(t0.dtype) for x in (y0, _larger(slope, noise)))
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = jnp.where(small, 1e-6, 0.01 * d0 / jnp.where(small, 1.0, d1))
    h0 = jnp.minimum(h0, span)
    y_euler = jax.tree.map(lambda y, f: y + scaled(h0, f), y0, slope)
    bend = jax.tree.map(jnp.subtract, terms.time_derivative(t0 + h0, y_euler, args), slope)
    # The noise of the two ends may be of either sign.
    bent = None if noise is None else jax.tree.map(jnp.add, noise, _noise(terms, t0 + h0, y_euler, args))
    positive_h0 = jnp.where(h0 > 0, h0, 1.0)
    d2 = jnp.asarray(scaled_norm(_larger(bend, bent))).astype(t0.dtype) / positive_h0
    largest = jnp.maximum(d1, d2)
    flat = ~(largest > 1e-15)
    exponent = jnp.asarray(1 / error_order, t0.dtype)
    h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), (0.01 / jnp.where(flat, 1.0, largest)) ** exponent)
    h = jnp.minimum(jnp.minimum(100 * h0, h1), span)
    # A vector field that is not finite here says nothing; start small and let the error control see.
    return jax.lax.stop_gradient(jnp.where(jnp.isfinite(h) & (h > 0), h, jnp.minimum(1e-6, span)))


def _noise(terms: Any, t: Time, y: Y, args: Args) -> Y | None:
    """Three standard deviations of the noise in a unit of time, more than which it hardly ever is."""
    deviation = terms.deviation(t, y, args)
    return None if deviation is None else jax.tree.map(lambda x: 3.0 * x, deviation)


def _larger(slope: Y, noise: Y | None) -> Y:
    """The larger of `slope + noise` and `slope - noise`, in size."""
    return slope if noise is None else jax.tree.map(lambda f, g: jnp.abs(f) + jnp.abs(g), slope, noise)
