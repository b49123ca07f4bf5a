"""A hook of the manual that runs the Python code of its pages and the examples, and shows their output and figures.

Results are cached in `.cache/docs`, under a hash of everything on which they depend.
"""

import ast
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.docs.run_page import blocks  # noqa: E402  (a hook is loaded from its file, outside any package)

CACHE = ROOT / ".cache" / "docs"
LONGEST_RUN = 1200  # seconds


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run all pages and examples in parallel; add the figures and the pages of the examples."""
    pages = {file.src_uri: pathlib.Path(file.abs_src_path or "") for file in files.documentation_pages()}
    pages = {uri: path for uri, path in pages.items() if blocks(path.read_text(encoding="utf-8"))}
    examples = sorted((ROOT / "examples").glob("*.py"))
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        ran = dict(zip(pages, pool.map(run_page, pages.values()), strict=True))
        shown = list(pool.map(run_example, examples))
    for uri, folder in ran.items():
        config.extra.setdefault("ran", {})[uri] = folder
        for figure in folder.glob("*.png"):
            files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    for path, folder in zip(examples, shown, strict=True):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=example_page(path, folder)))
        files.append(File.generated(config, f"examples/{path.stem}.png", abs_src_path=str(folder / f"{path.stem}.png")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the output and the figures of each block below it."""
    del files
    folder = config.extra.get("ran", {}).get(page.file.src_uri)
    if folder is None:
        return markdown
    up = "../" * page.file.src_uri.count("/")
    shown = json.loads((folder / "shown.json").read_text(encoding="utf-8"))
    for block, (text, figures) in reversed(list(zip(blocks(markdown), shown, strict=True))):
        below = [f"```text\n{text.rstrip()}\n```"] if text.strip() else []
        below += [f"![Figure drawn by the code above]({up}figures/{name})" for name in figures]
        added = "\n\n".join(["", *below]).replace("\n", "\n" + block.indent)
        markdown = markdown[: block.end] + added + markdown[block.end :]
    return markdown


def run_page(page: pathlib.Path) -> pathlib.Path:
    """The folder with the output and the figures of a page's blocks."""
    return run(page, [str(ROOT / "scripts" / "docs" / "run_page.py"), str(page)])


def run_example(path: pathlib.Path) -> pathlib.Path:
    """The folder with the output of an example and its figure."""
    draw_here = f"import runpy, pathlib, sys; main = runpy.run_path({str(path)!r})['main']; "
    draw_here += "main.__globals__['FIGURES'] = pathlib.Path(sys.argv[1]); main()"
    return run(path, ["-c", draw_here])


def run(source: pathlib.Path, arguments: list[str]) -> pathlib.Path:
    """Run Python with a folder as its last argument, unless its results are cached; return the folder."""
    folder = CACHE / f"{source.stem}-{fingerprint(source)}"
    if (folder / "printed.txt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "MPLBACKEND": "Agg",
        **os.environ,
    }
    command = [sys.executable, *arguments, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST_RUN, check=False
    )
    if done.returncode != 0:
        raise PluginError(f"{source.relative_to(ROOT)} does not run:\n{done.stderr[-3000:]}")
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def fingerprint(source: pathlib.Path) -> str:
    """A hash of `source`, the library, these scripts, and the measurements that pages draw."""
    digest = hashlib.sha256(source.read_bytes())
    parts = ("src/**/*.py", "scripts/docs/*.py", "benchmarks/results/*.md")
    for path in sorted(path for part in parts for path in ROOT.glob(part)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def example_page(path: pathlib.Path, folder: pathlib.Path) -> str:
    """The page of an example: its docstring, its figure, its output and its code."""
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    title, _, explanation = (ast.get_docstring(module) or "").partition("\n")
    code = "\n".join(source.splitlines()[module.body[0].end_lineno or 0 :]).strip()
    printed = (folder / "printed.txt").read_text(encoding="utf-8").rstrip()
    return "\n".join(
        [
            f"# {title.rstrip('.:')}",
            explanation,
            f"\n![The figure of this example]({path.stem}.png)\n",
            f"It prints\n\n```text\n{printed}\n```\n",
            f"The whole of `examples/{path.name}`:\n\n```py\n{code}\n```",
        ]
    )
