"""Errors that a program raises: at once where its values are known, and otherwise by a callback from the device.

The callback reports the values that an error is about, those of all batch elements at once. Inside `shard_map` each
device raises by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .batching import match_varying

type MakeError = Callable[[np.ndarray, Any], Exception]
"""Makes the error from the flags of failure and the values, both with the axes of the batch in front."""


class InvalidValueError(ValueError, RuntimeError):
    """A `ValueError` about a value that is also a `RuntimeError`, which a program raises that finds it at run time."""


def raise_where[T](tree: T, failed: jax.Array, values: Any, make_error: MakeError) -> T:
    """`tree`; computing it raises an error if `failed` is true for any batch element.

    Parameters
    ----------
    tree
        Any pytree. Its arrays, and their derivatives, are returned once it is known that there is no error.
    failed
        Whether there is an error, a scalar.
    values
        Arrays that the error is about, in any pytree. Derivatives do not depend on them.
    make_error
        The error. A compiled program holds it: it must not hold traced values.
    """
    leaves, structure = jax.tree.flatten(values)
    arrays, others = _partition(tree)
    of_leaves = _OfLeaves(make_error, structure)
    checked = _raise_where.bind(
        jnp.asarray(failed), *map(jnp.asarray, leaves), *arrays, make_error=of_leaves, num_values=len(leaves)
    )
    return others(checked)


def _partition(tree: Any) -> tuple[list[jax.Array], Callable[[Sequence[jax.Array]], Any]]:
    """The arrays of a pytree, and the function that puts others in their places."""
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def restored(arrays: Sequence[jax.Array]) -> Any:
        found = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            found[place] = array
        return jax.tree.unflatten(structure, found)

    return [leaves[i] for i in places], restored


class _OfLeaves:
    """`make_error` as a function of the leaves of its values."""

    def __init__(self, make_error: MakeError, structure: Any):
        self.make_error, self.structure = make_error, structure

    def __call__(self, failed: Any, leaves: Sequence[Any]) -> Exception:
        values = jax.tree.unflatten(self.structure, [np.asarray(leaf) for leaf in leaves])
        return self.make_error(np.asarray(failed), values)


# ------------------------------------------------------------------------------------------------------- the primitive

_raise_where = Primitive("raise_where")
_raise_where.multiple_results = True


@_raise_where.def_impl
def _executed(failed: Any, *operands: Any, make_error: _OfLeaves, num_values: int) -> list[Any]:
    """The arrays, where all values are known."""
    if np.any(failed):
        raise make_error(failed, operands[:num_values])
    return list(operands[num_values:])


@_raise_where.def_abstract_eval
def _types(failed: Any, *operands: Any, make_error: _OfLeaves, num_values: int) -> list[Any]:
    del failed, make_error
    return list(operands[num_values:])


def _in_program(failed: Any, *operands: Any, make_error: _OfLeaves, num_values: int) -> list[Any]:
    """The arrays, in a program: through the host if there is an error, which raises it there."""
    values, arrays = operands[:num_values], list(operands[num_values:])

    def report(failed: Any, values: Any, arrays: Any) -> Any:
        if np.any(failed):
            raise make_error(failed, values)
        return arrays

    def through_host() -> list[Any]:
        like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
        reported = jax.pure_callback(report, like, failed, values, arrays, vmap_method="sequential")
        return [match_varying(x, like) for x, like in zip(reported, arrays, strict=True)]

    return lax.cond(jnp.any(failed), through_host, lambda: arrays)


_staged = mlir.lower_fun(_in_program, multiple_results=True)


def _lowered(context: Any, *operands: Any, **parameters: Any) -> Any:
    try:
        return _staged(context, *operands, **parameters)
    except (NotImplementedError, ValueError) as error:
        platforms = ", ".join(context.module_context.platforms)
        raise RuntimeError(
            f"A program for {platforms} cannot raise an error from inside: it has no callbacks to the host.\n"
            "Expected: `throw=False`\nFound:    `throw=True`\nRead from `Solution.result` how the solve ended."
        ) from error


def _batched(operands: Any, axes: Any, *, make_error: _OfLeaves, num_values: int) -> Any:
    """With the axis in front of the flags and of the values, so that the error knows the batch element."""
    heads, of_heads = operands[: num_values + 1], axes[: num_values + 1]
    sizes = {x.shape[axis] for x, axis in zip(heads, of_heads, strict=True) if axis is not None}
    if sizes:
        (size,) = sizes
        heads = [_in_front(x, axis, size) for x, axis in zip(heads, of_heads, strict=True)]
    arrays, of_arrays = operands[num_values + 1 :], axes[num_values + 1 :]
    return _raise_where.bind(*heads, *arrays, make_error=make_error, num_values=num_values), list(of_arrays)


def _in_front(x: Any, axis: int | None, size: int) -> jax.Array:
    return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)


def _differentiated(primals: Any, tangents: Any, **parameters: Any) -> Any:
    """Tangents pass by way of the host too: a program that returns nothing but a derivative raises the error."""
    head = 1 + parameters["num_values"]
    tangents = list(tangents[head:])
    places = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    checked = _raise_where.bind(*primals[:head], *(tangents[i] for i in places), **parameters) if places else []
    for place, tangent in zip(places, checked, strict=True):
        tangents[place] = tangent
    return _raise_where.bind(*primals, **parameters), tangents


def _transposed(cotangents: Any, *operands: Any, **parameters: Any) -> Any:
    """The cotangents of the arrays, which the primitive returns as they are."""
    head = 1 + parameters["num_values"]
    found: list[Any] = [
        cotangent if ad.is_undefined_primal(x) else None
        for x, cotangent in zip(operands[head:], cotangents, strict=True)
    ]
    places = [i for i, x in enumerate(found) if x is not None and not isinstance(x, ad.Zero)]
    checked = _raise_where.bind(*operands[:head], *(found[i] for i in places), **parameters) if places else []
    for place, cotangent in zip(places, checked, strict=True):
        found[place] = cotangent
    return [None] * head + found


batching.primitive_batchers[_raise_where] = _batched
ad.primitive_jvps[_raise_where] = _differentiated
ad.primitive_transposes[_raise_where] = _transposed
mlir.register_lowering(_raise_where, _lowered)
