"""Run the Python of a page: the blocks fenced as `python`, in order, as one program.

    python scripts/docs/run_page.py docs/getting_started.md

prints what each block printed and saves the figures it drew, in `.cache/docs/getting_started` or the folder that is the
second argument. `shown.json` there says what belongs below which block: the manual is built from it.
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

BLOCK = re.compile(r"^( *)```python\b.*\n(?P<code>(?s:.*?))^\1```$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code, the line of its page it starts after, its indentation, and the end of its closing fence."""

    code: str
    line: int
    indent: str
    end: int


class Shown(NamedTuple):
    """What a block printed, and the names of the figures it drew."""

    text: str
    figures: list[str]


def blocks(text: str) -> list[Block]:
    """The Python blocks of a page, indented ones (in lists, in admonitions) included."""
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        code = re.sub(f"^{match[1]}", "", match["code"], flags=re.MULTILINE)
        found.append(Block(code, text.count("\n", 0, match.start("code")), match[1], match.end()))
    return found


def execute(page: pathlib.Path, names: dict[str, Any]) -> Iterator[str]:
    """Run the blocks one by one and yield what each printed. Tracebacks show the line of the page."""
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
    """Run a page and keep what it shows."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(".cache/jax").resolve()))
    folder.mkdir(parents=True, exist_ok=True)
    shown: list[Shown] = []
    for index, text in enumerate(execute(page, {"__name__": "__main__"})):
        shown.append(Shown(text, save_figures(folder, f"{page.parent.name}_{page.stem}_{index}")))
        print(f"--- block {index}", text, *(folder / name for name in shown[-1].figures), sep="\n")
    (folder / "shown.json").write_text(json.dumps(shown), encoding="utf-8")


if __name__ == "__main__":
    page = pathlib.Path(sys.argv[1])
    main(page, pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(".cache/docs") / page.stem)
