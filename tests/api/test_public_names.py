"""The public names: what `rungax` exports, that each says all there is to say, and that the examples run."""

import ast
import doctest
import enum
import inspect
import itertools
import pathlib
import re
import tomllib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import rungax

from ..catalogue import slow_unless

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "rungax"


def imported(text: str) -> list[str]:
    """The names that an `__init__` imports from its package."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level > 0]
    return [alias.asname or alias.name for node in imports for alias in node.names]


NAMES = rungax.__all__
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
    """All docstrings of a file, values' too: read from its text, so that no decorator can hide one."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                name = "module" if isinstance(node, ast.Module) else node.name
                yield Docstring(f"{path.stem}.{name}", text, path, node.body[0].lineno - 1)
    for value, after in itertools.pairwise(module.body):
        match value, after:
            case ast.Assign(targets=[ast.Name(name)]), ast.Expr(ast.Constant(str() as text)):
                yield Docstring(f"{path.stem}.{name}", inspect.cleandoc(text), path, after.lineno - 1)
            case _:
                pass


def run_examples(docstring: Docstring) -> doctest.TestResults:
    """Run the examples of one docstring as a user would: they see only what they import."""
    names = {"__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(
        docstring.text, names, docstring.name, str(docstring.path), docstring.line
    )
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)


def sections(text: str) -> dict[str, str]:
    """The sections of a docstring in the style of NumPy, by their titles."""
    _, *rest = re.split(r"^(\w[\w ]*)\n-{3,}$", text, flags=re.MULTILINE)
    return dict(zip(rest[::2], rest[1::2], strict=True))


def documented(text: str, *titles: str) -> list[str]:
    """The names that sections which list parameters describe, in their order."""
    lines = [line for title in titles for line in sections(text).get(title, "").splitlines()]
    names = [line.split(",") for line in lines if line and not line.startswith(" ")]
    return [name.strip().lstrip("*") for name in itertools.chain.from_iterable(names)]


WITHOUT_EFFECT = {"scan_kind"}
"""Parameters that are accepted for older programs only; the class that has them first documents them."""


def arguments(value: Any) -> list[str]:
    """The names of what a function or a constructor takes."""
    takes_none = inspect.isclass(value) and issubclass(value, enum.Enum | Exception)
    return [] if takes_none or not callable(value) else list(inspect.signature(value).parameters)


REQUIRED: dict[type, set[str]] = {
    rungax.AbstractSolver: {"Differentiability", "Cost", "References"},
    rungax.AbstractTerm: {"Differentiability", "Cost"},
    rungax.AbstractGlobalInterpolation: {"Differentiability", "Cost"},
    rungax.AbstractBrownianPath: {"Differentiability", "Cost"},
    rungax.AbstractLocalInterpolation: {"Differentiability"},
    rungax.AbstractStepSizeController: {"Differentiability", "Cost"},
    rungax.AbstractAdjoint: {"Differentiability", "Cost"},
}
"""Sections that every concrete subclass of a class has, besides examples."""


def missing_from_function(value: Any, text: str) -> list[str]:
    """What the docstring of a function lacks: its parameters exactly, what it returns, an example."""
    required = {"Examples"} | (set() if inspect.signature(value).return_annotation is None else {"Returns"})
    undocumented = [] if documented(text, "Parameters") == arguments(value) else ["its parameters"]
    return [*sorted(required - set(sections(text))), *undocumented]


def missing_from_class(value: type, text: str) -> list[str]:
    """What the docstring of a class lacks: how to use it and, if it is concrete, all that its kind must say."""
    unknown = set(documented(text, "Parameters")) - set(arguments(value))
    if is_abstract(value):
        leads_on = {"Examples", "See Also"} & set(sections(text))
        return [*sorted(unknown), *([] if leads_on else ["Examples or See Also"])]
    required = {"Examples"}.union(*(titles for base, titles in REQUIRED.items() if issubclass(value, base)))
    undocumented = set(arguments(value)) - WITHOUT_EFFECT - set(documented(text, "Parameters", "Attributes"))
    return sorted((required - set(sections(text))) | undocumented | unknown)


def missing(value: Any, text: str) -> list[str]:
    """What the docstring of a public name lacks."""
    if inspect.isclass(value):
        return missing_from_class(value, text)
    return (
        missing_from_function(value, text) if inspect.isfunction(value) else sorted({"Examples"} - set(sections(text)))
    )


of_deprecated_names_too = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
"""The mark of tests that use every public name or attribute."""


def docstring_of(name: str) -> str:
    """The docstring of a public name; that of a value is a string after it, which only the file's text has."""
    value = PUBLIC[name]
    if inspect.isclass(value) or inspect.isfunction(value):
        return inspect.cleandoc(vars(value)["__doc__"] if inspect.isclass(value) else value.__doc__)
    (text,) = [docstring.text for docstring in DOCSTRINGS if docstring.name.endswith(f".{name}")]
    return text


DOCSTRINGS = [docstring for path in sorted(SOURCE.rglob("*.py")) for docstring in docstrings(path)]
EXAMPLES = [docstring for docstring in DOCSTRINGS if docstring.has_prompts]
CHEAP = ("methods.Tsit5", "solve.diffeqsolve")
"""Docstrings whose examples run with every test run; `make examples` runs those of all."""


def test_public_names_are_listed_in_the_order_of_their_imports() -> None:
    assert imported((SOURCE / "__init__.py").read_text(encoding="utf-8")) == NAMES
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


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_of_every_public_name_is_complete(name: str) -> None:
    assert missing(PUBLIC[name], docstring_of(name)) == []


@of_deprecated_names_too
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_public_method_has_a_docstring(cls: type) -> None:
    own = {name for base in cls.__mro__ if base.__module__.startswith("rungax.") for name in vars(base)}
    # An abstract solver does not state every fact.
    methods = [name for name in own if not name.startswith("_") and inspect.isroutine(getattr(cls, name, None))]
    assert [name for name in methods if not inspect.getdoc(getattr(cls, name))] == []


def test_a_planted_incomplete_docstring_is_caught() -> None:
    def add(one: int, two: int) -> int:
        return one + two

    parts = ["Add.", "Parameters\n----------\none\n    A number.", "Examples\n--------\n>>> add(1, 2)\n3"]
    assert missing(add, "\n\n".join(parts)) == ["Returns", "its parameters"]
    parts.insert(2, "Returns\n-------\nint\n    The sum.")
    assert missing(add, "\n\n".join(parts).replace("one\n", "one, two\n")) == []


def test_a_planted_solver_that_tells_no_cost_is_caught() -> None:
    text = docstring_of("ImplicitEuler")
    assert missing(rungax.ImplicitEuler, text) == []
    assert missing(rungax.ImplicitEuler, text.replace("Cost\n----", "Price\n-----")) == ["Cost"]
    assert missing(rungax.ImplicitEuler, text.replace("root_find_max_steps, ", "")) == ["root_find_max_steps"]
    assert missing(rungax.AbstractSDIRK, "A method.") == ["Examples or See Also"]


def test_every_public_name_is_tested() -> None:
    """At least it occurs in some test; how well it is tested is for readers to judge."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    assert [name for name in NAMES if name not in words] == []


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


@of_deprecated_names_too
@pytest.mark.parametrize(
    "docstring",
    [pytest.param(docstring, id=docstring.name, marks=slow_unless(docstring.name in CHEAP)) for docstring in EXAMPLES],
)
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
