"""The progress of the slowest batch element, for progress meters only."""

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
    """Progress of the slowest batch element: `progress`, reduced by `min` over every `vmap` axis.

    Its derivative is defined as zero, because no computation depends on it: it is only shown to the user. A reduction
    on which computations depend, such as `any_element`, is restricted to booleans.
    """
    return _slowest_element(lax.stop_gradient(jnp.asarray(progress)))
