"""Pictures of sparsity patterns, drawn with Matplotlib."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .pattern import SparsityPattern

_MOST_POINTS = 200
"""Rows up to which each entry is a square; larger patterns are drawn as the density of entries in as many blocks."""


def draw(pattern: "SparsityPattern", axes: Any) -> Any:
    """The axes, with the entries of a pattern drawn into them."""
    if axes is None:
        axes = _pyplot().figure().add_subplot()
    size = pattern.size
    blocks = min(size, _MOST_POINTS)
    # The rows of a block are those that its place in the picture covers.
    rows, columns = (x.astype(np.int64) * blocks // max(size, 1) for x in (pattern.rows, pattern.columns))
    counts = np.bincount(rows * blocks + columns, minlength=blocks**2).reshape(blocks, blocks)
    # Blocks with few entries are seen too.
    density = np.where(counts > 0, 0.3 + 0.7 * counts / max(counts.max(initial=0), 1), 0.0)
    edge = max(size, 1) - 0.5
    axes.imshow(density, cmap="Greys", vmin=0, vmax=1, interpolation="nearest", extent=(-0.5, edge, edge, -0.5))
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.set_title(f"{size} × {size}, {pattern.num_entries} entries, {pattern.num_colours} colours")
    return axes


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ModuleNotFoundError(
            "`SparsityPattern.plot()` draws with Matplotlib.\nExpected: the package `matplotlib`\n"
            'Found:    it is not installed\nInstall it: `pip install "rungax[examples]"`, or `pip install matplotlib`.'
        ) from error
    return plt
