"""The results in `benchmarks/results`, read back, without what is only for those who work on the library.

That is: the bars that we set ourselves, and comparisons of a solve with another solve of the library.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

RESULTS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "results"
OF_OUR_OWN = {"our forward solve", "rungax without", "the same + barriers"}
REMARK = re.compile(r" \((?:aim|bar)[^)]*\)")

type Cells = dict[str, str]


class Comparison(NamedTuple):
    """Two times for the same work; `ratio` is ours divided by theirs."""

    work: str
    against: str
    ours: str
    theirs: str
    ratio: float


def tables(name: str) -> Iterator[tuple[str, list[Cells]]]:
    """The tables of a benchmark: their headings, and their rows by the names of the columns."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    for part in text.split("\n## ")[1:]:
        heading, *lines = part.splitlines()
        rows = [
            [REMARK.sub("", cell.strip()) for cell in line[1:].rstrip("|").split("|")]
            for line in lines
            if line.startswith("|")
        ]
        if rows:
            yield REMARK.sub("", heading), [dict(zip(rows[0], row, strict=False)) for row in rows[2:]]


def notes(name: str) -> list[str]:
    """The lines of text of a benchmark outside its tables: machine and versions, and explanations."""
    lines = (RESULTS / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return [REMARK.sub("", line) for line in lines if line and not line.startswith(("#", "|", "- ", "`"))]


def comparisons(name: str) -> Iterator[tuple[str, list[Comparison]]]:
    """The rows with a ratio, under their headings; in place of “the same” stands the work it refers to."""
    for heading, rows in tables(name):
        work, found = "", []
        for row in rows:
            said = row.get("work", "")
            addition = said.removeprefix("the same")
            work = said if addition == said else work.removesuffix(addition) + addition
            if row.get("ratio", "–") != "–" and row["against"] not in OF_OUR_OWN:
                found.append(Comparison(work, row["against"], row["ours"], row["theirs"], float(row["ratio"])))
        if found:
            yield heading, found


def the(name: str, heading: str, work: str) -> Comparison:
    """The first comparison of a benchmark whose heading and work begin with these words."""
    return next(
        row
        for found, rows in comparisons(name)
        for row in rows
        if found.startswith(heading) and row.work.startswith(work)
    )
