"""Events that make no sense are refused, with what was expected and what was found."""

from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
import pytest

import rungax
from rungax import BacksolveAdjoint, Euler, Event, ReversibleAdjoint, Tsit5, diffeqsolve

NEWTON = optx.Newton(rtol=1e-10, atol=1e-10)


def solve(event: Event, **changes: Any) -> rungax.Solution:
    call: dict[str, Any] = {
        "terms": lambda t, y, args: jax.tree.map(jnp.ones_like, y), "solver": Euler(), "t0": 0.0, "t1": 1.0,
        "dt0": 0.3, "y0": {"a": jnp.zeros(2)}, "max_steps": 8, "event": event, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def passes(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y["a"][0] - 0.5


def same(t: Any, y: Any, args: Any) -> Any:
    return y


def check_message(error: BaseException, *words: str) -> None:
    message = str(error)
    for word in ("Expected:", "Found:", *words):
        assert word in message
    assert len(message.splitlines()) <= 5


@pytest.mark.parametrize("cond_fn", [1.0, "passes", {"a": passes, "b": 2.0}, [passes, jnp.asarray(1.0)]])
def test_a_condition_is_callable(cond_fn: Any) -> None:
    with pytest.raises(ValueError, match="cond_fn") as info:
        Event(cond_fn)
    check_message(info.value)


@pytest.mark.parametrize("cond_fn", [None, (), {}])
def test_an_event_has_a_condition(cond_fn: Any) -> None:
    with pytest.raises(ValueError, match="cond_fn"):
        solve(Event(cond_fn))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (lambda y: y["a"] - 0.5, "float64[2]"),
        (lambda y: y["a"] > 0.5, "bool[2]"),
        (lambda y: jnp.asarray(3), "int"),
        (lambda y: 1, "int"),
        (lambda y: y["a"][0].astype(complex), "complex"),
        (lambda y: jnp.zeros(1), "float64[1]"),
        (lambda y: y, "{'a': float64[2]}"),
        (lambda y: "true", "str"),
        (lambda y: None, "None"),
    ],
)
@pytest.mark.parametrize("finder", [None, NEWTON])
def test_a_condition_returns_one_boolean_or_one_real_number(value: Any, found: str, finder: Any) -> None:
    with pytest.raises(ValueError, match="condition") as info:
        solve(Event([passes, lambda t, y, args, **kwargs: value(y)], finder))
    check_message(info.value, found)


def test_python_numbers_are_conditions_too() -> None:
    assert solve(Event(lambda t, y, args, **kwargs: True)).stats["num_steps"] == 0
    assert solve(Event(lambda t, y, args, **kwargs: -1.0)).stats["num_steps"] == 4


@pytest.mark.parametrize("direction", [(True,), {"a": True}, (True, False, None), [True, None], ((True, False), None)])
def test_a_direction_of_another_structure(direction: Any) -> None:
    with pytest.raises(ValueError, match="direction") as info:
        Event((passes, passes), direction=direction)
    check_message(info.value)


@pytest.mark.parametrize("direction", [1, "up", (True, 1.0), (0, 1)])
def test_a_direction_that_is_none(direction: Any) -> None:
    with pytest.raises(ValueError, match="direction") as info:
        Event((passes, passes), direction=direction)
    check_message(info.value)


@pytest.mark.parametrize("effect", [(same,), {"a": same}, (same, None, same), [same, same]])
def test_an_effect_of_another_structure(effect: Any) -> None:
    with pytest.raises(ValueError, match="effect") as info:
        Event((passes, passes), effect=effect)
    check_message(info.value)


@pytest.mark.parametrize("effect", [1.0, (same, 2.0), (same, "no")])
def test_an_effect_is_callable(effect: Any) -> None:
    with pytest.raises(ValueError, match="effect"):
        Event((passes, passes), effect=effect)


@pytest.mark.parametrize(
    "after",
    [
        lambda y: y["a"],
        lambda y: {"a": y["a"][0]},
        lambda y: {"a": jnp.zeros(3)},
        lambda y: {"a": y["a"].astype(jnp.float32)},
        lambda y: {"a": y["a"], "b": y["a"]},
        lambda y: None,
    ],
)
def test_an_effect_returns_a_state(after: Any) -> None:
    with pytest.raises(ValueError, match="effect") as info:
        solve(Event(passes, NEWTON, effect=lambda t, y, args: after(y)))
    check_message(info.value)


