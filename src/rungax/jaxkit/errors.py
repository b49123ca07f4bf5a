"""Errors that a program raises: at once where its values are known, and otherwise by a callback from the device.

The callback reports the values that an error is about, those of all batch elements at once. Inside `shard_map` each
device raises by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import io_callback
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .batching import match_varying
from .traced_function import trace_once, without_captures

type MakeError = Callable[[np.ndarray, Any], Exception]
"""Makes the error from the flags of failure and the values, both with the axes of the batch in front."""


_SMALL = 1024
"""Number of entries up to which an array waits until it is known that there is no error."""


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
        Arrays that the error is about, in any pytree, or a function that computes them: a program evaluates it only if
        there is an error. Derivatives do not depend on them.
    make_error
        The error. A compiled program holds it: it must not hold traced values.
    """
    arrays, others = _partition(tree)
    operands, error = _program(values, make_error)
    failed = jnp.asarray(failed)
    return others(_raise_where.bind(failed, *operands, *arrays, error=error, num_operands=len(operands)))


def _program(values: Any, make_error: MakeError) -> "tuple[list[jax.Array], _Error]":
    """The operands from which the values of an error are computed, and the error as a function of them."""
    if not callable(values):
        leaves, structure = jax.tree.flatten(values)
        return [jnp.asarray(leaf) for leaf in leaves], _Error(
            lambda failed, *leaves: list(leaves), structure, make_error
        )
    program = without_captures(trace_once(values))
    captured, rest = eqx.partition(program, eqx.is_array)
    operands, of_operands = jax.tree.flatten(captured)

    def computed(failed: jax.Array, *operands: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(eqx.combine(jax.tree.unflatten(of_operands, operands), rest)())

    return operands, _Error(computed, jax.tree.structure(jax.eval_shape(program)), make_error)


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


class _Error:
    """An error as a function of the flags of failure and of the operands from which its values are computed.

    Parameters
    ----------
    computed
        The leaves of the values, as a function of the flag and the operands.
    structure
        The structure of the values.
    make
        The error, as a function of flag and values.
    """

    def __init__(self, computed: Callable[..., list[jax.Array]], structure: Any, make: MakeError):
        self.computed, self.structure, self.make = computed, structure, make

    def batched(self) -> "_Error":
        """The error of a batch, with its axis in front of the flags and of all operands."""
        return _Error(jax.vmap(self.computed), self.structure, self.make)

    def of(self, failed: Any, leaves: Sequence[Any]) -> Exception:
        """The error, from the leaves of its values."""
        values = jax.tree.unflatten(self.structure, [np.asarray(leaf) for leaf in leaves])
        return self.make(np.asarray(failed), values)


# ------------------------------------------------------------------------------------------------------- the primitive

_raise_where = Primitive("raise_where")
_raise_where.multiple_results = True


@_raise_where.def_impl
def _executed(failed: Any, *operands: Any, error: _Error, num_operands: int) -> list[Any]:
    """The arrays, where all values are known."""
    if np.any(failed):
        raise error.of(failed, error.computed(failed, *operands[:num_operands]))
    return list(operands[num_operands:])


@_raise_where.def_abstract_eval
def _types(failed: Any, *operands: Any, error: _Error, num_operands: int) -> list[Any]:
    del failed, error
    return list(operands[num_operands:])


def _in_program(failed: Any, *operands: Any, error: _Error, num_operands: int) -> list[Any]:
    """The arrays, in a program that calls the host if there is an error, which raises it there."""
    arrays = list(operands[num_operands:])

    def report(failed: Any, *leaves: Any) -> np.ndarray:
        if np.any(failed):
            raise error.of(failed, leaves)
        return np.zeros((), bool)

    def through_host() -> jax.Array:
        return match_varying(io_callback(report, jax.ShapeDtypeStruct((), bool), failed, *leaves), operands)

    leaves = _computed_where(jnp.any(failed), error, failed, operands[:num_operands])
    # The call has an effect, so that it stays although little depends on it: arrays that went through it would be
    # copied where nothing fails. Small ones wait for it, because on CPUs what runs beside it is in another thread: the
    # gradient of a short solve takes 280 µs without waiting and 200 with it.
    raised = lax.cond(jnp.any(failed), through_host, lambda: match_varying(jnp.zeros((), bool), operands))
    return [_after(raised, x) if x.size <= _SMALL else x for x in arrays]


def _computed_where(needed: jax.Array, error: _Error, failed: Any, operands: Sequence[Any]) -> list[jax.Array]:
    """The leaves of the error's values if they are `needed`, else zeros.

    A loop of at most one turn and not a branch, because XLA compiles a small loop as one function. In a branch each
    operation is compiled by itself, which for a short solve doubles the time of the compilation.
    """
    like = jax.eval_shape(error.computed, failed, *operands)
    zeros = [jnp.zeros(x.shape, x.dtype) for x in like]

    def turn(carry: tuple[jax.Array, list[jax.Array]]) -> tuple[jax.Array, list[jax.Array]]:
        return jnp.zeros_like(carry[0]), match_varying(error.computed(failed, *operands), (failed, operands))

    carry = match_varying((needed, zeros), (failed, operands))
    return lax.while_loop(lambda carry: carry[0], turn, carry)[1]


def _after(raised: jax.Array, x: jax.Array) -> jax.Array:
    """`x`, which waits for `raised`, a flag that is never true."""
    return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else jnp.where(raised, jnp.zeros_like(x), x)


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


def _batched(operands: Any, axes: Any, *, error: _Error, num_operands: int) -> Any:
    """With the axis in front of the flags and of the values, so that the error knows the batch element."""
    heads, of_heads = operands[: num_operands + 1], axes[: num_operands + 1]
    sizes = {x.shape[axis] for x, axis in zip(heads, of_heads, strict=True) if axis is not None}
    if sizes:
        (size,) = sizes
        heads, error = [_in_front(x, axis, size) for x, axis in zip(heads, of_heads, strict=True)], error.batched()
    arrays, of_arrays = operands[num_operands + 1 :], axes[num_operands + 1 :]
    return _raise_where.bind(*heads, *arrays, error=error, num_operands=num_operands), list(of_arrays)


def _in_front(x: Any, axis: int | None, size: int) -> jax.Array:
    return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)


def _differentiated(primals: Any, tangents: Any, **parameters: Any) -> Any:
    """Tangents pass by way of the host too: a program that returns nothing but a derivative raises the error."""
    head = 1 + parameters["num_operands"]
    tangents = list(tangents[head:])
    places = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    checked = _raise_where.bind(*primals[:head], *(tangents[i] for i in places), **parameters) if places else []
    for place, tangent in zip(places, checked, strict=True):
        tangents[place] = tangent
    return _raise_where.bind(*primals, **parameters), tangents


def _transposed(cotangents: Any, *operands: Any, **parameters: Any) -> Any:
    """The cotangents of the arrays, which the primitive returns as they are."""
    head = 1 + parameters["num_operands"]
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
