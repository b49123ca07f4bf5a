"""The Python in README.md and in docs/ runs: the blocks of one file, in order, as one program.

A block that is not meant to run is fenced as something else than `python`.
"""

import functools
import pathlib
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^( *)```python\b.*\n(?P<code>(?s:.*?))^\1```$", re.MULTILINE)


class Block(NamedTuple):
    """Some code, and after how many lines of its file it starts."""

    code: str
    line: int


def blocks(path: pathlib.Path) -> list[Block]:
    """The Python blocks of a file, indented ones (in lists, in admonitions) included."""
    text = path.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        indent = re.compile(f"^{match[1]}", re.MULTILINE)
        found.append(Block(indent.sub("", match["code"]), text.count("\n", 0, match.start("code"))))
    return found


@functools.cache  # the README is asked twice
def run(path: pathlib.Path) -> dict[str, object]:
    """What the names of a file stand for after its blocks have run. Tracebacks show the line of the file."""
    names: dict[str, object] = {"__name__": "__main__"}
    for code, line in blocks(path):
        exec(compile("\n" * line + code, str(path), "exec"), names)
    return names


PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks(path)]


def test_blocks_are_found(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\ntext\n```python title='b'\nb = a + 1\n\nc = 2\n```\n"
        "```\nnot = python\n```\n- item\n  ```python\n  if b:\n      d = 4\n  ```\n"
    )
    assert [block.line for block in blocks(page)] == [1, 5, 14]
    names = run(page)
    assert [names[name] for name in "abcd"] == [1, 2, 2, 4]
    broken = tmp_path / "broken.md"
    broken.write_text("text\n\n```python\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        run(broken)
    assert error.traceback[-1].lineno == 3


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_runs(path: pathlib.Path) -> None:
    run(path)


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
