"""Entries of pytrees by their names, for reports."""

from typing import Any

import jax
import numpy as np

_MOST = 4
"""The number of entries that are listed one by one."""


def leaf_name(name: str, path: Any) -> str:
    """The name of a leaf of the pytree `name`, such as `y['a']`."""
    return f"{name}{jax.tree_util.keystr(path)}"


def shown_leaves(name: str, tree: Any) -> str:
    """The leaves of a pytree by their names, long ones abridged."""
    show = lambda x: np.array2string(np.asarray(x), threshold=8, edgeitems=3, separator=", ")
    return ", ".join(f"{leaf_name(name, path)} = {show(leaf)}" for path, leaf in jax.tree.leaves_with_path(tree))


def is_finite(tree: Any) -> bool:
    """True if all entries of all leaves are finite."""
    return all(bool(np.isfinite(_known(leaf)).all()) for leaf in jax.tree.leaves(tree))


def entries_that_are_not_finite(name: str, tree: Any) -> str:
    """The first entries that are not finite, each with its leaf, its index and its value; empty if all are finite."""
    found: list[str] = []
    number = 0
    for path, leaf in jax.tree.leaves_with_path(tree):
        values = np.asarray(leaf)
        bad = np.argwhere(~np.isfinite(_known(leaf)))
        number += len(bad)
        for index in bad[: _MOST - len(found)]:
            entry = f"[{', '.join(map(str, index))}]" if len(index) else ""
            label = f"{leaf_name(name, path)}{entry}"
            value = values[tuple(index)]
            found.append(f"{label} = {value}" if label else f"{value}")
    return ", ".join(found) + (f" and {number - len(found)} more" if number > len(found) else "")


def _known(leaf: Any) -> np.ndarray:
    """The leaf in a dtype of NumPy's own; those of fewer than 32 bits are not."""
    values = np.asarray(leaf)
    return values if values.dtype.kind in "biufc" else values.astype(np.float32)
