"""The size of the first step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, RealScalar, Time, Y, resolution, scaled
from ..terms import is_term

FALLBACK = 0.01
"""The first step of an equation whose time derivative is not known."""

NUM_ROUNDINGS = 10
"""The length of the shortest first step, in roundings of its start."""


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

    It compares the sizes of the state, of its slope and of its curvature along an explicit Euler step. Noise shortens
    the step so that the first terms of its Taylor expansion that a solver may neglect are well below the tolerance.
    Neither step is shorter than the resolution of time, nor goes beyond `t1`.

    Parameters
    ----------
    t0, t1
        The start of the step, and the time before which it must end.
    scaled_norm
        Norm of a pytree like `y0` after division by the tolerances at `y0`.
    error_order
        Order of the error estimate in the step size, the p + 1 of the reference.

    References
    ----------
    E. Hairer, S. P. Nørsett, G. Wanner, Solving Ordinary Differential Equations I, 2nd ed. (1993), II.4, p. 169.

    P. E. Kloeden, E. Platen, Numerical Solution of Stochastic Differential Equations (1992), 5.5, for the expansion.
    """
    span = t1 - t0
    shortest = jnp.minimum(NUM_ROUNDINGS * resolution(t0), span)
    slope = terms.time_derivative(t0, y0, args) if is_term(terms) else None
    if slope is None:
        return jnp.clip(jnp.asarray(FALLBACK, t0.dtype), shortest, span)

    def size(x: PyTree[Any]) -> Time:
        return jnp.asarray(scaled_norm(x)).astype(t0.dtype)

    deviation = terms.deviation(t0, y0, args)
    d0, d1 = size(y0), size(slope)
    small = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = jnp.where(small, 1e-6 if deviation is None else 1e-3, 0.01 * d0 / jnp.where(small, 1.0, d1))
    h0 = jnp.clip(h0, shortest, span)
    y_euler = jax.tree.map(lambda y, f: y + scaled(h0, f), y0, slope)
    bend = jax.tree.map(jnp.subtract, terms.time_derivative(t0 + h0, y_euler, args), slope)
    positive_h0 = jnp.where(h0 > 0, h0, 1.0)
    d2 = size(bend) / positive_h0
    # With noise the estimate's order is that of the noise's error; the drift's is of order two at least.
    order = error_order if deviation is None else jnp.maximum(jnp.asarray(error_order, t0.dtype), 2.0)
    h1 = _longest(jnp.maximum(d1, d2), 0.01, jnp.asarray(1 / order, t0.dtype), jnp.maximum(1e-6, h0 * 1e-3))
    h = jnp.minimum(100 * h0, h1)
    if deviation is not None:
        h = jnp.minimum(h, _noise_step(terms, t0, y0, args, size, (slope, deviation, positive_h0)))
    # A vector field that is not finite here gives no information; start with a small step and leave the rest to error
    # control.
    h = jnp.where(jnp.isfinite(h) & (h > 0), h, 1e-6)
    return jax.lax.stop_gradient(jnp.clip(h, shortest, span))


def _noise_step(
    terms: Any, t0: Time, y0: Y, args: Args, size: Callable[[PyTree[Any]], Time], at_start: tuple[Y, Y, Time]
) -> Time:
    """The longest step for which the first terms of noise that a solver may leave out are a tenth of the tolerance.

    With the noise's deviation g they are about (dg/dy) g h, and (df/dy) g h^(3/2) where noise is additive; both
    derivatives are taken along the noise.
    """
    slope, deviation, h0 = at_start
    root = jnp.sqrt(h0)
    moved = jax.tree.map(lambda y, g: y + scaled(root, g.astype(y.dtype)), y0, deviation)
    changed = jax.tree.map(jnp.subtract, terms.deviation(t0, moved, args), deviation)
    turned = jax.tree.map(jnp.subtract, terms.time_derivative(t0, moved, args), slope)
    infinite = jnp.full_like(h0, jnp.inf)
    by_noise = _longest(size(changed) / root, 0.1, jnp.asarray(1.0, h0.dtype), infinite)
    return jnp.minimum(by_noise, _longest(size(turned) / root, 0.1, jnp.asarray(2 / 3, h0.dtype), infinite))


def _longest(rate: Time, share: float, exponent: Time, otherwise: Time) -> Time:
    """The step over which an error of `rate` times a power of it is a `share` of the tolerance."""
    flat = ~(rate > 1e-15)
    return jnp.where(flat, otherwise, (share / jnp.where(flat, 1.0, rate)) ** exponent)
