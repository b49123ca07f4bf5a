"""A variant of `jax.jit` for functions of arbitrary pytrees that does not recompile when a Python float changes."""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, cast

import jax
import jax.core
import numpy as np
from jax.sharding import PartitionSpec

from .traced_function import captures_traced


def compiled[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled: arrays, floats and complex numbers anywhere in its arguments are traced.

    A float becomes a weakly typed scalar, so dtypes are the same as for a constant of the program, but another value
    does not recompile it. Everything else is static: integers, booleans, strings and functions are part of the program.
    """

    def on_leaves(leaves: list[Any], structure: tuple[Any, ...]) -> R:
        tree, static = structure
        dynamic = iter(leaves)
        args, kwargs = jax.tree.unflatten(tree, [next(dynamic) if s is _TRACED else s for s in static])
        # The arguments have the types in P, but no type checker can follow them through a pytree.
        return function(*args, **kwargs)  # pyright: ignore[reportCallIssue]

    jitted = jax.jit(on_leaves, static_argnums=1)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, tree = jax.tree.flatten((args, kwargs))
        dynamic = [leaf for leaf in leaves if _is_dynamic(type(leaf))]
        static = tuple(_TRACED if _is_dynamic(type(leaf)) else leaf for leaf in leaves)
        if any(captures_traced(leaf) for leaf in static):
            # Another call would have other traced values, and the cache of `jitted` would hold these for ever.
            once = jax.jit(partial(on_leaves, structure=(tree, static)))
            return cast(R, _on_automatic_axes(once, dynamic))
        return cast(R, _on_automatic_axes(lambda dynamic: jitted(dynamic, (tree, static)), dynamic))

    return call


def _on_automatic_axes(function: Callable[[list[Any]], Any], operands: list[Any]) -> Any:
    """`function(operands)`; inside it the axes of an explicit mesh are automatic, and its results are not sharded.

    On explicit axes JAX asks for the sharding of every sum, slice and loop that it cannot know by itself, also under
    `vmap`, which shards the results again.
    """
    mesh = _explicit_mesh(operands)
    if mesh is None:
        return function(operands)
    with jax.sharding.use_abstract_mesh(mesh):
        # Arrays of no mesh are put on it; else their cotangents would be on the mesh with automatic axes.
        put = lambda x: x if isinstance(x, float | complex) else jax.sharding.reshard(x, jax.typeof(x).sharding.spec)
        return jax.sharding.auto_axes(function, out_sharding=PartitionSpec())([put(x) for x in operands])


def _explicit_mesh(operands: list[Any]) -> Any:
    """The mesh with explicit axes that is set, or else on which an operand is; `None` without one."""
    meshes = [jax.sharding.get_abstract_mesh()]
    if meshes[0].empty and jax.device_count() > 1:
        meshes = [jax.typeof(x).sharding.mesh for x in operands]
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


@cache
def _is_dynamic(cls: type) -> bool:
    # Decided by class and cached, because it is asked for every leaf of every eager call.
    return issubclass(cls, jax.Array | jax.core.Tracer | np.ndarray | np.generic | float | complex)


class _Traced:
    """Stands for a traced leaf in the static half of the arguments."""


_TRACED = _Traced()
