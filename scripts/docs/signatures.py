"""An extension of Griffe: the signatures of the public classes, an entry for each parameter, and the order of members.

Equinox generates the `__init__` of a module from its fields and those of its bases. Griffe reads the source, which does
not contain it. Docstrings describe related parameters together, and Griffe gives all of them the type of the first.
"""

import inspect
import re
from typing import Any

import griffe

import rungax

KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


SECTION = re.compile(r"^(?:Parameters|Attributes|Other Parameters)\n-+\n", re.MULTILINE)
NEXT_SECTION = re.compile(r"^\w[\w ]*\n-+\n", re.MULTILINE)
ENTRY = re.compile(r"^(?P<names>[*\w]+(?:, [*\w]+)+)\n(?P<text>(?:(?:[ ]+.*)?\n?)+)", re.MULTILINE)
"""Parameters that are described together: their names, and the indented lines below."""
FIRST = ("vf", "contr", "prod", "init", "step", "func", "order", "strong_order", "weak_order", "error_order")
"""The members that users call or write themselves; those by which the parts of a solve work together come later."""


class Signatures(griffe.Extension):
    """The extension."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Describe each parameter by itself."""
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = one_by_one(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Put the members in order."""
        del kwargs
        rank = {name: place for place, name in enumerate(FIRST)}
        cls.members = dict(sorted(cls.members.items(), key=lambda item: rank.get(item[0], len(FIRST))))

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Add an `__init__` with the signature of the one that Equinox generated."""
        del kwargs
        public = getattr(rungax, cls.name, None)
        if public is None or public.__module__ != cls.module.path or "__init__" in cls.members:
            return
        try:
            signature = inspect.signature(public)
        except ValueError:  # RESULTS is not called like a class
            return
        parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
        parameters += [parameter(found) for found in signature.parameters.values()]
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))


def one_by_one(docstring: str) -> str:
    """The docstring with an entry for each parameter."""
    parts, rest = [], docstring
    while heading := SECTION.search(rest):
        end = NEXT_SECTION.search(rest, heading.end())
        stop = len(rest) if end is None else end.start()
        parts += [rest[: heading.end()], ENTRY.sub(separated, rest[heading.end() : stop])]
        rest = rest[stop:]
    return "".join([*parts, rest])


def separated(entry: re.Match[str]) -> str:
    """The same text below each of the names of an entry."""
    text = entry["text"].rstrip("\n")
    blank = entry["text"][len(text) :]
    return "\n".join(f"{name}\n{text}" for name in entry["names"].split(", ")) + blank


def parameter(found: inspect.Parameter) -> griffe.Parameter:
    """The parameter as an object of Griffe; a default that is a module is shown by its name only."""
    default = None if found.default is inspect.Parameter.empty else shown(found.default)
    return griffe.Parameter(found.name, kind=KINDS[found.kind], default=default)


def shown(default: object) -> str:
    """A short text for a default."""
    text = getattr(default, "__name__", str(default))
    return text if len(text) < 30 else f"{type(default).__name__}(...)"
