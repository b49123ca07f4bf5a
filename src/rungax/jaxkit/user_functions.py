"""Calls of functions that users give: an exception that leaves one says which function it was, and how to mend it."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax

from .traced_function import as_given

_PACKAGE = __name__.partition(".")[0]

_BEGINNING = "This happened in "

_LONGEST = 72
"""The number of characters of an argument, beyond which only its class is shown."""


def call_user[R](what: str, function: Callable[..., R], *args: Any, **others: Any) -> R:
    """`function(*args, **others)`; an exception that leaves it gets notes: which function, how called, how to mend it.

    Of functions that call one another only the innermost is named, and none of Rungax's own.

    Parameters
    ----------
    what
        What the function is, such as "the vector field".
    function
        The function, or a method of an object that a user may have made.
    *args, **others
        Its arguments; only the first are shown.
    """
    try:
        return function(*args, **others)
    except Exception as error:
        is_noted = any(note.startswith(_BEGINNING) for note in getattr(error, "__notes__", ()))
        inner = as_given(function)
        if not is_noted and str(getattr(inner, "__module__", None)).partition(".")[0] != _PACKAGE:
            called = _as_called(inner, args, has_others=bool(others))
            error.add_note(f"{_BEGINNING}{what}, called as `{called}`.")
            for cure in _cures(error, inner, args):
                error.add_note(cure)
        raise


def _as_called(function: Callable[..., Any], args: Sequence[Any], *, has_others: bool) -> str:
    """The call with dtypes and shapes in place of arrays, such as `f(t: f64[], y: f64[2], args: None)`."""
    names = _parameter_names(function)
    labels = [f"{name}: " for name in names[: len(args)]] + [""] * (len(args) - len(names))
    shown = [label + _short(arg) for label, arg in zip(labels, args, strict=True)]
    return f"{_name(function)}({', '.join([*shown, '...'] if has_others else shown)})"


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, partial):
        return _name(inspect.unwrap(function.func))
    return getattr(function, "__qualname__", type(function).__name__).rpartition("<locals>.")[2]


def _parameter_names(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that a function takes by position; empty if they cannot be known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _short(value: Any) -> str:
    try:
        text = eqx.tree_pformat(value, width=10**6)
    except Exception:
        # The `__repr__` of an object of the user's.
        return type(value).__name__
    return text if len(text) <= _LONGEST else f"{type(value).__name__}(...)"


# ---------------------------------------------------------------------------------------------------------------- cures

_CURES_OF_TRACED_VALUES: tuple[tuple[type[Exception], str], ...] = (
    (
        jax.errors.TracerArrayConversionError,
        "NumPy and SciPy need values, and JAX traces the function without: use `jax.numpy` in place of `numpy`,"
        " `jax.scipy` in place of `scipy`, and `jnp.stack` or `jnp.array` to put numbers together.",
    ),
    (
        jax.errors.TracerBoolConversionError,
        "`if`, `while`, `and`, `or`, `not`, `min` and `max` need values, and JAX traces the function without: use"
        " `jnp.where(condition, a, b)` or `jax.lax.cond`, `jax.lax.while_loop`, `&`, `|`, `~`, `jnp.minimum`,"
        " `jnp.maximum`.",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "Indices of lists and `range` need values, and JAX traces the function without: use `jnp.asarray(values)[i]`,"
        " `jax.lax.fori_loop`.",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "The number of selected entries must be known, and JAX traces the function without values: use"
        " `jnp.where(mask, x, 0)`.",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "`float`, `int`, `.item()`, the functions of `math` and sizes of arrays need values, and JAX traces the"
        " function without: leave the conversion out, use `jax.numpy` in place of `math`, and make sizes constants.",
    ),
)

_GIVEN_AS = "t0", "y0", "args"
"""The arguments of `diffeqsolve` that functions of time, state and arguments receive."""


def _cures(error: Exception, function: Callable[..., Any], args: Sequence[Any]) -> Iterator[str]:
    """Sentences that say how to mend a function, for the errors that are met most."""
    text = str(error)
    yield from [cure for kind, cure in _CURES_OF_TRACED_VALUES if isinstance(error, kind)][:1]
    if isinstance(error, ValueError) and text.startswith("setting an array element with a sequence"):
        yield "An array of NumPy cannot hold values that JAX traces: use `jnp.stack([...])`, or `x.at[i].set(value)`."
    if isinstance(error, TypeError) and "Tracer.__format__" in text:
        yield "JAX traces the function without values: print them by `jax.debug.print('{y}', y=y)`."
    names = _parameter_names(function)
    if "t" in names[1:3]:
        yield "It is called with the time first: write its parameters in the order `(t, y, args)`."
    if isinstance(error, TypeError | AttributeError) and len(args) == len(_GIVEN_AS):
        yield from _cures_of_containers(text, args)


def _cures_of_containers(text: str, args: Sequence[Any]) -> Iterator[str]:
    """Sentences for operations that fail on a state or arguments that are a list and the like, or on `None`."""
    for name, value in zip(_GIVEN_AS, args, strict=True):
        kind = type(value).__name__
        if isinstance(value, list | tuple | dict) and any(w in text for w in (f"'{kind}'", f" {kind}", "sequence")):
            yield (
                f"A {kind} is a pytree of arrays, and has no arithmetic of its own: it is passed on as it was given."
                f" Give one array, such as `{name}=jnp.array([...])`, or compute with its items, as by `jax.tree.map`."
            )
            return
    if "NoneType" in text and args[-1] is None:
        yield "`args` is None, because the call gives none: `diffeqsolve(..., args=...)`."
