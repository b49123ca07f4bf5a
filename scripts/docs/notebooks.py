"""A hook of the manual that makes a page of each notebook, with the outputs that the notebook has stored.

The notebook itself is part of the site too, for download.
"""

import base64
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the figures of all notebooks."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = pathlib.Path(file.abs_src_path or "")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        download = f"[Download this notebook]({path.name})"
        parts = [part for index, cell in enumerate(cells) for part in markdown(cell, figure_name(path, index))]
        page = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content="\n\n".join([*parts, download])))
        for index, cell in enumerate(cells):
            for image in images(cell):
                uri = str(pathlib.PurePosixPath(file.src_uri).parent / figure_name(path, index))
                files.append(File.generated(config, uri, content=base64.b64decode(image)))
    return files


def figure_name(path: pathlib.Path, index: int) -> str:
    """The name of the figure that a cell of a notebook draws."""
    return f"{path.stem}_{index}.png"


def markdown(cell: dict[str, Any], figure: str) -> Iterator[str]:
    """A cell as Markdown: its text, or its code with what it prints and draws."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```py\n{source}\n```"
    printed = "".join(line for output in cell["outputs"] for line in output.get("text", []))
    if printed:
        yield f"```text\n{printed.rstrip()}\n```"
    if list(images(cell)):
        yield f"![Figure drawn by the code above]({figure})"


def images(cell: dict[str, Any]) -> list[str]:
    """The figure that a cell has drawn, in base64; at most one."""
    found = [output["data"]["image/png"] for output in cell.get("outputs", []) if "data" in output]
    assert len(found) < 2, "a cell of a notebook draws one figure"
    return found