@pytest.mark.parametrize("finder", [True, optx.Newton, "newton"])
def test_a_root_finder_is_one(finder: Any) -> None:
    with pytest.raises(ValueError, match=r"`Event\(root_finder=...\)` finds the time") as error:
        Event(passes, finder)
    assert "Expected: an Optimistix root finder" in str(error.value)


@pytest.mark.parametrize("condition", [lambda t, y, **kwargs: y, lambda t, y, args: y], ids=["two", "no **kwargs"])
def test_a_condition_has_these_parameters(condition: Any) -> None:
    with pytest.raises(ValueError, match=r"called with time, state and `args`") as error:
        solve(Event(condition))
    assert "Expected: cond_fn(t, y, args, **kwargs)\nFound:    <lambda>(t, " in str(error.value)


@pytest.mark.parametrize("effect", [lambda t, y: y, lambda y: y, lambda t, y, args, more: y, lambda t, index: t])
def test_an_effect_has_these_parameters(effect: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`Event\(effect=...\)` of `cond_fn\['b'\]` is called with time, state"
    ) as error:
        solve(Event({"a": passes, "b": passes}, NEWTON, effect={"a": None, "b": effect}))
    check_message(error.value, "Expected: effect(t, y, args)")


CONDITIONS: dict[str, tuple[Any, str]] = {
    "alone": (passes, "cond_fn"),
    "in a dictionary": ({"a": passes, "b": passes}, "cond_fn['b']"),
    "in a list of tuples": ([passes, (passes, passes)], "cond_fn[1][1]"),
}
"""Pytrees of conditions, and the name of the last one."""


@pytest.mark.parametrize("tree", CONDITIONS)
@pytest.mark.parametrize("failure", ["value", "error", "parameters"])
def test_what_is_wrong_with_a_condition_names_it(tree: str, failure: str) -> None:
    wrong = {
        "value": lambda t, y, args, **kwargs: y["a"],
        "error": lambda t, y, args, **kwargs: y["b"],
        "parameters": lambda t, y, args: True,
    }[failure]
    conditions, name = CONDITIONS[tree]
    leaves, structure = jax.tree.flatten(conditions, is_leaf=callable)
    event = Event(jax.tree.unflatten(structure, [*leaves[:-1], wrong]))
    with pytest.raises((ValueError, KeyError)) as error:
        solve(event)
    said = f"{error.value} {' '.join(getattr(error.value, '__notes__', []))}"
    assert f"`{name}`" in said or f"`Event({name}=...)`" in said


@pytest.mark.parametrize("after", [lambda y: y["b"], lambda y: y["a"], lambda y: {"a": y["a"] > 0}])
def test_what_is_wrong_with_an_effect_names_it(after: Any) -> None:
    event = Event([passes, passes], NEWTON, effect=[None, lambda t, y, args: after(y)])
    with pytest.raises((ValueError, KeyError)) as error:
        solve(event)
    said = f"{error.value} {' '.join(getattr(error.value, '__notes__', []))}"
    assert "the effect of the event `cond_fn[1]`" in said.replace("The effect", "the effect")


@pytest.mark.parametrize("name", ["interior", "max_effects"])
@pytest.mark.parametrize("number", [-1, 1.5, True, None])
def test_numbers(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=name) as info:
        Event(passes, **{name: number})
    check_message(info.value)


def test_no_condition_is_called_when_the_event_is_made() -> None:
    def never(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    Event(never, effect=never)


def test_a_users_own_exception_comes_out() -> None:
    def broken(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        solve(Event(broken))


@pytest.mark.parametrize("event", [Event(passes), Event(passes, NEWTON, effect=same)])
def test_backsolve_refuses_events(event: Event) -> None:
    with pytest.raises((ValueError, NotImplementedError), match="BacksolveAdjoint") as info:
        solve(event, adjoint=BacksolveAdjoint())
    check_message(info.value)


def test_reversible_adjoint_refuses_effects() -> None:
    with pytest.raises((ValueError, NotImplementedError), match="ReversibleAdjoint") as info:
        solve(Event(passes, NEWTON, effect=same), solver=Tsit5(), adjoint=ReversibleAdjoint())
    check_message(info.value)


def test_something_else_is_no_event() -> None:
    with pytest.raises((ValueError, TypeError)):
        solve(passes)  # pyright: ignore[reportArgumentType]
