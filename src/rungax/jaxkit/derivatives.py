"""A value with the derivatives of another expression for it."""

from typing import Any

import equinox as eqx
import jax

from .batching import match_varying


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
