"""Conditions on the tolerances of error control."""

from collections.abc import Iterator
from functools import partial
from operator import ge
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..jaxkit import Condition, broadcast_to_tree, is_traced, operand, shown

_BOUNDS = "`PIDController({}=...)` bounds the error of a step."


def check_no_text(rtol: PyTree[Any], atol: PyTree[Any]) -> None:
    """Raise a `ValueError` if a tolerance is a text."""
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        for leaf in jax.tree.leaves(tolerance):
            if isinstance(leaf, str):
                raise ValueError(f"{_BOUNDS.format(name)}{_not_a_bound(leaf)}")


def tolerance_conditions(rtol: PyTree[Any], atol: PyTree[Any]) -> Iterator[Condition]:
    """The conditions that tolerances are not negative, and nowhere both zero."""
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        for leaf in jax.tree.leaves(tolerance):
            if isinstance(leaf, int | float):
                yield Condition(leaf, partial(ge, leaf, 0), _BOUNDS.format(name), partial(_not_a_bound, leaf))
            elif eqx.is_array_like(leaf):
                yield Condition(leaf, partial(_all_bounds, leaf), _BOUNDS.format(name), partial(_not_a_bound, leaf))
    for where, both in _pairs(rtol, atol):
        yield Condition(
            both,
            partial(_any_positive, *both),
            "`PIDController(rtol=..., atol=...)` bound the error of a step, which is never zero.",
            partial(_both_zero, where, *both),
        )


def _not_a_bound(tolerance: Any) -> str:
    return f"\nExpected: a number, at least 0\nFound:    {shown(tolerance)}\nMost problems want 1e-3 to 1e-10."


def _all_bounds(tolerance: Any) -> Any:
    return (operand(tolerance) >= 0).all()


def _pairs(rtol: PyTree[Any], atol: PyTree[Any]) -> list[tuple[str, tuple[Any, Any]]]:
    """The two tolerances of each leaf, and where it is, as far as they can be paired without the state."""
    if isinstance(rtol, int | float) and isinstance(atol, int | float):
        return [("", (rtol, atol))]
    is_single = [jax.tree_util.all_leaves([x]) for x in (rtol, atol)]
    if not any(is_single) and jax.tree.structure(rtol) != jax.tree.structure(atol):
        return []
    like = atol if is_single[0] else rtol
    one, other = (broadcast_to_tree(x, like) for x in (rtol, atol))
    pairs = zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True)
    return [(jax.tree_util.keystr(path), (r, a)) for (path, r), a in pairs if _broadcast(jnp.shape(r), jnp.shape(a))]


def _broadcast(*shapes: tuple[int, ...]) -> bool:
    """True if arrays of these shapes broadcast with each other."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def _any_positive(rtol: Any, atol: Any) -> Any:
    """True if at each entry one of the two is not zero."""
    if isinstance(rtol, int | float) and isinstance(atol, int | float):
        return rtol != 0 or atol != 0
    return _are_positive(rtol, atol).all()


def _are_positive(rtol: Any, atol: Any) -> Any:
    """True for entries of which one of the two is not zero."""
    rtol, atol = operand(rtol), operand(atol)
    xp, shape = jnp if is_traced(rtol, atol) else np, np.broadcast_shapes(rtol.shape, atol.shape)
    return xp.broadcast_to(rtol != 0, shape) | xp.broadcast_to(atol != 0, shape)


def _both_zero(where: str, rtol: Any, atol: Any) -> str:
    """The rest of the message for tolerances that are both zero somewhere."""
    index = np.argwhere(~_are_positive(rtol, atol))[0]
    entry = f"{where}[{', '.join(map(str, index))}]" if len(index) else where
    found = f"rtol=0, atol=0{f' at `y{entry}`' if entry else ''}"
    return f"\nExpected: at least one of them positive\nFound:    {found}\nMost problems want 1e-3 to 1e-10 as `rtol`."
