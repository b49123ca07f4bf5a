"""`jax.jit` for functions of arbitrary pytrees, which does not recompile when a Python float changes."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, cast

import jax
import jax.core
import numpy as np


def compiled[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled: arrays, floats and complex numbers anywhere in its arguments are traced.

    A float becomes a weakly typed scalar, as if it had been written into the program, except that another value needs
    no other program. The rest is static: integers, booleans, strings and functions are part of the program.
    """

    def on_leaves(leaves: list[Any], structure: tuple[Any, ...]) -> R:
        tree, static = structure
        dynamic = iter(leaves)
        args, kwargs = jax.tree.unflatten(tree, [next(dynamic) if s is _TRACED else s for s in static])
        # They are P's, but out of a pytree, where no type checker can follow.
        return function(*args, **kwargs)  # pyright: ignore[reportCallIssue]

    jitted = jax.jit(on_leaves, static_argnums=1)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, tree = jax.tree.flatten((args, kwargs))
        dynamic = [leaf for leaf in leaves if _is_dynamic(type(leaf))]
        static = tuple(_TRACED if _is_dynamic(type(leaf)) else leaf for leaf in leaves)
        return cast(R, jitted(dynamic, (tree, static)))

    return call


@cache
def _is_dynamic(cls: type) -> bool:
    # By class and remembered, for this runs for every leaf of every eager call.
    return issubclass(cls, jax.Array | jax.core.Tracer | np.ndarray | np.generic | float | complex)


class _Traced:
    """The place of a traced leaf in the static half of the arguments."""


_TRACED = _Traced()
