"""The tolerances that equations inside a step are solved to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PyTree

from ..jaxkit import FlatSpace, RealScalar, Y
from .jacobian import Vector

type Norm = Callable[[PyTree[Any]], RealScalar]


class Tolerances(NamedTuple):
    """Relative and absolute tolerance (scalars, arrays, or pytrees like the state), and a norm."""

    rtol: PyTree[Any]
    atol: PyTree[Any]
    norm: Norm


def default_tolerances(y: Y) -> Tolerances:
    """For solves without error control: so tight that what is left is a few roundings, or little more."""
    eps = max((float(jnp.finfo(jnp.result_type(x)).eps) for x in jax.tree.leaves(y)), default=1e-16)
    return Tolerances(eps ** (2 / 3), eps ** (2 / 3), optx.rms_norm)


class Weights(eqx.Module):
    """The size of vectors relative to a tolerance.

    Parameters
    ----------
    tolerances
        The tolerance.
    space
        What the vectors stand for.
    """

    tolerances: Tolerances
    space: FlatSpace

    def at(self, y: Vector) -> Callable[[Vector], Array]:
        """The norm of vectors divided by `atol + rtol * abs(y)`."""
        state = self.space.unravel(y)
        rtol, atol = (_like(x, state) for x in (self.tolerances.rtol, self.tolerances.atol))
        real = jnp.finfo(self.space.dtype).dtype

        def weight(y: Array, rtol: Any, atol: Any) -> Array:
            size = jnp.abs(y)
            return 1 / (jnp.asarray(atol).astype(size.dtype) + jnp.asarray(rtol).astype(size.dtype) * size)

        def weigh(x: Array, w: Array) -> Array:
            return ((jnp.abs(x) if jnp.iscomplexobj(x) else x) * w).astype(real)

        weights = jax.tree.map(weight, state, rtol, atol)

        def size_of(vector: Vector) -> Array:
            weighed = jax.tree.map(weigh, self.space.unravel(vector), weights)
            return jnp.asarray(self.tolerances.norm(weighed)).astype(real)

        return size_of


def _like(tolerance: PyTree[Any], y: Y) -> PyTree[Any]:
    """`tolerance` as a pytree like `y`."""
    if jax.tree.structure(tolerance) == jax.tree.structure(y):
        return tolerance
    return jax.tree.map(lambda _: tolerance, y)
