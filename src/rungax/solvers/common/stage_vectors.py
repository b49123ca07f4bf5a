"""The increments of a step's stages, in a loop over the stages.

They are separate vectors, not the rows of one array: so under `vmap` every operation on them runs over the lanes, which
for a thousand lanes of three unknowns takes a tenth of the time.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ...jaxkit import IntScalar
from ...nonlinear import Vector

type Increments = tuple[Vector, ...]
"""One vector for each stage; zero for stages not made yet."""


def combine(weights: ArrayLike, increments: Increments) -> Vector:
    """The weighted sum."""
    weights = jnp.asarray(weights, increments[0].dtype)
    return sum((weights[i] * x for i, x in enumerate(increments)), start=jnp.zeros_like(increments[0]))


def put(increments: Increments, index: IntScalar, new: Vector) -> Increments:
    """With one of them set."""
    return tuple(jnp.where(index == i, new, x) for i, x in enumerate(increments))


def square(rows: Sequence[np.ndarray], dtype: Any) -> Array:
    """Rows of lengths 1, 2, ... as the strict lower triangle of a matrix."""
    matrix = np.zeros((len(rows) + 1, len(rows) + 1))
    for i, row in enumerate(rows):
        matrix[i + 1, : row.size] = row
    return jnp.asarray(matrix, dtype)


def stacked(trees: Sequence[Any]) -> Any:
    """Pytrees as one, with a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstacked(tree: Any, length: int) -> list[Any]:
    """The pytrees that `stacked` made into one, `length` in number."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(length)]
