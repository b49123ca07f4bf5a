"""The manual has an entry for every public name, and every page and example has its place in it."""

import collections
import pathlib
import re

import pytest

from .test_public_names import NAMES

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
ENTRY = re.compile(r"^::: rungax\.(\w+)$", re.MULTILINE)
LINK = re.compile(r"\]\[rungax\.(\w+)[.\w]*\]")
PAGES = sorted(DOCS.rglob("*.md"))


def test_every_public_name_has_one_entry() -> None:
    entries = [name for page in PAGES for name in ENTRY.findall(page.read_text(encoding="utf-8"))]
    assert collections.Counter(entries) == collections.Counter(NAMES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_to_names_lead_somewhere(page: pathlib.Path) -> None:
    assert set(LINK.findall(page.read_text(encoding="utf-8"))) <= set(NAMES)


def test_every_page_is_in_the_navigation() -> None:
    pages = {str(page.relative_to(DOCS).with_suffix(".md")) for page in [*PAGES, *DOCS.rglob("*.ipynb")]}
    examples = {f"examples/{path.stem}.md" for path in (ROOT / "examples").glob("*.py")} | {"examples/index.md"}
    listed = re.findall(r"[\w/]+\.md$", NAV, re.MULTILINE)
    assert sorted(listed) == sorted(pages | examples)


def test_the_navigation_has_no_other_names_than_the_pages() -> None:
    assert re.findall(r".*\S: .*\.md$", NAV, re.MULTILINE) == []
