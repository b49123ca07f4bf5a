"""Partial differential equations on grids of the unit square, with the patterns of their Jacobians."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse

HEATING = 1.1
"""The time at which the Brusselator's heating starts."""


class Grid(NamedTuple):
    """An equation on a grid, its initial state, and the pattern of its Jacobian."""

    field: Callable[[Any, Any, Any], Any]
    y0: np.ndarray
    pattern: scipy.sparse.csc_array


@functools.cache
def brusselator(width: int) -> Grid:
    """The Brusselator on a periodic grid; the arguments are the feed A and the diffusion alpha.

    E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.10, problem BRUSS-2D.
    """
    x = np.linspace(0.0, 1.0, width)
    x, y = np.meshgrid(x, x, indexing="ij")
    heated = (x - 0.3) ** 2 + (y - 0.6) ** 2 <= 0.01

    def spread(u: Any) -> Any:
        return jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1) - 4 * u

    def field(t: Any, state: Any, args: Any) -> Any:
        (feed, alpha), (u, v) = args, state.reshape(2, width, width)
        rate, reaction = alpha * (width - 1) ** 2, u * u * v
        heat = jnp.where((t >= HEATING) & heated, 5.0, 0.0)
        slopes = [1.0 + reaction - (feed + 1) * u + rate * spread(u) + heat, feed * u - reaction + rate * spread(v)]
        return jnp.stack(slopes).reshape(-1)

    eye = scipy.sparse.eye_array(width)
    ring = scipy.sparse.csr_array(sum(np.roll(np.eye(width), shift, axis=1) for shift in (-1, 0, 1)))
    grid, same = scipy.sparse.kron(ring, eye) + scipy.sparse.kron(eye, ring), scipy.sparse.eye_array(width**2)
    start = np.stack([22 * (y * (1 - y)) ** 1.5, 27 * (x * (1 - x)) ** 1.5]).reshape(-1)
    return Grid(field, start, scipy.sparse.csc_array(scipy.sparse.block_array([[grid, same], [same, grid]])))


HEAT_MODES = ((1, 1, 1.0), (2, 3, -0.5), (7, 4, 0.3))
"""Numbers of half waves in the two directions, and amplitudes."""


@functools.cache
def heat(width: int) -> Grid:
    """The diffusion of heat between cold walls, from a sum of modes; the argument is the conductivity."""

    def field(t: Any, state: Any, conductivity: Any) -> Any:
        u = jnp.pad(state.reshape(width, width), 1)
        spread = u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]
        return (conductivity * (width + 1) ** 2 * spread).reshape(-1)

    line = scipy.sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(width, width))
    return Grid(field, exact_heat(width, 0.0, 1.0), scipy.sparse.csc_array(scipy.sparse.kronsum(line, line)))


def exact_heat(width: int, t: float, conductivity: float) -> np.ndarray:
    """The solution of the discrete equation: each mode decays by itself."""
    x, total = np.arange(1, width + 1) / (width + 1), np.zeros((width, width))
    for p, q, amplitude in HEAT_MODES:
        rate = sum(4 * (width + 1) ** 2 * np.sin(np.pi * n / (2 * (width + 1))) ** 2 for n in (p, q))
        mode = np.outer(np.sin(np.pi * p * x), np.sin(np.pi * q * x))
        total += amplitude * np.exp(-conductivity * rate * t) * mode
    return total.reshape(-1)
