"""`steady_state_event`: its tolerances may be numbers, arrays, or pytrees like the state."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rungax import RESULTS, Event, Heun, PIDController, SaveAt, diffeqsolve, is_event, steady_state_event

TARGET = {"a": jnp.asarray([3.0, 1.0]), "b": jnp.asarray([2.0, 1.0])}
START = {"a": jnp.asarray([0.0, 0.5]), "b": jnp.asarray([-1.0, 0.0])}
ATOL = {"a": jnp.asarray([1e-2, 1e-3]), "b": 1e-2}


def relax(t: Any, y: Any, args: Any) -> Any:
    return {"a": args["a"] - y["a"], "b": 2 * (args["b"] - y["b"])}


def run(condition: Any, controller: Any = PIDController(rtol=1e-3, atol=1e-4)) -> Any:
    return diffeqsolve(
        relax, Heun(), 0.0, jnp.inf, 0.1, START, TARGET, event=Event(condition), stepsize_controller=controller,
        saveat=SaveAt(steps=True), max_steps=512, throw=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "tolerances",
    [
        pytest.param({"rtol": 0.0, "atol": ATOL}, id="pytree"),
        pytest.param({"rtol": jnp.asarray([1e-2, 1e-3]), "atol": 1e-3}, id="array", marks=pytest.mark.slow),
        pytest.param({"rtol": {"a": 1e-2, "b": 1e-3}}, id="pytree and the controller's"),
    ],
)
def test_the_solve_ends_where_every_entry_is_within_its_own_tolerance(tolerances: dict[str, Any]) -> None:
    largest = lambda y: jnp.max(jnp.concatenate([jnp.ravel(y["a"]), jnp.ravel(y["b"])]))
    solution = run(steady_state_event(**tolerances, norm=largest))
    assert is_event(solution.result)
    n = int(solution.stats["num_accepted_steps"])

    def is_steady(i: int) -> bool:
        y = {key: np.asarray(value[i]) for key, value in solution.ys.items()}
        slope = relax(0.0, y, TARGET)
        rtol, atol = tolerances["rtol"], tolerances.get("atol", 1e-4)
        part = lambda x, key: x[key] if isinstance(x, dict) else x
        bounds = {key: part(atol, key) + part(rtol, key) * np.abs(y[key]) for key in y}
        return all(bool(np.all(np.abs(slope[key]) < bounds[key])) for key in y)

    assert [is_steady(i) for i in range(n)] == [False] * (n - 1) + [True]


def test_the_tolerances_of_the_controller_may_be_pytrees() -> None:
    controller = PIDController(rtol={"a": 1e-2, "b": 1e-2}, atol=ATOL)
    solution = run(steady_state_event(rtol=1e-2, atol={"a": 1e-2, "b": 1e-2}), controller)
    assert is_event(solution.result)
    assert solution.result == RESULTS.event_occurred


def test_an_entry_at_rest_at_zero_with_no_tolerance_is_steady() -> None:
    condition = steady_state_event(rtol=0.0, atol={"a": 0.0, "b": 0.0})
    event = Event(condition)
    controller = PIDController(rtol=1e-3, atol=1e-3)
    solution = diffeqsolve(relax, Heun(), 0.0, 1.0, 0.1, TARGET, TARGET, event=event, stepsize_controller=controller)
    assert solution.stats["num_steps"] == 0


@pytest.mark.parametrize(
    ("atol", "expected"),
    [({"a": 1e-3, "c": 1e-3}, "like the state"), (jnp.ones(3), "Expected: shape (2,), or one that broadcasts")],
)
def test_tolerances_of_another_structure_are_refused(atol: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=r"`steady_state_event\(atol=...\)`") as error:
        run(steady_state_event(rtol=1e-3, atol=atol))
    assert expected in str(error.value)
    assert "Found: " in str(error.value)
