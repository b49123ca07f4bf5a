"""The catalogue misses nothing public: no solver, controller, adjoint, path, progress meter or way of saving."""

import inspect
from typing import Any

import pytest

import rungax

from ..catalogue import ADJOINTS, CONTROLLERS, EVERY_SOLVER, INTERPOLATIONS, METERS, NOISES, SAVES

LISTED: dict[type, set[str]] = {
    rungax.AbstractSolver: {type(solver).__name__ for solver in EVERY_SOLVER},
    rungax.AbstractStepSizeController: {type(choose(0.0, 1.0)[0]).__name__ for choose in CONTROLLERS.values()},
    rungax.AbstractAdjoint: {type(adjoint).__name__ for adjoint in ADJOINTS.values()},
    rungax.AbstractPath: {*INTERPOLATIONS, *NOISES},
    rungax.AbstractLocalInterpolation: set(INTERPOLATIONS),
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
    """Every parameter of `SaveAt` and of `SubSaveAt` is used."""
    used: set[str] = set()
    for make in SAVES.values():
        saveat = make(lambda fractions: fractions)
        used |= {name for name in vars(saveat) if name != "subs" and getattr(saveat, name) is not False}
        subs = [saveat.subs] if isinstance(saveat.subs, rungax.SubSaveAt) else saveat.subs
        used |= {"subs"} if subs is not None and subs != [saveat.subs] else set()
        for sub in _flat(subs):
            used |= {name for name in vars(sub) if getattr(sub, name) not in (False, None, 0, rungax.save_y)}
    parameters = {name for cls in (rungax.SaveAt, rungax.SubSaveAt) for name in inspect.signature(cls).parameters}
    assert parameters - used == set()


def _flat(subs: Any) -> list[rungax.SubSaveAt]:
    if subs is None or isinstance(subs, rungax.SubSaveAt):
        return [] if subs is None else [subs]
    return [sub for entry in subs for sub in _flat(entry)]
