"""Public names, their constructors and their methods are those of the committed list `public_surface.json`.

The list has an entry for each public name and for each method and attribute that the interface promises for a class:
the parameters with their kinds and plain defaults (`...` stands for any other default), or the word "attribute" or
"value". The comparison reads only the list. A change of the public interface is a change of the list, made by

    python tests/api/test_public_surface.py > tests/api/public_surface.json

of the package that this Python imports.
"""

import inspect
import json
import pathlib
import types
from typing import Any

import pytest

import rungax

type Surface = dict[str, str]

LIST = pathlib.Path(__file__).with_name("public_surface.json")
ABSENT = "absent"

# ------------------------------------------------------------------------------------------------------ descriptions


def parameters(function: Any) -> str:
    """The signature of a function or a constructor, without annotations."""
    signature = inspect.signature(function)
    shown = [
        p.replace(annotation=inspect.Parameter.empty, default=plain(p.default)) for p in signature.parameters.values()
    ]
    return str(inspect.Signature(shown)).replace("Ellipsis", "...")


def plain(default: Any) -> Any:
    """A default that JSON can hold; an ellipsis in place of any other."""
    kept = default is inspect.Parameter.empty or default is None or isinstance(default, bool | int | float | str)
    return default if kept else ...


def describe(module: Any, entry: str) -> str:
    """The description of `name` or `Class.member` in a module."""
    name, _, member = entry.partition(".")
    value = getattr(module, name, ABSENT)
    if value is ABSENT:
        return ABSENT
    if member:
        return describe_member(value, member)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return "value"
    if inspect.isclass(value) and issubclass(value, Exception):
        return "error"
    return "enumeration" if is_enumeration(value) else parameters(value)


def describe_member(cls: type, name: str) -> str:
    stated = inspect.getattr_static(cls, name, ABSENT)
    if stated is ABSENT:
        annotated = any(name in inspect.get_annotations(base) for base in cls.__mro__)
        # The metaclass of `RESULTS` makes its members.
        return "attribute" if annotated or hasattr(cls, name) else ABSENT
    # A function of another class that is stored as a value, such as an `interpolation_cls`, is an attribute.
    value = None if isinstance(stated, property | types.MethodType) else getattr(cls, name, None)
    return parameters(value) if callable(value) and inspect.isroutine(value) else "attribute"


def is_enumeration(cls: type) -> bool:
    return cls is rungax.RESULTS or cls is rungax.CalculateJacobian


# ---------------------------------------------------------------------------------------------------------- the list

MEMBERS: dict[str, tuple[str, ...]] = {
    "AbstractTerm": ("vf", "contr", "prod", "vf_prod", "is_vf_expensive"),
    "ODETerm": ("vector_field",),
    "ControlTerm": ("vector_field", "control", "to_ode"),
    "MultiTerm": ("terms",),
    "UnderdampedLangevinDriftTerm": ("gamma", "u", "grad_f"),
    "UnderdampedLangevinDiffusionTerm": ("gamma", "u", "control"),
    "AbstractPath": ("t0", "t1", "evaluate", "derivative"),
    "AbstractBrownianPath": ("levy_area",),
    "AbstractBrownianIncrement": ("dt", "W"),
    "AbstractSpaceTimeLevyArea": ("H",),
    "AbstractSpaceTimeTimeLevyArea": ("K",),
    "AbstractSolver": (
        "term_structure", "interpolation_cls", "order", "strong_order", "error_order", "init", "step", "func",
    ),
    "AbstractImplicitSolver": ("root_finder", "root_find_max_steps"),
    "AbstractWrappedSolver": ("solver",),
    "AbstractERK": ("tableau",),
    "AbstractDIRK": ("tableau",),
    "AbstractIMEXRK": ("tableau",),
    "AbstractRosenbrock": ("tableau",),
    "AbstractSRK": ("tableau", "minimal_levy_area"),
    "ButcherTableau": (
        "c", "b_sol", "b_error", "a_lower", "a_diagonal", "a_predictor", "c1", "fsal", "ssal", "implicit", "num_stages",
    ),
    "MultiButcherTableau": ("tableaus",),
    "CalculateJacobian": ("never", "every_stage", "first_stage", "second_stage"),
    "VeryChord": ("rtol", "atol", "norm", "kappa", "linear_solver"),
    "AbstractStepSizeController": ("wrap", "init", "adapt_step_size"),
    "AbstractAdaptiveStepSizeController": ("rtol", "atol", "norm"),
    "StepTo": ("ts",),
    "ClipStepSizeController": ("controller", "step_ts", "jump_ts", "store_rejected_steps"),
    "SaveAt": ("subs", "dense", "solver_state", "controller_state", "made_jump"),
    "SubSaveAt": ("t0", "t1", "ts", "steps", "fn"),
    "Event": ("cond_fn", "root_finder", "direction"),
    "Solution": (
        "t0", "t1", "ts", "ys", "interpolation", "stats", "result", "solver_state", "controller_state", "made_jump",
        "event_mask", "evaluate", "derivative",
    ),
    "RESULTS": (
        "successful", "max_steps_reached", "dt_min_reached", "event_occurred", "max_steps_rejected", "internal_error",
        "singular", "breakdown", "stagnation", "conlim", "nonfinite_input", "nonlinear_max_steps_reached",
        "nonlinear_divergence", "nonfinite", "promote", "where",
    ),
    "AbstractAdjoint": ("integrate",),
    "RecursiveCheckpointAdjoint": ("checkpoints",),
    "BacksolveAdjoint": ("kwargs",),
    "ImplicitAdjoint": ("linear_solver", "tags"),
    "AbstractLocalInterpolation": ("t0", "t1", "evaluate", "derivative"),
    "ThirdOrderHermitePolynomialInterpolation": ("from_k",),
    "FourthOrderPolynomialInterpolation": ("c_mid",),
    "AbstractProgressMeter": ("init", "step", "close"),
    "TextProgressMeter": ("minimum_increase",),
    "TqdmProgressMeter": ("refresh_steps",),
}  # fmt: skip
"""Methods and attributes that the interface promises, for a class and its public subclasses."""


