"""The notebooks in docs/notebooks run from top to bottom, and show what they showed when they were written.

Their code cells are executed in order, as one program. What is stored with them is checked as it stands: every cell
that prints or draws has outputs, none of them is an error, and nothing names a folder of the machine they were made on.
"""

import json
import pathlib
import re
from typing import Any

import jax
import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ABSOLUTE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|mnt|srv|var|Users|private|content)/|\b[A-Z]:\\\\?(?:Users|Windows)"
)
SHOWS = re.compile(r"\bprint\(|\bplt\.subplots\(")


def read(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def problems(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with what is stored in a notebook."""
    found: list[str] = []
    for index, cell in enumerate(code_cells(notebook)):
        outputs = cell["outputs"]
        if cell["execution_count"] != index + 1:
            found.append(f"code cell {index} was not executed in order")
        if SHOWS.search(source(cell)) and not outputs:
            found.append(f"code cell {index} shows nothing")
        for output in outputs:
            if output["output_type"] == "error" or output.get("name") == "stderr":
                found.append(f"code cell {index} has an error or a warning")
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    if kernel != "python3":
        found.append(f"kernel {kernel}")
    if match := ABSOLUTE.search(json.dumps(_without_images(notebook), ensure_ascii=False)):
        found.append(f"a path of some machine: {match[0]}")
    return found


def _without_images(value: Any) -> Any:
    """The same without images, in whose base64 anything may occur by chance."""
    if isinstance(value, dict):
        return {k: _without_images(v) for k, v in value.items() if not str(k).startswith("image/")}
    if isinstance(value, list):
        return [_without_images(v) for v in value]
    return value


def run(notebook: dict[str, Any], name: str) -> dict[str, object]:
    """What the names of a notebook stand for after its code cells have run. Tracebacks show the cell."""
    names: dict[str, object] = {"__name__": "__main__"}
    for index, cell in enumerate(code_cells(notebook)):
        exec(compile(source(cell), f"{name}, code cell {index}", "exec"), names)
    return names


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["fit_a_model", "noise_and_events"]


def test_what_is_wrong_is_found() -> None:
    cell = {"cell_type": "code", "execution_count": 1, "source": ["a = 1\n", "print(a)"]}
    good = {**cell, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]}
    metadata = {"kernelspec": {"name": "python3"}}
    assert problems({"cells": [good], "metadata": metadata}) == []
    assert run({"cells": [good]}, "good")["a"] == 1
    silent = {**cell, "outputs": []}
    failed = {**cell, "outputs": [{"output_type": "error", "ename": "ZeroDivisionError"}]}
    placed = {**cell, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["/home/someone/data\n"]}]}
    unordered = {**good, "execution_count": 3}
    for wrong in (silent, failed, placed, unordered):
        assert len(problems({"cells": [wrong], "metadata": metadata})) == 1
    assert len(problems({"cells": [good], "metadata": {"kernelspec": {"name": "mine"}}})) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path: pathlib.Path) -> None:
    assert problems(read(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: pathlib.Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the notebooks draw: pip install rungax[examples]")
    pytest.importorskip("optax", reason="a notebook uses it: pip install rungax[examples]")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    with jax.numpy_dtype_promotion("standard"):  # as a user has it; Optax relies on it
        run(read(path), path.name)
    pyplot.close("all")
    matplotlib.use(backend)
