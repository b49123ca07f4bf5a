"""The built site, as a reader sees it: nothing is cut off, nothing is missing, nothing comes from elsewhere.

`make docs` builds it into `site/`. Headless Chromium opens every page, at the width of a desk's screen and of a phone.
"""

import pathlib
import re
import tempfile
from collections.abc import Callable

import pytest

from .browser import Measured, Visit, find_browser, visit

SITE = pathlib.Path(__file__).resolve().parents[2] / "site"
WIDE, NARROW = 1400, 400
ASIDE = {"404.html"}
"""Not a page of the manual."""

BROWSER = find_browser()
needs_browser = pytest.mark.skipif(BROWSER is None, reason="opens pages in Chromium, which is not installed")
needs_site = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` has not built site/")

BAD_PAGE = """<!doctype html><html><head><title>A bad page</title><link rel="icon" href="data:,"></head>
<body style="margin: 0"><div class="md-content"><article>
<pre style="overflow: auto"><code>{long}</code></pre>
<div class="md-typeset__scrollwrap" style="overflow: auto"><table><tr><td>{long}</td></tr></table></div>
<table style="width: 100px"><tr><td style="width: 50px; padding: 0">{words}</td>
<td><code style="overflow-wrap: anywhere">{words}</code></td></tr></table>
<div style="width: 600px">{words}</div>
<script>console.error("a complaint"); undefined_function()</script>
<img src="missing.png"><img src="http://elsewhere.invalid/figure.png">
</article></div></body></html>"""


def html_pages(site: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if path.name not in ASIDE)


@pytest.fixture(scope="module")
def seen() -> Visit:
    assert BROWSER is not None
    return visit(BROWSER, SITE, html_pages(SITE), [WIDE, NARROW])


def found(seen: Visit, width: int, what: str) -> list[str]:
    """What the measurements of all pages at one width have found under a name."""
    return [f"{page['page']}: {text}" for page in seen.pages if page["width"] == width for text in page[what]]


@needs_browser
def test_what_is_wrong_with_a_page_is_found() -> None:
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as folder:
        page = BAD_PAGE.format(long="x" * 500, words="some words " * 10)
        pathlib.Path(folder, "index.html").write_text(page, encoding="utf-8")
        seen = visit(BROWSER, pathlib.Path(folder), ["index.html"], [NARROW])
    (measured,) = seen.pages
    blank: Callable[[Measured], list[str]] = lambda measured: [key for key, value in measured.items() if not value]
    assert blank(measured) == []
    assert seen.missing == ["/missing.png"]
    assert ["a complaint" in seen.console[0], "undefined_function" in seen.console[1]] == [True, True]


@needs_site
@needs_browser
class TestThePagesOfTheSite:
    def test_all_are_seen(self, seen: Visit) -> None:
        assert len(seen.pages) == 2 * len(html_pages(SITE)) > 100

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_no_page_is_wider_than_the_screen(self, seen: Visit, width: int) -> None:
        assert found(seen, width, "wider") == []

    @pytest.mark.parametrize("what", ["code", "tables", "outside"])
    def test_on_a_wide_screen_nothing_is_cut_off(self, seen: Visit, what: str) -> None:
        assert found(seen, WIDE, what) == []

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_code_in_cells_is_whole(self, seen: Visit, width: int) -> None:
        assert found(seen, width, "broken") == []

    def test_on_a_narrow_screen_the_text_in_cells_has_room(self, seen: Visit) -> None:
        assert found(seen, NARROW, "narrow") == []

    def test_no_file_is_missing(self, seen: Visit) -> None:
        assert found(seen, WIDE, "images") == []
        assert seen.missing == []

    def test_nothing_comes_from_other_hosts(self, seen: Visit) -> None:
        assert found(seen, WIDE, "hosts") == []

    def test_the_console_is_empty(self, seen: Visit) -> None:
        assert seen.console == []


@needs_site
@pytest.mark.parametrize("page", html_pages(SITE))
def test_formulas_are_converted(page: str) -> None:
    text = (SITE / page).read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", text, re.DOTALL)
    assert len(formulas) == text.count('class="arithmatex"')
    assert not [formula for formula in formulas if re.search(r"<mi>&(amp;)?</mi>|\\", formula)]
    # `\mathrm` of one letter becomes this, which browsers set in italics.
    assert not [formula for formula in formulas if re.search(r"<mi>&#x000(?:[46][1-9A-F]|[57][0-9A]);</mi>", formula)]


INTERNAL_TYPES = {"Branch", "Augmented", "LangevinStep", "Tolerances"}
"""Types of protocol methods that no page describes."""


@needs_site
def test_types_in_the_reference_are_links() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (SITE / "reference").rglob("*.html")]
    names = {name for page in pages for name in re.findall(r'<span title="rungax\.[a-z_.]+\.([A-Z]\w*)">', page)}
    assert names <= INTERNAL_TYPES


@needs_site
def test_each_parameter_has_its_own_type() -> None:
    page = (SITE / "reference" / "saving" / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]*>|\s", "", page)
    for entry in ("ts(ArrayLike|None,default:None)", "steps(bool|int,default:False)", "t1(bool,default:False)"):
        assert f"{entry}–AsinSubSaveAt" in text


def test_parameters_are_described_one_by_one() -> None:
    pytest.importorskip("griffe", reason="the manual is built with it: pip install rungax[docs]")
    from scripts.docs.signatures import one_by_one

    text, rest = "    Two\n\n    numbers.\n", "c : int\n    One.\n\nRaises\n------\nE, F\n    No.\n"
    start = "A sum.\n\nParameters\n----------\n"
    assert one_by_one(f"{start}a, *b\n{text}{rest}") == f"{start}a\n{text}*b\n{text}{rest}"
