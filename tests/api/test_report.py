"""What an eager solve that fails says: the result by its name, why, where, and what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax.results import name_of

NAMES = list(rungax.RESULTS._name_to_item)


@pytest.mark.parametrize("name", NAMES)
def test_every_result_has_its_name(name: str) -> None:
    assert name_of(getattr(rungax.RESULTS, name)) == name


def test_a_failure_is_called_by_its_name() -> None:
    with pytest.raises(RuntimeError) as error:
        rungax.diffeqsolve(lambda t, y, args: -y, rungax.Euler(), 0.0, 1.0, 0.1, jnp.asarray(1.0), max_steps=3)
    report = str(error.value)
    for words in ("`RESULTS.max_steps_reached`", "max_steps", "come to t = 0.3", "3 attempted", "`throw=False`"):
        assert words in report


NEWTON = optx.Newton(rtol=1e-8, atol=1e-8)
STATE = {"a": np.ones((2, 3)), "b": np.asarray(2.0)}
WHERE = {"an entry": ("a", (1, 2), "['a'][1, 2]"), "a scalar": ("b", (), "['b']")}
"""Leaf and index of one entry of the state, and what the report calls it."""
CONTROL: dict[str, dict[str, Any]] = {
    "constant": {},
    "adaptive": {"stepsize_controller": rungax.PIDController(rtol=1e-4, atol=1e-4)},
}


def report(terms: Any, y0: Any = STATE, solver: Any = None, **options: Any) -> str:
    """What a solve that fails says."""
    call: dict[str, Any] = {"t0": 0.0, "t1": 1.0, "dt0": 0.25, "max_steps": 64, **options}
    with pytest.raises(RuntimeError) as error:
        rungax.diffeqsolve(terms, rungax.Tsit5() if solver is None else solver, y0=y0, **call)
    return str(error.value)


def spoiled(y: Any, where: str, value: Any) -> Any:
    """`y` with another value in one entry."""
    leaf, index, _ = WHERE[where]
    return {**y, leaf: y[leaf].at[index].set(value)}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_a_field_that_is_not_finite_at_the_start_is_named(where: str, control: str, value: float) -> None:
    said = report(lambda t, y, args: spoiled(jax.tree.map(jnp.negative, y), where, value), **CONTROL[control])
    assert (
        f"The vector field is not finite at the state that the solve had reached at t = 0.0: {WHERE[where][-1]} = "
        in said
    )


@pytest.mark.parametrize("where", WHERE)
def test_a_state_that_is_not_finite_is_named(where: str) -> None:
    """With constant steps the solve goes on after it."""
    leaf, index, name = WHERE[where]
    bad = jax.tree.map(np.zeros_like, STATE)
    bad[leaf][index] = 1.0
    said = report(lambda t, y, args: jax.tree.map(lambda b: jnp.where((t > 0.6) & (b > 0), jnp.nan, -b), bad))
    assert "The state was finite up to t = 0.5, and not after that step." in said
    assert f"Not finite there: y{name} = nan." in said
    assert "The vector field is not finite" not in said


def test_a_field_that_is_not_finite_ahead_is_named() -> None:
    said = report(lambda t, y, args: -jnp.sqrt(y), np.array([4.0, 1.0]), t1=3.0, **CONTROL["adaptive"])
    assert (
        "The vector field is finite there, and not at the end of a step of Euler's method from there: [1] = nan" in said
    )


@pytest.mark.parametrize("direction", [1, -1])
def test_a_field_that_is_not_finite_from_some_time_on_is_named_in_both_directions(direction: int) -> None:
    field = lambda t, y, args: jnp.where(direction * t > 0.4, jnp.nan, -y)
    said = report(field, np.ones(2), t1=1.0 * direction, dt0=0.25 * direction, max_steps=500, **CONTROL["adaptive"])
    assert "not at the end of a step of Euler's method from there: [0] = nan, [1] = nan" in said


@pytest.mark.parametrize("solver", [rungax.Kvaerno3(), rungax.Rosenbrock23(), rungax.Auto(stiff=rungax.Rosenbrock23())])
def test_a_jacobian_that_is_not_finite_is_named(solver: Any) -> None:
    jacobian = lambda t, y, args: jnp.diag(-y).at[0, 1].set(jnp.nan)
    said = report(
        rungax.ODETerm(lambda t, y, args: -1e6 * y, jacobian=jacobian), np.ones(2), solver, **CONTROL["adaptive"]
    )
    assert "The Jacobian of the vector field is not finite" in said
    assert "in these entries or rows: [0, 1] = nan." in said


def test_a_jacobian_by_jax_that_is_not_finite_is_named_by_its_row() -> None:
    field = lambda t, y, args: jnp.stack([-y[0], -jnp.sqrt(jnp.abs(y[1] - 1.0)) - y[1]])
    said = report(field, np.ones(2), rungax.Rosenbrock23(), **CONTROL["adaptive"])
    assert "The Jacobian of the vector field is not finite" in said
    assert "rows: [1] = " in said


def test_an_explicit_method_says_nothing_of_a_jacobian() -> None:
    assert "Jacobian" not in report(lambda t, y, args: -jnp.sqrt(y), np.zeros(2), max_steps=2)


@pytest.mark.parametrize("y0", [1, 1.0, np.float32(1.0)])
def test_a_number_as_the_state_is_evaluated_too(y0: Any) -> None:
    assert "The vector field is not finite" in report(lambda t, y, args: y * jnp.nan, y0)


def test_a_solver_without_a_vector_field_has_a_report() -> None:
    class NoField(rungax.Euler):
        def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
            raise NotImplementedError

    assert "`RESULTS.max_steps_reached`" in report(lambda t, y, args: -y, 1.0, NoField(), max_steps=1)


def test_many_entries_are_counted() -> None:
    assert report(lambda t, y, args: y * jnp.nan, np.ones(100)).count(" and 96 more") == 2


def test_rejected_attempts_are_listed_by_cause() -> None:
    said = report(
        lambda t, y, args: -y, np.ones(2), dt0=0.9, max_steps=3, stepsize_controller=rungax.PIDController(1e-9, 1e-9)
    )
    assert "for their error." in said


# ---------------------------------------------------------------------------------------------------------- events


def falling(t: Any, y: Any, args: Any) -> Any:
    return -jnp.ones_like(y)


def event(**options: Any) -> rungax.Event:
    conditions = {"low": lambda t, y, args, **kwargs: y[0] - 0.5, "never": lambda t, y, args, **kwargs: y[0] + 9.0}
    return rungax.Event(conditions, NEWTON, **options)


@pytest.mark.parametrize("control", CONTROL)
def test_an_effect_that_is_not_finite_is_named(control: str) -> None:
    effect = {"low": lambda t, y, args: y * jnp.nan, "never": None}
    said = report(falling, np.ones(2), event=event(effect=effect), **CONTROL[control])
    assert "Events that changed the state, and how often: `cond_fn['low']` 1." in said
    assert ("The effect of the event `cond_fn['low']` returned the last state." in said) == (control == "adaptive")


def test_too_many_effects_are_counted_by_event() -> None:
    effect = {"low": lambda t, y, args: y + 0.25, "never": None}
    said = report(falling, np.ones(2), event=event(effect=effect, max_effects=2), t1=9.0)
    assert "`RESULTS.max_effects_reached`" in said
    assert "how often: `cond_fn['low']` 3." in said


def test_a_failure_in_the_search_for_an_event_says_so() -> None:
    wavy = lambda t, y, args: -jnp.ones_like(y) * (1.1 + jnp.sin(30.0 * t))
    said = report(wavy, np.ones(2), rungax.Heun(), event=event(), max_steps=3)
    assert "This was in the search for the time of the event `cond_fn['low']`." in said


def test_a_condition_that_is_not_a_number_is_named() -> None:
    conditions = [
        lambda t, y, args, **kwargs: y[0] + 9.0,
        lambda t, y, args, **kwargs: jnp.where(t > 0.3, jnp.nan, 1.0),
    ]
    said = report(falling, np.ones(2), event=rungax.Event(conditions, NEWTON), max_steps=3)
    assert "The condition of the event `cond_fn[1]` is not a number at the state" in said


# ------------------------------------------------------------------------------------------------------- precision


def van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


@pytest.mark.parametrize("solver", [rungax.Kvaerno5(), pytest.param(rungax.Rodas5P(), marks=pytest.mark.slow)])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
@pytest.mark.parametrize("mu", [1e3, 1e6])
def test_van_der_pol_in_single_precision_says_so(solver: Any, tolerance: float, mu: float) -> None:
    tolerances = np.float32(tolerance)
    with pytest.raises(RuntimeError) as error:
        rungax.diffeqsolve(
            van_der_pol, solver, jnp.float32(0.0), jnp.float32(2 * mu), None, np.array([2.0, 0.0], np.float32),
            np.float32(mu), stepsize_controller=rungax.PIDController(tolerances, tolerances),
        )  # fmt: skip
    for words in ("Times are float32, which near t = ", 'Use float64: `jax.config.update("jax_enable_x64", True)`'):
        assert words in str(error.value)
    assert ("not small beside `rtol=" in str(error.value)) == (tolerance < 1e-5)


def test_a_compiled_program_says_float32_too() -> None:
    @jax.jit
    def solve(mu: Any) -> Any:
        pid = rungax.PIDController(np.float32(1e-8), np.float32(1e-8))
        y0, end = np.array([2.0, 0.0], np.float32), jnp.float32(2e3)
        return rungax.diffeqsolve(
            van_der_pol, rungax.Rodas5P(), jnp.float32(0.0), end, None, y0, mu, stepsize_controller=pid
        ).ys

    with pytest.raises(RuntimeError, match="Times are float32"):
        jax.block_until_ready(solve(np.float32(1e3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_failure_for_another_reason_does_not_mention_precision(dtype: Any) -> None:
    said = report(lambda t, y, args: -y, np.ones(2, dtype), t0=dtype(0.0), t1=dtype(1.0), dt0=dtype(0.25), max_steps=2)
    assert "float" not in said
