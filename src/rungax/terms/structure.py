"""Comparison of terms with the structure of terms that a solver requires, its `term_structure`."""

from typing import Any, get_args, get_origin

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, Time, Y, shown
from .base import AbstractTerm, is_term
from .multi import MultiTerm


def required_parts(structure: Any) -> tuple[Any, ...]:
    """The required parts of a `MultiTerm`; empty if `structure` is something else, or any `MultiTerm`."""
    if get_origin(structure) is not MultiTerm:
        return ()
    parts = get_args(structure)
    # `MultiTerm[tuple[A, B]]` and `MultiTerm[A, B]` mean the same.
    return get_args(parts[0]) if len(parts) == 1 and get_origin(parts[0]) is tuple else parts


def fits(structure: PyTree[Any], terms: PyTree[AbstractTerm[Any, Any]]) -> bool:
    """True if `terms` have the required structure."""
    parts = required_parts(structure)
    if parts:
        return (
            isinstance(terms, MultiTerm)
            and len(parts) == len(terms.terms)
            and all(fits(part, term) for part, term in zip(parts, terms.terms, strict=True))
        )
    cls = get_origin(structure) or structure
    if isinstance(cls, type):
        return isinstance(terms, cls)
    classes, tree = jax.tree.flatten(structure)
    try:
        subtrees = tree.flatten_up_to(terms)
    except ValueError:
        return False
    return all(fits(c, s) for c, s in zip(classes, subtrees, strict=True))


def contr_options(structure: PyTree[Any]) -> PyTree[dict[str, Any]]:
    """No options of `contr` for each term of a required structure, in a tuple for a `MultiTerm`."""
    parts = required_parts(structure)
    if parts:
        return tuple(map(contr_options, parts))
    cls = get_origin(structure) or structure
    return {} if isinstance(cls, type) else jax.tree.map(contr_options, structure)


def mismatches(
    structure: PyTree[Any], terms: PyTree[AbstractTerm[Any, Any]], t: Time, y: Y, args: Args, options: PyTree[Any]
) -> list[str]:
    """Descriptions of the values that contradict an annotation `AbstractTerm[VF, Control]` in `structure`.

    `terms` must have the required structure, and `options` are those that the solver gives to `contr`. The annotations
    of a pytree of terms are not checked, because only the solver knows which part of the state each of its terms sees.
    """
    parts = required_parts(structure)
    if parts:
        rows = zip(parts, terms.terms, options, strict=True)
        return [text for part, term, own in rows for text in mismatches(part, term, t, y, args, own)]
    annotations = get_args(structure)
    found: list[str] = []

    def compare(t: Time, y: Y) -> None:
        values = {"vf": terms.vf(t, y, args), "contr": terms.contr(t, t, **options)}
        for (name, value), annotation in zip(values.items(), annotations, strict=False):
            if not _is_instance(value, annotation):
                shapes = jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", value)
                found.append(f"`{name}` to return {annotation}\nFound:    {shapes}")

    if is_term(terms) and annotations:
        jax.eval_shape(compare, t, y)
    return found


def _is_instance(value: Any, annotation: Any) -> bool:
    """True if `value` is an instance of `annotation`, or if Python cannot tell; with jaxtyping's classes it can."""
    try:
        return isinstance(value, annotation)
    except TypeError:
        return True


def describe(structure: PyTree[Any]) -> str:
    """A short description of a required structure, or of terms."""
    parts = structure.parts if is_term(structure) else required_parts(structure)
    if parts:
        return f"MultiTerm({', '.join(map(describe, parts))})"
    cls = type(structure) if is_term(structure) else get_origin(structure) or structure
    if isinstance(cls, type):
        return cls.__name__
    if isinstance(structure, tuple):
        return f"({', '.join(map(describe, structure))})"
    return shown(structure)
