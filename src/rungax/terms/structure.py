"""What a solver's `term_structure` asks for, and whether terms are that."""

from typing import Any, get_args, get_origin

import jax
from jaxtyping import PyTree

from .base import AbstractTerm, is_term
from .multi import MultiTerm


def parts_asked_for(structure: Any) -> tuple[Any, ...]:
    """The parts of a `MultiTerm` that a structure asks for; none if it asks for something else, or for any."""
    if get_origin(structure) is not MultiTerm:
        return ()
    parts = get_args(structure)
    # Both `MultiTerm[tuple[A, B]]` and `MultiTerm[A, B]` say the same.
    return get_args(parts[0]) if len(parts) == 1 and get_origin(parts[0]) is tuple else parts


def fits(structure: PyTree[Any], terms: PyTree[AbstractTerm[Any, Any]]) -> bool:
    """Whether `terms` are what `structure` asks for."""
    parts = parts_asked_for(structure)
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


def describe(structure: PyTree[Any]) -> str:
    """A structure, or terms, in a few words."""
    parts = structure.parts if is_term(structure) else parts_asked_for(structure)
    if parts:
        return f"MultiTerm({', '.join(map(describe, parts))})"
    cls = type(structure) if is_term(structure) else get_origin(structure) or structure
    if isinstance(cls, type):
        return cls.__name__
    if isinstance(structure, tuple):
        return f"({', '.join(map(describe, structure))})"
    return str(structure)
