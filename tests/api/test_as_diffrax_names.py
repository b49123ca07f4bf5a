"""Programs written for Diffrax: defaults at `__wrapped__`, `scan_kind`, `Solution`, deprecated names, own adjoints."""

import functools
import inspect
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from hypothesis import given, settings, strategies as st

import rungax

from ..catalogue import EVERY_SOLVER, is_a, slow_unless
from ..compare import assert_trees_close

DECAY = rungax.ODETerm(lambda t, y, args: jax.tree.map(jnp.negative, y))
PID = rungax.PIDController(rtol=1e-4, atol=1e-4)


def solve(y0: Any = 1.0, solver: Any = rungax.Heun(), t0: Any = 0.0, t1: Any = 1.0, **options: Any) -> rungax.Solution:
    dt0 = options.pop("dt0", 0.125)
    return rungax.diffeqsolve(options.pop("terms", DECAY), solver, t0, t1, dt0, y0, **options)


# ------------------------------------------------------------------------------------------------ reading the signature

WRAPPED = (
    rungax.diffeqsolve,
    rungax.linear_interpolation,
    rungax.rectilinear_interpolation,
    rungax.backward_hermite_coefficients,
)


@pytest.mark.parametrize("function", WRAPPED, ids=lambda f: f.__name__)
def test_defaults_are_read_from_the_wrapped_function(function: Any) -> None:
    inner = function.__wrapped__
    assert inspect.isfunction(inner)
    assert inner is not function
    assert inspect.signature(inner) == inspect.signature(function)
    assert inspect.unwrap(function) is inner
    assert function.__doc__ == inner.__doc__


def test_a_wrapper_with_the_defaults_of_the_wrapped_function_solves() -> None:
    """A wrapper that passes every default on makes the same solve, without a warning."""
    parameters = inspect.signature(rungax.diffeqsolve.__wrapped__).parameters  # pyright: ignore
    defaults = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert defaults["max_steps"] == 4096

    @functools.wraps(rungax.diffeqsolve)
    def wrapper(*args: Any, **kwargs: Any) -> rungax.Solution:
        return rungax.diffeqsolve(*args, **{**defaults, **kwargs})

    assert_trees_close(wrapper(DECAY, rungax.Heun(), 0.0, 1.0, 0.125, 1.0).ys, solve().ys)


# ------------------------------------------------------------------------------------------------------------ scan_kind

RUNGE_KUTTA = [type(s) for s in EVERY_SOLVER if is_a(s, rungax.AbstractRungeKutta, rungax.AbstractSRK)]


class WithField(rungax.Tsit5):
    """A dataclass."""

    theta: float = 0.5


class WithNeededField(rungax.AbstractERK):
    """A dataclass whose field has no default."""

    theta: float
    tableau = rungax.Tsit5.tableau
    interpolation_cls = rungax.LocalLinearInterpolation.from_k

    def order(self, terms: Any) -> int:
        return 5


class WithConstructor(rungax.Kvaerno3):
    """A class with a constructor of its own."""

    def __init__(self, scan_kind: Any = None) -> None:
        self.scan_kind = scan_kind


OWN = [WithField, functools.partial(WithNeededField, theta=0.5), WithConstructor]


@pytest.mark.parametrize("cls", [*RUNGE_KUTTA, *OWN], ids=lambda cls: getattr(cls, "__name__", "WithNeededField"))
def test_scan_kind_warns_once_and_has_no_effect(cls: Any) -> None:
    with pytest.warns(DeprecationWarning, match="`scan_kind='bounded'` has no effect.*Leave it out") as found:
        given = cls(scan_kind="bounded")
    assert len(found) == 1
    assert found[0].filename == __file__
    assert given == cls() == cls(scan_kind=None)
    assert jax.tree.structure(given) == jax.tree.structure(cls())
    assert given.scan_kind is None


