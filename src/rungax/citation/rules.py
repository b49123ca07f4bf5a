"""Choice of the references to cite for a call of `diffeqsolve`.

`bibliography` holds the references, and the keys of those for each class and function.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx

from ..jaxkit import FlatSpace
from ..solve import diffeqsolve
from ..solvers import BDF, Auto
from ..solvers.wrappers.stiff_method import MANY
from .bibliography import LIBRARY, SOURCES

type Rule = Callable[..., str | Iterable[str] | None]
"""A function of those arguments of a call that its parameters name, with one or several BibTeX entries or `None`."""


class CitationRules(list[Rule]):
    """The list of rules by which `citation` chooses references: see `citation_rules`."""


def citation(*args: Any, **kwargs: Any) -> None:
    """Print BibTeX references for the methods and libraries that a call of `diffeqsolve` uses.

    Parameters
    ----------
    *args, **kwargs
        Any arguments of `diffeqsolve`. For those that are left out nothing is cited, not even for their defaults.

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
    entries: dict[str, None] = {}  # an ordered set
    for rule in citation_rules:
        parameters = inspect.signature(rule).parameters
        if all(name in given or p.default is not p.empty for name, p in parameters.items()):
            found = rule(**{name: given[name] for name in parameters if name in given})
            found = [found] if isinstance(found, str) else found or ()
            entries |= {entry.strip(): None for entry in found}
    print("\n\n".join(["% Made with `rungax.citation`.", *entries]))


# --------------------------------------------------------------------------------------------------------------- rules


def _of_libraries() -> Iterable[str]:
    return [LIBRARY["jax"], LIBRARY["rungax"]]


def _of_solver(solver: Any, y0: Any = None) -> Iterable[str]:
    solver = Auto() if solver is None else solver
    if isinstance(solver, Auto) and solver.stiff is None and FlatSpace(y0).size > MANY:
        # The choice between the two depends on the equation too.
        return [*_entries(solver), *_entries(BDF())]
    return _entries(solver)


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
"""The list of rules by which `citation` chooses references; append rules for your own classes.

A rule is a function whose parameters have the names of parameters of `diffeqsolve`. It is called if all of them that
have no default are given, and returns one BibTeX entry, several, or `None`. A rule without parameters is always called.

Examples
--------
>>> import rungax
>>> def of_my_solver(solver):
...     if type(solver).__name__ == "MySolver":
...         return "@misc{mine, title={My solver}}"
>>> rungax.citation_rules.append(of_my_solver)
>>> _ = rungax.citation_rules.pop()
"""


def _entries(value: Any) -> Iterable[str]:
    """The references for `value` and for everything inside it."""
    return [LIBRARY[key] for name in _names(value) for key in SOURCES.get(name, ())]


def _names(value: Any) -> Iterator[str]:
    """The names of all classes and functions in `value`; for those of other libraries, the name of the library."""
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
    """The names of `cls` and of the classes it inherits from, so that a subclass gets the references of its parents."""
    for parent in cls.__mro__:
        library = parent.__module__.partition(".")[0]
        if library == "rungax":
            yield parent.__name__
        elif library in ("optimistix", "lineax"):
            yield library
