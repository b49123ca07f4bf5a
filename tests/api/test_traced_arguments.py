"""No message holds the name of a tracer: what is traced is shown by its dtype and shape.

Every parameter of every public class and function is given traced values of every kind, alone and in containers, under
`jit`. It works, or the error says what was expected in words that a user knows.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax.jaxkit import shown

FIELD = lambda t, y, args: jax.tree.map(jnp.negative, y)
KEY = jax.random.key(0)
PATH = rungax.VirtualBrownianTree(0.0, 1.0, 1e-2, (), KEY)
TS, YS = np.linspace(0.0, 1.0, 4), np.linspace(1.0, 2.0, 4)
NEWTON = optx.Newton(rtol=1e-6, atol=1e-6)
PID = rungax.PIDController(rtol=1e-3, atol=1e-3)


def solve(**changes: Any) -> Any:
    call: dict[str, Any] = {
        "terms": FIELD, "solver": rungax.Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": 1.0, "max_steps": 4, **changes,
    }  # fmt: skip
    return rungax.diffeqsolve(**call).ys


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "diffeqsolve": (
        solve,
        {
            "terms": FIELD, "solver": rungax.Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": 1.0, "args": None,
            "saveat": rungax.SaveAt(t1=True), "stepsize_controller": PID, "event": None, "max_steps": 4,
            "throw": False, "adjoint": rungax.RecursiveCheckpointAdjoint(), "made_jump": None,
            "discrete_terminating_event": None,
            "progress_meter": rungax.NoProgressMeter(),
        },
    ),
    "ODETerm": (
        rungax.ODETerm,
        {
            "vector_field": FIELD, "jacobian": None, "tags": (), "sparsity": None, "mass": None, "consistency": "solve",
        },
    ),
    "ControlTerm": (rungax.ControlTerm, {"vector_field": FIELD, "control": PATH}),
    "MultiTerm": (lambda term: rungax.MultiTerm(term, rungax.ODETerm(FIELD)), {"term": rungax.ODETerm(FIELD)}),
    "UnderdampedLangevinDriftTerm": (
        rungax.UnderdampedLangevinDriftTerm, {"gamma": 1.0, "u": 1.0, "grad_f": lambda x, args: x},
    ),
    "UnderdampedLangevinDiffusionTerm": (
        rungax.UnderdampedLangevinDiffusionTerm, {"gamma": 1.0, "u": 1.0, "bm": PATH},
    ),
    "PIDController": (
        rungax.PIDController,
        {
            "rtol": 1e-3, "atol": 1e-3, "pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0, "dtmin": None, "dtmax": None,
            "force_dtmin": True, "factormin": 0.2, "factormax": 10.0, "norm": optx.rms_norm, "safety": 0.9,
            "error_order": None,
        },
    ),
    "ClipStepSizeController": (
        rungax.ClipStepSizeController,
        {"controller": PID, "step_ts": None, "jump_ts": None, "store_rejected_steps": None},
    ),
    "StepTo": (rungax.StepTo, {"ts": TS}),
    "SaveAt": (
        rungax.SaveAt,
        {
            "t0": False, "t1": True, "ts": TS, "steps": False, "fn": FIELD, "subs": None, "dense": False,
            "solver_state": False, "controller_state": False, "made_jump": False, "internals": False,
        },
    ),
    "SubSaveAt": (rungax.SubSaveAt, {"t0": False, "t1": True, "ts": TS, "steps": 1, "fn": FIELD}),
    "Event": (
        rungax.Event,
        {
            "cond_fn": FIELD, "root_finder": NEWTON, "direction": None, "effect": None, "interior": 0,
            "max_effects": 8,
        },
    ),
    "VirtualBrownianTree": (
        rungax.VirtualBrownianTree,
        {"t0": 0.0, "t1": 1.0, "tol": 1e-2, "shape": (), "key": KEY, "levy_area": rungax.BrownianIncrement},
    ),
    "UnsafeBrownianPath": (
        rungax.UnsafeBrownianPath, {"shape": (), "key": KEY, "levy_area": rungax.BrownianIncrement},
    ),
    "VirtualBrownianTree.evaluate": (PATH.evaluate, {"t0": 0.1, "t1": 0.5, "left": True, "use_levy": False}),
    "LinearInterpolation": (rungax.LinearInterpolation, {"ts": TS, "ys": YS}),
    "LinearInterpolation.evaluate": (rungax.LinearInterpolation(TS, YS).evaluate, {"t0": 0.1, "t1": 0.5, "left": True}),
    "CubicInterpolation": (
        rungax.CubicInterpolation, {"ts": TS, "coeffs": rungax.backward_hermite_coefficients(TS, YS)},
    ),
    "backward_hermite_coefficients": (
        rungax.backward_hermite_coefficients,
        {"ts": TS, "ys": YS, "deriv0": None, "replace_nans_at_start": None, "fill_forward_nans_at_end": False},
    ),
    "linear_interpolation": (
        rungax.linear_interpolation,
        {"ts": TS, "ys": YS, "fill_forward_nans_at_end": False, "replace_nans_at_start": None},
    ),
    "rectilinear_interpolation": (
        rungax.rectilinear_interpolation, {"ts": TS, "ys": YS, "replace_nans_at_start": None},
    ),
    "ImplicitEuler": (
        rungax.ImplicitEuler,
        {"root_finder": NEWTON, "root_find_max_steps": 10, "linear_solver": lx.LU(), "scan_kind": None},
    ),
    "Rosenbrock23": (rungax.Rosenbrock23, {"linear_solver": lx.LU()}),
    "HalfSolver": (rungax.HalfSolver, {"solver": rungax.Euler()}),
    "Auto": (
        rungax.Auto,
        {"nonstiff": rungax.Tsit5(), "stiff": rungax.Rodas5P(), "tolerances": None, "chosen": rungax.Rodas5P()},
    ),
    "ALIGN": (rungax.ALIGN, {"taylor_threshold": 0.1}),
    "VeryChord": (
        rungax.VeryChord,
        {"rtol": 1e-3, "atol": 1e-3, "norm": optx.rms_norm, "kappa": 0.01, "linear_solver": None},
    ),
    "Banded": (rungax.Banded, {"lower": 1, "upper": 1}),
    "BandedLinearOperator": (rungax.BandedLinearOperator, {"diagonals": jnp.ones((3, 3)), "lower": 1, "upper": 1}),
    "RecursiveCheckpointAdjoint": (
        rungax.RecursiveCheckpointAdjoint,
        {"checkpoints": 4, "budget": 1 << 24, "error_control": "tangents", "num_tangents": 2},
    ),
    "ReversibleAdjoint": (rungax.ReversibleAdjoint, {"coupling": 0.9}),
    "BacksolveAdjoint": (rungax.BacksolveAdjoint, {"solver": rungax.Tsit5(), "max_steps": 4}),
    "ImplicitAdjoint": (rungax.ImplicitAdjoint, {"linear_solver": lx.LU(), "tags": ()}),
    "steady_state_event": (rungax.steady_state_event, {"rtol": 1e-3, "atol": 1e-3, "norm": optx.rms_norm}),
    "TextProgressMeter": (rungax.TextProgressMeter, {"minimum_increase": 0.1}),
    "TqdmProgressMeter": (rungax.TqdmProgressMeter, {"refresh_steps": 20}),
}  # fmt: skip
"""For each public callable a call that is right."""

KINDS: dict[str, Callable[[jax.Array], Any]] = {
    "number": lambda x: x,
    "integer": lambda x: x.astype(int),
    "boolean": lambda x: x > 0,
    "vector": lambda x: jnp.stack([x, x + 1.0]),
    "complex": lambda x: x + 1j,
    "list": lambda x: [x, 1.0],
    "dictionary": lambda x: {"a": x},
    "module": lambda x: rungax.PIDController(rtol=x, atol=x),
    "path": lambda x: rungax.LinearInterpolation(jnp.stack([x, x + 1.0]), jnp.stack([x, x])),
}


HANDED_OUT = ("solver_state", "controller_state")
"""What only another solve can make."""


def messages(call: Callable[..., Any], arguments: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The errors of calls in which one argument is traced: its name, the kind of value, and the message."""
    for name in arguments:
        for kind, make in KINDS.items():
            try:
                jax.eval_shape(lambda x, name=name, make=make: _result(call(**{**arguments, name: make(x)})), 0.5)
            except Exception as error:
                yield name, kind, f"{type(error).__name__}: {error}"


