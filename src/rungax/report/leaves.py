"""Leaves of pytrees by their names, for reports."""

from typing import Any

import jax
import numpy as np


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


def largest_entries(name: str, tree: Any, most: int = 3) -> str:
    """The entries of a pytree of numbers that are largest, by leaf and index with their values; not zeros."""
    found = [
        (float(leaf[tuple(index)]), f"{leaf_name(name, path)}{list(map(int, index)) if index.size > 0 else ''}")
        for path, leaf in jax.tree.leaves_with_path(jax.tree.map(np.asarray, tree))
        for index in np.argwhere(leaf != 0)
    ]
    return ", ".join(f"{entry} ({value:.1e})" for value, entry in sorted(found, reverse=True)[:most])
