"""A hook of the manual that makes links to the sources of examples and notebooks lead to the pages made of them.

The pages link to the sources, which exist where the repository is read, too.
"""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

EXAMPLE = re.compile(r"\]\(\.\./((?:\.\./)*examples/\w+)\.py\)")
"""The folder of the examples is beside that of the manual, and their pages are within the manual."""
NOTEBOOK = re.compile(r"\]\(((?:\.\./)*notebooks/\w+)\.ipynb\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the links of a page."""
    del page, config, files
    return NOTEBOOK.sub(r"](\1.md)", EXAMPLE.sub(r"](\1.md)", markdown))
