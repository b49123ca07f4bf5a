"""A variant of `jax.jit` for functions of arbitrary pytrees that does not recompile when a Python float changes."""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, cast

import jax
import jax.core
import numpy as np

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
            return cast(R, jax.jit(partial(on_leaves, structure=(tree, static)))(dynamic))
        return cast(R, jitted(dynamic, (tree, static)))

    return call


@cache
def _is_dynamic(cls: type) -> bool:
    # Decided by class and cached, because it is asked for every leaf of every eager call.
    return issubclass(cls, jax.Array | jax.core.Tracer | np.ndarray | np.generic | float | complex)


class _Traced:
    """Stands for a traced leaf in the static half of the arguments."""


_TRACED = _Traced()
