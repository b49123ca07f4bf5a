"""The hint in the report of a failed solve is that of its cause, eagerly and in a compiled program.

Each cause has a problem that provokes it, and problems that fail in another way and must not.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import PIDController

from ..catalogue import slow_unless

HINTS = {
    "stiff": "The equation is stiff there",
    "tolerance": "is not small beside `rtol=",
    "narrow times": "Times are float32, which near t = ",
    "growth": "grows without bound: it is ",
    "constant steps": "Steps of constant size say nothing about their error",
    "events": "they pile up",
    "endless": "`t1=inf` is never reached",
    "field": "Square roots and logarithms of negative numbers",
    "dtmin": "Lower `dtmin`",
    "singular": "The solution changes within less than times resolve",
    "stage": "An implicit stage was not solved",
    "linear": "`Krylov()` has no preconditioner",
    "more": "At this pace the rest of the interval takes about ",
}


def pid(tol: float = 1e-5, **options: Any) -> dict[str, Any]:
    return {"stepsize_controller": PIDController(**{"rtol": tol, "atol": tol, **options}), "dt0": None}


def oscillator(t: Any, y: Any, rate: Any) -> Any:
    return jnp.stack([rate * y[1], -rate * y[0]])


def robertson(t: Any, y: Any, args: Any) -> Any:
    a, b, c = -0.04 * y[0] + 1e4 * y[1] * y[2], 3e7 * y[1] ** 2, 0.0 * y[0]
    return jnp.stack([a + c, -a - b, b])


def van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


def lorenz(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]])


def fall(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -9.81 + 0.0 * y[0]])


BOUNCE = rungax.Event(
    lambda t, y, args, **kwargs: y[0], optx.Newton(1e-8, 1e-8), direction=False,
    effect=lambda t, y, args: jnp.stack([0.0 * y[0], -0.5 * y[1]]),
)  # fmt: skip
ONCE = rungax.Event(lambda t, y, args, **kwargs: y[0], optx.Newton(1e-8, 1e-8), effect=lambda t, y, args: y)
DECAY = lambda t, y, args: -y
SMALL, MANY = {"max_steps": 200}, {"max_steps": 1000}
SINGLE = {"t0": np.float32(0.0), "t1": np.float32(2e3), "y0": np.asarray([2.0, 0.0], np.float32)}
CASES: dict[str, tuple[str, Callable[..., Any], dict[str, Any]]] = {
    # name: hint, field, changes of the call
    "Robertson": ("stiff", robertson, {"t1": 1e5, "y0": np.asarray([1.0, 0.0, 0.0]), **pid(atol=1e-9), **MANY}),
    "relaxation to a curve": ("stiff", lambda t, y, args: -1e6 * (y - jnp.cos(t)), {"t1": 10.0, **pid(), **SMALL}),
    "Van der Pol": (
        "stiff", van_der_pol, {"args": 1e4, "t1": 1e4, "y0": np.asarray([2.0, 0.0]), **pid(), **MANY},
    ),
    "stiff, backwards": (
        "stiff", lambda t, y, args: 1e6 * (y - jnp.cos(t)), {"t1": -10.0, **pid(), **SMALL},
    ),
    "a long oscillation": ("more", oscillator, {"args": 1.0, "t1": 1e5, "y0": np.ones(2), **pid(), **SMALL}),
    "a loose oscillation": ("more", oscillator, {"args": 1.0, "t1": 1e5, "y0": np.ones(2), **pid(1e-2), **SMALL}),
    "a fast force": ("more", lambda t, y, args: jnp.cos(1e3 * t) + 0.0 * y, {"t1": 1e3, **pid(), **SMALL}),
    "chaos": ("more", lorenz, {"t1": 1e4, "y0": np.ones(3), **pid(), **SMALL}),
    "many constant steps": ("more", DECAY, {"t1": 10.0, "dt0": 0.01, **SMALL}),
    "stiff, by a stiff method": (
        "more", robertson,
        {"t1": 1e9, "y0": np.asarray([1.0, 0.0, 0.0]), "solver": rungax.Rodas5P(), **pid(1e-8), "max_steps": 20},
    ),
    "tolerance": ("tolerance", lorenz, {"t1": 9.0, "y0": np.ones(3), "solver": rungax.Dopri8(), **pid(1e-16), **SMALL}),
    "tolerance, float32": ("tolerance", van_der_pol, {**SINGLE, "args": np.float32(1e3), **pid(1e-8), **SMALL}),
    "narrow times": (
        "narrow times", van_der_pol,
        {**SINGLE, "t1": np.float32(2e6), "args": np.float32(1e6), "solver": rungax.Kvaerno3(), **pid(1e-4)},
    ),
    "square": ("growth", lambda t, y, args: y**2, {"t1": 10.0, **pid()}),
    "tenth power": ("growth", lambda t, y, args: y**10, {"t1": 10.0, **pid()}),
    "one leaf grows": (
        "growth", lambda t, y, args: {"u": y["u"] ** 2, "v": -y["v"]},
        {"t1": 10.0, "y0": {"u": np.ones(2), "v": np.asarray(1.0)}, **pid()},
    ),
    "exponential": ("growth", lambda t, y, args: 10 * y, {"t1": 1e3, **pid()}),
    "unstable constant steps": ("constant steps", lambda t, y, args: -1e3 * y, {"t1": 10.0, "dt0": 0.1}),
    "square, constant steps": ("constant steps", lambda t, y, args: y**2, {"t1": 10.0, "dt0": 0.1}),
    "a ball comes to rest": ("events", fall, {"t1": 10.0, "y0": np.asarray([1.0, 0.0]), "event": BOUNCE, **pid()}),
    "few events": (
        "more", oscillator,
        {"args": 1.0, "t1": 1e5, "y0": np.asarray([1.0, 0.5]), "event": ONCE, **pid(1e-8), **SMALL},
    ),
    "no end": ("endless", DECAY, {"t1": np.inf, **pid(), **SMALL}),
    "root of a negative number": ("field", lambda t, y, args: -jnp.sqrt(y), {"t1": 10.0, **pid()}),
    "field that is not a number": ("field", lambda t, y, args: y * jnp.nan, {"dt0": 0.1}),
    "dtmin": (
        "dtmin", lambda t, y, args: -1e3 * (y - jnp.cos(50 * t)), {**pid(1e-8, dtmin=1e-2, force_dtmin=False)},
    ),
    "forced dtmin": ("growth", lambda t, y, args: -1e3 * (y - jnp.cos(50 * t)), {"t1": 10.0, **pid(1e-8, dtmin=1e-2)}),
    "singular": (
        "singular", lambda t, y, args: 1 / jnp.abs(t - 1 / 3) + 0.0 * y, {"y0": np.full(1, 100.0), **pid(1e-9)},
    ),
    "stage": (
        "stage", lambda t, y, args: 1e3 * jnp.exp(jnp.minimum(50 * y, 300.0)),
        {"solver": rungax.ImplicitEuler(), "dt0": 1.0},
    ),
    "linear systems": (
        "linear", oscillator,
        {"args": 1e3, "y0": np.ones(2), "solver": rungax.ImplicitEuler(linear_solver=rungax.Krylov(1)), "dt0": 0.1},
    ),
    "linear systems of a Rosenbrock method": (
        "linear", oscillator,
        {"args": 1e3, "y0": np.ones(2), "solver": rungax.Rosenbrock23(linear_solver=rungax.Krylov(1)), "dt0": 0.1},
    ),
    "linear systems that shorten the steps": (
        "linear", oscillator,
        {
            "args": 1e4, "y0": np.ones(2), "solver": rungax.ImplicitEuler(linear_solver=rungax.Krylov(1)), **pid(1.0),
            "max_steps": 20,
        },
    ),
}  # fmt: skip
OFTEN = ("a long oscillation", "relaxation to a curve", "one leaf grows", "no end")


def solve(name: str) -> Any:
    _, field, changes = CASES[name]
    call: dict[str, Any] = {
        "solver": rungax.Tsit5(), "t0": 0.0, "t1": 1.0, "y0": np.ones(1), "args": None, "max_steps": 4096, **changes,
    }  # fmt: skip
    with warnings_of(name):
        return rungax.diffeqsolve(field, **call).ys


def warnings_of(name: str) -> contextlib.AbstractContextManager[Any]:
    """A check of the warning that the solve gives if its tolerance is below the rounding of the state."""
    if CASES[name][0] != "tolerance":
        return contextlib.nullcontext()
    return pytest.warns(UserWarning, match="is smaller than the rounding of the state")


def check(name: str, said: str) -> None:
    expected = CASES[name][0]
    found = [hint for hint, words in HINTS.items() if words in said]
    # Single precision is wrong in two ways at once.
    assert set(found) <= {expected, *({"tolerance", "narrow times"} if "float32" in said else ())}, said
    assert expected in found, said
    if name == "one leaf grows":
        assert "`y['u']` grows without bound" in said


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n in OFTEN)) for n in CASES])
def test_the_hint_is_that_of_the_cause(name: str) -> None:
    with pytest.raises(rungax.SolveError) as error:
        solve(name)
    check(name, str(error.value))


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n == "Robertson")) for n in CASES])
def test_a_compiled_program_gives_the_same_hint(name: str) -> None:
    with pytest.raises((RuntimeError, ValueError)) as error:
        jax.block_until_ready(jax.jit(lambda: solve(name))())
    check(name, str(error.value))


def test_every_hint_is_provoked() -> None:
    assert {hint for hint, _, _ in CASES.values()} == set(HINTS)


def test_the_number_of_steps_that_is_recommended_is_enough() -> None:
    solve = lambda most: rungax.diffeqsolve(DECAY, rungax.Heun(), 0.0, 10.0, 0.01, 1.0, max_steps=most).ys
    with pytest.raises(rungax.SolveError, match=r"about 800 more attempts: give `max_steps=(\d+)`") as error:
        solve(200)
    solve(int(str(error.value).split("`max_steps=")[1].split("`")[0]))


def test_a_field_without_a_derivative_has_a_report() -> None:
    """The rate of a stiff equation is measured by differences."""

    @jax.custom_vjp
    def field(t: Any, y: Any) -> Any:
        return -1e6 * (y - jnp.cos(t))

    field.defvjp(lambda t, y: (field(t, y), None), lambda _, c: (0.0 * c[0], c))
    with pytest.raises(rungax.SolveError, match="The equation is stiff there"):
        rungax.diffeqsolve(
            lambda t, y, args: field(t, y), rungax.Tsit5(), 0.0, 10.0, y0=np.ones(1), **pid(), max_steps=200
        )


def test_a_field_without_a_derivative_is_solved_with_noise_in_a_program() -> None:
    """The examination, which only runs after a failure, asks for no derivative of the field."""

    @jax.custom_vjp
    def drift(y: Any) -> Any:
        return -y

    drift.defvjp(lambda y: (drift(y), None), lambda _, c: (-c,))
    path = rungax.UnsafeBrownianPath((), jax.random.key(0))
    terms = rungax.MultiTerm(
        rungax.ODETerm(lambda t, y, args: drift(y)), rungax.ControlTerm(lambda t, y, args: 0.1, path)
    )
    program = jax.jit(lambda y0: rungax.diffeqsolve(terms, rungax.Euler(), 0.0, 1.0, 0.25, y0).ys)
    assert np.isfinite(program(1.0)).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.complex64])
def test_states_of_any_dtype_have_a_report(dtype: Any) -> None:
    with pytest.raises(rungax.SolveError, match="The maximum number of solver steps was reached"):
        rungax.diffeqsolve(DECAY, rungax.Heun(), 0.0, 10.0, 0.5, jnp.ones(2, dtype), max_steps=2)
