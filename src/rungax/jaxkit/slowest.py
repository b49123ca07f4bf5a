"""The slowest of all lanes, for what is shown to the user and to no computation."""

import jax
import jax.numpy as jnp
from jax import lax

from .types import RealScalar


@jax.custom_batching.custom_vmap
def _slowest_lane(progress: jax.Array) -> jax.Array:
    return progress


@_slowest_lane.def_vmap
def _(axis_size: int, in_batched: list[bool], progress: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return _slowest_lane(jnp.min(progress, axis=0) if in_batched[0] else progress), False


def slowest_lane(progress: RealScalar) -> jax.Array:
    """`progress`, reduced by `min` over every `vmap` axis, so that the result is the same for all lanes.

    It has no derivative, and needs none: nothing that is computed depends on it. `any_lane`, on which computations do
    depend, reduces booleans only, which have none either.
    """
    return _slowest_lane(lax.stop_gradient(jnp.asarray(progress)))
