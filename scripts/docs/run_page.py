"""Run the Python code of a page: the blocks fenced as `python`, in order, as one program.

    python scripts/docs/run_page.py docs/getting_started.md

This prints the output of each block and saves its figures, in `.cache/docs/getting_started` or the folder given as the
second argument. `shown.json` in that folder lists the output and figures of each block, for the build of the manual.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

BLOCK = re.compile(r"^( *)```python\b(?P<info>.*)\n(?P<code>(?s:.*?))^\1```$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code, the number of lines before it in its page, its indentation, and the ends of its fence.

    The code of a block fenced as `python hidden` is shown on request only.
    """

    code: str
    line: int
    indent: str
    start: int
    end: int
    hidden: bool


class Shown(NamedTuple):
    """The output of a block and the names of its figures."""

    text: str
    figures: list[str]


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page, including indented ones in lists and admonitions."""
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        code = re.sub(f"^{match[1]}", "", match["code"], flags=re.MULTILINE)
        line, hidden = text.count("\n", 0, match.start("code")), "hidden" in match["info"].split()
        found.append(Block(code, line, match[1], match.start(), match.end(), hidden))
    return found


def execute(page: pathlib.Path, names: dict[str, Any]) -> Iterator[str]:
    """Run the blocks one by one and yield the output of each. Tracebacks show the line of the page."""
    for block in blocks(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        yield printed.getvalue()


def save_figures(folder: pathlib.Path, prefix: str) -> list[str]:
    """Save the open figures and close them."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    plt = sys.modules["matplotlib.pyplot"]
    saved: list[str] = []
    for number in plt.get_fignums():
        saved.append(f"{prefix}_{len(saved)}.png")
        plt.figure(number).savefig(folder / saved[-1], dpi=150)
    plt.close("all")
    return saved


def main(page: pathlib.Path, folder: pathlib.Path) -> None:
    """Run a page and save its output and figures."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(".cache/jax").resolve()))
    folder.mkdir(parents=True, exist_ok=True)
    shown: list[Shown] = []
    for index, text in enumerate(execute(page, {"__name__": "__main__"})):
        shown.append(Shown(text, save_figures(folder, f"{page.parent.name}_{page.stem}_{index}")))
        print(f"--- block {index}", text, *(folder / name for name in shown[-1].figures), sep="\n")
    (folder / "shown.json").write_text(json.dumps(shown), encoding="utf-8")


if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])  # a page may import what is in `scripts`
    page = pathlib.Path(sys.argv[1])
    main(page, pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(".cache/docs") / page.stem)
