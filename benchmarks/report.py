"""Tables of results, printed row by row while a benchmark runs and written as Markdown at its end."""

import importlib.metadata
import math
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .fresh_build import fresh_build_times
from .timing import build_times, run_times

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
FIGURES = HERE / "figures"


class Row(NamedTuple):
    """One comparison; times in seconds, `None` if there is no value."""

    work: str
    ours: float | None
    against: str
    theirs: float | None
    bar: float | None
    difference: float | None
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None or self.theirs is None else self.ours / self.theirs

    @property
    def verdict(self) -> str:
        """Yes if the bar is met, NO if it is not; empty if there is no bar."""
        if self.bar is None:
            return ""
        return "yes" if self.ratio is not None and self.ratio <= self.bar else "NO"

    def cells(self) -> list[str]:
        return [
            self.work,
            show_seconds(self.ours),
            show_seconds(self.theirs),
            self.against,
            "–" if self.ratio is None else f"{self.ratio:.3f}",
            "" if self.bar is None else f"≤ {self.bar:g}",
            self.verdict,
            "" if self.difference is None else f"{self.difference:.0e}",
            self.remark,
        ]


COLUMNS = ("work", "ours", "theirs", "against", "ratio", "bar", "met", "difference", "")
WIDTHS = (52, 9, 9, 22, 7, 7, 4, 10, 0)


class Report:
    """The tables of one benchmark. `budget` is the time for each comparison, in seconds."""

    def __init__(self, name: str, quick: bool = False):
        self.name = name
        self.quick = quick
        self.budget = 0.1 if quick else 3.0
        self.builds = 1 if quick else 7
        self._markdown = [f"# {name}", "", f"`python -m benchmarks {name}`", "", machine(), ""]
        print(f"\n{machine()}", flush=True)

    def table(self, title: str, columns: Sequence[str] = COLUMNS, widths: Sequence[int] = WIDTHS) -> "Table":
        """A new table, below the others."""
        self._markdown += ["", f"## {title}", "", _markdown_line(columns), _markdown_line(["---"] * len(columns))]
        return Table(title, columns, widths, self._markdown)

    def comparisons(self, title: str) -> "Comparisons":
        """A new table of comparisons between two calls."""
        return Comparisons(self, self.table(title))

    def note(self, text: str) -> None:
        self._markdown += ["", text]
        print(text, flush=True)

    def finish(self) -> None:
        if self.quick:
            return
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.md").write_text("\n".join(self._markdown) + "\n", encoding="utf-8")


class Table:
    """A table with rows of text."""

    def __init__(self, title: str, columns: Sequence[str], widths: Sequence[int], markdown: list[str]):
        self._widths = widths
        self._markdown = markdown
        print(f"\n{title}\n" + self._line(columns), flush=True)

    def add(self, cells: Sequence[str]) -> None:
        print(self._line(cells), flush=True)
        self._markdown.append(_markdown_line(cells))

    def _line(self, cells: Sequence[str]) -> str:
        first, *rest = zip(cells, self._widths, strict=True)
        padded = [f"{cell:<{width}}" if width == 0 else f"{cell:>{width}}" for cell, width in rest]
        return "  ".join([f"{first[0]:<{first[1]}}", *padded]).rstrip()


class Comparisons:
    """A table whose rows are measured when they are added."""

    def __init__(self, report: Report, table: Table):
        self._report = report
        self._table = table

    def run(
        self,
        work: str,
        ours: Callable[[], Any],
        theirs: Callable[[], Any] | None,
        *,
        against: str = "diffrax",
        bar: float | None = None,
        same_values: bool = True,
    ) -> None:
        """Time two calls and, if both compute the same, add the relative difference of their values."""
        ours_value, remark = _attempt("ours", ours)
        theirs_value, other = (None, "") if theirs is None else _attempt("theirs", theirs)
        calls = [call for call, value in ((ours, ours_value), (theirs, theirs_value)) if call and value is not None]
        times = iter(run_times(calls, self._report.budget) if calls else [])
        ours_time = None if ours_value is None else next(times)
        theirs_time = None if theirs_value is None else next(times)
        comparable = same_values and ours_value is not None and theirs_value is not None
        difference = relative_difference(ours_value, theirs_value) if comparable else None
        self._add(Row(work, ours_time, against, theirs_time, bar, difference, remark or other))

    def build(self, work: str, ours: Callable[[], Any], theirs: Callable[[], Any], *, bar: float | None) -> None:
        """Time tracing, lowering and compiling of the functions that two makers return."""
        times: list[float | None] = []
        remark = ""
        try:
            times = [*build_times([ours, theirs], self._report.builds)]
        except Exception as error:
            times, remark = [None, None], _first_line("one of them", error)
        self._add(Row(work, times[0], "diffrax", times[1], bar, None, remark))

    def fresh_build(self, work: str, *, bar: float | None) -> None:
        """Time the build of the gradient of one Lorenz solve in processes of their own, ours and Diffrax's in turn."""
        turns = 1 if self._report.quick else 5
        ours, theirs = fresh_build_times(("rungax", "diffrax"), turns)
        self._add(Row(work, ours, "diffrax", theirs, bar, None, ""))

    def _add(self, row: Row) -> None:
        self._table.add(row.cells())


def _attempt(who: str, call: Callable[[], Any]) -> tuple[Any, str]:
    """The value of a call, or the reason of its failure, which is shown while the benchmark continues."""
    try:
        return jax.block_until_ready(call()), ""
    except Exception as error:
        return None, _first_line(who, error)


def _first_line(who: str, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{who}: {type(error).__name__}: {lines[0][:100]}".replace("|", "/")


def relative_difference(a: Any, b: Any) -> float:
    """The largest difference between the leaves of two trees, relative to the largest entry."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in pairs]
    scale = max(float(np.max(np.abs(y))) for _, y in pairs)
    return max(float(np.max(np.abs(x - y))) for x, y in pairs) / scale


def show_seconds(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def machine() -> str:
    """The machine and its load, and the versions of all packages."""
    packages = ("rungax", "jax", "diffrax", "scipy", "heyoka", "gradsolve", "scikit-sundae", "pydiffsol")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, load {load} at the start; "
        f"CPU, float64; Python {platform.python_version()}, {versions}"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
