"""An exception that leaves a function of the user's says which function it was, and how it was called.

(How to mend it: see `test_mistakes.py`.) Its traceback, as JAX filters it, shows the lines of the user's alone.
"""

import pathlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import (
    AbstractPath,
    AbstractProgressMeter,
    AbstractTerm,
    ClipStepSizeController,
    ControlTerm,
    Euler,
    Event,
    HalfSolver,
    Heun,
    ImplicitEuler,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    SemiImplicitEuler,
    diffeqsolve,
)

Y0 = jnp.ones(2)


class Mine(Exception):
    """The exception of the functions below."""


def fails(*args: Any, **others: Any) -> Any:
    raise Mine


def decay(t: Any, y: Any, args: Any) -> Any:
    return -y


def field(t: Any, y: Any, args: Any) -> Any:
    raise Mine


class Callable3(eqx.Module):
    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        raise Mine


class Path(AbstractPath):
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        raise Mine


class Term(AbstractTerm):
    failing: str

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return fails() if self.failing == "vf" else -y

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return fails() if self.failing == "contr" else t1 - t0

    def prod(self, vf: Any, control: Any) -> Any:
        raise Mine


class Controller(PIDController):
    def adapt_step_size(self, *args: Any) -> Any:
        raise Mine


class Starter(PIDController):
    def init(self, *args: Any) -> Any:
        raise Mine


class Solver(Heun):
    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        raise Mine


class Adjoint(rungax.DirectAdjoint):
    def integrate(self, plan: Any, state: Any) -> Any:
        raise Mine


class Meter(AbstractProgressMeter):
    def init(self) -> Any:
        raise Mine

    def step(self, state: Any, progress: Any) -> Any:
        return state

    def close(self, state: Any) -> None:
        del state


PAIR = (jnp.ones(2), jnp.ones(2))
CALLED = "(t: f64[], y: f64[2], args: None"

# The changes of a call that is right, and the words of the note.
FUNCTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a plain function": ({"terms": field}, ("the vector field", f"`field{CALLED})`")),
    "a term's field": ({"terms": ODETerm(field)}, ("the vector field", f"`field{CALLED})`")),
    "a compiled field": ({"terms": jax.jit(field)}, ("the vector field", f"`field{CALLED})`")),
    "a function object": ({"terms": ODETerm(Callable3())}, ("the vector field", f"`Callable3{CALLED})`")),
    "a method": ({"terms": Callable3().__call__}, ("the vector field", f"`Callable3.__call__{CALLED})`")),
    "a field with arguments": (
        {"terms": field, "args": {"k": 2.0, "n": 3}}, ("y: f64[2], args: {'k': weak_f64[], 'n': 3})`",),
    ),
    "a field in a sum": (
        {"terms": MultiTerm(ODETerm(decay), ODETerm(field))}, ("the vector field", f"`field{CALLED})`"),
    ),
    "a field in a pair": (
        {"terms": (ODETerm(decay), ODETerm(field)), "solver": SemiImplicitEuler(), "y0": PAIR},
        ("the vector field", f"`field{CALLED})`"),
    ),
    "a Jacobian": (
        {"terms": ODETerm(decay, jacobian=field), "solver": ImplicitEuler()},
        ("`ODETerm(jacobian=...)`", f"`field{CALLED})`"),
    ),
    "a diffusion": (
        {"terms": ControlTerm(field, lambda t0, t1: t1 - t0), "solver": Euler()},
        ("the vector field of a `ControlTerm`", f"`field{CALLED})`"),
    ),
    "increments": ({"terms": ControlTerm(decay, fails), "solver": Euler()}, ("the control", "`fails(f64[], f64[])`")),
    "a path": (
        {"terms": ControlTerm(decay, Path()), "solver": Euler()},
        ("the control of a `ControlTerm`", "`Path.evaluate(t0: f64[], t1: f64[])`"),
    ),
    "a path's derivative": (
        {"terms": ControlTerm(decay, Path()).to_ode()}, ("a path", "`Path.evaluate(t0: f64[], ...)`"),
    ),
    "a term's own field": ({"terms": Term("vf")}, ("a term", f"`Term.vf{CALLED})`")),
    "a term's own increment": ({"terms": Term("contr")}, ("a term", "`Term.contr(t0: f64[], t1: f64[])`")),
    "a term's own product": ({"terms": Term("prod")}, ("a term", "`Term.prod(vf: f64[2], control: f64[])`")),
    "a saved function": (
        {"saveat": SaveAt(t1=True, fn=field)}, ("the function `SaveAt(fn=...)`", f"`field{CALLED})`"),
    ),
    "a condition": (
        {"event": Event({"ground": fails})}, ("the condition `cond_fn['ground']` of an `Event`", "`fails(f64[]", "..."),
    ),
    "an effect": (
        {"event": Event(lambda t, y, args, **kwargs: y[0], effect=field)},
        ("the effect of the event `cond_fn`", f"`field{CALLED})`"),
    ),
    "a controller": (
        {"stepsize_controller": Controller(1e-3, 1e-6)}, ("the controller", "`Controller.adapt_step_size(f64[], f64["),
    ),
    "a controller inside another": (
        {"stepsize_controller": ClipStepSizeController(Controller(1e-3, 1e-6))}, ("`Controller.adapt_step_size(",),
    ),
    "a controller's beginning": (
        {"stepsize_controller": Starter(1e-3, 1e-6)}, ("the controller", "`Starter.init(DirectedTerm(...), f64[]"),
    ),
    "a norm": (
        {"stepsize_controller": PIDController(1e-3, 1e-6, norm=fails)},
        ("the function `PIDController(norm=...)`", "`fails(f64[2])`"),
    ),
    "a solver": ({"solver": Solver()}, ("the solver", "`Solver.step(terms: DirectedTerm(...), t0: f64[], t1: f64[]")),
    "a solver inside another": ({"solver": HalfSolver(Solver())}, ("the solver", "`Solver.step(")),
    "an adjoint": ({"adjoint": Adjoint()}, ("the adjoint", "`Adjoint.integrate(plan: ")),
    "a progress meter": ({"progress_meter": Meter()}, ("the progress meter", "`Meter.init()`")),
}  # fmt: skip


