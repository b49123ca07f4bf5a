"""Errors about values: known when a call is made, or found by a compiled program, inside `shard_map` too."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jax import lax

from .batching import any_element, match_varying, varying_axes


class InvalidValueError(ValueError, RuntimeError):
    """A `ValueError` about a value that is also a `RuntimeError`, which a program raises that finds it at run time."""


def error_if[T](tree: T, failed: jax.Array, which: jax.Array, messages: Sequence[str]) -> T:
    """`tree`; a program that computes it raises `messages[which]` if `failed` is true for any batch element.

    Inside `shard_map` each device raises by itself.
    """
    if not varying_axes((tree, failed, which)):
        return eqx.branched_error_if(tree, failed, which, messages)
    # Equinox's check cannot be traced there: the result of its callback varies over no axis of the mesh.
    arrays, others = eqx.partition(tree, eqx.is_array)
    return eqx.combine(_checked(arrays, failed, which, messages=tuple(messages)), others)


# As a rule of its own, because a callback has no derivative.
@eqx.filter_custom_jvp
def _checked(arrays: Any, failed: jax.Array, which: jax.Array, *, messages: tuple[str, ...]) -> Any:
    def report(failed: Any, which: Any, arrays: Any) -> Any:
        if failed:
            raise eqx.EquinoxRuntimeError(messages[int(which)])
        return arrays

    def after_report(arrays: Any) -> Any:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays)
        reported = jax.pure_callback(report, like, failed, which, arrays, vmap_method="sequential")
        return jax.tree.map(match_varying, reported, arrays)

    return lax.cond(any_element(failed), after_report, lambda arrays: arrays, arrays)


@_checked.def_jvp
def _(primals: Any, tangents: Any, *, messages: tuple[str, ...]) -> Any:
    arrays, failed, which = primals
    return _checked(arrays, failed, which, messages=messages), tangents[0]
