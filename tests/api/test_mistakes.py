"""The mistakes of newcomers, who come from SciPy, Diffrax, DifferentialEquations.jl or nowhere: what each is told.

One row for each: the call as somebody wrote it, the class of the exception, and words that its message and its notes
must contain. Almost all are found before anything is compiled.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    ConstantStepSize,
    ControlTerm,
    Euler,
    Event,
    Heun,
    KenCarp4,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    SemiImplicitEuler,
    SPaRK,
    StepTo,
    Tsit5,
    UnsafeBrownianPath,
    VirtualBrownianTree,
    diffeqsolve,
)

Y0 = jnp.array([1.0, 0.0])
PID = PIDController(rtol=1e-3, atol=1e-6)
TIMES = np.linspace(0, 1, 5)
NAN, INF = float("nan"), float("inf")


def f(t: Any, y: Any, args: Any) -> Any:
    return -y


def run(terms: Any = f, solver: Any = None, *interval: Any, y0: Any = Y0, **options: Any) -> rungax.Solution:
    """A solve that is right but for what is given."""
    t0, t1, dt0 = interval or (0.0, 1.0, 0.5)
    return diffeqsolve(terms, Heun() if solver is None else solver, t0, t1, dt0, y0, max_steps=8, **options)


def field(function: Callable[..., Any], y0: Any = Y0, **options: Any) -> Callable[[], Any]:
    """The solve of an equation with this field."""
    return lambda: run(function, y0=y0, **options)


def saved(**options: Any) -> Callable[[], Any]:
    # With `throw=False` wrong values are found before anything is compiled.
    return lambda: run(saveat=SaveAt(**options), throw=False)


def event(condition: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    return lambda: run(event=Event(condition, **options))


def noise(diffusion: Any, shape: tuple[int, ...] = (), solver: Any = None, **options: Any) -> Callable[[], Any]:
    path = VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=shape, key=jax.random.key(0))
    terms = MultiTerm(ODETerm(f), ControlTerm(diffusion, path))
    return lambda: run(terms, Euler() if solver is None else solver, **options)


def passes(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y[0] - 0.5


def without_return(t: Any, y: Any, args: Any) -> Any:
    -y  # noqa: B018


def in_place(du: Any, u: Any, p: Any, t: Any) -> None:
    du[0] = -u[0]


def assigned(t: Any, y: Any, args: Any) -> Any:
    slope = np.zeros(2)
    slope[0] = y[1]
    return slope


def assigned_to_state(t: Any, y: Any, args: Any) -> Any:
    y[0] = 0.0
    return y


def unpacked(t: Any, y: Any, args: Any) -> Any:
    a, b = args
    return a * y + b


TRACED = (TypeError, ValueError, IndexError)

type Mistake = tuple[Callable[[], Any], type[Exception] | tuple[type[Exception], ...], tuple[str, ...]]

CALLS: dict[str, Mistake] = {
    "SciPy's order": (lambda: diffeqsolve(f, (0, 1), Y0), TypeError, ("missing", "diffeqsolve(f, Tsit5(), t0, t1")),
    "SciPy's order in full": (
        lambda: diffeqsolve(f, (0, 1), Y0, 0.0, 1.0, 2.0), ValueError,
        ("`solver`", "Found:    tuple", "diffeqsolve(terms, solver, t0, t1, dt0, y0, args)"),
    ),
    "SciPy's names": (
        lambda: diffeqsolve(f, (0, 1), Y0, method="RK45", t_eval=TIMES), TypeError,
        ("Write `solver` in place of `method`", "Write `saveat=SaveAt(ts=...)` in place of `t_eval`"),
    ),
    "tolerances as arguments": (
        lambda: run(rtol=1e-6, atol=1e-9), TypeError,
        ("`stepsize_controller=PIDController(rtol=..., atol=...)` in place of `rtol` and `atol`",),
    ),
    "Julia's names": (
        lambda: run(reltol=1e-6, callback=passes), TypeError,
        ("`stepsize_controller=PIDController(", "in place of `reltol`", "`event=Event(...)` in place of `callback`"),
    ),
    "SciPy's pattern": (
        lambda: run(jac_sparsity=np.eye(2)), TypeError,
        ("Write `terms=ODETerm(f, sparsity=S)` in place of `jac_sparsity`",),
    ),
    "no first step": (
        lambda: diffeqsolve(f, Tsit5(), 0.0, 1.0, y0=Y0), TypeError, ("'dt0'", "`None` lets error control choose it"),
    ),
    "a solver of another library": (
        lambda: run(solver=type("Tsit5", (), {"__module__": "elsewhere.solvers"})()), ValueError,
        ("`solver`", "the library `elsewhere`", "`rungax.Tsit5`"),
    ),
    "a term of another library": (
        lambda: run(type("ODETerm", (), {"__module__": "elsewhere"})()), ValueError, ("`rungax.ODETerm`",),
    ),
    "a Jacobian as an argument": (lambda: run(jac=f), TypeError, ("`terms=ODETerm(f, jacobian=...)`",)),
    "SciPy's method": (lambda: run(solver="RK45"), ValueError, ("`solver`", "Tsit5()", "'RK45'", "`solver=Dopri5()`")),
    "SciPy's stiff method": (lambda: run(solver="BDF"), ValueError, ("`solver`", "`solver=BDF()`")),
    "SciPy's automatic method": (lambda: run(solver="LSODA"), ValueError, ("`solver`", "`solver=Auto()`")),
    "a method in small letters": (lambda: run(solver="tsit5"), ValueError, ("`solver`", "`solver=Tsit5()`")),
    "an unknown method": (lambda: run(solver="magic"), ValueError, ("`solver`", "'magic'", "`solver=None` chooses")),
    "the class of a method": (lambda: run(solver=Tsit5), ValueError, ("`solver`", "the class Tsit5", "parentheses")),
    "the class of a controller": (
        lambda: run(stepsize_controller=PIDController), ValueError, ("`stepsize_controller`", "parentheses"),
    ),
    "a tolerance as the controller": (
        lambda: run(stepsize_controller=1e-6), ValueError,
        ("`stepsize_controller`", "PIDController(rtol=..., atol=..."),
    ),
    "times as saveat": (lambda: run(saveat=TIMES), ValueError, ("`saveat`", "`saveat=SaveAt(ts=...)`")),
    "Julia's saveat": (lambda: run(saveat=0.1), ValueError, ("`saveat`", "`saveat=SaveAt(ts=...)`")),
    "a condition as the event": (lambda: run(event=passes), ValueError, ("`event`", "`event=Event(cond_fn)`")),
    "SciPy's list of events": (lambda: run(event=[passes]), ValueError, ("`event`", "`event=Event(cond_fn)`")),
    "an adjoint by name": (
        lambda: run(adjoint="backsolve"), ValueError, ("`adjoint`", "'backsolve'", "RecursiveCheckpointAdjoint()"),
    ),
    "both ends as t0": (
        lambda: run(f, None, (0.0, 1.0), 1.0, 0.1), ValueError, ("`t0`", "two arguments, `t0` and `t1`"),
    ),
    "the state as t0": (lambda: run(f, None, Y0, 1.0, 0.1), ValueError, ("`t0`", "scalar", "(2,)")),
    "a number of steps in floating point": (
        lambda: diffeqsolve(f, Heun(), 0.0, 1.0, 0.5, Y0, max_steps=1e5), ValueError,
        ("`max_steps`", "positive integer", "100000.0"),
    ),
    "a text as the state": (lambda: run(y0="1.0"), ValueError, ("`y0`", "a number or an array", "str")),
    # Functions with other parameters.
    "odeint's order": (
        field(lambda y, t: -y), ValueError, ("vector_field(t, y, args)", "(y, t)", "The time is its first"),
    ),
    "odeint's order, with arguments": (
        field(lambda y, t, k: -y), ValueError, ("Expected: (2,)", "Found:    ()", "in the order `(t, y, args)`"),
    ),
    "odeint's order, with an index": (
        field(lambda y, t, k: jnp.stack([y[1], -y[0]])), TRACED, ("(y: f64[], t: f64[2]", "with the time first"),
    ),
    "Julia's function in place": (
        field(in_place), ValueError, ("vector_field(t, y, args)", "in_place(du: Any, u: Any, p: Any, t: Any)"),
    ),
    "no `args`": (field(lambda t, y: -y), ValueError, ("vector_field(t, y, args)", "<lambda>(t, y)")),
    "SciPy's args": (
        field(lambda t, y, a, b: -y, args=(1.0, 2.0)), ValueError,
        ("(t, y, a, b)", "What else it needs belongs in `args`"),
    ),
    "a condition of SciPy": (
        event(lambda t, y: y[0]), ValueError,
        ("`Event(cond_fn=...)`", "cond_fn(t, y, args, **kwargs)", "<lambda>(t, y)"),
    ),
    "a saved function of the state": (saved(t1=True, fn=lambda y: y), ValueError, ("fn(t, y, args)", "<lambda>(y)")),
    # What functions return.
    "a list": (
        field(lambda t, y, args: [y[1], -y[0]]), ValueError,
        ("`y0` is one array of shape (2,), the field returned a list of 2", "`jnp.stack([...])`"),
    ),
    "a tuple": (field(lambda t, y, args: (y[1], -y[0])), ValueError, ("returned a tuple of 2", "`jnp.stack([...])`")),
    "nothing": (field(without_return), ValueError, ("the field returned None", "Is `return` missing?")),
    "one number": (
        field(lambda t, y, args: y[0]), ValueError, ("Expected: (2,)", "Found:    ()", "`jnp.stack([...])`"),
    ),
    "an axis too many": (field(lambda t, y, args: -y[None]), ValueError, ("Expected: (2,)", "Found:    (1, 2)")),
    "other keys": (
        field(lambda t, y, args: {"x": 1.0, "w": y["x"]}, {"x": 1.0, "v": 0.0}), ValueError,
        ("`y0` is a dict with the keys 'v', 'x'", "Return the keys of `y0`: 'v' missing; 'w' not in it"),
    ),
    "a tuple inside for a list": (
        field(lambda t, y, args: {"x": tuple(y["x"])}, {"x": [1.0, 2.0]}), ValueError,
        ("`y0['x']` is a list of 2, the field returned a tuple of 2 there", "A tuple is not a list"),
    ),
    "an array for a list": (
        field(lambda t, y, args: -jnp.stack(y), [1.0, 0.0]), ValueError,
        ("`y0` is a list of 2, the field returned one array of shape (2,)", "`y0=jnp.array([...])`"),
    ),
    "a list times a number": (
        field(lambda t, y, args: 2 * y, [1.0, 0.0]), ValueError,
        ("`y0` is a list of 2, the field returned a list of 4", "A number times a list repeats it"),
    ),
    "a function that is not called": (
        field(lambda t, y, args: f), ValueError, ("must be numbers", "Found:    function"),
    ),
    "complex numbers": (
        field(lambda t, y, args: jax.lax.complex(y, y)), ValueError, ("complex128", "Make `y0` complex"),
    ),
    "two conditions in one": (
        event(lambda t, y, args, **kwargs: (y[0], y[1])), ValueError,
        ("condition `cond_fn`", "one boolean or one real number", "(float64[], float64[])"),
    ),
    "a condition without return": (
        event(lambda t, y, args, **kwargs: None), ValueError, ("condition `cond_fn`", "Is `return` missing?"),
    ),
    "a list from an effect": (
        event(passes, effect=lambda t, y, args: [y[0], -y[1]]), ValueError,
        ("effect of the event `cond_fn`", "the effect returned a list of 2", "`jnp.stack([...])`"),
    ),
    "a text to save": (saved(t1=True, fn=lambda t, y, args: "y"), ValueError, ("`SaveAt(fn=...)`", "Found:    str")),
    # Errors inside functions: a note says which function it was, and how to mend it.
    "NumPy": (field(lambda t, y, args: np.sin(y)), TRACED, ("the vector field", "`jax.numpy` in place of `numpy`")),
    "an array of NumPy": (field(lambda t, y, args: np.array([y[1], -y[0]])), TRACED, ("`jnp.stack`",)),
    "a forcing by NumPy": (field(lambda t, y, args: np.interp(t, TIMES, TIMES) - y), TRACED, ("`jax.numpy` in place",)),
    "an entry of an array of NumPy": (field(assigned), TRACED, ("`jnp.stack([...])`", "`x.at[i].set(value)`")),
    "an entry of the state": (field(assigned_to_state), TRACED, ("immutable", "assigned_to_state(t: f64[], y: f64[2]")),
    "`if`": (field(lambda t, y, args: y if y[0] > 0 else -y), TRACED, ("`if`", "`jnp.where(condition, a, b)`")),
    "`and`": (field(lambda t, y, args: y * (y[0] > 0 and t > 0)), TRACED, ("`and`", "`&`")),
    "`max`": (field(lambda t, y, args: y * max(y[0], 0.0)), TRACED, ("`max`", "`jnp.maximum`")),
    "`math`": (field(lambda t, y, args: y * math.sin(t)), TRACED, ("`math`", "`jax.numpy` in place of `math`")),
    "`float`": (field(lambda t, y, args: y * float(t)), TRACED, ("`float`", "leave the conversion out")),
    "an index of a list": (
        field(lambda t, y, args: y * [1.0, 2.0][jnp.int32(t)]), TRACED, ("`jnp.asarray(values)[i]`",),
    ),
    "a mask": (field(lambda t, y, args: y[y > 0]), TRACED, ("`jnp.where(mask, x, 0)`",)),
    "a number as text": (field(lambda t, y, args: print(f"{t:.3f}")), TRACED, ("`jax.debug.print",)),
    "minus a list": (field(f, [1.0, 0.0]), TRACED, ("A list is a pytree", "`y0=jnp.array([...])`", "`jax.tree.map`")),
    "a fraction of a list": (field(lambda t, y, args: -0.5 * y, [1.0, 0.0]), TRACED, ("A list is a pytree",)),
    "a function of a list": (field(lambda t, y, args: jnp.sin(y), [1.0, 0.0]), TRACED, ("A list is a pytree",)),
    "a matrix times a tuple": (field(lambda t, y, args: jnp.eye(2) @ y, (1.0, 0.0)), TRACED, ("A tuple is a pytree",)),
    "a number times a dictionary": (field(lambda t, y, args: 2 * y, {"a": 1.0}), TRACED, ("A dict is a pytree",)),
    "the shape of a list": (field(lambda t, y, args: y.shape, [1.0]), AttributeError, ("A list is a pytree",)),
    "a list of lists as a matrix": (
        field(lambda t, y, args: args @ y, args=[[0.0, 1.0], [-1.0, 0.0]]), TRACED,
        ("A list is a pytree", "`args=jnp.array([...])`"),
    ),
    "arguments that are not given": (field(lambda t, y, args: y * args["k"]), TRACED, ("`args` is None", "args=...")),
    "arguments to unpack": (field(unpacked), TRACED, ("`args` is None",)),
    "NumPy in a condition": (
        event(lambda t, y, args, **kwargs: np.sin(y[0])), TRACED,
        ("the condition `cond_fn` of an `Event`", "`jax.numpy`"),
    ),
    "NumPy in an effect": (
        event(passes, effect=lambda t, y, args: np.abs(y)), TRACED,
        ("the effect of the event `cond_fn`", "`jax.numpy`"),
    ),
    "`if` in a saved function": (
        saved(t1=True, fn=lambda t, y, args: 1 if t > 0 else 0), TRACED, ("`SaveAt(fn=...)`", "`jnp.where("),
    ),
    # Terms, solvers and steps that do not suit each other.
    "one term for a pair": (
        lambda: run(f, SemiImplicitEuler()), ValueError,
        ("`SemiImplicitEuler`", "Found:    ODETerm", "`(ODETerm(f), ODETerm(g))`", "`y0` as a tuple"),
    ),
    "one array for a pair": (
        lambda: run((ODETerm(f), ODETerm(f)), SemiImplicitEuler()), ValueError,
        ("Expected: y0 = (v, w), a tuple", "Found:    float64[2]"),
    ),
    "one term for two": (lambda: run(f, KenCarp4()), ValueError, ("`KenCarp4`", "`MultiTerm(ODETerm(f), ODETerm(g))`")),
    "a tuple for a sum": (
        lambda: run((ODETerm(f), ODETerm(f))), ValueError, ("Found:    (ODETerm, ODETerm)", "`MultiTerm(...)`"),
    ),
    "a sum of functions": (lambda: MultiTerm(f, f), ValueError, ("Found:    function", "`ODETerm(vector_field)`")),
    "the value of a field": (
        lambda: ODETerm(f(0.0, Y0, None)), ValueError, ("`ODETerm(vector_field=...)`", "a callable"),
    ),
    "error control without an estimate": (
        lambda: run(f, Euler(), stepsize_controller=PID), RuntimeError,
        ("`PIDController`", "error estimate", "`Tsit5`", "with noise `SRIW1` (Itô)"),
    ),
    "constant steps of no size": (
        lambda: run(f, None, 0.0, 1.0, None, stepsize_controller=ConstantStepSize()), ValueError,
        ("`dt0=None`", "PIDController"),
    ),
    "given steps and a size": (
        lambda: run(stepsize_controller=StepTo([0.0, 1.0])), ValueError, ("`StepTo(ts)`", "dt0=None"),
    ),
    "noise and no solver": (noise(f, solver=rungax.Auto()), (ValueError, UserWarning), ("Auto",)),
    "a diagonal as an array": (
        noise(lambda t, y, args: y, shape=(2,)), ValueError,
        ("Expected: (2, 2)", "Found:    (2,)", "`lineax.DiagonalLinearOperator(...)`"),
    ),
    "a list for the diffusion": (
        noise(lambda t, y, args: [y[0], y[1]]), ValueError, ("the field returned a list of 2", "`jnp.stack([...])`"),
    ),
    "noise without its areas": (noise(f, solver=SPaRK()), ValueError, ("`levy_area=SpaceTimeLevyArea`", "constructor")),
    "noise that cannot be asked twice": (
        lambda: run(ControlTerm(f, UnsafeBrownianPath((), jax.random.key(0))), stepsize_controller=PID), ValueError,
        ("`UnsafeBrownianPath`", "`VirtualBrownianTree`"),
    ),
    # Values.
    "two tolerances of zero": (lambda: PIDController(rtol=0, atol=0), ValueError, ("never zero", "rtol=0, atol=0")),
    "two tolerances of zero somewhere": (
        lambda: PIDController(rtol=0.0, atol=jnp.array([1e-6, 0.0])), ValueError, ("rtol=0, atol=0 at `y[1]`",),
    ),
    "a negative tolerance": (lambda: PIDController(rtol=-1e-3, atol=0.0), ValueError, ("(rtol=...)", "-0.001")),
    "a tolerance for each of three": (
        lambda: run(lambda t, y, args: y, y0={"x": Y0}, stepsize_controller=PIDController(1e-3, jnp.ones(3))),
        ValueError,
        ("`PIDController(atol=...)`", "shape (2,)", "`y0['x']`", "Found:    shape (3,)"),
    ),
    "a list of tolerances": (
        lambda: run(stepsize_controller=PIDController(rtol=1e-3, atol=[1e-6, 1e-9])), ValueError,
        ("`PIDController(atol=...)`", "Expected: one number, or float64[2]", "Found:    [float64[], float64[]]"),
    ),
    "a tolerance that float32 does not resolve": (
        lambda: run(y0=jnp.ones(2, jnp.float32), stepsize_controller=PIDController(1e-10, 1e-10)), UserWarning,
        ("`rtol=1e-10`", "1.2e-07 in float32", "jax_enable_x64"),
    ),
    "an end before the start": (
        lambda: run(f, None, 1.0, 0.0, 0.1, throw=False), ValueError, ("`dt0`", "negative", "dt0=0.1"),
    ),
    "times after the end": (
        saved(ts=[0.5, 2.0]), ValueError,
        ("`SaveAt(ts=...)`", "between `t0` and `t1`, here 0.0 and 1.0", "Found:    from 0.5 to 2.0"),
    ),
    "times that are not sorted": (saved(ts=[0.5, 0.1]), ValueError, ("`SaveAt(ts=...)`", "increasing", "jnp.sort(ts)")),
    "steps without a bound": (
        lambda: diffeqsolve(f, Heun(), 0.0, 1.0, 0.5, Y0, saveat=SaveAt(steps=True), max_steps=None), ValueError,
        ("`SaveAt(steps=...)`", "`max_steps`"),
    ),
    "nothing to save": (lambda: SaveAt(subs=SaveAt()), ValueError, ("`SubSaveAt`",)),
    "a value where nothing dense is saved": (
        lambda: run().evaluate(0.5), ValueError, ("`Solution.evaluate`", "SaveAt(dense=True)"),
    ),
    "SciPy's direction": (lambda: Event(passes, direction=-1), ValueError, ("`Event(direction=...)`", "SciPy's -1")),
    "a root finder by name": (
        lambda: Event(passes, "newton"), ValueError,
        ("`Event(root_finder=...)`", "optimistix.Newton(rtol=1e-8, atol=1e-8)"),
    ),
    "the class of a root finder": (
        lambda: Event(passes, optx.Newton), ValueError,
        ("`Event(root_finder=...)`", "Optimistix root finder"),
    ),
}  # fmt: skip


def said(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


@pytest.mark.parametrize("name", CALLS)
def test_a_mistake_is_told_and_how_to_mend_it(name: str) -> None:
    call, kind, words = CALLS[name]
    with pytest.raises(kind) as error:
        call()
    told = said(error.value)
    for word in words:
        assert word in told
    assert "PyTreeDef" not in told


def test_the_mistakes_are_sixty_at_least() -> None:
    assert len(CALLS) >= 60


class _Network(eqx.Module):
    """A module as people write neural fields: callable, with functions and arrays inside."""

    weight: jax.Array
    activation: Callable[..., Any] = jnp.tanh

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.activation(self.weight * y)

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return self(t, y, args)


def test_any_callable_without_terms_is_a_field() -> None:
    network = _Network(jnp.asarray(0.5))
    expected = run(ODETerm(lambda t, y, args: jnp.tanh(0.5 * y))).ys
    for terms in (network, network.field, jax.tree_util.Partial(network), eqx.filter_jit(network)):
        np.testing.assert_array_equal(run(terms).ys, expected)
