"""Values with other derivatives than their own: those of another expression, zero, or none, which is NaN."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .batching import match_varying
from .sweep import scaled_tangent
from .types import BoolScalar


def with_derivatives_of(x: Any, formula: Any) -> Any:
    """The array `x` with the derivatives of `formula`, which has the same value or nearly so; integers have none."""
    if not eqx.is_inexact_array(x):
        return x
    x, formula = match_varying((x, formula), (x, formula))
    return _with_derivatives_of(x, formula)


@jax.custom_jvp
def _with_derivatives_of(x: jax.Array, formula: jax.Array) -> jax.Array:
    del formula
    return x


@_with_derivatives_of.defjvp
def _(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    return _with_derivatives_of(*primals), tangents[1]


def constant_where[T](where: BoolScalar | jax.Array, tree: T) -> T:
    """`tree`, whose derivatives are zero if `where` holds.

    Apply it to values that are not used in that case: zero times a derivative that is not finite would be NaN.
    """

    def leaf(x: Any) -> Any:
        return with_derivatives_of(x, jnp.where(where, lax.stop_gradient(x), x)) if eqx.is_inexact_array(x) else x

    return jax.tree.map(leaf, tree)


def nan_derivative_where[T](where: BoolScalar | jax.Array, tree: T, of: Any) -> T:
    """`tree`, whose derivatives are NaN `where` that holds along the first axes of its leaves; integers have none.

    In forward mode they are NaN whenever `tree` or `of`, which is a pytree, has tangents, zeros among them. In reverse
    mode a cotangent of zero stays zero, and any other makes that of `of` NaN as well, even if no entry of `tree`
    depends on it.
    """
    inexact = [leaf for leaf in jax.tree.leaves(of) if eqx.is_inexact_array(leaf) and leaf.size > 0]
    one = jnp.real(inexact[0].reshape(-1)[0]) if inexact else jnp.zeros(())

    def leaf(x: Any) -> Any:
        if not eqx.is_inexact_array(x):
            return x
        flags = jnp.asarray(where)
        flags = jnp.broadcast_to(flags.reshape(*flags.shape, *[1] * (x.ndim - flags.ndim)), x.shape)
        return _nan_derivative_where(*match_varying((x, one, flags), (x, one, flags)))

    return jax.tree.map(leaf, tree)


@jax.custom_jvp
def _nan_derivative_where(x: jax.Array, one: jax.Array, where: jax.Array) -> jax.Array:
    del one, where
    return x


@_nan_derivative_where.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    (x, one, where), (t, of_one, _) = primals, tangents
    everything = t + jnp.broadcast_to(of_one.astype(x.dtype), x.shape)
    return _nan_derivative_where(x, one, where), jnp.where(
        where, scaled_tangent(jnp.full(x.shape, jnp.nan), everything), t
    )
