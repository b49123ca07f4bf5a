"""Arithmetic on pytrees of arrays whose leaves may differ in dtype."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .types import BoolScalar, RealScalar


def is_traced(*values: Any) -> bool:
    """True if the value of any leaf is known only at run time, as inside `jax.jit`."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def scaled(scale: RealScalar | complex, x: jax.Array) -> jax.Array:
    """`scale * x` in the precision of `x`, whatever promotion is allowed; complex if either of them is."""
    dtype = jnp.result_type(x)
    if jnp.iscomplexobj(scale):
        dtype = complex_dtype(dtype)
        x = x.astype(dtype)
    return jnp.asarray(scale).astype(dtype) * x


def complex_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of complex numbers with parts as wide as those of `dtype`, whatever promotion JAX allows."""
    return np.promote_types(dtype, np.complex64)


def single_power(base: jax.Array, exponent: RealScalar) -> jax.Array:
    """`base ** exponent` in single precision, in half the time that double precision takes."""
    return base.astype(jnp.float32) ** jnp.asarray(exponent, jnp.float32)


def broadcast_to_tree(value: PyTree[Any], like: PyTree[Any]) -> PyTree[Any]:
    """`value` if it has the structure of `like`, else a pytree of that structure whose every leaf is `value`."""
    if jax.tree.structure(value) == jax.tree.structure(like):
        return value
    return jax.tree.map(lambda _: value, like)


def add[T](*trees: T) -> T:
    """The sum of pytrees, leaf by leaf, added from left to right."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *trees)


def combination[T](weights: Sequence[float] | np.ndarray, trees: Sequence[T], start: T | None = None) -> T:
    """`start + sum(weight * tree)`, leaf by leaf; zero weights cost nothing.

    The weights are Python numbers, so they are constants of the program and take the dtype of each leaf.
    """
    terms = [(float(w), tree) for w, tree in zip(weights, trees, strict=True) if w != 0]

    def combine(*leaves: jax.Array) -> jax.Array:
        inner, first = (leaves[:-1], leaves[-1]) if start is not None else (leaves, None)
        total: jax.Array | None = None
        for (weight, _), leaf in zip(terms, inner, strict=True):
            total = weight * leaf if total is None else total + weight * leaf
        if total is None:
            return jnp.zeros_like(leaves[0]) if first is None else first
        return total if first is None else first + total

    if not terms and start is None:
        return jax.tree.map(jnp.zeros_like, trees[0])
    operands = [tree for _, tree in terms] + ([start] if start is not None else [])
    return jax.tree.map(combine, *operands)


def accumulation[T](weights: Sequence[float] | np.ndarray, trees: Sequence[T], start: T) -> T:
    """`start + w0 * tree0 + w1 * tree1 + ...`, added from left to right; zero weights cost nothing."""
    total = start
    for weight, tree in zip(weights, trees, strict=True):
        if weight != 0:
            total = jax.tree.map(lambda s, x, w=float(weight): s + w * x, total, tree)
    return total


def select[T](pred: BoolScalar, on_true: T, on_false: T) -> T:
    """`on_true` where `pred` holds and `on_false` elsewhere, leaf by leaf.

    A leaf that is the same object on both sides is returned as it is, so that JAX sees that a loop never changes it.
    """

    def choose(a: Any, b: Any) -> Any:
        if a is b or pred is True:
            return a
        return jnp.where(pred, a, b)

    return jax.tree.map(choose, on_true, on_false)


def without_derivatives[T](tree: T) -> T:
    """`tree`, with its inexact leaves as constants under differentiation."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree)


def all_finite(tree: Any) -> jax.Array:
    """True if every entry of every leaf is finite."""
    flags = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(flags)) if len(flags) > 1 else (flags[0] if flags else jnp.asarray(True))


def finite_or_one[T](tree: T) -> T:
    """`tree`, with ones in place of entries that are not finite: a place at which most functions have derivatives."""
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, jnp.ones_like(x)), tree)


def cast_like[T](tree: T, like: T) -> T:
    """`tree`, with each leaf cast to the `inexact_dtype` of the corresponding leaf of `like`."""
    return jax.tree.map(lambda x, y: jnp.asarray(x).astype(inexact_dtype(y)), tree, like)


def with_fields[M](module: M, **values: Any) -> M:
    """A copy of an Equinox module with other values of some fields.

    The constructor is not called: a subclass of a user may have one with other parameters, and fields of its own.
    """
    copy = object.__new__(type(module))
    for name, value in {**vars(module), **values}.items():
        object.__setattr__(copy, name, value)  # modules are frozen
    return copy


def inexact_dtype(x: Any) -> np.dtype[Any]:
    """The dtype of `x`, or the default float for integers and booleans, which steps by hand may start from."""
    dtype = jnp.result_type(x)
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float)


def time_dtype(*times: Any) -> np.dtype[Any]:
    """The dtype of time in a solve: the standard promotion of all given times, even if JAX's promotion is strict.

    Integers are promoted to the default float, and the result is at least float32.
    """
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*times)
        if not jnp.issubdtype(dtype, jnp.floating):
            dtype = jnp.result_type(float)
        return jnp.promote_types(dtype, jnp.float32)


def as_times(*times: Any) -> tuple[jax.Array, ...]:
    """Times, arrays or numbers, as arrays of their common dtype."""
    dtype = time_dtype(*times)
    return tuple(jnp.asarray(t, dtype) for t in times)


def strong(x: Any, dtype: np.dtype[Any]) -> jax.Array:
    """`x` as an inexact array of a strong dtype.

    A strong inexact dtype is kept, a Python number takes the width of `dtype`, integers and booleans become `dtype`.
    """
    if not jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.asarray(x, dtype)
    array = jnp.asarray(x)
    if isinstance(x, np.ndarray | np.generic) or not jax.typeof(array).weak_type:
        return array
    with jax.numpy_dtype_promotion("standard"):
        return array.astype(jnp.result_type(array, dtype))
