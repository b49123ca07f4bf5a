"""The facts of a solver are one record: a class states them as attributes, a wrapper takes them from its solver."""

import inspect
from dataclasses import fields
from typing import Any, ClassVar

import pytest

import rungax
from rungax import (
    AbstractBrownianIncrement,
    AbstractSpaceTimeLevyArea,
    AbstractTerm,
    Auto,
    Euler,
    HalfSolver,
    LocalLinearInterpolation,
    SPaRK,
)
from rungax.solvers.facts import SolverFacts

NAMES = [field.name for field in fields(SolverFacts)]
WRAPPERS = (Auto, HalfSolver)
SOLVERS = [
    cls
    for cls in vars(rungax).values()
    if inspect.isclass(cls) and issubclass(cls, rungax.AbstractSolver) and not cls.__name__.startswith("Abstract")
]


class Plain(rungax.AbstractSolver[None]):
    """States nothing but what every solver must."""

    term_structure: ClassVar[Any] = AbstractTerm
    interpolation_cls = LocalLinearInterpolation

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any) -> Any:
        y1 = y0 + terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, None, rungax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)


class Noisy(Plain, rungax.AbstractItoSolver[None], rungax.AbstractStratonovichSolver[None]):
    """States more."""

    noise = "additive"
    minimal_levy_area = AbstractSpaceTimeLevyArea
    safe_with_adaptive_steps = False


class OwnWrapper(Plain):
    """Made of another solver, whose facts it hands on as properties."""

    solver: rungax.AbstractSolver[Any]

    @property
    def noise(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]  (as users port such classes)
        return self.solver.noise


@pytest.mark.parametrize("cls", SOLVERS)
def test_attributes_read_the_record(cls: Any) -> None:
    solver = cls(Euler()) if cls is HalfSolver else cls()
    assert len(SOLVERS) > 40
    for name in NAMES:
        assert getattr(solver, name) == getattr(solver.facts, name)
        if cls not in WRAPPERS:
            assert getattr(cls, name) == getattr(solver, name)


def test_a_class_states_what_differs_from_the_defaults() -> None:
    assert Plain().facts == SolverFacts(AbstractTerm, LocalLinearInterpolation)
    assert Noisy().facts == SolverFacts(
        AbstractTerm,
        LocalLinearInterpolation,
        noise="additive",
        minimal_levy_area=AbstractSpaceTimeLevyArea,
        interpretations=frozenset({"Itô", "Stratonovich"}),
        safe_with_adaptive_steps=False,
    )
    assert (Plain.noise, Noisy.noise, Noisy.safe_with_adaptive_steps) == ("general", "additive", False)
    assert Plain.minimal_levy_area is AbstractBrownianIncrement
    assert Plain.interpretations == frozenset()
    assert Noisy.interpretations == {"Itô", "Stratonovich"}


def test_a_wrapper_has_the_facts_of_what_it_wraps() -> None:
    for solver in (SPaRK(), Noisy(), Plain(), Euler()):
        facts = HalfSolver(solver).facts
        assert not facts.asks_for_whole_steps
        for name in NAMES:
            if name not in ("interpolation_cls", "asks_for_whole_steps"):
                assert getattr(facts, name) == getattr(solver, name)
    twice = HalfSolver(HalfSolver(Noisy()))
    assert twice.noise == "additive"


def test_facts_may_be_properties() -> None:
    assert OwnWrapper(Noisy()).facts.noise == "additive"
    assert HalfSolver(OwnWrapper(Noisy())).noise == "additive"


def test_what_is_not_stated_is_named() -> None:
    with pytest.raises(AttributeError, match="`AbstractItoSolver` does not state its `term_structure`"):
        _ = rungax.AbstractItoSolver.term_structure
