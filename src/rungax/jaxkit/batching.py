"""Loops under `vmap` and `shard_map`: one trip count for all lanes, and stages that XLA keeps apart."""

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
    """`pred`, reduced by `or` over every `vmap` axis, so that the result is the same for all lanes.

    A loop whose condition is not batched runs its body once for all lanes and a `cond` on it stays a real branch; a
    batched condition would turn buffer writes into selects over the whole buffer. Only booleans pass through here.
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
    """`any_element(pred)` where there are several lanes, and false where there is one, which has no others.

    For what a lane asks when its own `pred` is false. XLA then sees that a single lane need not ask.
    """
    return _any_other_element(jnp.asarray(pred))


def optimization_barrier[T](tree: T) -> T:
    """`tree`, unchanged, but computed once: XLA may not recompute it inside everything that uses it.

    Without this, fusion copies all earlier Runge–Kutta stages into each later one, far worse in reverse mode.
    """
    return lax.optimization_barrier(tree)


def match_varying[T](tree: T, like: Any) -> T:
    """`tree`, marked as varying over every `shard_map` axis over which any leaf of `like` varies.

    The carry of a loop must keep its type; a constant first value and a value computed from sharded input differ
    in the axes they vary over unless the first is marked.
    """
    axes: set[str] = set()
    for leaf in filter(eqx.is_array, jax.tree.leaves(like)):
        axes |= _varying_axes(leaf)
    if not axes:
        return tree

    def mark(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        missing = tuple(sorted(axes - _varying_axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(mark, tree)


def _varying_axes(leaf: Any) -> set[str]:
    aval = jax.typeof(leaf)
    return set(getattr(getattr(aval, "manual_axis_type", None), "varying", ()) or getattr(aval, "vma", ()))
