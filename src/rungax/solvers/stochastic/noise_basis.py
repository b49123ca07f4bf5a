"""The scalar sources of noise in a Brownian path of pytrees."""

from math import sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PyTree

from ...jaxkit import FlatSpace

type NoiseVector = Float[Array, " m"]


class NoiseBasis(eqx.Module):
    """Coordinates of increments: independent real numbers with the variance of a scalar Brownian motion.

    A complex entry has two coordinates, for its real and its imaginary part, which have half the variance each.

    Parameters
    ----------
    like
        An increment of the path.
    """

    space: FlatSpace

    def __init__(self, like: PyTree[Any]):
        self.space = FlatSpace(like)

    @property
    def size(self) -> int:
        """Number of sources."""
        return self.space.size

    def coordinates(self, increment: PyTree[Any]) -> NoiseVector:
        """The increments of the sources, as a vector."""
        vector = self.space.ravel(increment)
        return vector / self._scales() if self.space.is_split else vector

    def increment(self, coordinates: NoiseVector) -> PyTree[Any]:
        """The increment of the path for these increments of its sources."""
        return self.space.unravel(self._scales() * coordinates if self.space.is_split else coordinates)

    def units(self) -> Float[Array, "m m"]:
        """The coordinates of unit increments, with a row for each source."""
        return jnp.eye(self.size, dtype=self.space.dtype)

    def _scales(self) -> NoiseVector:
        parts: list[np.ndarray] = []
        for shape, dtype in self.space.leaves:
            count = int(np.prod(shape))
            is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
            parts.append(np.full(2 * count, sqrt(0.5)) if is_complex else np.ones(count))
        return jnp.asarray(np.concatenate(parts), self.space.dtype)


def acts_elementwise(field: PyTree[Any], increment: PyTree[Any]) -> bool:
    """True if each entry of the increment is one real source that drives entries of the state of its own.

    That is the case for a diagonal operator, and for scalar leaves of noise, each of which drives one leaf of the
    state.
    """
    leaves = jax.tree.leaves(increment)
    if any(jnp.iscomplexobj(leaf) for leaf in leaves):
        return False
    if isinstance(field, lx.AbstractLinearOperator) and sum(jnp.size(leaf) for leaf in leaves) != 1:
        return lx.is_diagonal(field)
    return all(jnp.ndim(leaf) == 0 for leaf in leaves)
