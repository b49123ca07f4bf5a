"""The slowest of all lanes, for what is shown to the user and to no computation."""

import jax
import jax.numpy as jnp
from jax import lax

from .types import RealScalar


@jax.custom_batching.custom_vmap
def _slowest_element(progress: jax.Array) -> jax.Array:
    return progress


@_slowest_element.def_vmap
def _(axis_size: int, in_batched: list[bool], progress: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return _slowest_element(jnp.min(progress, axis=0) if in_batched[0] else progress), False


def slowest_element(progress: RealScalar) -> jax.Array:
    """`progress`, reduced by `min` over every `vmap` axis, so that the result is the same for the whole batch.

    It has no derivative, and needs none: no computation depends on it. `any_element`, on which computations depend,
    reduces booleans only, which have no derivative either.
    """
    return _slowest_element(lax.stop_gradient(jnp.asarray(progress)))