def test_every_family_of_runge_kutta_methods_is_among_those() -> None:
    families = (rungax.AbstractERK, rungax.AbstractESDIRK, rungax.AbstractIMEXRK, rungax.AbstractSRK)
    assert all(any(issubclass(cls, family) for cls in RUNGE_KUTTA) for family in families)


def test_a_field_of_an_own_solver_keeps_its_place() -> None:
    assert WithField(0.75).theta == 0.75
    assert WithNeededField(0.75).theta == 0.75


@pytest.mark.parametrize("cls", [rungax.Heun, rungax.Kvaerno3], ids=lambda cls: cls.__name__)
def test_a_solve_does_not_warn_of_scan_kind_again(cls: Any) -> None:
    with pytest.warns(DeprecationWarning, match="scan_kind"):
        solver = cls(scan_kind="lax")
    expected = jax.value_and_grad(lambda y0: solve(y0, cls()).ys[-1])(1.0)
    assert_trees_close(jax.value_and_grad(lambda y0: solve(y0, solver).ys[-1])(1.0), expected)


def test_scan_kind_may_be_put_into_a_solver() -> None:
    solver = eqx.tree_at(lambda s: s.scan_kind, rungax.Heun(), "lax", is_leaf=lambda x: x is None)
    assert_trees_close(jax.grad(lambda y0: solve(y0, solver).ys[-1])(1.0), jax.grad(lambda y0: solve(y0).ys[-1])(1.0))


# ------------------------------------------------------------------------------------------------------------- Solution


@settings(max_examples=10, deadline=None)
@given(
    t0=st.sampled_from([0, 0.0, np.float32(0.0), np.int32(0), jnp.asarray(0), jnp.asarray(0.0, jnp.float32)]),
    t1=st.sampled_from([1, 1.0, -1, np.float32(1.0), np.int64(1), jnp.asarray(1.0), jnp.asarray(1, jnp.int32)]),
    is_traced=st.booleans(),
)
def test_the_ends_of_a_solution_are_strong_floats_of_the_dtype_of_times(t0: Any, t1: Any, is_traced: bool) -> None:
    dt0 = np.float32(0.5 * np.sign(float(t1)))
    run = lambda t0, t1: solve(1.0, rungax.Euler(), t0, t1, dt0=dt0)
    solution = (jax.jit(run) if is_traced else run)(t0, t1)
    for end, value in ((solution.t0, t0), (solution.t1, t1)):
        assert isinstance(end, jax.Array)
        assert float(end) == float(value)
        assert end.dtype == solution.ts.dtype
        assert not end.weak_type
        assert jnp.issubdtype(end.dtype, jnp.floating)


def test_the_ends_of_a_solution_have_the_dtype_of_the_times_to_save() -> None:
    solution = solve(t0=0, t1=1, saveat=rungax.SaveAt(ts=jnp.asarray([0.5, 1.0], jnp.float32)), dt0=jnp.float32(0.5))
    assert solution.t0.dtype == solution.t1.dtype == solution.ts.dtype


def test_statistics_are_a_field_of_the_solution() -> None:
    solution = solve(stepsize_controller=PID)
    assert "stats" in {field.name for field in solution.__dataclass_fields__.values()}
    assert set(solution.stats) >= {"num_steps", "num_accepted_steps", "num_rejected_steps", "max_steps"}
    assert solution.stats["max_steps"] == 4096
    assert type(solution.stats["max_steps"]) is int
    replaced = eqx.tree_at(lambda s: s.stats, solution, {"num_steps": jnp.asarray(7)})
    assert replaced.stats == {"num_steps": 7}
    one = eqx.tree_at(lambda s: s.stats["num_steps"], solution, jnp.asarray(7))
    assert (one.stats["num_steps"], one.num_steps) == (7, 7)
    assert one.stats["num_accepted_steps"] == solution.stats["num_accepted_steps"]


