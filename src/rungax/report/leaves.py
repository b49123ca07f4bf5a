"""Leaves of pytrees by their names, for reports."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxkit import FlatSpace


def leaf_name(name: str, path: Any) -> str:
    """The name of a leaf of the pytree `name`, such as `y['a']`."""
    return f"{name}{jax.tree_util.keystr(path)}"


def shown_leaves(name: str, tree: Any) -> str:
    """The leaves of a pytree by their names, long ones abridged."""
    show = lambda x: np.array2string(np.asarray(x), threshold=8, edgeitems=3, separator=", ")
    return ", ".join(f"{leaf_name(name, path)} = {show(leaf)}" for path, leaf in jax.tree.leaves_with_path(tree))


def chosen_entries(name: str, tree: Any, most: int = 5) -> str:
    """The first entries of a pytree that are true, by leaf and index; empty if there is none."""
    found: list[str] = []
    for path, leaf in jax.tree.leaves_with_path(tree):
        for index in np.argwhere(leaf):
            entry = f"[{', '.join(map(str, index))}]" if index.size > 0 else ""
            found.append(f"{leaf_name(name, path)}{entry}")
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def entry_name(name: str, space: FlatSpace, place: int) -> str:
    """The name of an entry of a vector that stands for states `name`, such as `y['b'][2]`."""
    chosen = space.unravel(jnp.zeros(space.size, space.dtype).at[place].set(1))
    return chosen_entries(name, jax.tree.map(lambda x: np.asarray(x) != 0, chosen))