def solve(**changes: Any) -> rungax.Solution:
    """A solve that is right but for `changes`."""
    call: dict[str, Any] = {
        "terms": decay, "solver": Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": Y0, "max_steps": 8, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_exception_says_once_which_function_it_left_and_how_that_was_called(name: str) -> None:
    changes, words = FUNCTIONS[name]
    with pytest.raises(Mine) as error:
        solve(**changes)
    (note,) = notes_of(error.value)
    for word in ("This happened in ", *words):
        assert word in note


def test_inside_a_compiled_program_too() -> None:
    with pytest.raises(Mine) as error:
        jax.jit(lambda y0: solve(terms=field, y0=y0).ys)(Y0)
    assert notes_of(error.value) == [f"This happened in the vector field, called as `field{CALLED})`."]


def test_of_a_step_by_hand() -> None:
    with pytest.raises(Mine) as error:
        ODETerm(field).vf_prod(0.0, 1.0, None, 0.1)
    assert notes_of(error.value) == [
        "This happened in the vector field, called as `field(t: 0.0, y: 1.0, args: None)`."
    ]


def test_the_rule_of_a_derivative_belongs_to_the_function() -> None:
    ruled = jax.custom_jvp(jnp.negative)
    ruled.defjvp(fails)
    with pytest.raises(Mine) as error:
        solve(terms=lambda t, y, args: ruled(y), solver=ImplicitEuler())
    (note,) = notes_of(error.value)
    assert f"the vector field, called as `<lambda>{CALLED})`" in note


def test_messages_of_rungax_are_no_exceptions_of_the_users() -> None:
    with pytest.raises(ValueError, match="must return") as error:
        solve(terms=lambda t, y, args: (y, y))
    assert notes_of(error.value) == []


@pytest.mark.parametrize(
    ("function", "y0"),
    [(lambda t, y, args: 1 + "a", [1.0]), (lambda t, y, args: len(t.nothing), Y0), (lambda t, y, args: {}["k"], Y0)],
)
def test_errors_of_which_nothing_is_known_get_no_advice(function: Callable[..., Any], y0: Any) -> None:
    with pytest.raises((TypeError, AttributeError, KeyError)) as error:
        solve(terms=function, y0=y0)
    assert len(notes_of(error.value)) == 1


# ----------------------------------------------------------------------------------------------------------- tracebacks


@pytest.fixture
def filtered() -> Iterator[None]:
    """Tracebacks as JAX filters them by default; the other tests see all lines."""
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "auto")
    yield
    jax.config.update("jax_traceback_filtering", before)


def by_solve(terms: Any) -> Any:
    return solve(terms=terms)


def by_jit(terms: Any) -> Any:
    return jax.jit(lambda y0: solve(terms=terms, y0=y0).ys)(Y0)


def by_grad(terms: Any) -> Any:
    return jax.grad(lambda y0: jnp.sum(solve(terms=terms, y0=y0).ys))(Y0)


def by_estimate(terms: Any) -> Any:
    return rungax.derivative_error(terms, Heun(), 0.0, 1.0, 0.5, Y0)


@pytest.mark.usefixtures("filtered")
@pytest.mark.parametrize("run", [by_solve, by_jit, by_grad, by_estimate])
@pytest.mark.parametrize("terms", [ODETerm(lambda t, y, args: np.sin(y)), Term("vf"), ODETerm(Callable3())])
def test_a_traceback_shows_the_lines_of_the_user_alone(run: Callable[..., Any], terms: Any) -> None:
    with pytest.raises((Mine, jax.errors.TracerArrayConversionError)) as error:
        run(terms)
    files = [pathlib.Path(frame.filename) for frame in traceback.extract_tb(error.value.__traceback__)]
    assert set(files) == {pathlib.Path(__file__)}


@pytest.mark.usefixtures("filtered")
def test_a_traceback_of_a_refused_call_ends_at_the_call() -> None:
    with pytest.raises(ValueError, match="`solver`") as error:
        solve(solver="RK45")
    frames = traceback.extract_tb(error.value.__traceback__)
    assert {pathlib.Path(frame.filename) for frame in frames} == {pathlib.Path(__file__)}
    assert "diffeqsolve(" in (frames[-1].line or "")
