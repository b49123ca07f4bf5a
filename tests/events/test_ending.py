"""Events that end a solve: when, at which state, what is saved, and that nothing reaches past them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    RESULTS,
    Auto,
    ClipStepSizeController,
    ConstantStepSize,
    ControlTerm,
    Euler,
    Event,
    Heun,
    Kvaerno3,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    StepTo,
    SubSaveAt,
    Tsit5,
    VirtualBrownianTree,
    diffeqsolve,
    steady_state_event,
)

from ..catalogue import slow_unless
from ..compare import assert_trees_close

NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)
BISECTION = optx.Bisection(rtol=1e-12, atol=1e-12, flip="detect")
TIGHT = PIDController(rtol=1e-10, atol=1e-12)
FINDERS = {"Newton": NEWTON, "Bisection": BISECTION}


def clock(t: Any, y: Any, args: Any) -> Any:
    """The solution is y0 + t."""
    return jnp.ones_like(y)


def growth(t: Any, y: Any, args: Any) -> Any:
    return y


class Passes(eqx.Module):
    """A real condition; its level is an operand, so that all levels share one program."""

    level: jax.Array

    def __call__(self, t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        return y - self.level


class Above(Passes):
    """A boolean condition."""

    def __call__(self, t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        return y > self.level


def passes(level: float) -> Passes:
    return Passes(jnp.asarray(level))


def above(level: float) -> Above:
    return Above(jnp.asarray(level))


AT_ARGS = Event(lambda t, y, args, **kwargs: y - args, NEWTON)
"""Ends where the state is `args`; one program for all of them, in both directions."""


def run(event: Event | None, **changes: Any) -> rungax.Solution:
    """A clock from 0 to 2 in steps of 0.3, but for `changes`."""
    call: dict[str, Any] = {
        "terms": clock, "solver": Euler(), "t0": 0.0, "t1": 2.0, "dt0": 0.3, "y0": jnp.asarray(0.0),
        "max_steps": 16, "event": event, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def grow(event: Event | None, **changes: Any) -> rungax.Solution:
    call = {
        "terms": growth, "solver": Tsit5(), "y0": jnp.asarray(1.0), "dt0": None, "stepsize_controller": TIGHT,
        "max_steps": 256, **changes,
    }  # fmt: skip
    return run(event, **call)


def one(solution: rungax.Solution) -> tuple[float, float]:
    assert solution.ts is not None
    return float(solution.ts[0]), float(solution.ys[0])


# ------------------------------------------------------------------------------------------------------ where it ends


@pytest.mark.parametrize("condition", [above(0.7), passes(0.7)])
def test_without_a_root_finder_it_ends_at_the_end_of_the_step(condition: Any) -> None:
    solution = run(Event(condition))
    np.testing.assert_allclose(one(solution), (0.9, 0.9), rtol=1e-14)
    assert solution.result == RESULTS.event_occurred
    assert solution.stats["num_steps"] == 3
    assert solution.event_mask
    assert (solution.t0, solution.t1) == (0.0, 2.0)


def test_a_boolean_condition_ends_at_the_end_of_the_step_with_a_root_finder_too() -> None:
    np.testing.assert_allclose(one(run(Event(above(0.7), NEWTON))), (0.9, 0.9), rtol=1e-14)


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_the_time_is_that_of_the_exact_solution(finder: str, direction: float) -> None:
    t, y = one(grow(Event(passes(2.0**direction), FINDERS[finder]), t1=2.0 * direction))  # y = exp(t)
    assert abs(t - direction * np.log(2)) < 1e-9
    assert abs(y - 2.0**direction) < 1e-9


@pytest.mark.parametrize("finder", FINDERS)
def test_end_time_may_be_infinite(finder: str) -> None:
    t, y = one(grow(Event(passes(2.0), FINDERS[finder]), t1=jnp.inf))
    assert abs(t - np.log(2)) < 1e-9
    assert abs(y - 2.0) < 1e-9


def test_the_condition_sees_the_true_time_and_the_call() -> None:
    def condition(t: Any, y: Any, args: Any, *, terms: Any, solver: Any, t0: Any, t1: Any, dt0: Any, **kwargs: Any):
        assert isinstance(solver, Euler)
        assert set(kwargs) >= {"saveat", "stepsize_controller", "max_steps"}
        assert kwargs["max_steps"] == 16
        return jnp.asarray(t) - args + 0.0 * (t0 + t1 + dt0)

    solution = run(Event(condition, NEWTON), t0=1.0, t1=-1.0, dt0=-0.3, args=jnp.asarray(-0.35))
    np.testing.assert_allclose(one(solution), (-0.35, -1.35), rtol=1e-12)


def test_the_condition_sees_the_intervals_own_ends_backwards() -> None:
    condition = lambda t, y, args, *, t0, t1, dt0, **kwargs: (t0 == 1.0) & (t1 == -1.0) & (dt0 == -0.3) & (t < 0.5)
    solution = run(Event(condition), t0=1.0, t1=-1.0, dt0=-0.3)
    np.testing.assert_allclose(one(solution)[0], 0.4, rtol=1e-14)


CONTROLLERS: dict[str, tuple[Any, Any]] = {
    "constant": (ConstantStepSize(), 0.3),
    "steps": (StepTo(ts=jnp.asarray([0.0, 0.3, 1.1, 2.0])), None),
    "adaptive": (PIDController(rtol=1e-3, atol=1e-6), 0.3),
    "jumps": (ClipStepSizeController(PIDController(rtol=1e-3, atol=1e-6), jump_ts=jnp.asarray([0.5, 0.7, 1.0])), 0.3),
    "stops": (ClipStepSizeController(PIDController(rtol=1e-3, atol=1e-6), step_ts=jnp.asarray([0.5, 0.75])), 0.3),
}


@pytest.mark.parametrize("controller", [pytest.param(c, marks=slow_unless(c == "jumps")) for c in CONTROLLERS])
def test_every_controller(controller: str) -> None:
    chosen, dt0 = CONTROLLERS[controller]
    solution = run(Event(passes(0.75), NEWTON), solver=Heun(), stepsize_controller=chosen, dt0=dt0)
    np.testing.assert_allclose(one(solution), (0.75, 0.75), rtol=1e-10)
    assert solution.result == RESULTS.event_occurred


@pytest.mark.parametrize("solver", [Kvaerno3(), pytest.param(Auto(), marks=pytest.mark.slow)])
def test_implicit_solvers(solver: Any) -> None:
    controller = PIDController(rtol=1e-8, atol=1e-10)
    solution = grow(Event(passes(2.0), NEWTON), solver=solver, stepsize_controller=controller, max_steps=1000)
    t, y = one(solution)
    assert abs(t - np.log(2)) < 1e-6
    assert abs(y - 2.0) < 1e-6


# -------------------------------------------------------------------------------------------------------- which one


@pytest.mark.parametrize("finder", [None, NEWTON])
def test_the_earlier_of_two_events_in_a_step_wins(finder: Any) -> None:
    event = Event({"a late one": passes(0.85), "early": (passes(0.65), above(5.0))}, finder)
    solution = run(event)
    wins = finder is not None
    assert_trees_close(
        solution.event_mask,
        {"a late one": jnp.asarray(not wins), "early": (jnp.asarray(wins), jnp.asarray(False))},
    )
    np.testing.assert_allclose(one(solution)[0], 0.65 if wins else 0.9, rtol=1e-12)


def test_a_real_event_inside_the_step_is_earlier_than_a_boolean_one_at_its_end() -> None:
    solution = run(Event([above(0.65), passes(0.85)], NEWTON))
    assert [bool(x) for x in solution.event_mask] == [False, True]
    np.testing.assert_allclose(one(solution)[0], 0.85, rtol=1e-12)


def test_the_mask_is_false_without_an_event_and_none_if_there_is_none() -> None:
    assert [bool(x) for x in run(Event([passes(9.0), above(9.0)], NEWTON)).event_mask] == [False, False]
    assert run(None).event_mask is None


def wave(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    """Zero upwards at 0.25 and 1.25, downwards at 0.75."""
    return jnp.sin(2 * jnp.pi * (y - 0.25))


@pytest.mark.parametrize(
    ("direction", "time"), [pytest.param(None, 0.25, marks=pytest.mark.slow), (True, 0.25), (False, 0.75)]
)
def test_direction(direction: bool | None, time: float) -> None:
    solution = run(Event(wave, BISECTION, direction=direction), dt0=0.2)
    np.testing.assert_allclose(one(solution)[0], time, rtol=1e-9)


def test_direction_upwards_after_a_start_above() -> None:
    solution = run(Event(wave, BISECTION, direction=True), y0=jnp.asarray(0.5), dt0=0.2)
    np.testing.assert_allclose(one(solution)[0], 0.75, rtol=1e-9)


def test_direction_of_each_condition() -> None:
    event = Event((wave, passes(0.9)), BISECTION, direction=(False, True))
    solution = run(event, dt0=0.2)
    assert [bool(x) for x in solution.event_mask] == [True, False]
    np.testing.assert_allclose(one(solution)[0], 0.75, rtol=1e-9)


@pytest.mark.parametrize("direction", [None, *(pytest.param(d, marks=pytest.mark.slow) for d in (True, False))])
@pytest.mark.parametrize("finder", [None, "Newton"])
def test_zero_at_the_start_is_no_passage(finder: str | None, direction: bool | None) -> None:
    solution = run(Event(passes(0.0), FINDERS[finder] if finder else None, direction=direction))
    assert solution.result == RESULTS.successful


def test_true_at_the_start_takes_no_step() -> None:
    saveat = SaveAt(t0=True, t1=True, ts=jnp.asarray([0.1, 0.5]))
    solution = run(Event([above(3.0), above(1.0)]), y0=jnp.asarray(2.0), saveat=saveat)
    assert solution.stats["num_steps"] == 0
    assert solution.result == RESULTS.event_occurred
    assert [bool(x) for x in solution.event_mask] == [False, True]
    assert solution.ts is not None
    assert_trees_close(solution.ts, jnp.asarray([0.0, 0.0, jnp.inf, jnp.inf]))
    assert_trees_close(solution.ys, jnp.asarray([2.0, 2.0, jnp.inf, jnp.inf]))


def test_a_condition_that_is_not_a_number_has_not_passed_zero() -> None:
    # Unknown below 0.5, so that what is known of it is -, then +.
    condition = lambda t, y, args, **kwargs: jnp.where(y < 0.5, jnp.nan, y - 1.0)
    np.testing.assert_allclose(one(run(Event(condition, NEWTON)))[0], 1.0, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ inside a step


def dip(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    """Below zero from 0.4 to 0.5, all within a step."""
    return (y - 0.4) * (y - 0.5)


@pytest.mark.parametrize("finder", [pytest.param(name, marks=slow_unless(name == "Bisection")) for name in FINDERS])
def test_interior_points_see_a_double_passage(finder: str) -> None:
    missed = run(Event(dip, FINDERS[finder]))
    assert missed.result == RESULTS.successful
    seen = run(Event(dip, FINDERS[finder], interior=3))
    assert seen.result == RESULTS.event_occurred
    if finder == "Bisection":
        np.testing.assert_allclose(one(seen)[0], 0.4, rtol=1e-9)
    np.testing.assert_allclose(min(abs(one(seen)[0] - 0.4), abs(one(seen)[0] - 0.5)), 0.0, atol=1e-9)


def test_newtons_method_with_interior_points_finds_the_first_passage() -> None:
    np.testing.assert_allclose(one(run(Event(dip, NEWTON, interior=3)))[0], 0.4, rtol=1e-9)


def test_interior_points_respect_direction() -> None:
    np.testing.assert_allclose(one(run(Event(dip, BISECTION, direction=True, interior=4)))[0], 0.5, rtol=1e-9)


# -------------------------------------------------------------------------------------------------------- what is saved

INF = jnp.inf
SAVES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "t0": ({"t0": True}, [0.0]),
    "t1": ({"t1": True}, [0.75]),
    "ts": ({"ts": [0.1, 0.6, 0.74, 0.76, 0.9, 1.5]}, [0.1, 0.6, 0.74, INF, INF, INF]),
    "ts, t1": ({"ts": [0.1, 0.8], "t1": True}, [0.1, 0.75, INF]),
    "steps": ({"steps": True}, [0.3, 0.6, 0.75, *[INF] * 13]),
    "steps=2": ({"steps": 2}, [0.6, *[INF] * 7]),
    "steps=2, t1": ({"steps": 2, "t1": True}, [0.6, 0.75, *[INF] * 6]),
    "steps=3": ({"steps": 3}, [0.75, *[INF] * 4]),
    "steps, t1": ({"steps": True, "t1": True}, [0.3, 0.6, 0.75, *[INF] * 13]),
    "all": ({"t0": True, "ts": [0.1, 0.7, 0.8], "steps": True, "t1": True},
            [0.0, 0.1, 0.3, 0.6, 0.7, 0.75, *[INF] * 14]),
}  # fmt: skip


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forwards", "backwards"])
def test_saves_end_at_the_event(sign: float) -> None:
    """All of `SAVES` in one solve; the state is the time, and both are padded by infinity."""

    def turned(keywords: dict[str, Any]) -> SubSaveAt:
        ts = {"ts": sign * jnp.asarray(keywords["ts"])} if "ts" in keywords else {}
        return SubSaveAt(**{**keywords, **ts})

    saveat = SaveAt(subs={name: turned(keywords) for name, (keywords, _) in SAVES.items()})
    solution = run(AT_ARGS, t1=2.0 * sign, dt0=0.3 * sign, saveat=saveat, args=jnp.asarray(0.75 * sign))
    for name, (_, expected) in SAVES.items():
        found = np.asarray(solution.ts[name])
        times = np.where(np.isinf(expected), np.inf, sign * np.asarray(expected))
        used = min(times.size, found.size)
        assert found.size >= np.isfinite(times).sum(), name
        np.testing.assert_allclose(found[:used], times[:used], rtol=1e-12, err_msg=name)
        assert not np.isfinite(found[used:]).any(), name
        np.testing.assert_allclose(solution.ys[name], found, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("condition", [above(0.75), passes(0.75)])
def test_the_last_step_is_saved_once_without_a_root_finder(condition: Any) -> None:
    solution = run(Event(condition), saveat=SaveAt(steps=True, t1=True))
    assert solution.ts is not None
    np.testing.assert_allclose(solution.ts[:4], [0.3, 0.6, 0.9, np.inf], rtol=1e-12)


def test_subs_and_fn() -> None:
    subs = {
        "end": SubSaveAt(t1=True, fn=lambda t, y, args: {"twice": 2 * y, "t": jnp.asarray(t)}),
        "ts": SubSaveAt(ts=jnp.asarray([0.5, 1.0])),
    }
    solution = run(Event(passes(0.75), NEWTON), saveat=SaveAt(subs=subs))
    expected = {"end": {"twice": jnp.asarray([1.5]), "t": jnp.asarray([0.75])}, "ts": jnp.asarray([0.5, INF])}
    assert_trees_close(solution.ys, expected, rtol=1e-12)
    assert_trees_close(solution.ts, {"end": jnp.asarray([0.75]), "ts": jnp.asarray([0.5, INF])}, rtol=1e-12)


@jax.jit
def ask(solution: rungax.Solution, times: jax.Array) -> tuple[Any, Any]:
    """The values and slopes of the dense output."""
    return jax.vmap(solution.evaluate)(times), jax.vmap(solution.derivative)(times)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_dense_output_ends_at_the_event(sign: float) -> None:
    solution = grow(AT_ARGS, t1=2.0 * sign, saveat=SaveAt(dense=True), args=jnp.asarray(2.0**sign))
    end = sign * np.log(2)
    inside = np.linspace(0.0, end * (1 - 1e-9), 7)
    np.testing.assert_allclose(ask(solution, inside)[0], np.exp(inside), rtol=1e-7)
    past = np.asarray([end + 1e-6 * sign, 1.0 * sign, 2.0 * sign])
    assert all(np.isnan(found).all() for found in ask(solution, past))


STATES = SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)


def test_saved_states_go_on_from_the_event() -> None:
    first = grow(Event(passes(2.0), NEWTON), saveat=STATES)
    assert first.ts is not None
    second = grow(
        None, t0=first.ts[0], y0=first.ys[0], dt0=0.1, solver_state=first.solver_state,
        controller_state=first.controller_state, made_jump=first.made_jump,
    )  # fmt: skip
    np.testing.assert_allclose(one(second)[1], np.exp(2.0), rtol=1e-9)


def test_saved_solver_state_is_that_at_the_event() -> None:
    state = grow(Event(passes(2.0), NEWTON), saveat=STATES).solver_state
    leaves = [np.asarray(x) for x in jax.tree.leaves(state)]
    assert any(np.allclose(x, 2.0, rtol=1e-9) for x in leaves)  # y' = y = 2


# ------------------------------------------------------------------------------------------------------ steady states


def relax(t: Any, y: Any, args: Any) -> Any:
    return args - y


@pytest.mark.parametrize("own", [False, True])
def test_steady_state(own: bool) -> None:
    norm = lambda y: jnp.max(jnp.abs(y))
    condition = steady_state_event(rtol=1e-3, atol=1e-4, norm=norm) if own else steady_state_event()
    controller = ConstantStepSize() if own else PIDController(rtol=1e-3, atol=1e-4)
    solution = run(
        Event(condition), terms=relax, solver=Heun(), t1=jnp.inf, dt0=0.1, y0=jnp.asarray([0.0, 1.0]),
        args=jnp.asarray([3.0, 1.0]), stepsize_controller=controller, max_steps=512,
        saveat=SaveAt(steps=True),
    )  # fmt: skip
    assert solution.result == RESULTS.event_occurred
    n = int(solution.stats["num_accepted_steps"])
    y = np.asarray(solution.ys[:n])
    slope = np.array([3.0, 1.0]) - y
    measure = (lambda x: np.abs(x).max(1)) if own else (lambda x: np.sqrt((x**2).mean(1)))
    is_steady = measure(slope) < 1e-4 + 1e-3 * measure(y)
    assert is_steady.tolist() == [False] * (n - 1) + [True]


@pytest.mark.parametrize("given", [{}, {"rtol": 1e-3}, {"rtol": 1e-3, "atol": 1e-3}])
def test_steady_state_without_tolerances_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="steady_state_event"):
        run(Event(steady_state_event(**given)))


def test_steady_at_the_start() -> None:
    event = Event(steady_state_event(rtol=1e-3, atol=1e-3, norm=jnp.abs))
    solution = run(event, terms=relax, args=jnp.asarray(1.0), y0=jnp.asarray(1.0))
    assert solution.stats["num_steps"] == 0


# ------------------------------------------------------------------------------------------------------------- results


def test_an_event_that_never_fires_changes_nothing() -> None:
    saveat = SaveAt(t0=True, ts=jnp.asarray([0.4, 1.3]), steps=True, t1=True)
    loose = PIDController(rtol=1e-4, atol=1e-6)
    with_event, without = (
        grow(event, saveat=saveat, stepsize_controller=loose, max_steps=64)
        for event in (Event((passes(90.0), above(90.0)), NEWTON), None)
    )
    assert_trees_close(with_event.ts, without.ts, rtol=1e-14)
    assert_trees_close(with_event.ys, without.ys, rtol=1e-14)
    assert with_event.result == RESULTS.successful
    assert with_event.stats["num_steps"] == without.stats["num_steps"]


def test_out_of_steps_before_the_event() -> None:
    solution = run(Event(passes(0.75), NEWTON), max_steps=2, throw=False)
    assert solution.result == RESULTS.max_steps_reached
    assert not solution.event_mask
    np.testing.assert_allclose(one(solution), (0.6, 0.6), rtol=1e-12)
    with pytest.raises(RuntimeError, match="step"):
        run(Event(passes(0.75), NEWTON), max_steps=2)


@pytest.mark.parametrize("throw", [True, False])
def test_an_event_is_no_failure(throw: bool) -> None:
    solution = run(Event(passes(0.75), NEWTON), throw=throw)
    assert solution.result == RESULTS.event_occurred
    assert rungax.is_okay(solution.result)
    assert rungax.is_event(solution.result)
    assert not rungax.is_successful(solution.result)


def test_a_jump_of_the_condition_is_found_to_rounding() -> None:
    too_strict = optx.Newton(rtol=1e-30, atol=1e-30)
    condition = lambda t, y, args, **kwargs: jnp.where(y < 0.75, -1.0, 1.0) * (1 + 0.1 * jnp.abs(y - 0.75))
    solution = run(Event(condition, too_strict))
    assert solution.result == RESULTS.event_occurred
    assert 0.75 - 1e-14 < one(solution)[0] < 0.75


@pytest.mark.parametrize("finder", FINDERS)
def test_without_throwing_the_program_holds_no_callback(finder: str) -> None:
    event = Event(passes(0.75), FINDERS[finder])
    program = jax.make_jaxpr(lambda y: run(event, y0=y, throw=False).ys)(0.0)
    assert "callback" not in str(program)


# ------------------------------------------------------------------------------------------------------- batch elements


@pytest.mark.parametrize("finder", [NEWTON, pytest.param(None, marks=pytest.mark.slow)])
def test_elements_that_stop_at_different_times_equal_a_loop(finder: Any) -> None:
    def element(level: Any) -> Any:
        event = Event(lambda t, y, args, **kwargs: y - args, finder)
        loose = PIDController(rtol=1e-5, atol=1e-6)
        solution = grow(
            event, args=level, saveat=SaveAt(ts=jnp.asarray([0.2, 0.9]), t1=True, steps=True),
            stepsize_controller=loose, max_steps=32,
        )  # fmt: skip
        return solution.ts, solution.ys, solution.event_mask, solution.stats["num_steps"], solution.result._value

    levels = jnp.asarray([1.5, 3.0, 100.0, 1.0001])
    each = jax.jit(element)
    expected = jax.tree.map(lambda *x: jnp.stack(x), *[each(level) for level in levels])
    assert_trees_close(jax.jit(jax.vmap(element))(levels), expected, rtol=1e-12)


def test_a_noisy_path_ends_at_its_first_passage() -> None:
    dt, level = 1 / 16, 0.4
    drift = lambda t, y, args: -0.1 * y
    diffusion = lambda t, y, args: 0.7 + 0.0 * y

    def tree(key: Any) -> VirtualBrownianTree:
        return VirtualBrownianTree(0.0, 2.0, tol=1e-3, shape=(), key=key)

    def element(key: Any) -> Any:
        terms = MultiTerm(ODETerm(drift), ControlTerm(diffusion, tree(key)))
        event = Event(lambda t, y, args, **kwargs: jnp.abs(y) > level)
        solution = run(event, terms=terms, solver=Heun(), dt0=dt, max_steps=64, saveat=SaveAt(steps=True))
        return solution.ts, solution.ys, solution.event_mask

    def by_hand(key: Any) -> Any:
        def step(y: Any, i: Any) -> Any:
            t = i * dt
            dw = tree(key).evaluate(t, t + dt)
            guess = y + dt * drift(t, y, None) + 0.7 * dw
            y = y + 0.5 * dt * (drift(t, y, None) + drift(t, guess, None)) + 0.7 * dw
            return y, y

        return jax.lax.scan(step, jnp.asarray(0.0), jnp.arange(32.0))[1]

    keys = jax.random.split(jax.random.key(3), 6)
    ts, ys, mask = jax.tree.map(np.asarray, jax.jit(jax.vmap(element))(keys))
    paths = np.asarray(jax.jit(jax.vmap(by_hand))(keys))
    for i in range(6):
        over = np.flatnonzero(np.abs(paths[i]) > level)
        n = int(over[0]) + 1 if over.size else 32
        assert bool(mask[i]) == bool(over.size)
        np.testing.assert_allclose(ys[i, :n], paths[i, :n], rtol=1e-9, atol=1e-12)
        assert not np.isfinite(ts[i, n:]).any()
    assert mask.any()
