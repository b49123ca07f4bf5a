"""Comparison of a value's structure with that of the state, in words that need no knowledge of pytrees."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .messages import layout


class Difference(NamedTuple):
    """The first place at which two pytrees have other containers, and what is there.

    Parameters
    ----------
    path
        The place, such as `['a'][0]`; empty if it is the whole.
    expected, found
        The parts of the two pytrees there.
    """

    path: str
    expected: Any
    found: Any

    @classmethod
    def between(cls, expected: Any, found: Any, path: str = "") -> "Difference | None":
        """The first difference, or `None` if the structures are the same."""
        one_level = [jax.tree.flatten_with_path(x, is_leaf=_inside(x)) for x in (expected, found)]
        (children, structure), (others, of_found) = one_level
        if structure != of_found:
            return cls(path, expected, found)
        if jax.tree_util.all_leaves([expected]):
            return None
        pairs = zip(children, others, strict=True)
        inner = (cls.between(a, b, path + jax.tree_util.keystr(key)) for (key, a), (_, b) in pairs)
        return next((difference for difference in inner if difference is not None), None)

    def sentence(self, name: str, returned: str) -> str:
        """The sentence about the two parts: "`y0` is one array of shape (2,), the field returned a list of 2".

        Parameters
        ----------
        name
            The name of the whole to which the value is compared.
        returned
            What made the other value, such as "the field returned".
        """
        there = " there" if self.path else ""
        return f"`{name}{self.path}` is {in_words(self.expected)}, {returned} {in_words(self.found)}{there}"

    def cure(self, name: str) -> str:
        """The fix for a function that returned the value."""
        expected, found = self.expected, self.found
        if found is None:
            return f"Return a value for `{name}{self.path}`." if self.path else "Is `return` missing?"
        if isinstance(expected, dict) and isinstance(found, dict):
            return f"Return the keys of `{name}{self.path}`{_keys_apart(expected, found)}."
        if _is_sequence(found) and _is_array(expected):
            return "Return one array: `jnp.stack([...])`, or `jnp.concatenate([...])` for parts that are arrays."
        if _is_sequence(expected) and _is_array(found):
            kind = type(expected).__name__
            return f"Return a {kind} of {len(expected)}, or make `{name}` one array: `{name}=jnp.array([...])`."
        if _is_sequence(expected) and _is_sequence(found) and len(expected) == len(found):
            return f"A {type(found).__name__} is not a {type(expected).__name__}: return the one that `{name}` is."
        if _is_sequence(expected) and _is_sequence(found):
            return f"A number times a {type(found).__name__} repeats it, and a sum joins two: compute with the items."
        return f"Return the containers and keys of `{name}`."


def check_structure(
    value: Any,
    like: Any,
    what: str,
    *,
    name: str = "y0",
    returned: str = "the field returned",
    cure: str | None = None,
) -> None:
    """Raise a `ValueError` unless `value` has the structure of `like`.

    Parameters
    ----------
    value, like
        The value and a pytree of the right structure.
    what
        The claim, the beginning of the message.
    name
        The name of `like`.
    returned
        What made the value.
    cure
        How to mend it; by default that of a function which returned the value.
    """
    if jax.tree.structure(value) == jax.tree.structure(like):
        return
    difference = Difference.between(like, value)
    if difference is not None:
        raise ValueError(
            f"{what}: {difference.sentence(name, returned)}.\nExpected: {layout(like)}\nFound:    {layout(value)}\n"
            f"{difference.cure(name) if cure is None else cure}"
        )


def in_words(value: Any) -> str:
    """The kind of a value in words: "one array of shape (2,)", "a list of 2", "a dict with the keys 'a', 'b'"."""
    if value is None:
        return "None"
    if _is_array(value):
        return f"one array of shape {jnp.shape(value)}" if jnp.shape(value) else "one number"
    if _is_sequence(value):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        keys = f"key{'' if len(value) == 1 else 's'} {', '.join(map(repr, value))}"
        return f"a {type(value).__name__} with the {keys}" if value else f"an empty {type(value).__name__}"
    return f"a `{type(value).__name__}`"


def _inside(whole: Any) -> Callable[[Any], bool]:
    """True for the parts of a pytree: one level of it."""
    return lambda x: x is not whole


def _is_sequence(value: Any) -> bool:
    """True for lists and tuples, those with names too."""
    return isinstance(value, list | tuple)


def _is_array(value: Any) -> bool:
    """True for arrays and numbers, and for what stands for their shape."""
    return isinstance(value, jax.ShapeDtypeStruct | int | float | complex) or hasattr(value, "__array__")


def _keys_apart(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> str:
    """The keys that are missing, and those that are too many."""
    missing, more = ([repr(k) for k in a if k not in b] for a, b in ((expected, found), (found, expected)))
    parts = [f"{', '.join(keys)} {verb}" for keys, verb in ((missing, "missing"), (more, "not in it")) if keys]
    return f": {'; '.join(parts)}" if parts else ""
