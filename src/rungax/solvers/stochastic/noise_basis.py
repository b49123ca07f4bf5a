"""The single sources of noise that a Brownian path of pytrees is made of."""

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
    """Coordinates of increments: independent real numbers of one variance, that of a scalar Brownian motion.

    A complex dimension is two of them, its real and its imaginary part, in which it has half the variance each.

    Parameters
    ----------
    like
        An increment.
    """

    space: FlatSpace

    def __init__(self, like: PyTree[Any]):
        self.space = FlatSpace(like)

    @property
    def size(self) -> int:
        """How many sources there are."""
        return self.space.size

    def coordinates(self, increment: PyTree[Any]) -> NoiseVector:
        """The sources' increments, one vector."""
        vector = self.space.ravel(increment)
        return vector / self._scales() if self.space.is_split else vector

    def increment(self, coordinates: NoiseVector) -> PyTree[Any]:
        """The pytree that a path would give for these increments of its sources."""
        return self.space.unravel(self._scales() * coordinates if self.space.is_split else coordinates)

    def units(self) -> Float[Array, "m m"]:
        """The coordinates of a unit increment of each source alone, one row each."""
        return jnp.eye(self.size, dtype=self.space.dtype)

    def _scales(self) -> NoiseVector:
        parts: list[np.ndarray] = []
        for shape, dtype in self.space.leaves:
            count = int(np.prod(shape))
            is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
            parts.append(np.full(2 * count, sqrt(0.5)) if is_complex else np.ones(count))
        return jnp.asarray(np.concatenate(parts), self.space.dtype)


def acts_elementwise(field: PyTree[Any], increment: PyTree[Any]) -> bool:
    """Whether each entry of the increment is one real source that moves its own entries of the state.

    So it is for a diagonal operator, and for scalar leaves of noise, each for one leaf of the state.
    """
    leaves = jax.tree.leaves(increment)
    if any(jnp.iscomplexobj(leaf) for leaf in leaves):
        return False
    if isinstance(field, lx.AbstractLinearOperator) and sum(jnp.size(leaf) for leaf in leaves) != 1:
        return lx.is_diagonal(field)
    return all(jnp.ndim(leaf) == 0 for leaf in leaves)
