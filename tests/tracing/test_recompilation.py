"""A second eager call with other values, but the same shapes, functions and integers, traces and compiles nothing.

What XLA compiles is counted by the events that JAX records, so that small programs outside the solve count too; what
is traced, by the vector field itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import slow_unless
from . import solves
from .solves import Y0, adaptive, counted_pendulum

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The names of all programs compiled during the test."""
    names: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == COMPILED:
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def solve(field: Any, *given: Any, **options: Any) -> Any:
    """By Heun's method: which one it is changes nothing here."""
    return solves.solve(field, *given, **{"solver": rungax.Heun(), **options})


def ts(*times: float) -> dict[str, Any]:
    return {"saveat": rungax.SaveAt(ts=np.asarray(times))}


def pid(**options: Any) -> dict[str, Any]:
    return {"stepsize_controller": rungax.PIDController(**{"rtol": 1e-4, "atol": 1e-6, **options})}


def clipped(*times: float) -> dict[str, Any]:
    controller = rungax.PIDController(rtol=1e-4, atol=1e-6)
    return {"stepsize_controller": rungax.ClipStepSizeController(controller, step_ts=np.asarray(times))}


SAME_PROGRAM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "rtol, atol": (adaptive(1e-4), adaptive(1e-6)),
    "atol array": (pid(atol=np.full(2, 1e-6)), pid(atol=np.full(2, 1e-5))),
    "t1": ({"t1": 1.0}, {"t1": 2.0}),
    "t1 an integer": ({"t1": 1}, {"t1": 2}),
    "direction": ({"t1": 1.0, "dt0": 0.1}, {"t1": -1.0, "dt0": -0.1}),
    "dt0": ({"dt0": 0.1}, {"dt0": 0.2}),
    "float args": ({"args": 0.1}, {"args": 0.2}),
    "args and safety": ({"args": 0.1, **pid(safety=0.9)}, {"args": 0.2, **pid(safety=0.8)}),
    "y0": ({"y0": Y0}, {"y0": 2 * Y0}),
    "ts": (ts(0.25, 0.5), ts(0.1, 0.7)),
    "coefficients": (pid(pcoeff=0.2, icoeff=0.4), pid(pcoeff=0.3, icoeff=0.3)),
    "dtmin, dtmax": (pid(dtmin=1e-3, dtmax=0.5), pid(dtmin=1e-4, dtmax=0.4)),
    "all of fixed steps": (
        {"t1": 1.0, "dt0": 0.1, "args": 0.1, "y0": Y0, **ts(0.25, 0.5)},
        {"t1": 2.0, "dt0": 0.2, "args": 0.2, "y0": 2 * Y0, **ts(0.1, 0.7)},
    ),
    "all of error control": (
        pid(rtol=1e-4, atol=1e-6, safety=0.9, pcoeff=0.2, icoeff=0.4, dtmin=1e-3, dtmax=0.5),
        pid(rtol=1e-5, atol=1e-7, safety=0.8, pcoeff=0.3, icoeff=0.3, dtmin=1e-4, dtmax=0.4),
    ),
}
ONE_BY_ONE = {
    *("nothing", "rtol, atol", "t1", "dt0", "float args", "args and safety"),
    *("y0", "ts", "coefficients", "dtmin, dtmax"),
}
"""Cases whose values are among those of the last two, where a program for any of them would be seen."""

OTHER_PROGRAM: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an integer": ({"max_steps": 100}, {"max_steps": 101}),
    "a shape": (ts(0.5), ts(0.25, 0.5)),
    "a dtype": ({"y0": Y0}, {"y0": Y0.astype(np.float32)}),
    "a solver": ({"solver": rungax.Midpoint()}, {"solver": rungax.Heun()}),
    "what is saved": ({}, {"saveat": rungax.SaveAt(t0=True, t1=True)}),
}


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(*case, id=name, marks=slow_unless(name not in ONE_BY_ONE)) for name, case in SAME_PROGRAM.items()],
)
def test_other_values_need_no_other_program(
    first: dict[str, Any], second: dict[str, Any], compilations: list[str]
) -> None:
    field = counted_pendulum()
    solve(field, **first)
    traces = field.num_traces
    assert compilations
    compilations.clear()
    solution = solve(field, **second)
    assert field.num_traces == traces
    assert compilations == []
    # It is the second call's values that count.
    fresh = solve(counted_pendulum(), **second)
    assert jnp.array_equal(solution.ys, fresh.ys)
    assert jnp.array_equal(solution.ts, fresh.ts)


def test_python_numbers_in_the_state_are_values_too(compilations: list[str]) -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        return {"x": -args["rate"] * y["x"], "z": 1j * args["shift"] * y["z"]}

    def end(x: float, rate: float, shift: complex) -> Any:
        return solves.solve(field, {"x": x, "z": 1j * x}, {"rate": rate, "shift": shift, "power": 2}).ys

    end(1.0, 0.5, 1j)
    compilations.clear()
    ys = end(2.0, 0.25, 2j)
    assert compilations == []
    assert ys["x"][0] == pytest.approx(2 * np.exp(-0.25), rel=1e-5)
    assert ys["z"][0] == pytest.approx(2j * np.exp(-2), rel=1e-4)


@pytest.mark.parametrize(("first", "second"), OTHER_PROGRAM.values(), ids=OTHER_PROGRAM.keys())
def test_other_structure_needs_another_program(
    first: dict[str, Any], second: dict[str, Any], compilations: list[str]
) -> None:
    field = counted_pendulum()
    solve(field, **first)
    traces = field.num_traces
    compilations.clear()
    solve(field, **second)
    assert field.num_traces > traces
    assert compilations != []


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_another_function_needs_another_program(rate: float, compilations: list[str]) -> None:
    """Even one with the same text: what makes two functions equal is that they are one object."""

    def make(rate: float) -> Callable[..., Any]:
        return lambda t, y, args: -rate * y

    solves.solve(make(1.0), 1.0)
    compilations.clear()
    ys = solves.solve(make(rate), 1.0).ys
    assert compilations != []
    assert ys[0] == pytest.approx(np.exp(-rate), rel=1e-5)


def test_an_integer_in_args_is_part_of_the_program(compilations: list[str]) -> None:
    def field(t: Any, y: Any, power: int) -> Any:
        return -(y**power)

    solve(field, args=2)
    compilations.clear()
    solve(field, args=3)
    assert compilations != []
    compilations.clear()
    solve(field, args=2)
    assert compilations == []


def test_an_integer_in_args_is_a_python_integer_in_the_field() -> None:
    def field(t: Any, y: Any, args: dict[str, Any]) -> Any:
        for _ in range(args["repeats"]):
            y = y if args["off"] else 0.5 * y
        return y

    ys = solves.solve(field, 1.0, {"repeats": 2, "off": False}).ys
    assert ys[0] == pytest.approx(np.exp(0.25), rel=1e-6)
