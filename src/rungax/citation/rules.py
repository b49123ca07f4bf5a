"""What to cite: the papers behind the parts of a call.

`library` has the references, and says which class or function comes from which of them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx

from ..solve import diffeqsolve
from ..solvers import Auto
from .bibliography import LIBRARY, SOURCES

type Rule = Callable[..., str | Iterable[str] | None]
"""Gets the arguments of a call that its parameters name; returns one or several BibTeX entries, or `None`."""


class CitationRules(list[Rule]):
    """The rules by which `citation` chooses what to cite: see `citation_rules`."""


def citation(*args: Any, **kwargs: Any) -> None:
    """Print BibTeX references of what a call of `diffeqsolve` uses, and of the libraries under it.

    Parameters
    ----------
    *args, **kwargs
        The arguments of `diffeqsolve`, or any of them. What is left out is not cited, not even its default.

    Raises
    ------
    TypeError
        If `diffeqsolve` has no such argument.

    Examples
    --------
    >>> import rungax
    >>> rungax.citation(solver=rungax.Bosh3())
    % Made with `rungax.citation`.
    <BLANKLINE>
    @misc{jax,
    ...
    @article{bogacki1989,
      author = {P. Bogacki and L. F. Shampine},
      title = {A 3(2) pair of {Runge--Kutta} formulas},
      journal = {Applied Mathematics Letters},
      volume = {2},
      pages = {321--325},
      year = {1989}
    }
    """
    given = inspect.signature(diffeqsolve).bind_partial(*args, **kwargs).arguments
    entries: dict[str, None] = {}  # each once, in order
    for rule in citation_rules:
        names = list(inspect.signature(rule).parameters)
        if all(name in given for name in names):
            found = rule(**{name: given[name] for name in names})
            found = [found] if isinstance(found, str) else found or ()
            entries |= {entry.strip(): None for entry in found}
    print("\n\n".join(["% Made with `rungax.citation`.", *entries]))


# --------------------------------------------------------------------------------------------------------------- rules


def _of_libraries() -> Iterable[str]:
    return [LIBRARY["jax"], LIBRARY["rungax"]]


def _of_solver(solver: Any) -> Iterable[str]:
    return _entries(Auto() if solver is None else solver)


def _of_stepsize_controller(stepsize_controller: Any) -> Iterable[str]:
    return _entries(stepsize_controller)


def _of_terms(terms: Any) -> Iterable[str]:
    return _entries(terms)


def _of_saveat(saveat: Any) -> Iterable[str]:
    return [LIBRARY["pal2021"]] if getattr(saveat, "internals", False) else ()


def _of_event(event: Any) -> Iterable[str]:
    return _entries(event)


def _of_adjoint(adjoint: Any) -> Iterable[str]:
    return _entries(adjoint)


citation_rules = CitationRules(
    [_of_libraries, _of_terms, _of_solver, _of_saveat, _of_event, _of_stepsize_controller, _of_adjoint]
)
"""The rules by which `citation` chooses what to cite, a list; append to it for classes of your own.

A rule is a function whose parameters are named like those of `diffeqsolve`. It is called if all of them have been
given, and returns a BibTeX entry, several of them, or `None`. A function without parameters is always called.

Examples
--------
>>> import rungax
>>> def of_my_solver(solver):
...     return "@misc{mine, title={My solver}}" if type(solver).__name__ == "MySolver" else None
>>> rungax.citation_rules.append(of_my_solver)
>>> _ = rungax.citation_rules.pop()
"""


def _entries(value: Any) -> Iterable[str]:
    """The references of `value` and of everything in it."""
    return [LIBRARY[key] for name in _names(value) for key in SOURCES.get(name, ())]


def _names(value: Any) -> Iterator[str]:
    """The names, with their library's where it is not Rungax, of all classes and functions of which `value` is made."""
    if inspect.isfunction(value) and value.__module__.startswith("rungax."):
        yield value.__name__
    if isinstance(value, type):
        yield from _own_names(value)
    elif isinstance(value, eqx.Module):
        yield from _own_names(type(value))
        for field in dataclasses.fields(value):
            yield from _names(getattr(value, field.name, None))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _names(item)


def _own_names(cls: type) -> Iterator[str]:
    """The name of `cls`, and those of what it is made from, so that a subclass is cited as its parents are."""
    for parent in cls.__mro__:
        library = parent.__module__.partition(".")[0]
        if library == "rungax":
            yield parent.__name__
        elif library in ("optimistix", "lineax"):
            yield library
