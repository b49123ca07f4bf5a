"""The facts that a solver states about itself, in one record."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement
from ..interpolation import AbstractLocalInterpolation

type Interpretation = Literal["Itô", "Stratonovich"]
"""Interpretation of a stochastic integral."""

type SolverNoise = Literal["additive", "diagonal", "commutative", "general"]
"""Kind of noise. Each includes those before it: additive noise commutes, as does diagonal noise."""


type MassMatrices = Literal["regular", "constant", "variable"]
"""Kind of mass matrices. `"constant"` ones may be singular; `"variable"` ones may also depend on time and state."""


@dataclass(frozen=True)
class SolverFacts:
    """The facts about a solver that checks, the tables of the manual, and tests use.

    A solver states them as class attributes of the same names, which `AbstractSolver` documents. A solver made of
    other solvers overrides `AbstractSolver.facts`.
    """

    term_structure: PyTree[Any]
    interpolation_cls: Callable[..., AbstractLocalInterpolation]
    noise: SolverNoise = "general"
    minimal_levy_area: type[AbstractBrownianIncrement] = AbstractBrownianIncrement
    interpretations: frozenset[Interpretation] = frozenset()
    safe_with_adaptive_steps: bool = True
    asks_for_whole_steps: bool = True
    steps_backwards: bool = True
    uses_jacobian: bool = False
    evaluates_past_steps: bool = False
    mass_matrices: MassMatrices = "regular"
    pid_coefficients: tuple[float, float, float] = (0.0, 1.0, 0.0)


def fact[T](default: Callable[[type[Any]], T] | None = None) -> T:
    """A class attribute of solvers that holds one of their facts, until a subclass assigns a value to it.

    Read from a solver it is the entry of `solver.facts`, read from a class the default. It is typed as the value, as
    `dataclasses.field` is.

    Parameters
    ----------
    default
        The default as a function of the class; if it is left out, that of `SolverFacts`.
    """
    return cast("T", _Fact(default))


def has_time_past_end(nodes: Any) -> bool:
    """True if a stage of a method with these nodes is evaluated after the end of the step."""
    return bool((np.asarray(nodes) > 1).any())


class _Fact[T]:
    """The descriptor that `fact` returns."""

    def __init__(self, default: Callable[[type[Any]], T] | None):
        self._default = default

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, solver: Any, cls: type[Any]) -> T:
        return self.default(cls) if solver is None else getattr(solver.facts, self._name)

    def default(self, cls: type[Any]) -> T:
        """The fact as far as no class attribute states it.

        Raises
        ------
        AttributeError
            If there is no default.
        """
        if self._default is not None:
            return self._default(cls)
        try:
            return getattr(SolverFacts, self._name)
        except AttributeError as error:
            raise AttributeError(f"`{cls.__name__}` does not state its `{self._name}`.") from error


def stated_facts(solver: Any) -> SolverFacts:
    """The record of the facts that a solver's class attributes state."""
    cls = type(solver)

    def stated(name: str) -> Any:
        attribute = inspect.getattr_static(cls, name)
        return attribute.default(cls) if isinstance(attribute, _Fact) else getattr(solver, name)

    return SolverFacts(**{field.name: stated(field.name) for field in fields(SolverFacts)})
