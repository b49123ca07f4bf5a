"""A hook of the manual that converts formulas to MathML, which browsers show without scripts from other sites."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# The output of the extension arithmatex for $...$ and $$...$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAYED = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
SPELLINGS = {r"{aligned}": r"{split}", r"\mathrm{": r"\text{"}
"""What the converter does not know, or sets in italics, and another spelling for the same."""
UNKNOWN = re.compile(r"<mi>&</mi>|\\[^<]*")
"""Where LaTeX was copied instead of converted."""


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert all formulas of a page."""
    del page, config, files
    content = INLINE.sub(lambda found: f'<span class="arithmatex">{mathml(found[1], "inline")}</span>', content)
    return DISPLAYED.sub(lambda found: f'<div class="arithmatex">{mathml(found[1], "block")}</div>', content)


def mathml(formula: str, display: str) -> str:
    """The MathML of a formula of a page. Raise a `PluginError` if any LaTeX is left."""
    latex = html.unescape(formula).strip()
    for theirs, ours in SPELLINGS.items():
        latex = latex.replace(theirs, ours)
    converted = convert(latex, display=display)
    if unknown := UNKNOWN.search(converted):
        raise PluginError(f"{unknown[0]!r} is left after the conversion of the formula {formula}")
    return converted
