"""The tolerances to which equations inside a step are solved."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PyTree

from ..jaxkit import FlatSpace, RealScalar, Y, broadcast_to_tree, inexact_dtype, layout, trace_once
from .jacobian import Vector

type Norm = Callable[[PyTree[Any]], RealScalar]


class Tolerances(NamedTuple):
    """Relative and absolute tolerance (scalars, arrays, or pytrees like the state), and a norm."""

    rtol: PyTree[Any]
    atol: PyTree[Any]
    norm: Norm


def like_state(where: str, tolerance: PyTree[Any], y: Y) -> PyTree[Any]:
    """The `tolerance` that was given as the argument `where`, as a pytree like `y`.

    Raises
    ------
    ValueError
        If it is a pytree of another structure, or an array that does not broadcast to the state.
    """
    expected, found = jax.tree.structure(y), jax.tree.structure(tolerance)
    if found != expected and not jax.tree_util.treedef_is_leaf(found):
        raise ValueError(
            f"`{where}` is a number, an array, or a pytree like the state.\n"
            f"Expected: one number, or {layout(y)}\nFound:    {layout(tolerance)}\n"
            "Give one for every leaf, or one for all."
        )
    tolerances = broadcast_to_tree(tolerance, y)
    for x, (path, leaf) in zip(jax.tree.leaves(tolerances), jax.tree.leaves_with_path(y), strict=True):
        ours, shape = jnp.shape(x), jnp.shape(leaf)
        if len(ours) > len(shape) or any(n not in (1, m) for n, m in zip(ours[::-1], shape[::-1], strict=False)):
            raise ValueError(
                f"`{where}` must broadcast to each leaf of the state.\n"
                f"Expected: shape {shape}, or one that broadcasts to it, for `y0{jax.tree_util.keystr(path)}`\n"
                f"Found:    shape {ours}\nGive a pytree like the state for leaves of different shapes."
            )
    return tolerances


def default_tolerances(y: Y) -> Tolerances:
    """The tolerances of a solve without error control: the remaining error is a few roundings, or little more."""
    eps = max((float(jnp.finfo(inexact_dtype(x)).eps) for x in jax.tree.leaves(y)), default=1e-16)
    return Tolerances(eps ** (2 / 3), eps ** (2 / 3), optx.rms_norm)


class ErrorWeights(eqx.Module):
    """The weights by which a norm measures vectors relative to a tolerance.

    Parameters
    ----------
    tolerances
        The tolerance and the norm.
    space
        The states that the vectors stand for.
    are_euclidean
        True if the norm is a multiple of the Euclidean norm.
    """

    tolerances: Tolerances
    space: FlatSpace
    are_euclidean: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(cls, tolerances: Tolerances, space: FlatSpace) -> Self:
        """The weights with the norm traced, which makes what it has captured leaves of them."""
        real = jnp.finfo(space.dtype).dtype
        state = jax.eval_shape(lambda: space.unravel(jnp.zeros(space.size, space.dtype)))
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, real), state)
        return cls(tolerances._replace(norm=trace_once(tolerances.norm, like)), space, tolerances.norm is optx.rms_norm)

    def at(self, y: Vector) -> Callable[[Vector], Array]:
        """The norm of vectors divided by `atol + rtol * abs(y)`.

        Where that is zero, because `y` and `atol` are, `rtol` is relative to the largest entry of the leaf, or to one.
        """
        weights, real = self._of_state(y), jnp.finfo(self.space.dtype).dtype

        def weighted(x: Array, w: Array) -> Array:
            return ((jnp.abs(x) if jnp.iscomplexobj(x) else x) * w).astype(real)

        def size_of(vector: Vector) -> Array:
            weighted_state = jax.tree.map(weighted, self.space.unravel(vector), weights)
            return jnp.asarray(self.tolerances.norm(weighted_state)).astype(real)

        return size_of

    def vector_at(self, y: Vector) -> Array:
        """The weights as a vector."""
        both_parts = lambda x, w: jax.lax.complex(w, w) if jnp.iscomplexobj(x) else w
        return self.space.ravel(jax.tree.map(both_parts, self.space.unravel(y), self._of_state(y))).real

    def _of_state(self, y: Vector) -> PyTree[Array]:
        """The weights of the entries of a state, as a pytree like it."""
        state = self.space.unravel(y)
        rtol, atol = (broadcast_to_tree(x, state) for x in (self.tolerances.rtol, self.tolerances.atol))

        def weight(y: Array, rtol: Any, atol: Any) -> Array:
            size = jnp.abs(y)
            rtol, largest = jnp.asarray(rtol).astype(size.dtype), jnp.max(size, initial=0.0)
            scale = jnp.asarray(atol).astype(size.dtype) + rtol * size
            scale = jnp.where(scale > 0, scale, rtol * jnp.where(largest > 0, largest, 1.0))
            return 1 / jnp.maximum(scale, float(jnp.finfo(size.dtype).tiny))

        return jax.tree.map(weight, state, rtol, atol)


class Accuracy(eqx.Module):
    """The residual that an iterative linear solver may leave.

    Parameters
    ----------
    weights, y
        The weights of its norm, and the state at which they are taken.
    tolerance
        The largest norm.
    """

    weights: ErrorWeights
    y: Vector
    tolerance: RealScalar