def _result(value: Any) -> list[Any]:
    """The arrays of what a call returns."""
    return [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, jax.Array)]


@pytest.mark.parametrize("name", CALLS)
def test_no_message_names_a_tracer(name: str) -> None:
    call, arguments = CALLS[name]
    _result(call(**arguments))
    wrong = [found for found in messages(call, arguments) if "Tracer" in found[-1] or "traced array" in found[-1]]
    assert wrong == []


def test_every_parameter_is_tried() -> None:
    for name, (call, arguments) in CALLS.items():
        parameters = inspect.signature(rungax.diffeqsolve if name == "diffeqsolve" else call).parameters.values()
        named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        assert named <= {*arguments, *HANDED_OUT}, name


def test_a_traced_value_is_shown_by_dtype_and_shape() -> None:
    def look(x: jax.Array) -> jax.Array:
        assert shown(x) == "float64[3]"
        assert shown([x, 1.0]) == "[float64[3], 1.0]"
        assert shown({"a": x[0], "b": None}) == "{'a': float64[], 'b': None}"
        assert "float64[3]" in shown(rungax.PIDController(rtol=x, atol=1e-3))
        return x

    jax.eval_shape(look, jnp.ones(3))
    assert shown([1.0, "x"]) == "[1.0, 'x']"
