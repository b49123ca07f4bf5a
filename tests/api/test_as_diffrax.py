"""Every public class, function, attribute and parameter of Diffrax is one of Rungax, as the committed list says.

The list `as_diffrax.json` holds what Python's introspection shows of Diffrax 0.7.2: for each public name its parameters
with kinds and plain defaults, and for a class its public base classes, the number of its type parameters, and its
attributes and methods. It is made by

    python tests/api/test_as_diffrax.py > tests/api/as_diffrax.json

where Diffrax is installed; the tests read only the list. Differences are in one of the tables below, with the reason.
"""

import dataclasses
import fnmatch
import importlib
import inspect
import json
import pathlib
import types
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import pytest

import rungax

LIST = pathlib.Path(__file__).with_name("as_diffrax.json")

EXCEPTIONS: dict[str, str] = {
    "*Adjoint.loop: missing": "an own adjoint defines `integrate`; one with `loop` alone is an error that says so",
    "ForwardMode.loop: missing": "as for the other adjoints",
    "*: scan_kind is at another place": "by name only: it has no effect, and has no place among those that have one",
    "K*: root_find* is at another place": "no `scan_kind` comes before it",
    "Sil3: root_find* is at another place": "no `scan_kind` comes before it",
    "ClipStepSizeController.callback_on_reject: missing": "a hook for Diffrax's own tests, without documentation",
    "AbstractGlobalInterpolation.ts*: missing": "one's own need not have knots; those of Rungax have them",
}
"""Differences that stay, as patterns, each with its reason."""

# --------------------------------------------------------------------------------------------------------- descriptions


def parameters(function: Any) -> list[inspect.Parameter]:
    """The public parameters of a function or a constructor, without annotations; "..." for defaults not plain."""
    found = inspect.signature(function).parameters.values()
    return [
        p.replace(annotation=inspect.Parameter.empty, default=plain(p.default))
        for p in found
        if not p.name.startswith("_")
    ]


def plain(default: Any) -> Any:
    """A default that is a number, a text, `None` or left out; an ellipsis in place of any other."""
    kept = default is inspect.Parameter.empty or default is None or isinstance(default, bool | int | float | str)
    return default if kept else ...


def written(function: Any) -> str:
    """The parameters of a function as they are written."""
    return str(inspect.Signature(parameters(function)))[1:-1].replace("Ellipsis", "...")


def read(text: str) -> list[inspect.Parameter]:
    """The parameters that `written` has written."""
    return parameters(eval(f"lambda {text}: None"))


def attributes(cls: type) -> list[str]:
    """The names of all public attributes of a class, with those that only its instances have."""
    annotated = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
    return sorted(name for name in {*dir(cls), *annotated, *fields(cls)} if not name.startswith("_"))