def test_a_solution_is_made_by_its_constructor() -> None:
    """With the parameters that it has there, in their order."""
    values: dict[str, Any] = {
        "t0": jnp.asarray(0.0), "t1": jnp.asarray(1.0), "ts": None, "ys": None, "interpolation": None,
        "stats": {"num_steps": 3}, "result": rungax.RESULTS.successful, "solver_state": None,
        "controller_state": None, "made_jump": None, "event_mask": None,
    }  # fmt: skip
    for made in (rungax.Solution(**values), rungax.Solution(*values.values())):
        assert made.stats == {"num_steps": 3}
        assert bool(made.result == rungax.RESULTS.successful)


def test_statistics_add_up_also_in_a_batch_and_inside_a_program() -> None:
    y0s = jnp.asarray([1.0, 2.0, 1e3])
    run = lambda y0: solve(y0, t1=2.0, stepsize_controller=PID, dt0=1.0).stats
    alone = [run(y0) for y0 in y0s]
    for stats in (jax.vmap(run)(y0s), jax.jit(jax.vmap(run))(y0s)):
        assert set(stats) == set(alone[0])
        for name in stats:
            np.testing.assert_array_equal(stats[name], [s[name] for s in alone], err_msg=name)
        np.testing.assert_array_equal(
            stats["num_steps"], stats["num_accepted_steps"] + stats["num_rejected_steps"], strict=True
        )
        assert (stats["num_rejected_steps"] > 0).any()
    assert run(1.0)["max_steps"] == 4096
    assert solve(max_steps=None).stats["max_steps"] is None


def test_a_solution_drives_another_equation() -> None:
    """It is a path, as there: dy = y dx with x(t) = exp(-a t) ends in exp(exp(-a) - 1)."""

    def end(rate: jax.Array) -> jax.Array:
        saveat, terms = rungax.SaveAt(dense=True), rungax.ODETerm(lambda t, y, rate: -rate * y)
        options: dict[str, Any] = {"stepsize_controller": rungax.PIDController(rtol=1e-8, atol=1e-8), "max_steps": 64}
        driver = solve(1.0, rungax.Tsit5(), terms=terms, args=rate, saveat=saveat, **options)
        assert isinstance(driver, rungax.AbstractPath)
        terms = rungax.ControlTerm(lambda t, y, args: y, driver)
        return solve(1.0, rungax.Tsit5(), terms=terms, dt0=1 / 64).ys[-1]

    rate = 0.7
    exact = np.exp(np.exp(-rate) - 1)
    found, slope = jax.value_and_grad(end)(rate)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    np.testing.assert_allclose(slope, -np.exp(-rate) * exact, rtol=1e-5)


# ----------------------------------------------------------------------------------------------------- deprecated names

TS = np.linspace(0.0, 1.0, 5)
DRIVER = {"a": np.sin(3 * TS), "b": (np.stack([TS, TS**2], axis=1),)}
STATE = {"a": 1.0, "b": (np.array([2.0, -1.0]),)}

DIAGONALS: dict[str, tuple[Any, Any, Any]] = {
    "array": (lambda t, y, args: args * y, np.stack([TS, -TS], axis=1), np.array([1.0, 2.0])),
    "one number": (lambda t, y, args: args * jnp.cos(t), TS, 1.0),
    "a number for all": (lambda t, y, args: 0.5, np.stack([TS, -TS], axis=1), np.array([1.0, 2.0])),
    "matrix": (lambda t, y, args: args * jnp.ones((2, 1)), np.ones((5, 2, 3)) * TS[:, None, None], np.ones((2, 3))),
    "pytree": (lambda t, y, args: jax.tree.map(lambda x: args * jnp.sin(x), y), DRIVER, STATE),
}


