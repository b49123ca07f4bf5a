"""Tools for loops under `vmap`, `shard_map` and XLA's fusion.

A batched loop runs until its slowest batch element is done. These functions keep its condition free of batch axes,
give its carry one type under `shard_map`, and stop XLA from computing a value more than once.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from .types import BoolScalar


@jax.custom_batching.custom_vmap
def _any_element(pred: jax.Array) -> jax.Array:
    return pred


@_any_element.def_vmap
def _(axis_size: int, in_batched: list[bool], pred: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return _any_element(jnp.any(pred, axis=0) if in_batched[0] else pred), False


def any_element(pred: BoolScalar) -> jax.Array:
    """True if `pred` is true for any batch element: `pred`, reduced by `or` over every `vmap` axis.

    The result is not batched. A loop with such a condition runs its body once for all batch elements, and a `cond`
    on it stays a real branch. A batched condition would turn every write into a buffer into a select over the whole
    buffer. The reduction has no derivative, and booleans need none.
    """
    return _any_element(jnp.asarray(pred))


@jax.custom_batching.custom_vmap
def _any_other_element(pred: jax.Array) -> jax.Array:
    return jnp.zeros_like(pred)


@_any_other_element.def_vmap
def _(axis_size: int, in_batched: list[bool], pred: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return (_any_element(jnp.any(pred, axis=0)) if in_batched[0] else _any_other_element(pred)), False


def any_other_element(pred: BoolScalar) -> jax.Array:
    """`any_element(pred)` where `pred` is batched, and false where it is not, because there are no other elements.

    Use it where a batch element's own `pred` is false. Without `vmap`, XLA can then drop what depends on the result.
    """
    return _any_other_element(jnp.asarray(pred))


def optimization_barrier[T](tree: T) -> T:
    """`tree`, unchanged, behind a barrier: XLA computes it once and does not recompute it wherever it is used.

    Without the barrier, fusion copies all earlier Runge–Kutta stages into each later one. Reverse mode makes this far
    worse.
    """
    return lax.optimization_barrier(tree)


def update_if[T, S](pred: BoolScalar, update: Callable[[T, S], T], value: T, operands: S) -> T:
    """`update(value, operands)` if `pred` is true for any batch element, else `value`.

    A loop of at most one iteration: `value` stays in place, whereas `lax.cond` copies what its branches return. In a
    loop of small steps that costs more than to test `pred`. The barrier keeps XLA from moving what depends on the
    operands alone out of this loop, into every iteration of the one around it.
    """
    like = (pred, value, operands)
    arrays, others = eqx.partition(operands, eqx.is_array)

    def turn(carry: tuple[jax.Array, T]) -> tuple[jax.Array, T]:
        _, value, inputs = optimization_barrier((*carry, arrays))
        return match_varying((jnp.asarray(False), update(value, eqx.combine(inputs, others))), like)

    return lax.while_loop(lambda carry: any_element(carry[0]), turn, match_varying((jnp.asarray(pred), value), like))[1]


def match_varying[T](tree: T, like: Any) -> T:
    """`tree`, marked as varying over every `shard_map` axis over which any leaf of `like` varies.

    The carry of a loop must keep its type, and the axes over which an array varies are part of its type. A constant
    initial value varies over none, a value computed from sharded input does; this function gives both the same type.
    """
    axes = varying_axes(like)
    if not axes:
        return tree

    def mark(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        missing = tuple(sorted(axes - varying_axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(mark, tree)


def varying_axes(tree: Any) -> set[str]:
    """The `shard_map` axes over which any leaf of `tree` varies."""
    axes: set[str] = set()
    for leaf in filter(eqx.is_array, jax.tree.leaves(tree)):
        aval = jax.typeof(leaf)
        axes |= set(getattr(getattr(aval, "manual_axis_type", None), "varying", ()) or getattr(aval, "vma", ()))
    return axes
