"""Descriptions of values and functions for messages."""

import inspect
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .trees import is_traced

_OURS = tuple(
    f"{folder}{os.sep}"
    for folder in (pathlib.Path(__file__).parents[1], *(pathlib.Path(str(x.__file__)).parent for x in (eqx, jax)))
)
"""The folders of Rungax and of Equinox and JAX, which call its functions: a warning is not about their lines."""


_LONGEST = 200
"""The number of characters after which the layout of a pytree is cut."""

_MOST = 4
"""The number of entries that are listed one by one."""


class _Text:
    """Stands in a pytree for a value that is shown as text."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def shown(value: Any) -> str:
    """`value` as it is written, with dtype and shape in place of what is traced, such as `float64[3]`."""
    if not is_traced(value):
        return repr(value)
    return repr(jax.tree.map(lambda leaf: _Text(shape_and_dtype(leaf)) if is_traced(leaf) else leaf, value))


def layout(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> str:
    """A pytree as it is written, with dtype and shape in place of arrays: `{'a': float64[3], 'b': float64[]}`."""
    try:
        text = repr(jax.tree.map(lambda leaf: _Text(_kind_of_leaf(leaf)), tree, is_leaf=is_leaf))
    except Exception:
        # Containers of the user's may refuse leaves that are no arrays.
        return type(tree).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _kind_of_leaf(leaf: Any) -> str:
    """Dtype and shape of an array or a number, else the class by its name."""
    try:
        return shape_and_dtype(leaf)
    except TypeError:
        return type(leaf).__name__


def shape_and_dtype(leaf: Any) -> str:
    """Dtype and shape of an array or a number, such as `float64[3]`."""
    return f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]"


def is_finite(tree: Any) -> bool:
    """True if all entries of all leaves, whose values are known, are finite."""
    return all(bool(np.isfinite(_of_numpy(leaf)).all()) for leaf in jax.tree.leaves(tree))


def not_finite(name: str, tree: Any) -> str:
    """The first entries that are not finite, each with its leaf, its index and its value; empty if all are finite."""
    found: list[str] = []
    number = 0
    for path, leaf in jax.tree.leaves_with_path(tree):
        values = np.asarray(leaf)
        bad = np.argwhere(~np.isfinite(_of_numpy(leaf)))
        number += len(bad)
        for index in bad[: _MOST - len(found)]:
            entry = f"[{', '.join(map(str, index))}]" if len(index) else ""
            label = f"{name}{jax.tree_util.keystr(path)}{entry}"
            value = values[tuple(index)]
            found.append(f"{label} = {value}" if label else f"{value}")
    return ", ".join(found) + (f" and {number - len(found)} more" if number > len(found) else "")


def _of_numpy(leaf: Any) -> np.ndarray:
    """The leaf in a dtype of NumPy's own, without operations of JAX, which host callbacks may not use."""
    values = np.asarray(leaf)
    return values if values.dtype.kind in "biufc" else values.astype(np.float32)


def kind_of(value: Any) -> str:
    """The class of `value` by its name; dtype and shape of what is traced."""
    return shape_and_dtype(value) if is_traced(value) and eqx.is_array(value) else type(value).__name__


def as_array(value: Any, where: str, expected: str) -> jax.Array | np.ndarray:
    """`value` as an array, one of NumPy if it is known: inside `jit` JAX would trace what is done with it.

    Raises
    ------
    ValueError
        If it is not an array of numbers.
    """
    if isinstance(value, jax.Array | np.ndarray):
        return value
    try:
        array = jnp.asarray(value) if is_traced(value) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} must be numbers.\nExpected: {expected}\nFound:    {shown(value)}") from error
    if array.dtype.kind in "OUS":
        raise ValueError(f"{where} must be numbers.\nExpected: {expected}\nFound:    {shown(value)}")
    return array


def known(value: Any, where: str, expected: str = "True or False") -> Any:
    """`value`, which decides what the program does.

    Raises
    ------
    ValueError
        If it is traced.
    """
    if is_traced(value):
        raise ValueError(
            f"{where} must be known when the program is traced.\nExpected: {expected}\nFound:    {shown(value)}\n"
            "Make it a static argument of `jax.jit`, or choose with `jnp.where` between two results."
        )
    return value


def warn_user(message: str) -> None:
    """Warn about the program's own line that calls the library."""
    warnings.warn(message, UserWarning, skip_file_prefixes=_OURS)


def warn_deprecated(message: str) -> None:
    """Warn that a program uses something that is accepted only so that older programs run, at its own line."""
    warnings.warn(message, DeprecationWarning, skip_file_prefixes=_OURS)


def check_parameters(
    function: Callable[..., Any], where: str, expected: str, given: Sequence[str], by_name: Iterable[str] = ()
) -> None:
    """Raise a `ValueError` unless a function can be called with the arguments that it is given.

    Parameters
    ----------
    function
        The function.
    where
        The argument that it is, as typed, such as "`Event(effect=...)`".
    expected
        The function as it should be, such as `effect(t, y, args)`.
    given
        The arguments by position, in words.
    by_name
        The names of the other arguments.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # not everything that can be called has a signature
    others = dict.fromkeys(by_name)
    try:
        signature.bind(*given, **others)
    except TypeError as error:
        name = getattr(function, "__name__", type(function).__name__)
        and_others = ", and by name with the other arguments of the call" if others else ""
        fix = "`**kwargs` takes the others." if others else "What else it needs belongs in `args`."
        if given[0] == "time" and "t" in list(signature.parameters)[1:3]:
            fix = "The time is its first argument, and the state the second."
        raise ValueError(
            f"{where} is called with {', '.join(given[:-1])} and {given[-1]}{and_others}.\nExpected: {expected}\n"
            f"Found:    {name}{_shown_parameters(signature)}\n{fix}"
        ) from error


def _shown_parameters(signature: inspect.Signature) -> str:
    """The parameters as written; a default that is traced is shown by dtype and shape."""
    parameters = [
        p.replace(default=_Text(shown(p.default))) if is_traced(p.default) else p for p in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))
