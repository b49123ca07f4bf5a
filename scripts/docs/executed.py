"""A hook of the manual that runs the Python code of its pages and the examples, and shows their output and figures.

Results are cached in `.cache/docs`, under a hash of everything on which they depend. What has changed runs in parallel,
the longest first, and the log has a line for each run.
"""

import ast
import functools
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.docs.run_page import Block, blocks  # noqa: E402  (a hook is loaded from its file, outside any package)

CACHE = ROOT / ".cache" / "docs"
SECONDS = CACHE / "seconds.json"
"""How long the last run of each source took."""
LONGEST_RUN = 1200  # seconds
DATA = {
    "benchmarks": ("scripts/docs/stored_benchmarks.py", "benchmarks/results/*.md"),
    "hudson_bay": ("examples/data/*.csv",),
}
"""Files that code may read, by a word that is in such code."""
log = logging.getLogger("mkdocs.hooks.executed")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Run what has changed; add the figures and the pages of the examples."""
    library.cache_clear()  # `mkdocs serve` comes here again
    found = {pathlib.Path(file.abs_src_path or ""): file.src_uri for file in files.documentation_pages()}
    pages = {path: uri for path, uri in found.items() if path.is_file() and blocks(path.read_text(encoding="utf-8"))}
    in_order = re.findall(r"examples/(\w+)\.md", str(config.nav))
    examples = sorted((ROOT / "examples").glob("*.py"), key=lambda path: in_order.index(path.stem))
    run_all([*pages, *examples])
    for path, uri in pages.items():
        config.extra.setdefault("ran", {})[uri] = folder(path)
        for figure in folder(path).glob("*.png"):
            files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    for path in examples:
        figure = str(folder(path) / f"{path.stem}.png")
        files.append(File.generated(config, f"examples/{path.stem}.md", content=example_page(path)))
        files.append(File.generated(config, f"examples/{path.stem}.png", abs_src_path=figure))
    files.append(File.generated(config, "examples/index.md", content=index_page(examples)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the output and the figures of each block below it."""
    del files
    ran = config.extra.get("ran", {}).get(page.file.src_uri)
    if ran is None:
        return markdown
    up = "../" * page.file.src_uri.count("/")
    shown = json.loads((ran / "shown.json").read_text(encoding="utf-8"))
    for block, (text, figures) in reversed(list(zip(blocks(markdown), shown, strict=True))):
        parts = [collapsed(block) if block.hidden else markdown[block.start : block.end].removeprefix(block.indent)]
        parts += [f"```text\n{text.rstrip()}\n```"] if text.strip() else []
        parts += [f"![Figure drawn by the code above]({up}figures/{name})" for name in figures]
        below = "\n\n".join(parts[1:]).replace("\n", "\n" + block.indent)
        added = block.indent + parts[0] + (f"\n\n{block.indent}{below}" if below else "")
        markdown = markdown[: block.start] + added + markdown[block.end :]
    return markdown


def collapsed(block: Block) -> str:
    """A box that shows the code when it is opened."""
    lines = ["```py", *block.code.splitlines(), "```"]
    return "\n".join(['??? quote "The code"', "", *(f"    {line}".rstrip() for line in lines)])


# -------------------------------------------------------------------------------------------------------------- running


def run_all(sources: list[pathlib.Path]) -> None:
    """Run the pages and examples whose results are not cached, and log the time of each."""
    changed = [source for source in sources if not (folder(source) / "printed.txt").exists()]
    log.info("%d pages and examples are unchanged, %d run", len(sources) - len(changed), len(changed))
    seconds = json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.exists() else {}
    changed.sort(key=lambda source: -seconds.get(name(source), LONGEST_RUN))
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        for source, taken in zip(changed, pool.map(run, changed), strict=True):
            seconds[name(source)] = taken
    if changed:
        SECONDS.write_text(json.dumps(seconds, indent=1), encoding="utf-8")


