"""An extension of Griffe that adds the signatures of the public classes, as Python itself sees them.

Equinox generates the `__init__` of a module from its fields and those of its bases. Griffe reads the source, which does
not contain it.
"""

import inspect
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


class Signatures(griffe.Extension):
    """The extension, which adds a signature to each public class."""

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


def parameter(found: inspect.Parameter) -> griffe.Parameter:
    """The parameter as an object of Griffe; a default that is a module is shown by its name only."""
    default = None if found.default is inspect.Parameter.empty else shown(found.default)
    return griffe.Parameter(found.name, kind=KINDS[found.kind], default=default)


def shown(default: object) -> str:
    """A short text for a default."""
    text = getattr(default, "__name__", str(default))
    return text if len(text) < 30 else f"{type(default).__name__}(...)"
