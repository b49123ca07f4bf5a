"""The picture of a pattern shows each entry, and the number of colours."""

import sys

import numpy as np
import pytest

from rungax import SparsityPattern

from .patterns import grid

matplotlib = pytest.importorskip("matplotlib", reason="draws with Matplotlib, which only the extra `examples` brings")


@pytest.fixture
def axes() -> object:
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def test_small_patterns_show_each_entry(axes: object) -> None:
    matrix = np.random.default_rng(0).random((9, 9)) < 0.3
    pattern = SparsityPattern(matrix)
    assert pattern.plot(axes) is axes
    (image,) = axes.images
    assert np.array_equal(image.get_array() > 0, matrix)
    assert image.get_extent() == [-0.5, 8.5, 8.5, -0.5]
    assert axes.get_title() == f"9 × 9, {matrix.sum()} entries, {pattern.num_colours} colours"


def test_large_patterns_show_blocks(axes: object) -> None:
    SparsityPattern(grid(1000)).plot(axes)
    shown = np.asarray(axes.images[0].get_array())
    assert shown.shape == (200, 200)
    assert np.array_equal(shown > 0, abs(np.subtract.outer(np.arange(200), np.arange(200))) <= 1)


def test_empty_patterns(axes: object) -> None:
    SparsityPattern(np.zeros((3, 3))).plot(axes)
    assert not np.any(axes.images[0].get_array())


def test_new_axes_by_default() -> None:
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    axes = SparsityPattern(np.eye(2)).plot()
    assert "2 entries, 1 colours" in axes.get_title()
    plt.close(axes.figure)


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rungax\[examples\]"'):
        SparsityPattern(np.eye(2)).plot()