def run(source: pathlib.Path) -> float:
    """Run a page or an example, store its output and its figures in its folder, and return the seconds it took."""
    began = time.perf_counter()
    target = folder(source)
    for old in CACHE.glob(f"{target.name.rpartition('-')[0]}-*"):
        shutil.rmtree(old)
    target.mkdir(parents=True)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "MPLBACKEND": "Agg",
        **os.environ,
    }
    done = subprocess.run(
        [sys.executable, *program(source), str(target)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    if done.returncode != 0:
        raise PluginError(f"{name(source)} does not run:\n{done.stderr[-3000:]}")
    (target / "printed.txt").write_text(done.stdout, encoding="utf-8")
    taken = round(time.perf_counter() - began, 1)
    log.info("%6.1f s  %s", taken, name(source))
    return taken


def program(source: pathlib.Path) -> list[str]:
    """The arguments of Python that run a page or an example; the folder of its figures goes last."""
    if source.suffix == ".md":
        return [str(ROOT / "scripts" / "docs" / "run_page.py"), str(source)]
    draw_here = f"import runpy, pathlib, sys; main = runpy.run_path({str(source)!r})['main']; "
    return ["-c", draw_here + "main.__globals__['FIGURES'] = pathlib.Path(sys.argv[1]); main()"]


def name(source: pathlib.Path) -> str:
    """The path of a source, below the root."""
    return str(source.relative_to(ROOT))


def folder(source: pathlib.Path) -> pathlib.Path:
    """The folder of the results of a source, as it stands."""
    return CACHE / f"{name(source.with_suffix('')).replace(os.sep, '_')}-{fingerprint(source)}"


def fingerprint(source: pathlib.Path) -> str:
    """A hash of the code in `source`, the library, the script that runs pages, and data that the code may read."""
    text = source.read_text(encoding="utf-8")
    code = "\n".join(block.code for block in blocks(text)) if source.suffix == ".md" else without_docstrings(text)
    digest = hashlib.sha256(code.encode() + library())
    for word, patterns in DATA.items():
        for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern) if word in code):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def library() -> bytes:
    """A hash of the library's code and of the script that runs pages."""
    paths = *sorted(ROOT.glob("src/**/*.py")), ROOT / "scripts" / "docs" / "run_page.py"
    return hashlib.sha256(
        "".join(without_docstrings(path.read_text(encoding="utf-8")) for path in paths).encode()
    ).digest()


def without_docstrings(text: str) -> str:
    """The syntax tree of a file as text, without docstrings and comments."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() if ast.get_docstring(node, clean=False):
                node.body[0] = ast.Pass()
    return ast.dump(tree)


# --------------------------------------------------------------------------------------------------------- the examples


class Texts(NamedTuple):
    """The parts of the docstring of an example: title, subtitle and explanation."""

    title: str
    subtitle: str
    explanation: str


def texts(path: pathlib.Path) -> Texts:
    """The texts of an example. Its first line is its title, a colon and its subtitle."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, _, explanation = docstring.partition("\n")
    title, _, subtitle = first.partition(": ")
    return Texts(title, subtitle[:1].upper() + subtitle[1:], explanation)


def example_page(path: pathlib.Path) -> str:
    """The page of an example: its docstring, its figure, its output and its code."""
    source = path.read_text(encoding="utf-8")
    shown = texts(path)
    code = "\n".join(source.splitlines()[ast.parse(source).body[0].end_lineno or 0 :]).strip()
    printed = (folder(path) / "printed.txt").read_text(encoding="utf-8").rstrip()
    return "\n".join(
        [
            f"# {shown.title}\n\n{shown.subtitle}",
            shown.explanation,
            f"\n![The figure of this example]({path.stem}.png)\n",
            f"It prints\n\n```text\n{printed}\n```\n",
            f"The whole of `examples/{path.name}`:\n\n```py\n{code}\n```",
        ]
    )


def index_page(examples: list[pathlib.Path]) -> str:
    """The page of all examples, each with its figure."""
    cards = []
    for path in examples:
        shown = texts(path)
        text = f"**{shown.title}**<br>{shown.subtitle}"
        cards.append(f"[![]({path.stem}.png){{ .thumbnail }} {text}]({path.stem}.md){{ .card }}")
    start = "# Examples\n\nThese are complete programs, each a file in the folder `examples/` of the repository.\n"
    end = "There are two notebooks too: [fit a model](../notebooks/fit_a_model.md) and [noise and events]"
    end += "(../notebooks/noise_and_events.md)."
    return "\n".join([start, '<div class="cards" markdown>\n', *(f"{card}\n" for card in cards), "</div>\n", end])
