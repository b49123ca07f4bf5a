"""Code that the manual shows has at most 88 characters in a line, so that it fits beside the navigation.

`ruff format` cares for that (docs/ruff.toml, examples/ruff.toml), but it does not break comments and strings.
"""

import ast
import json
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH = 88
FENCE = re.compile(r"^( *)(`{3,})[^`\n]*\n(?P<code>(?s:.*?))^\1\2$", re.MULTILINE)
EXAMPLE = re.compile(r"^ *(?:>>>|\.\.\.) (?P<code>.*)$", re.MULTILINE)


def lines_of_page(text: str) -> Iterator[str]:
    """The lines of all fenced blocks, without the indentation of their fences."""
    for block in FENCE.finditer(text):
        yield from (line.removeprefix(block[1]) for line in block["code"].splitlines())


def lines_of_example(text: str) -> Iterator[str]:
    """The lines below the docstring, which is shown as text."""
    yield from text.splitlines()[ast.parse(text).body[0].end_lineno :]


def lines_of_notebook(text: str) -> Iterator[str]:
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            yield from "".join(cell["source"]).splitlines()


def lines_of_module(text: str) -> Iterator[str]:
    """The lines of the examples in docstrings."""
    yield from (line["code"] for line in EXAMPLE.finditer(text))


SOURCES = {
    "docs/**/*.md": lines_of_page,
    "docs/**/*.ipynb": lines_of_notebook,
    "examples/*.py": lines_of_example,
    "src/**/*.py": lines_of_module,
}


def too_long(pattern: str, root: pathlib.Path) -> list[str]:
    paths = sorted(root.glob(pattern))
    assert paths
    return [
        f"{path.relative_to(root)}: {line}"
        for path in paths
        for line in SOURCES[pattern](path.read_text(encoding="utf-8"))
        if len(line) > WIDTH
    ]


@pytest.mark.parametrize("pattern", SOURCES)
def test_lines_of_code_are_short(pattern: str) -> None:
    assert too_long(pattern, ROOT) == []


def test_a_long_line_is_found(tmp_path: pathlib.Path) -> None:
    long = "x" * (WIDTH + 1)
    (tmp_path / "docs").mkdir()
    (tmp_path / "examples").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "docs" / "page.md").write_text(f"{long}\n- item\n  ```python\n  {long}\n  {long[1:]}\n  ```\n")
    notebook = {"cells": [{"cell_type": "markdown", "source": [long]}, {"cell_type": "code", "source": [long]}]}
    (tmp_path / "docs" / "notebook.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "examples" / "example.py").write_text(f'"""{long}."""\n# {long}\n')
    (tmp_path / "src" / "module.py").write_text(f'"""{long}\n\n>>> {long}\n>>> {long[1:]}\n"""\n')
    assert [len(too_long(pattern, tmp_path)) for pattern in SOURCES] == [1, 1, 1, 1]