def public_names() -> list[str]:
    names = {name for name, value in vars(rungax).items() if not isinstance(value, types.ModuleType)}
    return sorted(name for name in names if not name.startswith("_"))


def entries() -> list[str]:
    """All entries of the list: public names and, after a class, its promised members."""
    found: list[str] = []
    for name in public_names():
        cls = getattr(rungax, name)
        bases = [base for base in MEMBERS if inspect.isclass(cls) and issubclass(cls, getattr(rungax, base))]
        found += [name, *sorted({f"{name}.{member}" for base in bases for member in MEMBERS[base]})]
    return found


def differences(module: Any, surface: Surface) -> list[str]:
    """One line for each entry of the list that a module does not have as it is listed."""
    found = {entry: describe(module, entry) for entry in surface}
    changed = [entry for entry in surface if found[entry] != surface[entry]]
    return [f"{entry}: {surface[entry]} in the list, {found[entry]} here" for entry in changed]


# -------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def surface() -> Surface:
    return json.loads(LIST.read_text(encoding="utf-8"))


def test_names_constructors_and_methods_are_those_of_the_list(surface: Surface) -> None:
    assert differences(rungax, surface) == []


def test_every_public_name_is_in_the_list(surface: Surface) -> None:
    listed = {entry for entry in surface if "." not in entry}
    assert set(rungax.__all__) == listed
    assert public_names() == sorted(rungax.__all__)
    assert len(rungax.__all__) == len(listed)


class Planted(types.SimpleNamespace):
    """A stand-in for the package."""


class Meter:
    def step(self, state: Any, progress: Any) -> Any:
        """A method with the parameters of `AbstractProgressMeter.step`."""

    def close(self, state: Any) -> None:
        """A method with the parameters of `AbstractProgressMeter.close`."""


def solve(terms: Any, t0: Any, *, throw: bool = True) -> None:
    """A function of the planted package."""


PLANTED: Surface = {
    "Meter": "()",
    "Meter.step": "(self, state, progress)",
    "Meter.close": "(self, state)",
    "solve": "(terms, t0, *, throw=True)",
}


def test_without_a_change_there_is_no_difference() -> None:
    assert differences(Planted(Meter=Meter, solve=solve), PLANTED) == []


def test_a_removed_name_is_reported() -> None:
    assert differences(Planted(Meter=Meter), PLANTED) == ["solve: (terms, t0, *, throw=True) in the list, absent here"]


def test_a_removed_method_is_reported() -> None:
    changed = type("Meter", (), {"step": Meter.step})
    assert differences(Planted(Meter=changed, solve=solve), PLANTED) == [
        "Meter.close: (self, state) in the list, absent here"
    ]


@pytest.mark.parametrize(
    "changed",
    [
        lambda term, t0, *, throw=True: None,
        lambda terms, t0, throw=True: None,
        lambda terms, t0, *, throw: None,
        lambda terms, t0, *, throw=False: None,
        lambda t0, terms, *, throw=True: None,
    ],
    ids=["renamed", "kind", "no default", "other default", "order"],
)
def test_a_changed_parameter_is_reported(changed: Any) -> None:
    (line,) = differences(Planted(Meter=Meter, solve=changed), PLANTED)
    assert line.startswith("solve: (terms, t0, *, throw=True) in the list, (")


if __name__ == "__main__":
    listed = {entry: describe(rungax, entry) for entry in entries()}
    assert ABSENT not in listed.values(), [entry for entry, text in listed.items() if text == ABSENT]
    print(json.dumps(listed, indent=2))
