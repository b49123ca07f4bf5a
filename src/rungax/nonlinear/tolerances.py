"""The tolerances to which equations inside a step are solved."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PyTree

from ..jaxkit import FlatSpace, RealScalar, Y, broadcast_to_tree
from .jacobian import Vector

type Norm = Callable[[PyTree[Any]], RealScalar]


class Tolerances(NamedTuple):
    """Relative and absolute tolerance (scalars, arrays, or pytrees like the state), and a norm."""

    rtol: PyTree[Any]
    atol: PyTree[Any]
    norm: Norm


def default_tolerances(y: Y) -> Tolerances:
    """The tolerances of a solve without error control: the remaining error is a few roundings, or little more."""
    eps = max((float(jnp.finfo(jnp.result_type(x)).eps) for x in jax.tree.leaves(y)), default=1e-16)
    return Tolerances(eps ** (2 / 3), eps ** (2 / 3), optx.rms_norm)


class ErrorWeights(eqx.Module):
    """The weights by which a norm measures vectors relative to a tolerance.

    Parameters
    ----------
    tolerances
        The tolerance and the norm.
    space
        The states that the vectors stand for.
    """

    tolerances: Tolerances
    space: FlatSpace

    def at(self, y: Vector) -> Callable[[Vector], Array]:
        """The norm of vectors divided by `atol + rtol * abs(y)`."""
        state = self.space.unravel(y)
        rtol, atol = (broadcast_to_tree(x, state) for x in (self.tolerances.rtol, self.tolerances.atol))
        real = jnp.finfo(self.space.dtype).dtype

        def weight(y: Array, rtol: Any, atol: Any) -> Array:
            size = jnp.abs(y)
            return 1 / (jnp.asarray(atol).astype(size.dtype) + jnp.asarray(rtol).astype(size.dtype) * size)

        def weighted(x: Array, w: Array) -> Array:
            return ((jnp.abs(x) if jnp.iscomplexobj(x) else x) * w).astype(real)

        weights = jax.tree.map(weight, state, rtol, atol)

        def size_of(vector: Vector) -> Array:
            weighted_state = jax.tree.map(weighted, self.space.unravel(vector), weights)
            return jnp.asarray(self.tolerances.norm(weighted_state)).astype(real)

        return size_of
