"""A hook of the manual: formulas become MathML, which browsers show by themselves, without scripts from elsewhere."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# What the extension arithmatex makes of $...$ and $$...$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAYED = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert all formulas of a page."""
    del page, config, files
    content = INLINE.sub(lambda found: convert(html.unescape(found[1])), content)
    return DISPLAYED.sub(lambda found: convert(html.unescape(found[1]).strip(), display="block"), content)
