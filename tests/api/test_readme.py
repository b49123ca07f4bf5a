"""The Python in README.md and in docs/ runs: the blocks of one file, in order, as one program.

A block that is not meant to run is fenced as something else than `python`.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts.docs.run_page import blocks, execute

ROOT = pathlib.Path(__file__).resolve().parents[2]
plt = pytest.importorskip("matplotlib.pyplot", reason="pages draw figures: pip install rungax[examples]")


@functools.cache  # the README is asked twice
def run(path: pathlib.Path) -> dict[str, object]:
    """What the names of a file stand for after its blocks have run."""
    names: dict[str, object] = {"__name__": "__main__"}
    backend = plt.get_backend()
    plt.switch_backend("Agg")
    with jax.numpy_dtype_promotion("standard"):  # as a user has it; Optax relies on it
        for _ in execute(path, names):
            plt.close("all")
    plt.switch_backend(backend)
    return names


def has_blocks(path: pathlib.Path) -> bool:
    return bool(blocks(path.read_text(encoding="utf-8")))


PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if has_blocks(path)]
"""All slow: `make docs` runs the pages of the manual, and `make examples` the README."""


def test_blocks_are_found(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\ntext\n```python title='b'\nb = a + 1\n\nc = 2\n```\n"
        "```\nnot = python\n```\n- item\n  ```python\n  if b:\n      d = 4\n  ```\n"
    )
    assert [block.line for block in blocks(page.read_text())] == [1, 5, 14]
    names = run(page)
    assert [names[name] for name in "abcd"] == [1, 2, 2, 4]
    broken = tmp_path / "broken.md"
    broken.write_text("text\n\n```python\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        run(broken)
    assert error.traceback[-1].lineno == 3


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_runs(path: pathlib.Path) -> None:
    run(path)


@pytest.mark.slow
def test_the_gradients_in_the_readme() -> None:
    names = run(ROOT / "README.md")
    args, loss = names["args"], names["loss"]
    assert isinstance(args, jax.Array)
    assert callable(loss)
    assert jnp.shape(names["slopes"]) == (21, 2, 4)
    nudges = 1e-5 * np.diag(np.asarray(args))
    finite = [(loss(args + nudge) - loss(args - nudge)) / (2 * np.sum(nudge)) for nudge in nudges]
    np.testing.assert_allclose(names["gradient"], finite, rtol=1e-3)
    np.testing.assert_allclose(names["hessian"], np.transpose(names["hessian"]), rtol=1e-9)
    np.testing.assert_allclose(jnp.asarray(names["many"])[0], names["gradient"], rtol=1e-4)
