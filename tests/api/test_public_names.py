"""The public names: what `rungax` exports, that each says what it is, and that the examples in the docstrings run."""

import ast
import doctest
import inspect
import itertools
import pathlib
import tomllib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import rungax

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "rungax"


def exports(text: str) -> list[tuple[str, str]]:
    """The names that an `__init__` imports, with the names it gives them."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    return [(alias.name, alias.asname or "") for node in imports for alias in node.names]


NAMES = [name for _, name in exports((SOURCE / "__init__.py").read_text(encoding="utf-8"))]
PUBLIC: dict[str, Any] = {name: getattr(rungax, name) for name in NAMES}
CLASSES: list[type] = [value for value in PUBLIC.values() if inspect.isclass(value)]


def is_abstract(cls: type) -> bool:
    """Whether a class is there to be subclassed; by its name, for not every such class has abstract methods."""
    return cls.__name__.startswith("Abstract")


def concrete_pairs(classes: list[type]) -> list[tuple[str, str]]:
    """Each concrete class that another one is a subclass of."""
    concrete = [cls for cls in classes if not is_abstract(cls)]
    return [(a.__name__, b.__name__) for a, b in itertools.permutations(concrete, 2) if issubclass(a, b)]


class Docstring(NamedTuple):
    """A docstring, and where it is."""

    name: str
    text: str
    path: pathlib.Path
    line: int

    @property
    def has_section(self) -> bool:
        """Whether it has a section with examples, in the style of NumPy."""
        return "\nExamples\n--------\n" in self.text

    @property
    def has_prompts(self) -> bool:
        """Whether it has examples that run."""
        return ">>> " in self.text


def docstrings(path: pathlib.Path) -> Iterator[Docstring]:
    """All docstrings of a file: read from its text, so that no decorator can hide one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                name = "module" if isinstance(node, ast.Module) else node.name
                yield Docstring(f"{path.stem}.{name}", text, path, node.body[0].lineno - 1)


def run_examples(docstring: Docstring) -> doctest.TestResults:
    """Run the examples of one docstring as a user would: they see only what they import."""
    names = {"__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(
        docstring.text, names, docstring.name, str(docstring.path), docstring.line
    )
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)


DOCSTRINGS = [docstring for path in sorted(SOURCE.rglob("*.py")) for docstring in docstrings(path)]
EXAMPLES = [docstring for docstring in DOCSTRINGS if docstring.has_prompts]


def test_every_public_name_is_imported_under_its_own_name() -> None:
    assert [pair for pair in exports((SOURCE / "__init__.py").read_text(encoding="utf-8")) if pair[0] != pair[1]] == []
    assert len(NAMES) == len(set(NAMES))


def test_nothing_private_is_public() -> None:
    assert [name for name in NAMES if name.startswith("_")] == []
    assert [name for name, value in PUBLIC.items() if getattr(value, "__name__", name) != name] == []
    assert [name for name, value in PUBLIC.items() if not value.__module__.startswith("rungax.")] == []


def test_nothing_else_is_public() -> None:
    found = {name for name, value in vars(rungax).items() if not isinstance(value, ModuleType)}
    assert {name for name in found if not name.startswith("__")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring_with_a_summary(name: str) -> None:
    text = vars(PUBLIC[name])["__doc__"] if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert text, "no docstring of its own"
    summary, *rest = inspect.cleandoc(text).splitlines()
    assert summary.endswith(".")
    assert rest[:1] in ([], [""])


def test_the_version_is_that_of_the_project() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert rungax.__version__ == tomllib.load(file)["project"]["version"]


def test_a_public_class_is_abstract_or_final() -> None:
    assert concrete_pairs(CLASSES) == []


def test_a_class_with_abstract_methods_is_called_so() -> None:
    assert [cls.__name__ for cls in CLASSES if inspect.isabstract(cls) and not is_abstract(cls)] == []


def test_a_planted_subclass_of_a_concrete_class_is_caught() -> None:
    child = type("Child", (rungax.Tsit5,), {"__doc__": "A method."})
    assert concrete_pairs([rungax.AbstractERK, rungax.Tsit5, child]) == [("Child", "Tsit5")]


def test_examples_stand_in_their_section_and_run() -> None:
    assert [docstring.name for docstring in DOCSTRINGS if docstring.has_section != docstring.has_prompts] == []


@pytest.mark.parametrize("docstring", EXAMPLES, ids=lambda docstring: docstring.name)
def test_the_examples_of_a_docstring_run(docstring: Docstring) -> None:
    results = run_examples(docstring)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_planted_wrong_example_is_caught(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text('def f():\n    """Add.\n\n    Examples\n    --------\n    >>> 1 + 1\n    3\n    """\n')
    (docstring,) = docstrings(path)
    assert docstring.has_section
    assert run_examples(docstring) == (1, 1)