@pytest.mark.parametrize("case", [pytest.param(n, marks=slow_unless(n in ("array", "pytree"))) for n in DIAGONALS])
def test_a_weakly_diagonal_term_is_a_control_term_with_a_diagonal_operator(case: str) -> None:
    field, values, y0 = DIAGONALS[case]
    y0 = jax.tree.map(jnp.asarray, y0)
    path = rungax.LinearInterpolation(TS, values)
    full = lambda d, y: jnp.broadcast_to(jnp.asarray(d, jnp.result_type(y)), jnp.shape(y))
    operator = lambda t, y, args: lx.DiagonalLinearOperator(
        jax.tree.map(full, d, y) if jax.tree.structure(d := field(t, y, args)) == jax.tree.structure(y) else None
    )
    with pytest.warns(DeprecationWarning, match="Write `ControlTerm.*DiagonalLinearOperator") as found:
        term = rungax.WeaklyDiagonalControlTerm(field, path)
    assert len(found) == 1
    assert found[0].filename == __file__
    assert type(term) is rungax.ControlTerm
    today = rungax.ControlTerm(operator, path)
    assert_trees_close(solve(y0, terms=term, args=0.3).ys, solve(y0, terms=today, args=0.3).ys)


def test_a_weakly_diagonal_term_checks_what_a_control_term_checks() -> None:
    path = rungax.LinearInterpolation(TS, TS)
    is_deprecated = pytest.warns(DeprecationWarning, match="is deprecated")
    with is_deprecated, pytest.raises(ValueError, match=r"`ControlTerm\(vector_field=...\)` is a function"):
        rungax.WeaklyDiagonalControlTerm(1.0, path)  # pyright: ignore[reportArgumentType]
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        term = rungax.WeaklyDiagonalControlTerm(lambda t, y, args: 1j, path)
    with pytest.raises(ValueError, match="must map the control to the state"):
        solve(1.0, terms=term)


def below(state: Any, **kwargs: Any) -> Any:
    """A condition as older programs write it."""
    assert set(kwargs) >= {"args", "terms", "solver", "t0", "t1", "dt0", "saveat", "stepsize_controller", "max_steps"}
    return (state.y < kwargs["args"]) & (state.tprev > 0.1)


class Below(rungax.AbstractDiscreteTerminatingEvent):
    """A class of one's own."""

    level: float

    def __call__(self, state: Any, **kwargs: Any) -> Any:
        return (state.y < self.level) & (state.tprev > 0.1)


EVENTS: dict[str, tuple[Any, str, Any]] = {
    "DiscreteTerminatingEvent": (
        lambda: rungax.DiscreteTerminatingEvent(below),
        r"`DiscreteTerminatingEvent` is deprecated.\nWrite `Event\(cond_fn\)`",
        lambda t, y, args, **kwargs: (y < args) & (t > 0.1),
    ),
    "a class of one's own": (
        lambda: Below(0.6),
        r"`Below` is deprecated.\nWrite `Event\(cond_fn\)`",
        lambda t, y, args, **kwargs: (y < 0.6) & (t > 0.1),
    ),
    "SteadyStateEvent": (
        lambda: rungax.SteadyStateEvent(rtol=0.0, atol=0.6),
        r"`SteadyStateEvent` is deprecated.\nWrite `Event\(steady_state_event",
        rungax.steady_state_event(rtol=0.0, atol=0.6, norm=optx.rms_norm),
    ),
    "SteadyStateEvent of the controller": (
        rungax.SteadyStateEvent,
        r"`SteadyStateEvent` is deprecated.\nWrite `Event\(steady_state_event",
        rungax.steady_state_event(),
    ),
}


@pytest.mark.parametrize("case", EVENTS)
def test_deprecated_events_do_what_those_of_today_do(case: str) -> None:
    make, message, condition = EVENTS[case]
    with pytest.warns(DeprecationWarning, match=message) as made:
        older = make()
    assert len(made) == 1
    assert made[0].filename == __file__
    options: dict[str, Any] = {"t1": 4.0, "args": 0.6, "stepsize_controller": rungax.PIDController(rtol=0.1, atol=0.3)}
    with pytest.warns(DeprecationWarning, match=r"`discrete_terminating_event=` is deprecated.\nWrite `event=") as used:
        found = solve(discrete_terminating_event=older, **options)
    assert len(used) == 1
    assert used[0].filename == __file__
    expected = solve(event=rungax.Event(condition), **options)
    assert bool(found.result == rungax.RESULTS.event_occurred)
    assert_trees_close(
        (found.ts, found.ys, found.stats, found.event_mask),
        (expected.ts, expected.ys, expected.stats, expected.event_mask),
    )


