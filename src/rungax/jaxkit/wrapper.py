"""The functions by which a program enters the library: what their tracebacks show, and what they are wrapped in."""

import inspect
import pathlib
from collections.abc import Callable

import equinox as eqx
from jax._src.traceback_util import api_boundary, register_exclusion

# JAX leaves lines of these files out of tracebacks, as it does with its own: they stand between the user's line that
# makes a call and the line of the user's function that fails. Equinox's are those of its bound methods.
for _folder in (pathlib.Path(__file__).parents[1], pathlib.Path(eqx.__file__).parent / "_module"):
    register_exclusion(str(_folder))


def in_wrapper[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """`function` in a wrapper that holds it as `__wrapped__`, and filters the tracebacks of exceptions that leave it.

    Functions compiled by `jax.jit` are wrapped like this. Programs that wrap a function read the defaults of its
    parameters in `__wrapped__`.
    """
    wrapper = api_boundary(function)
    setattr(wrapper, "__wrapped__", inspect.unwrap(function))  # noqa: B010
    return wrapper
