"""The catalogue misses nothing public: no solver, controller, adjoint, path, progress meter or way of saving."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import rungax

from ..catalogue import ADJOINTS, CONTROLLERS, EVERY_SOLVER, INTERPOLATIONS, METERS, NOISES, SAVES

LISTED: dict[type, set[str]] = {
    rungax.AbstractSolver: {type(solver).__name__ for solver in EVERY_SOLVER},
    rungax.AbstractStepSizeController: {type(choose(0.0, 1.0)[0]).__name__ for choose in CONTROLLERS.values()},
    rungax.AbstractAdjoint: {type(adjoint).__name__ for adjoint in ADJOINTS.values()},
    rungax.AbstractPath: {cls.__name__ for make in (INTERPOLATIONS | NOISES).values() for cls in type(make()).__mro__},
    rungax.AbstractLocalInterpolation: {
        cls.__name__ for make in INTERPOLATIONS.values() for cls in type(make()).__mro__
    },
    rungax.AbstractProgressMeter: {meter.__name__ for meter in METERS.values()},
}


def missing(base: type, listed: set[str], names: dict[str, Any]) -> list[str]:
    """The concrete public subclasses of a class that are not listed."""
    classes = {name for name, value in names.items() if inspect.isclass(value) and issubclass(value, base)}
    return sorted(name for name in classes - listed if not name.startswith("Abstract"))


@pytest.mark.parametrize("base", LISTED, ids=lambda base: base.__name__)
def test_nothing_public_is_missing(base: type) -> None:
    assert missing(base, LISTED[base], {name: getattr(rungax, name) for name in rungax.__all__}) == []


def test_a_planted_class_is_missed() -> None:
    planted = type("Planted", (rungax.Tsit5,), {})
    assert missing(rungax.AbstractSolver, LISTED[rungax.AbstractSolver], {"Planted": planted}) == ["Planted"]


def test_every_way_of_saving_is_listed() -> None:
    """Every parameter of `SaveAt` and of `SubSaveAt` is given in one of them."""
    given: set[str] = set()

    def recording(cls: type) -> Callable[..., Any]:
        return lambda **keywords: given.update(keywords) or cls(**keywords)

    with pytest.MonkeyPatch.context() as patch:
        for cls in (rungax.SaveAt, rungax.SubSaveAt):
            patch.setattr(rungax, cls.__name__, recording(cls))
        for make in SAVES.values():
            make(lambda fractions: fractions)
    parameters = {name for cls in (rungax.SaveAt, rungax.SubSaveAt) for name in inspect.signature(cls).parameters}
    assert parameters - given == set()
