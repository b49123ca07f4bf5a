"""Functions with the attribute `__wrapped__`, which functions compiled by `jax.jit` have."""

from collections.abc import Callable
from functools import wraps


def in_wrapper[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """`function` in a wrapper that does nothing and holds it as `__wrapped__`.

    Programs that wrap a function read the defaults of its parameters there.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return call