def fields(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()


def is_method(cls: type, name: str) -> bool:
    """True if an attribute is a function that is called on an instance, and not a value that is a function."""
    if name in fields(cls) or name in ("interpolation_cls", "term_structure"):
        return False
    value = getattr(cls, name, None)
    return callable(value) and not inspect.isclass(value) and not isinstance(value, _NOT_METHODS)


_NOT_METHODS = types.MethodType | types.MethodDescriptorType | types.BuiltinFunctionType
"""Functions that are bound to a class, or that Python itself has for its numbers."""


def public(module: Any) -> dict[str, Any]:
    """The public names of a module, with their values."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def describe(module: Any) -> dict[str, Any]:
    """The list of a module."""
    return {name: describe_value(module, value) for name, value in public(module).items()}


def describe_value(module: Any, value: Any) -> dict[str, Any]:
    if not inspect.isclass(value):
        return {"parameters": written(value)} if callable(value) else {}
    is_enumeration = not dataclasses.is_dataclass(value) and hasattr(type(value), "__len__")
    return {
        "parameters": "" if is_enumeration else written(value),
        "type_parameters": len(getattr(value, "__parameters__", ())),
        "bases": sorted(n for n, b in public(module).items() if inspect.isclass(b) and b in value.__mro__[1:]),
        "attributes": {n: written(getattr(value, n)) if is_method(value, n) else None for n in attributes(value)},
    }


# ----------------------------------------------------------------------------------------------------------- comparison


def differences(module: Any, listed: dict[str, Any]) -> Iterator[str]:
    """What a module lacks of the list, one line each."""
    for name, entry in listed.items():
        value = getattr(module, name, None)
        if value is None:
            yield f"{name}: missing"
            continue
        if "parameters" in entry:
            yield from (f"{name}: {line}" for line in parameter_differences(value, entry["parameters"]))
        if "attributes" in entry:
            yield from class_differences(module, name, entry)


def class_differences(module: Any, name: str, entry: dict[str, Any]) -> Iterator[str]:
    cls = getattr(module, name)
    if not can_be_subscripted(cls, entry["type_parameters"]):
        yield f"{name}: {entry['type_parameters']} type parameters are not accepted"
    mine = set(attributes(cls))
    for base in entry["bases"]:
        if not issubclass(cls, getattr(module, base, ())):
            yield f"{name}: no subclass of {base}"
    for attribute, expected in entry["attributes"].items():
        if attribute not in mine:
            yield f"{name}.{attribute}: missing"
        elif expected is not None:
            lines = parameter_differences(getattr(cls, attribute), expected)
            yield from (f"{name}.{attribute}: {line}" for line in lines)


def parameter_differences(function: Any, expected: str) -> Iterator[str]:
    """The parameters of the list that a function does not take as they are written there, and more that it needs."""
    found, wanted = parameters(function), read(expected)
    by_name = {p.name: (place, p) for place, p in enumerate(found)}
    for place, p in enumerate(wanted):
        if p.kind in _VARIADIC:
            if not any(mine.kind == p.kind for mine in found):
                yield f"{p.name} is not taken"
        elif p.name not in by_name or by_name[p.name][1].kind in (*_VARIADIC, p.POSITIONAL_ONLY):
            yield f"{p.name} is not taken"
        else:
            at, mine = by_name[p.name]
            if p.kind != p.KEYWORD_ONLY and (at != place or mine.kind == p.KEYWORD_ONLY):
                yield f"{p.name} is at another place"
            if not accepts_default(mine.default, p.default):
                yield f"{p.name} has another default"
    for p in found:
        if p.name not in {p.name for p in wanted} and p.default is p.empty and p.kind not in _VARIADIC:
            yield f"{p.name} is needed too"


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def accepts_default(mine: Any, listed: Any) -> bool:
    """True if a parameter may be left out where the list says so; defaults that are not plain are not compared."""
    if listed is inspect.Parameter.empty:
        return True
    return mine is not inspect.Parameter.empty and (mine == listed or ... in (mine, listed))


def can_be_subscripted(cls: Any, number: int) -> bool:
    """True if a class takes a number of type parameters, also as a base class, alone or with variables."""
    if number == 0:
        return True
    variables = [TypeVar(f"T{i}") for i in range(number)]  # pyright: ignore[reportGeneralTypeIssues]
    try:
        alias = cls[tuple(variables)]
        types.new_class("Own", (cls[(Any,) * number],))
        generic = types.new_class("Own", (alias, Generic[tuple(variables)]))  # pyright: ignore
        generic[(int,) * number]
    except TypeError:
        return False
    return True


def unexplained(lines: list[str], patterns: list[str]) -> list[str]:
    return [line for line in lines if not any(fnmatch.fnmatchcase(line, pattern) for pattern in patterns)]


# ---------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def found() -> list[str]:
    return list(differences(rungax, json.loads(LIST.read_text(encoding="utf-8"))))


def test_every_name_attribute_and_parameter_is_accepted(found: list[str]) -> None:
    assert unexplained(found, EXCEPTIONS) == []


def test_the_list_is_that_of_the_whole_package() -> None:
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    assert len(listed) > 90
    assert set(listed) <= set(rungax.__all__)
    assert sum(len(entry.get("attributes", ())) for entry in listed.values()) > 700


@pytest.mark.parametrize("pattern", EXCEPTIONS)
def test_no_exception_is_out_of_date(pattern: str, found: list[str]) -> None:
    assert fnmatch.filter(found, pattern)


def planted(**changes: Any) -> types.SimpleNamespace:
    """A package with a function and two classes, with changes."""

    class Base:
        pass

    class Path[Control](Base):
        t0: float

        def __init__(self, t0: Any, tol: Any = 1e-3) -> None:
            """A constructor."""

        def evaluate(self, t0: Any, *, left: Any = True) -> None:
            """A method."""

    def solve(terms: Any, t0: Any, *, throw: Any = True, saveat: Any = Base()) -> None:
        """A function."""

    return types.SimpleNamespace(**({"Base": Base, "Path": Path, "solve": solve} | changes))


ORIGINAL = describe(planted())


def test_without_a_change_there_is_no_difference() -> None:
    assert list(differences(planted(), json.loads(json.dumps(ORIGINAL)))) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (None, "solve: missing"),
        (lambda terms, *, throw=True, saveat=None: None, "solve: t0 is not taken"),
        (lambda t0, terms, *, throw=True, saveat=None: None, "solve: terms is at another place"),
        (lambda terms, *, t0, throw=True, saveat=None: None, "solve: t0 is at another place"),
        (lambda terms, t0, *, throw=False, saveat=None: None, "solve: throw has another default"),
        (lambda terms, t0, *, throw=True, saveat: None, "solve: saveat has another default"),
        (lambda terms, t0, y0, *, throw=True, saveat=None: None, "solve: y0 is needed too"),
    ],
)
def test_a_planted_change_of_a_function_is_found(changed: Any, line: str) -> None:
    assert line in differences(planted(solve=changed), ORIGINAL)


def test_planted_changes_of_a_class_are_found() -> None:
    class Path:
        def __init__(self, t0: Any, tol: Any = 1e-3) -> None:
            """The same constructor."""

        def evaluate(self, t0: Any) -> None:
            """A method that lacks a parameter."""

    assert list(differences(planted(Path=Path), ORIGINAL)) == [
        "Path: 1 type parameters are not accepted",
        "Path: no subclass of Base",
        "Path.evaluate: left is not taken",
        "Path.t0: missing",
    ]


if __name__ == "__main__":
    print(json.dumps(describe(importlib.import_module("diffrax")), indent=1))
