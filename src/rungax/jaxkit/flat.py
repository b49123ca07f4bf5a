"""Pytrees of arrays as one vector, for linear algebra."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .trees import inexact_dtype
from .types import Y


class FlatSpace(eqx.Module):
    """Conversion between states of one structure and vectors.

    A complex leaf becomes its real parts followed by its imaginary parts, because a vector field need not be
    differentiable in the complex sense. For a field that is declared holomorphic the vector is complex.

    Parameters
    ----------
    like
        A state; its structure, shapes and dtypes are read. Integers are unraveled as floats.
    holomorphic
        Whether complex numbers stay complex.
    """

    structure: Any = eqx.field(static=True)
    leaves: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...] = eqx.field(static=True)
    dtype: np.dtype[Any] = eqx.field(static=True)

    def __init__(self, like: Y, holomorphic: bool = False):
        leaves, self.structure = jax.tree.flatten(like)
        self.leaves = tuple((jnp.shape(x), inexact_dtype(x)) for x in leaves)
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*(dtype for _, dtype in self.leaves)) if leaves else jnp.result_type(float)
        self.dtype = dtype if holomorphic else jnp.finfo(dtype).dtype

    @property
    def size(self) -> int:
        """Length of the vectors."""
        return sum(self._widths())

    @property
    def is_split(self) -> bool:
        """True if complex leaves are split into real and imaginary parts."""
        return any(self._splits(dtype) for _, dtype in self.leaves)

    def ravel(self, tree: Y) -> jax.Array:
        """The vector with the entries of a pytree."""
        parts: list[jax.Array] = []
        for leaf in jax.tree.leaves(tree):
            flat = jnp.asarray(leaf).reshape(-1)
            split = self._splits(flat.dtype)
            parts.extend(x.astype(self.dtype) for x in ((flat.real, flat.imag) if split else (flat,)))
        if not parts:
            return jnp.zeros(0, self.dtype)
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def unravel(self, vector: jax.Array) -> Y:
        """The pytree with the entries of a vector."""
        leaves: list[jax.Array] = []
        start = 0
        for (shape, dtype), width in zip(self.leaves, self._widths(), strict=True):
            flat = vector if width == vector.size else vector[start : start + width]
            if self._splits(dtype):
                half = width // 2
                flat = jax.lax.complex(flat[:half], flat[half:])
            leaves.append(flat.reshape(shape).astype(dtype))
            start += width
        return jax.tree.unflatten(self.structure, leaves)

    def places(self) -> np.ndarray:
        """The places in the vector of each entry of the state: shape `(entries, 1)`, or `(entries, 2)` if one is split.

        The two places of an entry that is not split are the same.
        """
        found: list[np.ndarray] = []
        start = 0
        for (_, dtype), width in zip(self.leaves, self._widths(), strict=True):
            places = np.arange(start, start + width)
            found.append(places.reshape(2, -1).T if self._splits(dtype) else np.stack([places, places], axis=1))
            start += width
        every = np.concatenate([np.zeros((0, 2), int), *found])
        return every if self.is_split else every[:, :1]

    def _splits(self, dtype: np.dtype[Any]) -> bool:
        """True if leaves of this dtype are split into real and imaginary parts."""
        return jnp.issubdtype(dtype, jnp.complexfloating) and not jnp.issubdtype(self.dtype, jnp.complexfloating)

    def _widths(self) -> list[int]:
        return [int(np.prod(shape)) * (2 if self._splits(dtype) else 1) for shape, dtype in self.leaves]
