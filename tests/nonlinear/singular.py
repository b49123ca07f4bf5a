"""Equations with a singular mass matrix, for tests of what belongs to their algebraic equations."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optimistix as optx

from rungax import ODETerm
from rungax.nonlinear import AbstractLinearAlgebra, AbstractNullSpaces, ErrorWeights, Tolerances, null_spaces
from rungax.solvers.common.flat_field import FlatField

T0 = 0.3


class Parts(NamedTuple):
    """The arguments of the functions on algebraic equations."""

    field: FlatField
    spaces: AbstractNullSpaces
    algebra: AbstractLinearAlgebra


def parts(function: Any, mass: Any, y: Any, args: Any = None, solver: Any = None, t: Any = T0, **term: Any) -> Parts:
    """The field of `mass * y' = function(t, y, args)`, and what is computed of it."""
    t = jnp.asarray(t)
    field = FlatField.for_step(ODETerm(function, mass=mass, **term), t, t + 1, y, args)
    assert field.mass is not None
    return Parts(field, null_spaces(field.mass), field.linear_algebra(solver, t, y))


def weights(field: FlatField, tolerance: float = 1e-10) -> ErrorWeights:
    return ErrorWeights.of(Tolerances(tolerance, tolerance, optx.rms_norm), field.space)


def of_rank(size: int, rank: int, seed: int, dtype: Any = float) -> np.ndarray:
    """A random matrix of a rank, whose other singular values are near one."""
    generator = np.random.default_rng(seed)
    draw = lambda: generator.normal(size=(size, size)) + 1j * generator.normal(size=(size, size))
    u, v = (np.linalg.qr(x if np.issubdtype(dtype, np.complexfloating) else x.real)[0] for x in (draw(), draw()))
    sizes = np.where(np.arange(size) < rank, generator.uniform(0.5, 2.0, size), 0.0)
    return ((u * sizes) @ v).astype(dtype)


def amplifier() -> np.ndarray:
    """The mass matrix of the transistor amplifier: rank 5 of 8, no row of zeros, and entries of 1e-6."""
    c = 1e-6 * np.arange(6)
    matrix = np.zeros((8, 8))
    for at, value in ((0, c[1]), (3, c[3]), (6, c[5])):
        matrix[at : at + 2, at : at + 2] = value * np.asarray([[-1.0, 1.0], [1.0, -1.0]])
    matrix[2, 2], matrix[5, 5] = -c[2], -c[4]
    return matrix