def test_a_deprecated_event_does_not_compile_again() -> None:
    traces: list[None] = []

    def condition(state: Any, **kwargs: Any) -> Any:
        traces.append(None)
        return state.y < 0.5

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        counts = []
        for level in (1.0, 2.0):
            solve(level, discrete_terminating_event=rungax.DiscreteTerminatingEvent(condition))
            counts.append(len(traces))
    assert counts[0] == counts[1] > 0


def test_two_spellings_of_one_event_are_an_error() -> None:
    event = rungax.Event(lambda t, y, args, **kwargs: y < 0.5)
    with pytest.raises(ValueError, match=r"two spellings.*\n.*one of them\n.*both\n.*pytree of conditions"):
        solve(event=event, discrete_terminating_event=below)


def test_a_deprecated_event_that_is_no_function_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"called as `f\(state, \*\*kwargs\)`\nFound:    bool\nWrite `event=Event"):
        solve(discrete_terminating_event=True)


def test_the_older_name_of_the_result_is_an_alias() -> None:
    with pytest.warns(DeprecationWarning, match=r"Write `RESULTS\.event_occurred`") as found:
        result = rungax.RESULTS.discrete_terminating_event_occurred  # pyright: ignore
    assert len(found) == 1
    assert found[0].filename == __file__
    assert result is rungax.RESULTS.event_occurred
    assert rungax.RESULTS[result] == rungax.RESULTS[rungax.RESULTS.event_occurred]


# --------------------------------------------------------------------------------------------------------- left out


class LoopOnly(rungax.AbstractAdjoint):
    """An adjoint as older programs write it."""

    def loop(self, **kwargs: Any) -> Any:
        raise AssertionError


class LoopOverIntegrate(rungax.DirectAdjoint):
    """One that would silently be its base class."""

    def loop(self, **kwargs: Any) -> Any:
        raise AssertionError


class Further(LoopOnly):
    """A subclass of such a one."""


class Both(rungax.RecursiveCheckpointAdjoint):
    """An adjoint for both packages."""

    def loop(self, **kwargs: Any) -> Any:
        raise AssertionError

    def integrate(self, plan: Any, state: Any) -> Any:
        return super().integrate(plan, state)


@pytest.mark.parametrize("cls", [LoopOnly, LoopOverIntegrate, Further], ids=lambda cls: cls.__name__)
def test_an_adjoint_that_defines_only_loop_is_an_error_that_names_integrate(cls: Any) -> None:
    with pytest.raises(
        TypeError, match=r"`\w+\.loop` is never called.*\n.*integrate\(self, plan, state\)\n.*loop alone"
    ):
        cls()


def test_an_adjoint_for_both_packages_is_used() -> None:
    assert_trees_close(
        jax.grad(lambda y0: solve(y0, adjoint=Both()).ys[-1])(1.0), jax.grad(lambda y: solve(y).ys[-1])(1.0)
    )


@pytest.mark.parametrize("name", ["_misc", "_custom_types", "_local_interpolation", "_step_size_controller"])
def test_private_modules_say_where_the_public_names_are(name: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"'rungax' has no attribute '{name}'.\n.*write `from rungax import NAME`"
    ):
        getattr(rungax, name)
    with pytest.raises(ModuleNotFoundError, match=name):
        __import__(f"rungax.{name}")


def test_a_public_name_that_does_not_exist_has_the_usual_message() -> None:
    with pytest.raises(AttributeError, match=r"^module 'rungax' has no attribute 'Tsit6'$"):
        getattr(rungax, "Tsit6")  # noqa: B009
