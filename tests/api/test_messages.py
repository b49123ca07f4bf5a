"""Every mistake in a call is refused with the type, the name, what was expected and what was found, jitted or not.

Those that newcomers make, with what each is told, are in `test_mistakes.py`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import rungax
from rungax import (
    RESULTS,
    RK4,
    ConstantStepSize,
    ControlTerm,
    Euler,
    Heun,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    StepTo,
    SubSaveAt,
    diffeqsolve,
)

NAN, INF = float("nan"), float("inf")
ONE = jnp.asarray(1.0)
PID = PIDController(rtol=1e-3, atol=1e-6)


def _decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


DECAY = ODETerm(_decay)


def solve(**changes: Any) -> rungax.Solution:
    """A solve that is right but for `changes`."""
    call: dict[str, Any] = {
        "terms": DECAY, "solver": Heun(), "t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": ONE, "max_steps": 8, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def check_message(error: BaseException, words: tuple[str, ...]) -> None:
    message = str(error)
    for word in words:
        assert word in message
    assert len(message.splitlines()) <= 5


class _NoCall(eqx.Module):
    """A function object of one argument."""

    def __call__(self, y: Any) -> Any:
        return y


class _NoOrder(Heun):
    """A solver with an error estimate of which nobody knows the order."""

    def error_order(self, terms: Any) -> None:
        return None


class _OfTwoTerms(Euler):
    """A solver that wants two terms."""

    term_structure: ClassVar[Any] = MultiTerm[tuple[ODETerm, ODETerm]]


class _OfAPair(Euler):
    """A solver that wants a pair of terms."""

    term_structure: ClassVar[Any] = (ODETerm, ODETerm)


class _OtherState(Heun):
    def step(self, *args: Any) -> Any:
        return *super().step(*args)[:3], {"x": ONE}, RESULTS.successful


class _OtherStep(Heun):
    def step(self, *args: Any) -> Any:
        y1, *others = super().step(*args)
        return (y1,), *others


class _OtherController(PIDController):
    def adapt_step_size(self, *args: Any) -> Any:
        *others, _, result = super().adapt_step_size(*args)
        return *others, [], result


class _OtherMeter(rungax.AbstractProgressMeter[Any]):
    def init(self) -> Any:
        return 0

    def step(self, state: Any, progress: Any) -> Any:
        return None

    def close(self, state: Any) -> None:
        del state


class _Term(rungax.AbstractTerm[Any, Any]):
    """A term with a given product."""

    product: Any

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return y

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return t1 - t0

    def prod(self, vf: Any, control: Any) -> Any:
        return self.product


MULTI = MultiTerm(DECAY, DECAY)
STATE = {"a": jnp.ones(3), "b": ONE}

# What is wrong whatever the values: seen while the program is traced.
STRUCTURAL: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    # Terms.
    "a tuple of terms": ({"terms": (DECAY, DECAY)}, ValueError, ("`terms`", "Heun", "AbstractTerm", "ODETerm")),
    "no term": ({"terms": "y' = -y"}, ValueError, ("`terms`", "Heun", "AbstractTerm", "str")),
    "one term for two": ({"solver": _OfTwoTerms()}, ValueError, ("`terms`", "_OfTwoTerms", "MultiTerm", "ODETerm")),
    "three terms for two": (
        {"solver": _OfTwoTerms(), "terms": MultiTerm(DECAY, MULTI)}, ValueError, ("`terms`", "OfTwoTerms", "MultiTerm"),
    ),
    "one term for a pair": ({"solver": _OfAPair()}, ValueError, ("`terms`", "_OfAPair", "ODETerm")),
    "a sum for a pair": ({"solver": _OfAPair(), "terms": MULTI}, ValueError, ("`terms`", "_OfAPair", "MultiTerm")),
    # The vector field.
    "field of another structure": (
        {"terms": lambda t, y, args: (y["a"], y["b"]), "y0": STATE}, ValueError,
        (
            "`vector_field`", "structure", "`y0` is a dict with the keys 'a', 'b', the field returned a tuple of 2",
            "Expected: {'a': float64[3], 'b': float64[]}", "Found:    (float64[3], float64[])",
        ),
    ),
    "field of another shape": (
        {"terms": lambda t, y, args: {"a": y["a"][:2], "b": y["b"]}, "y0": STATE}, ValueError,
        ("['a']", "`vector_field`", "Expected: (3,)", "Found:    (2,)"),
    ),
    "field with an axis too many": (
        {"terms": lambda t, y, args: y[None]}, ValueError, ("`vector_field`", "Expected: ()", "Found:    (1,)"),
    ),
    "complex field of a real state": (
        {"terms": lambda t, y, args: jax.lax.complex(y, y)}, ValueError, ("`vector_field`", "float64", "complex128"),
    ),
    # Functions with other parameters than they are called with.
    "field of four": (
        {"terms": ODETerm(lambda t, y, args, more: -y)}, ValueError,
        ("`vector_field` is called", "Expected: vector_field(t, y, args)", "<lambda>(t, y, args, more)", "`args`"),
    ),
    "field with another argument by name": (
        {"terms": lambda t, y, args, *, rate: -y}, ValueError, ("`vector_field` is called", "(t, y, args, *, rate)"),
    ),
    "field of a control": (
        {"terms": ControlTerm(lambda t, y: y, lambda t0, t1: t1 - t0), "solver": Euler()}, ValueError,
        ("`vector_field` is called", "Found:    <lambda>(t, y)"),
    ),
    "Jacobian of two": (
        {"terms": ODETerm(_decay, jacobian=lambda t, y: -1.0)}, ValueError,
        ("`ODETerm(jacobian=...)` is called", "Expected: jacobian(t, y, args)", "Found:    <lambda>(t, y)"),
    ),
    "saved function of a sub": (
        {"saveat": SaveAt(subs=[SubSaveAt(t1=True, fn=_NoCall())])}, ValueError, ("`SaveAt(fn=...)`", "_NoCall(y"),
    ),
    # The state.
    "state of keys": ({"y0": {"b": jax.random.key(0)}}, ValueError, ("`y0['b']`", "float or complex", "key", "args")),
    "state of a string": ({"y0": (ONE, "x")}, ValueError, ("`y0[1]`", "number or an array", "str")),
    # The times.
    "two starts": ({"t0": jnp.zeros(2)}, ValueError, ("`t0`", "scalar", "(2,)", "jax.vmap")),
    "one end as an array": ({"t1": np.ones(1)}, ValueError, ("`t1`", "scalar", "(1,)")),
    "two step sizes": ({"dt0": jnp.ones(2)}, ValueError, ("`dt0`", "scalar", "(2,)")),
    "complex time": ({"t1": jnp.asarray(1j)}, ValueError, ("`t1`", "real", "complex128")),
    "no time": ({"t0": None}, ValueError, ("`t0`", "number", "None")),
    "time in words": ({"t1": "1"}, ValueError, ("`t1`", "number", "'1'")),
    # The step sizes.
    "fixed step of no size": ({"dt0": None}, ValueError, ("`dt0=None`", "fixed step", "PIDController")),
    "list of steps and a size": (
        {"stepsize_controller": StepTo([0.0, 1.0])}, ValueError, ("`StepTo(ts)`", "dt0=None", "Found:    dt0="),
    ),
    "tolerance of another shape": (
        {"stepsize_controller": PIDController(rtol=1e-3, atol=jnp.ones(3)), "y0": jnp.ones(2)}, ValueError,
        ("`PIDController(atol=...)`", "Expected: shape (2,)", "for `y0`", "Found:    shape (3,)", "pytree"),
    ),
    "error control of Euler": (
        {"solver": Euler(), "stepsize_controller": PID}, RuntimeError, ("`PIDController`", "error estimate"),
    ),
    "error control of RK4": (
        {"solver": RK4(), "stepsize_controller": PID}, RuntimeError, ("`PIDController`", "error estimate"),
    ),
    "error of unknown order": (
        {"solver": _NoOrder(), "stepsize_controller": PID}, ValueError, ("order", "error_order", "None"),
    ),
    "tolerances for another state": (
        {"stepsize_controller": PIDController(rtol=1e-3, atol={"a": 1e-3})}, ValueError,
        ("`PIDController(atol=...)`", "or float64[]", "Found:    {'a': float64[]}", "leaf"),
    ),
    # Arguments of another kind.
    "class of a meter": (
        {"progress_meter": rungax.TextProgressMeter}, ValueError, ("`progress_meter`", "the class", "parentheses"),
    ),
    "jump in words": ({"made_jump": "no"}, ValueError, ("`made_jump`", "'no'")),
    "a number of jumps": ({"made_jump": jnp.ones(2)}, ValueError, ("`made_jump`", "Found:    float64[2]")),
    # Parts of one's own.
    "a state of a solver": (
        {"solver": _OtherState()}, ValueError,
        ("`_OtherState.step`", "`solver_state` is None, it returned a dict with the key 'x'", "what `init` returns"),
    ),
    "a solver state of another solve": (
        {"solver_state": {"x": 1.0}}, ValueError, ("`Heun.step`", "Expected: {'x': float64[]}", "`solver_state=`"),
    ),
    "a step of another structure": (
        {"solver": _OtherStep()}, ValueError, ("`_OtherStep.step`", "`y0` is one number, it returned a tuple of 1"),
    ),
    "a state of a controller": (
        {"stepsize_controller": _OtherController(1e-3, 1e-6)}, ValueError,
        ("`_OtherController.adapt_step_size`", "`controller_state` is None, it returned a list of 0"),
    ),
    "a state of a meter": (
        {"progress_meter": _OtherMeter()}, ValueError, ("`_OtherMeter.step`", "`state` is one number", "returned None"),
    ),
    "a product of another structure": (
        {"terms": _Term((ONE,))}, ValueError, ("`prod` of a `_Term`", "one number, `prod` returned a tuple of 1"),
    ),
    "a product of another shape": (
        {"terms": _Term(jnp.ones(3))}, ValueError,
        ("`prod` of a `_Term`", "Expected: float64[]", "Found:    float64[3]"),
    ),
    # What is kept.
    "steps without a bound": (
        {"saveat": SaveAt(steps=True), "max_steps": None}, ValueError, ("SaveAt(steps=...)", "`max_steps`", "None"),
    ),
    "steps of a sub without a bound": (
        {"saveat": SaveAt(subs=[SubSaveAt(t1=True), SubSaveAt(steps=2)]), "max_steps": None}, ValueError,
        ("SaveAt(steps=...)", "`max_steps`", "None"),
    ),
    "dense without a bound": (
        {"saveat": SaveAt(dense=True), "max_steps": None}, ValueError, ("SaveAt(dense=...)", "`max_steps`", "None"),
    ),
    "too many steps": ({"max_steps": 2**31}, ValueError, ("`max_steps`", "at most 2147483647", "2147483648", "None")),
    "no steps": ({"max_steps": 0}, ValueError, ("`max_steps`", "positive integer", "0")),
    "half a step": ({"max_steps": 2.5}, ValueError, ("`max_steps`", "positive integer", "2.5")),
    "steps yes or no": ({"max_steps": True}, ValueError, ("`max_steps`", "positive integer", "True")),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURAL)
@pytest.mark.parametrize("throw", [True, False])
def test_a_mistake_in_structure_is_refused(name: str, throw: bool) -> None:
    changes, kind, words = STRUCTURAL[name]
    with pytest.raises(kind) as error:
        solve(**changes, throw=throw)
    check_message(error.value, words)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_mistake_in_structure_is_refused_while_tracing(name: str) -> None:
    changes, kind, words = STRUCTURAL[name]

    def traced(args: jax.Array) -> Any:
        return solve(**changes, args=args).ys

    with pytest.raises(kind) as error:
        jax.eval_shape(traced, ONE)
    # A compiled function knows a Python number as an array.
    check_message(error.value, words)


# What is wrong with values: refused where they are known, a result where they are not.
VALUES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "start not a number": ({"t0": NAN}, ("`t0`", "number", "nan")),
    "infinite start": ({"t0": -INF}, ("`t0`", "number", "-inf")),
    "end not a number": ({"t1": NAN}, ("`t1`", "number", "nan")),
    "step not a number": ({"dt0": NAN}, ("`dt0`", "positive", "nan")),
    "no step": ({"dt0": 0.0}, ("`dt0`", "positive", "0.0")),
    "step the wrong way": ({"dt0": -0.5}, ("`dt0`", "positive", "-0.5")),
    "step the wrong way back": ({"t1": -1.0}, ("`dt0`", "negative", "dt0=0.5", "t1=-1.0")),
    "save after the end": ({"ts": [0.5, 1.5]}, ("SaveAt(ts=...)", "from 0.0 to 1.0", "from 0.5 to 1.5")),
    "save before the start": ({"ts": [-0.5, 0.5]}, ("SaveAt(ts=...)", "from 0.0 to 1.0", "from -0.5 to 0.5")),
    "save at no number": ({"ts": [0.5, NAN]}, ("SaveAt(ts=...)", "nan")),
    "save out of order": ({"ts": [0.1, 0.9, 0.7, 0.8]}, ("SaveAt(ts=...)", "increasing", "0.9", "0.7", "jnp.sort")),
    "save out of order backwards": (
        {"t0": 1.0, "t1": 0.0, "dt0": -0.5, "ts": [0.1, 0.9]},
        ("SaveAt(ts=...)", "decreasing", "0.1", "0.9", "[::-1]"),
    ),
    "steps from elsewhere": ({"steps": [0.5, 1.0]}, ("`StepTo`", "first 0.0", "last 1.0")),
    "steps to elsewhere": ({"steps": [0.0, 0.5]}, ("`StepTo`", "first 0.0", "last 1.0")),
    "steps out of order": ({"steps": [0.0, 0.7, 0.6, 1.0]}, ("`StepTo`", "strictly monotone")),
    "steps of no length": ({"steps": [0.0, 0.5, 0.5, 1.0]}, ("`StepTo`", "strictly monotone")),
    "steps the other way": ({"steps": [1.0, 0.5, 0.0]}, ("`StepTo`", "first 0.0", "last 1.0")),
    "steps of no number": ({"steps": [0.0, NAN, 1.0]}, ("`StepTo`", "first 0.0", "last 1.0")),
}


def solve_with_values(values: dict[str, Any], **options: Any) -> rungax.Solution:
    """The solve with `values`, and with everything saved."""
    values = {"t0": 0.0, "t1": 1.0, "dt0": 0.5, "ts": [], **values}
    ts, steps = values.pop("ts"), values.pop("steps", None)
    subs = [SubSaveAt(t0=True, t1=True), SubSaveAt(steps=True), *([SubSaveAt(ts=ts)] if len(ts) else [])]
    if steps is not None:
        options["stepsize_controller"], values["dt0"] = StepTo(steps), None
    return solve(saveat=SaveAt(subs=subs), **values, **options)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("throw", [True, False])
def test_a_wrong_value_is_refused_where_it_is_known(name: str, throw: bool) -> None:
    values, words = VALUES[name]
    with pytest.raises(ValueError, match="`") as error:
        solve_with_values(values, throw=throw)
    check_message(error.value, words)


@pytest.mark.parametrize("name", ["step the wrong way", "save out of order", "steps to elsewhere"])
def test_a_wrong_value_is_refused_when_the_program_runs_and_not_while_it_is_traced(name: str) -> None:
    values, words = VALUES[name]
    for throw in (True, False):
        jax.eval_shape(lambda y0, throw=throw: solve_with_values(values, y0=y0, throw=throw).ys, ONE)
    with pytest.raises(RuntimeError, match="`") as error:
        eqx.filter_jit(lambda y0: solve_with_values(values, y0=y0).ys)(ONE)
    for word in words:
        assert word in str(error.value)


def as_arrays(values: dict[str, Any]) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.asarray, values, is_leaf=lambda x: isinstance(x, list))


@jax.jit
def _quiet(values: dict[str, jax.Array]) -> tuple[Any, ...]:
    solution = solve_with_values(values, throw=False)
    return solution.result, solution.ys, solution.num_steps


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_in_a_compiled_program_is_a_result_with_outputs_that_are_not_numbers(name: str) -> None:
    result, ys, num_steps = _quiet(as_arrays({"t0": 0.0, "t1": 1.0, "dt0": 0.5, **VALUES[name][0]}))
    assert result == RESULTS.invalid_input
    assert all(np.isnan(y).all() for y in ys)
    assert int(num_steps) == 0


@pytest.mark.parametrize("name", ["step the wrong way", "save out of order", "steps to elsewhere", "end not a number"])
def test_a_wrong_value_in_a_compiled_program_raises_when_it_runs(name: str) -> None:
    values = as_arrays({"t0": 0.0, "t1": 1.0, "dt0": 0.5, **VALUES[name][0]})
    for jit, kind in ((jax.jit, jax.errors.JaxRuntimeError), (eqx.filter_jit, RuntimeError)):
        with pytest.raises(kind, match="invalid"):
            jax.block_until_ready(jit(lambda values: solve_with_values(values).ys)(values))


def test_one_wrong_element_does_not_spoil_the_others() -> None:
    results, ys, _ = jax.vmap(_quiet)({"t0": jnp.zeros(3), "t1": jnp.ones(3), "dt0": jnp.asarray([0.5, -0.5, 0.25])})
    assert (results == RESULTS.invalid_input).tolist() == [False, True, False]
    for y in ys:
        assert np.isnan(y).all(axis=1).tolist() == [False, True, False]
        assert not np.isnan(y[::2]).any()


# Constructors, which see their arguments alone.
CONSTRUCTORS: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "a sum of a bare field": (
        lambda: rungax.MultiTerm(lambda t, y, args: y), ValueError, ("`MultiTerm", "function", "ODETerm(vector_field)"),
    ),
    "negative tolerance": (lambda: PIDController(-1e-3, 1e-3), ValueError, ("(rtol=...)", "at least 0", "-0.001")),
    "tolerance that is a text": (lambda: PIDController(1e-3, "1e-3"), ValueError, ("(atol=...)", "a number", "'1e-3'")),
    "a sub that keeps nothing": (lambda: SaveAt(subs=SubSaveAt()), ValueError, ("`SubSaveAt`", "nothing", "`ts`")),
    "a sub among others that keeps nothing": (
        lambda: SaveAt(subs={"a": SubSaveAt(t1=True), "b": SubSaveAt(ts=[])}), ValueError, ("`SubSaveAt`", "nothing"),
    ),
    "subs and more": (lambda: SaveAt(subs=SubSaveAt(t1=True), t0=True), ValueError, ("`SaveAt(subs=...)`", "both")),
    "subs that are none": (lambda: SaveAt(subs=[True]), ValueError, ("`SaveAt(subs=...)`", "SubSaveAt", "bool")),
    "one time to save": (lambda: SaveAt(ts=0.5), ValueError, ("`SaveAt(ts=...)`", "one-dimensional", "shape ()")),
    "a matrix of times": (lambda: SaveAt(ts=np.ones((2, 2))), ValueError, ("`SaveAt(ts=...)`", "shape (2, 2)")),
    "every minus second step": (lambda: SaveAt(steps=-2), ValueError, ("`SaveAt(steps=n)`", "positive", "-2")),
    "one time to step to": (lambda: StepTo([0.0]), ValueError, ("`StepTo(ts)`", "at least 2", "shape (1,)")),
    "a matrix of steps": (lambda: StepTo(np.ones((2, 2))), ValueError, ("`StepTo(ts)`", "one-dim", "shape (2, 2)")),
    "no tolerances": (lambda: PIDController(), TypeError, ("rtol", "atol")),
    "one tolerance": (lambda: PIDController(rtol=1e-3), TypeError, ("atol",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_refuses_what_it_can_judge_by_itself(name: str) -> None:
    construct, kind, words = CONSTRUCTORS[name]
    with pytest.raises(kind) as error:
        construct()
    check_message(error.value, words)


# A solution that was not asked for everything.


@pytest.mark.parametrize("method", ["evaluate", "derivative"])
def test_a_solution_that_is_not_dense_says_so(method: str) -> None:
    with pytest.raises(ValueError, match="dense") as error:
        getattr(solve(), method)(0.5)
    check_message(error.value, (f"`Solution.{method}`", "SaveAt(dense=True)", "`ts`"))


# Solves that fail.

OUT_OF_STEPS = {"dt0": 0.1, "max_steps": 4}


def test_a_failed_solve_raises_with_a_report() -> None:
    with pytest.raises(RuntimeError) as error:
        solve(**OUT_OF_STEPS, stepsize_controller=ConstantStepSize())
    for word in ("maximum number of solver steps", "t = 0.4", "4 attempted steps", "throw=False"):
        assert word in str(error.value)
    with pytest.raises(RuntimeError) as error:
        solve(terms=lambda t, y, args: jnp.nan * y, t0=2.0, t1=1.0, dt0=-0.25)
    for word in ("nonfinite", "finite up to t = 2.0, and not after"):
        assert word in str(error.value).lower()


def test_a_failed_solve_raises_in_a_compiled_program_too() -> None:
    def end(y0: jax.Array) -> Any:
        return solve(**OUT_OF_STEPS, y0=y0).ys

    for jit, kind in ((jax.jit, jax.errors.JaxRuntimeError), (eqx.filter_jit, RuntimeError)):
        with pytest.raises(kind, match="maximum number of solver steps"):
            jax.block_until_ready(jit(end)(ONE))


def test_without_throwing_a_failed_solve_tells_by_its_result() -> None:
    solution = solve(**OUT_OF_STEPS, throw=False)
    assert solution.result == RESULTS.max_steps_reached
    assert not rungax.is_okay(solution.result)
    assert not rungax.is_successful(solution.result)
    assert "maximum number of solver steps" in RESULTS[solution.result]
    assert RESULTS[solve().result] == "The solve reached the end of its interval."


def test_an_exception_of_the_users_own_comes_out_as_it_is() -> None:
    class _OfTheirOwn(Exception):
        pass

    def field(t: Any, y: Any, args: Any) -> Any:
        raise _OfTheirOwn("not now")

    with pytest.raises(_OfTheirOwn, match="not now"):
        solve(terms=field)
    with pytest.raises(_OfTheirOwn, match="not now"):
        solve(saveat=SaveAt(t1=True, fn=field))


def test_results_of_another_enumeration_are_not_compared() -> None:
    with pytest.raises(ValueError, match="enumeration"):
        assert RESULTS.successful == optimistix.RESULTS.successful
    assert RESULTS.promote(optimistix.RESULTS.successful) == RESULTS.successful
