"""A hook of the manual that inserts tables of the stored benchmarks.

They replace lines such as `<!-- benchmark explicit -->`. `results` stands for the six that a reader wants first,
`slower` for those in which another program is faster.
"""

import pathlib
import re
import sys

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from scripts.docs import stored_benchmarks as stored

UNIT = re.compile(r"(\d) (µs|ms|s|KiB|MiB)\b")
PLACE = re.compile(r"^<!-- benchmark (\w+) -->$", re.MULTILINE)
FIRST = (
    ("One solve of Lorenz' equations, tolerance 1e-8", "explicit", "Lorenz, T", "one solve, t1"),
    ("1000 such solves under `vmap`", "explicit", "Lorenz, T", "vmap, 1000 rho, t1"),
    ("The gradient of one such solve", "gradients", "Lorenz", "gradient at t1"),
    ("Tracing and compiling one solve", "explicit", "Calling", "trace"),
    ("A stiff problem: Robertson's reactions, `Rodas5P`", "stiff", "Robertson", "one solve, Rodas5P"),
    ("1000 paths with noise, Euler–Maruyama along a Brownian tree", "noise", "dy = -y", "1000 paths"),
)
"""What a reader wants first: a text, the benchmark, and the first words of the heading and of the row."""
WITH_RATIOS = ("explicit", "gradients", "stiff", "noise", "events")
HIDDEN = {"bar", "met", "≤ diffrax or 1e-05"}
"""Columns for those who work on the library."""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the tables at their places."""
    del page, config, files
    return PLACE.sub(lambda found: inserted(found[1]), markdown)


def inserted(name: str) -> str:
    """The text for a place."""
    if name == "results":
        return first_results()
    return slower_results() if name == "slower" else collapsed(name)


def first_results() -> str:
    """The six results that a reader wants first."""
    rows = [[text, stored.the(*place)] for text, *place in FIRST]
    cells = [[text, row.ours, row.theirs, f"**{times(1 / row.ratio)}×**"] for text, row in rows]
    return table(["", "Rungax", "Diffrax", "faster by"], cells)


def times(factor: float) -> str:
    """A factor with two digits or more."""
    return f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"


def slower_results() -> str:
    """The results in which another program is faster."""
    found = [(heading, row) for name in WITH_RATIOS for heading, rows in stored.comparisons(name) for row in rows]
    cells = [
        [f"{heading}: {row.work}", row.against, row.ours, row.theirs] for heading, row in found if row.ratio > 1.005
    ]
    return table(["work", "against", "ours", "theirs"], cells)


def collapsed(name: str) -> str:
    """All tables of a benchmark, in a box that the reader opens."""
    parts = stored.notes(name)
    for heading, rows in stored.tables(name):
        columns = [column for column in rows[0] if column not in HIDDEN and any(row.get(column) for row in rows)]
        parts.append(f"**{heading}**")
        parts += [table(group, [[row.get(c, "") for c in group] for row in rows]) for group in groups(columns)]
    text = "\n\n".join(parts).replace("\n", "\n    ")
    return f'??? abstract "All results of `{name}`"\n\n    {text}'


def groups(columns: list[str]) -> list[list[str]]:
    """The columns of one table, or of two where some are memory and some are time."""
    memory = [column for column in columns if not column.endswith(", time")]
    return (
        [memory, [column for column in columns if not column.endswith(", memory")]] if memory != columns else [columns]
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, without line breaks between numbers and units."""
    lines = [columns, ["---"] * len(columns), *rows]
    return UNIT.sub("\\1\u00a0\\2", "\n".join(f"| {' | '.join(line)} |" for line in lines))
