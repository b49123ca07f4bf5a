"""Events that change the state: times and states against closed forms, and what is saved on both sides of a jump."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    RESULTS,
    Bosh3,
    ConstantStepSize,
    Euler,
    Event,
    Kvaerno3,
    PIDController,
    SaveAt,
    SubSaveAt,
    Tsit5,
    diffeqsolve,
)

from ..compare import assert_trees_close

NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)
BISECTION = optx.Bisection(rtol=1e-12, atol=1e-12, flip="detect")
TIGHT = PIDController(rtol=1e-10, atol=1e-12)
G = 9.81
INF = float("inf")

effects_may_be_late = pytest.mark.filterwarnings("ignore:Without `Event:UserWarning")
"""The mark of tests of effects at the end of a step."""


def ball(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], jnp.full((), -G)])


def hits(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y[0]


def bounce(t: Any, y: Any, restitution: Any) -> Any:
    return jnp.stack([jnp.abs(y[0]), -restitution * y[1]])


def impacts(height: float, restitution: float, n: int) -> np.ndarray:
    """The times of the first n impacts of a ball dropped from rest."""
    fall = np.sqrt(2 * height / G)
    return fall + np.concatenate([[0.0], np.cumsum(2 * fall * restitution ** np.arange(1, n))])


def dropped(t: float, height: float, restitution: float, n: int = 200) -> np.ndarray:
    """Place and speed of a ball dropped from rest."""
    times = impacts(height, restitution, n)
    k = int(np.searchsorted(times, t))
    if k == 0:
        return np.array([height - G * t * t / 2, -G * t])
    up, s = restitution**k * G * times[0], t - times[k - 1]
    return np.array([up * s - G * s * s / 2, up - G * s])


def drop(event: Event | None = None, **changes: Any) -> rungax.Solution:
    """A ball dropped from 1 m, of restitution 0.8, for 2 s: four bounces."""
    event = Event(hits, NEWTON, direction=False, effect=bounce) if event is None else event
    call: dict[str, Any] = {
        "terms": ball, "solver": Bosh3(), "t0": 0.0, "t1": 2.0, "dt0": 0.1, "y0": jnp.asarray([1.0, 0.0]),
        "args": jnp.asarray(0.8), "max_steps": 128, "event": event, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def clock(t: Any, y: Any, args: Any) -> Any:
    return jnp.ones_like(y)


def solve(event: Event, **changes: Any) -> rungax.Solution:
    """A clock from 0 to 2 in steps of 0.3."""
    call: dict[str, Any] = {
        "terms": clock, "solver": Euler(), "t0": 0.0, "t1": 2.0, "dt0": 0.3,
        "y0": jnp.asarray(0.0), "max_steps": 64, "event": event, **changes,
    }  # fmt: skip
    return diffeqsolve(**call)


def used_slots(ts: Any, ys: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(ts)[np.isfinite(ts)], np.asarray(ys)[np.isfinite(ts)]


def used(solution: rungax.Solution) -> tuple[np.ndarray, np.ndarray]:
    return used_slots(solution.ts, solution.ys)


SAWTOOTH = Event(lambda t, y, args, **kwargs: y - 0.7, NEWTON, effect=lambda t, y, args: y - 0.7)
"""Resets a clock to zero at 0.7."""

# --------------------------------------------------------------------------------------------------------------- ball


@pytest.mark.parametrize(
    ("finder", "direction"),
    [(NEWTON, False), *(pytest.param(BISECTION, to, marks=pytest.mark.slow) for to in (None, False))],
)
def test_bouncing_ball(finder: Any, direction: bool | None) -> None:
    solution = drop(Event(hits, finder, direction=direction, effect=bounce))
    assert solution.result == RESULTS.successful
    assert not solution.event_mask
    assert float(solution.ts[0]) == 2.0
    np.testing.assert_allclose(solution.ys[0], dropped(2.0, 1.0, 0.8), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [Kvaerno3(), *(pytest.param(s, marks=pytest.mark.slow) for s in (Tsit5(), Bosh3()))])
def test_bouncing_ball_with_adaptive_steps(solver: Any) -> None:
    controller = PIDController(rtol=1e-7, atol=1e-9)
    solution = drop(solver=solver, stepsize_controller=controller, dt0=None, max_steps=1024)
    np.testing.assert_allclose(solution.ys[0], dropped(2.0, 1.0, 0.8), rtol=1e-5, atol=1e-5)


def test_many_bounces() -> None:
    # Fifty flights, the last of which takes a hundredth of the first.
    restitution = 0.92
    times = impacts(1.0, restitution, 51)
    end = 0.5 * (times[49] + times[50])
    event = Event(hits, NEWTON, direction=False, effect=bounce, max_effects=50)
    solution = drop(event, t1=end, args=jnp.asarray(restitution), max_steps=512)
    np.testing.assert_allclose(solution.ys[0], dropped(end, 1.0, restitution), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_the_counter_in_the_state_counts_every_bounce() -> None:
    field = lambda t, y, args: {"ball": ball(t, y["ball"], args), "bounces": jnp.zeros_like(y["bounces"])}
    effect = lambda t, y, args: {"ball": bounce(t, y["ball"], args), "bounces": y["bounces"] + 1.0}
    event = Event(lambda t, y, args, **kwargs: y["ball"][0], NEWTON, direction=False, effect=effect)
    y0 = {"ball": jnp.asarray([1.0, 0.0]), "bounces": jnp.asarray(0.0)}
    solution = drop(event, terms=field, y0=y0)
    assert float(solution.ys["bounces"][0]) == np.searchsorted(impacts(1.0, 0.8, 20), 2.0)


# -------------------------------------------------------------------------------------------------- dosing, thermostat


@pytest.mark.parametrize("solver", [Tsit5(), pytest.param(Kvaerno3(), marks=pytest.mark.slow)])
def test_doses_at_given_times(solver: Any) -> None:
    # A dose of 2 every 3 hours, decay at rate 0.5; the number of doses given is part of the state.
    field = lambda t, y, args: jnp.stack([-0.5 * y[0], jnp.zeros(())])
    due = lambda t, y, args, **kwargs: t - 3.0 * (y[1] + 1.0)
    give = lambda t, y, args: jnp.stack([y[0] + 2.0, y[1] + 1.0])
    tight = isinstance(solver, Tsit5)
    controller = TIGHT if tight else PIDController(rtol=1e-7, atol=1e-9)
    times = jnp.asarray([2.0, 3.5, 6.5, 9.5])
    solution = solve(
        Event(due, NEWTON, effect=give), terms=field, solver=solver, t1=10.0, y0=jnp.asarray([1.0, 0.0]), dt0=None,
        stepsize_controller=controller, max_steps=1024, saveat=SaveAt(ts=times),
    )  # fmt: skip
    expected = [np.exp(-0.5 * t) + sum(2 * np.exp(-0.5 * (t - d)) for d in (3.0, 6.0, 9.0) if d < t) for t in times]
    np.testing.assert_allclose(solution.ys[:, 0], expected, rtol=1e-8 if tight else 1e-5)
    np.testing.assert_allclose(solution.ys[:, 1], [0, 1, 2, 3])


def test_thermostat() -> None:
    # x' = -x + 3 heater: off above 2, on below 1. With heat x = 3 - 2 exp(-s) from 1: log(2) long; cooling too.
    field = lambda t, y, args: {"x": -y["x"] + 3.0 * y["on"], "on": jnp.zeros_like(y["on"])}
    turn = lambda on: lambda t, y, args: {"x": y["x"], "on": jnp.full((), on)}
    event = Event(
        {"hot": lambda t, y, args, **kwargs: y["x"] - 2.0, "cold": lambda t, y, args, **kwargs: y["x"] - 1.0},
        NEWTON,
        direction={"hot": True, "cold": False},
        effect={"hot": turn(0.0), "cold": turn(1.0)},
    )
    times = np.log(2) * (np.arange(6) + 0.5)
    y0 = {"x": jnp.asarray(1.0), "on": jnp.asarray(1.0)}
    solution = solve(
        event, terms=field, solver=Tsit5(), y0=y0, t1=4.0, dt0=0.1, stepsize_controller=TIGHT, max_steps=1024,
        saveat=SaveAt(ts=jnp.asarray(times[:5])),
    )  # fmt: skip
    warm, cool = 3 - 2 * np.exp(-0.5 * np.log(2)), 2 * np.exp(-0.5 * np.log(2))
    np.testing.assert_allclose(solution.ys["x"], [warm, cool, warm, cool, warm], rtol=1e-8)
    np.testing.assert_allclose(solution.ys["on"], [1, 0, 1, 0, 1])


@pytest.mark.slow
def test_integrate_and_fire() -> None:
    # v' = 2 - v, reset from 1 to 0: a period of log(2).
    field = lambda t, y, args: jnp.stack([args - y[0], jnp.zeros(())])
    event = Event(
        lambda t, y, args, **kwargs: y[0] - 1.0,
        NEWTON,
        direction=True,
        effect=lambda t, y, args: jnp.stack([jnp.zeros(()), y[1] + 1.0]),
    )
    solution = solve(
        event, terms=field, solver=Tsit5(), y0=jnp.zeros(2), args=jnp.asarray(2.0), t1=5.0, dt0=0.1,
        stepsize_controller=TIGHT, max_steps=1024,
    )  # fmt: skip
    spikes = int(5.0 / np.log(2))
    np.testing.assert_allclose(solution.ys[0], [2 - 2 * np.exp(-(5.0 - spikes * np.log(2))), spikes], rtol=1e-7)


# ------------------------------------------------------------------------------------------------------- what is saved


AROUND_JUMPS = (0.65, 0.699999, 0.700001, 0.8, 1.3, 1.41, 1.99)


@functools.cache
def saved_sawtooth() -> Any:
    """Saved in every way, by one solve."""
    subs = {
        "steps": SubSaveAt(steps=True),
        "times": SubSaveAt(t0=True, ts=AROUND_JUMPS, t1=True),
        "all": SubSaveAt(t0=True, ts=(0.65, 0.8), steps=2, t1=True),
    }
    return solve(SAWTOOTH, saveat=SaveAt(subs=subs, dense=True))


def test_steps_hold_the_state_before_the_jump_and_stay_on_the_grid() -> None:
    ts, ys = used_slots(saved_sawtooth().ts["steps"], saved_sawtooth().ys["steps"])
    np.testing.assert_allclose(ts, [0.3, 0.6, 0.7, 0.9, 1.2, 1.4, 1.5, 1.8, 2.0], rtol=1e-12)
    np.testing.assert_allclose(ys, [0.3, 0.6, 0.7, 0.2, 0.5, 0.7, 0.1, 0.4, 0.6], rtol=1e-11)


def test_times_on_both_sides_of_a_jump() -> None:
    ts, ys = used_slots(saved_sawtooth().ts["times"], saved_sawtooth().ys["times"])
    np.testing.assert_allclose(ts, [0.0, *AROUND_JUMPS, 2.0], rtol=1e-14)
    np.testing.assert_allclose(ys, np.asarray([0.0, *AROUND_JUMPS, 2.0]) % 0.7, rtol=1e-9, atol=1e-12)


def test_everything_at_once() -> None:
    ts, ys = used_slots(saved_sawtooth().ts["all"], saved_sawtooth().ys["all"])
    np.testing.assert_allclose(ts, [0.0, 0.6, 0.65, 0.8, 0.9, 1.4, 1.8, 2.0], rtol=1e-12)
    np.testing.assert_allclose(ys, [0.0, 0.6, 0.65, 0.1, 0.2, 0.7, 0.4, 0.6], rtol=1e-11)


def test_dense_output_has_both_sides_of_a_jump() -> None:
    t = np.asarray([0.1, 0.65, 0.75, 1.35, 1.45, 1.95])

    @jax.jit
    def ask(solution: Any) -> Any:
        jump = solution.ts["steps"][2]
        sides = [solution.evaluate(jump, left=left) for left in (True, False)]
        return *sides, jax.vmap(solution.evaluate)(t)

    before, after, elsewhere = ask(saved_sawtooth())
    np.testing.assert_allclose(before, 0.7, rtol=1e-12)
    np.testing.assert_allclose(after, 0.0, atol=1e-12)
    np.testing.assert_allclose(elsewhere, t % 0.7, rtol=1e-10)


def test_a_jump_in_the_last_step() -> None:
    # It happens at the end of the interval: the final state is the one after it.
    event = Event(lambda t, y, args, **kwargs: y > 1.9, effect=lambda t, y, args: y + 10.0)
    solution = solve(event, saveat=SaveAt(t1=True))
    np.testing.assert_allclose(solution.ys[0], 12.0, rtol=1e-12)


@pytest.mark.slow
def test_an_effect_may_change_the_pace() -> None:
    field = lambda t, y, args: jnp.stack([y[1], jnp.zeros(())])
    event = Event(
        lambda t, y, args, **kwargs: y[0] - 0.7,
        NEWTON,
        effect=lambda t, y, args: jnp.stack([y[0], 3.0 * y[1]]),
    )
    solution = solve(event, terms=field, solver=Tsit5(), y0=jnp.asarray([0.0, 1.0]), saveat=SaveAt(ts=[1.0, 2.0]))
    np.testing.assert_allclose(solution.ys[:, 0], [0.7 + 0.9, 0.7 + 3.9], rtol=1e-10)


def test_saved_states_after_a_jump_go_on() -> None:
    saveat = SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)
    event = Event(lambda t, y, args, **kwargs: y[0] < 0.0, effect=bounce)
    first = drop(event, t1=0.5, saveat=saveat, solver=Tsit5())
    second = drop(
        t0=0.5, y0=first.ys[0], solver_state=first.solver_state, controller_state=first.controller_state,
        made_jump=first.made_jump, solver=Tsit5(), t1=0.7,
    )  # fmt: skip
    s, (x, v) = 0.2, np.asarray(first.ys[0])
    np.testing.assert_allclose(second.ys[0], [x + v * s - G * s * s / 2, v - G * s], rtol=1e-9)


# ------------------------------------------------------------------------------------------------------ their number


def test_more_effects_than_allowed() -> None:
    event = Event(hits, NEWTON, direction=False, effect=bounce, max_effects=2)
    solution = drop(event, throw=False)
    assert solution.result == RESULTS.max_effects_reached
    np.testing.assert_allclose(solution.ts[0], impacts(1.0, 0.8, 3)[2], rtol=1e-9)
    with pytest.raises(RuntimeError, match="max_effects"):
        drop(event)


def test_as_many_effects_as_allowed() -> None:
    n = int(np.searchsorted(impacts(1.0, 0.8, 20), 2.0))
    solution = drop(Event(hits, NEWTON, direction=False, effect=bounce, max_effects=n))
    assert solution.result == RESULTS.successful


def test_events_at_the_same_time_change_the_state_once() -> None:
    n = int(np.searchsorted(impacts(1.0, 0.8, 20), 2.0))
    event = Event([hits, hits], NEWTON, direction=False, effect=[bounce, lambda t, y, args: y], max_effects=n)
    assert drop(event).result == RESULTS.successful


def test_an_accumulation_of_bounces_does_not_run_for_ever() -> None:
    # All bounces happen before 0.451 * 3 s; what comes then cannot be computed.
    solution = drop(
        Event(hits, NEWTON, direction=False, effect=bounce, max_effects=100), args=jnp.asarray(0.5), throw=False,
        max_steps=4096,
    )  # fmt: skip
    assert bool(solution.result != RESULTS.internal_error)


# ---------------------------------------------------------------------------------------------- effects and endings


def test_an_effect_and_an_end_in_one_event() -> None:
    event = Event(
        {"floor": hits, "slow": lambda t, y, args, **kwargs: y[0] - 0.5},
        NEWTON,
        direction={"floor": False, "slow": True},
        effect={"floor": bounce, "slow": None},
    )
    solution = drop(event, t1=jnp.inf)
    assert solution.result == RESULTS.event_occurred
    assert_trees_close(solution.event_mask, {"floor": jnp.asarray(False), "slow": jnp.asarray(True)})
    fall, up = impacts(1.0, 0.8, 1)[0], 0.8 * np.sqrt(2 * G)
    rise = (up - np.sqrt(up * up - G)) / G
    np.testing.assert_allclose(solution.ts[0], fall + rise, rtol=1e-9)
    np.testing.assert_allclose(solution.ys[0], [0.5, up - G * rise], rtol=1e-9)


@effects_may_be_late
@pytest.mark.parametrize(
    "finder", [NEWTON, pytest.param(None, marks=pytest.mark.slow)], ids=["found", "at the end of the step"]
)
def test_a_boolean_condition_that_an_effect_makes_true_ends_the_solve(finder: Any) -> None:
    """Every step ends in a bounce, so that the condition would never be true at the end of another one."""

    def third_bounce(restitution: Any) -> tuple[Any, Any]:
        event = Event(
            (lambda t, y, args, **kwargs: y["ball"][0], lambda t, y, args, **kwargs: y["count"] > 2.5),
            finder,
            direction=False,
            effect=(lambda t, y, args: {"ball": bounce(t, y["ball"], args), "count": y["count"] + 1}, None),
        )
        field = lambda t, y, args: {"ball": ball(t, y["ball"], args), "count": jnp.zeros(())}
        y0 = {"ball": jnp.asarray([1.0, 0.0]), "count": jnp.asarray(0.0)}
        steps = SaveAt(subs=[SubSaveAt(t1=True), SubSaveAt(steps=True)])
        solution = diffeqsolve(
            field, Bosh3(), 0.0, 10.0, 0.25 if finder is None else 2.0, y0, restitution, event=event, saveat=steps,
            max_steps=32,
        )  # fmt: skip
        return solution.ys[0]["ball"][0], (solution.ts, solution.ys, solution.event_mask, solution.result)

    derivative = lambda restitution: jax.jvp(third_bounce, (restitution,), (1.0,))
    (ts, all_steps), ys, mask, result = jax.jit(third_bounce)(0.8)[1]
    assert result == RESULTS.event_occurred
    assert_trees_close(mask, (jnp.asarray(False), jnp.asarray(True)))
    assert float(ys[0]["count"][0]) == 3.0
    if finder is not None:
        third = impacts(1.0, 0.8, 3)[2]
        np.testing.assert_allclose(ts[0], third, rtol=1e-9)
        np.testing.assert_allclose(ys[0]["ball"][0], [0.0, 0.8**3 * np.sqrt(2 * G)], rtol=1e-9, atol=1e-9)
        # The end stays where it is, as that of every boolean condition, while the ball comes back to it later.
        later = 2 * np.sqrt(2 / G) * (1 + 2 * 0.8)
        by_reverse = jax.jit(jax.grad(lambda restitution: third_bounce(restitution)[0][1]))(0.8)
        np.testing.assert_allclose(by_reverse, 3 * 0.8**2 * np.sqrt(2 * G) + G * later, rtol=1e-6)
    # With derivatives everything has the same value, and so has all that was saved of the step that the effect ended.
    again = jax.jit(lambda restitution: derivative(restitution)[0][1][:2])(0.8)
    assert_trees_close((ts, all_steps, ys), (*again[0], again[1]), rtol=1e-13)


def test_a_boolean_condition_counts_when_it_becomes_true() -> None:
    # True from 0.6 (the first step's end above 0.5): once, though it stays true.
    event = Event(lambda t, y, args, **kwargs: t > 0.5, effect=lambda t, y, args: y + 10.0)
    ts, ys = used(solve(event, saveat=SaveAt(steps=True)))
    np.testing.assert_allclose(ts, [0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.0], rtol=1e-12)
    np.testing.assert_allclose(ys, [0.3, 0.6, 10.9, 11.2, 11.5, 11.8, 12.0], rtol=1e-12)


def test_a_boolean_condition_counts_again_after_it_was_false() -> None:
    event = Event(lambda t, y, args, **kwargs: y > 0.5, effect=lambda t, y, args: y - 0.6)
    ts, ys = used(solve(event, saveat=SaveAt(steps=True)))
    np.testing.assert_allclose(ts, [0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.0], rtol=1e-12)
    np.testing.assert_allclose(ys, [0.3, 0.6, 0.3, 0.6, 0.3, 0.6, 0.2], rtol=1e-12)


def test_a_boolean_condition_true_at_the_start_has_no_effect() -> None:
    event = Event(lambda t, y, args, **kwargs: y > -1.0, effect=lambda t, y, args: y + 10.0)
    np.testing.assert_allclose(solve(event).ys[0], 2.0, rtol=1e-12)


def test_without_a_root_finder_the_state_changes_at_the_end_of_the_step() -> None:
    event = Event(lambda t, y, args, **kwargs: y - 0.7, effect=lambda t, y, args: y - 0.7)
    with pytest.warns(UserWarning, match="the effect of `cond_fn` comes at the end of the step in which") as warned:
        solution = solve(event, saveat=SaveAt(steps=True), t1=1.2)
    assert warned[0].filename == __file__
    ts, ys = used(solution)
    np.testing.assert_allclose(ts, [0.3, 0.6, 0.9, 1.2], rtol=1e-12)
    np.testing.assert_allclose(ys, [0.3, 0.6, 0.9, 0.5], rtol=1e-12)


def test_two_jumps_within_one_step() -> None:
    event = Event(lambda t, y, args, **kwargs: y - 0.25, NEWTON, effect=lambda t, y, args: y - 0.25)
    solution = solve(event, dt0=1.0, saveat=SaveAt(steps=True))
    ts, _ = used(solution)
    np.testing.assert_allclose(ts, [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0], rtol=1e-10)


def test_effects_that_trigger_the_other_condition() -> None:
    # Pong between 0 and 0.7: each effect turns the speed.
    field = lambda t, y, args: jnp.stack([y[1], jnp.zeros(())])
    turn = lambda t, y, args: jnp.stack([y[0], -y[1]])
    event = Event((lambda t, y, args, **kwargs: y[0] - 0.7, hits), NEWTON, effect=turn)
    solution = solve(event, terms=field, solver=Tsit5(), y0=jnp.asarray([0.2, 1.0]), t1=3.9)
    # Unfolded it comes to 4.1, which is five widths of 0.7 and 0.6.
    np.testing.assert_allclose(solution.ys[0], [0.1, -1.0], rtol=1e-9)


# ---------------------------------------------------------------------------------- directions, batch elements, solvers


@pytest.mark.parametrize(
    "solver", [Tsit5(), pytest.param(Kvaerno3(), marks=pytest.mark.slow), pytest.param(Bosh3(), marks=pytest.mark.slow)]
)
def test_backwards_in_time(solver: Any) -> None:
    # Growth backwards is decay: y falls from 4, and is doubled whenever it reaches 2; a period of log(2).
    event = Event(lambda t, y, args, **kwargs: y - 2.0, NEWTON, effect=lambda t, y, args: 2.0 * y)
    solution = solve(
        event, terms=lambda t, y, args: y, solver=solver, y0=jnp.asarray(4.0), t0=3.0, t1=1.0, dt0=None,
        stepsize_controller=PIDController(rtol=1e-7, atol=1e-9), max_steps=2048,
        saveat=SaveAt(ts=jnp.asarray([2.5, 2.0, 1.0])),
    )  # fmt: skip
    expected = 4.0 * np.exp(-(np.array([0.5, 1.0, 2.0]) % np.log(2)))
    np.testing.assert_allclose(solution.ys, expected, rtol=1e-5)


def test_the_effect_sees_the_true_time() -> None:
    event = Event(lambda t, y, args, **kwargs: jnp.asarray(t) - 0.25, NEWTON, effect=lambda t, y, args: y + 100.0 * t)
    solution = solve(event, t0=1.0, t1=-1.0, dt0=-0.3, y0=jnp.asarray(0.0))
    np.testing.assert_allclose(solution.ys[0], -2.0 + 25.0, rtol=1e-10)


def test_elements_with_different_numbers_of_events_equal_a_loop() -> None:
    def element(height: Any) -> Any:
        solution = drop(
            y0=jnp.stack([height, jnp.zeros(())]), saveat=SaveAt(ts=jnp.asarray([0.5, 1.5]), t1=True, steps=4),
        )  # fmt: skip
        return solution.ts, solution.ys, solution.stats["num_steps"], solution.event_mask

    heights = jnp.asarray([1.0, 30.0, 0.3, 5.0])
    each = jax.jit(element)
    expected = jax.tree.map(lambda *x: jnp.stack(x), *[each(height) for height in heights])
    assert_trees_close(jax.jit(jax.vmap(element))(heights), expected, rtol=1e-10, atol=1e-12)


def test_an_effect_in_one_element_and_too_many_in_another() -> None:
    event = Event(hits, NEWTON, direction=False, effect=bounce, max_effects=1)
    element = lambda height: drop(event, y0=jnp.stack([height, jnp.zeros(())]), throw=False)
    solution = jax.jit(jax.vmap(element))(jnp.asarray([1.0, 30.0, 10.0]))
    over = jax.vmap(lambda result: result == RESULTS.max_effects_reached)(solution.result)
    assert over.tolist() == [True, False, False]
    np.testing.assert_allclose(solution.ys[2, 0], dropped(2.0, 10.0, 0.8), rtol=1e-9)


@pytest.mark.slow
def test_fixed_steps_stay_on_their_grid_after_an_event() -> None:
    ts, _ = used(drop(saveat=SaveAt(steps=True), stepsize_controller=ConstantStepSize(), t1=1.05))
    grid = [*(0.1 * np.arange(1, 11)), 1.05]
    expected = np.sort([*grid, *impacts(1.0, 0.8, 20)[impacts(1.0, 0.8, 20) < 1.05]])
    np.testing.assert_allclose(ts, expected, rtol=1e-9)


# ------------------------------------------------------------------------------------------------- several at a time


def _reset(i: int) -> Any:
    return lambda t, y, args: y.at[i].set(0.0)


REAL = tuple(lambda t, y, args, i=i, **kwargs: y[i] - 0.7 for i in range(2))
BOOLEAN = tuple(lambda t, y, args, i=i, **kwargs: y[i] > 0.7 for i in range(2))
RESET = (_reset(0), _reset(1))
TWO_CLOCKS = {
    "found": Event(REAL, NEWTON, direction=True, effect=RESET),
    "real": Event(REAL, direction=True, effect=RESET),
    "boolean": Event(BOOLEAN, direction=True, effect=RESET),
}


@effects_may_be_late
@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 0.05)])
@pytest.mark.parametrize("kind", TWO_CLOCKS)
def test_events_in_the_same_step_all_happen(kind: str, start: tuple[float, float]) -> None:
    # Each of two clocks is reset when it passes 0.7: neither may run on for ever.
    solution = solve(TWO_CLOCKS[kind], y0=jnp.asarray(start), saveat=SaveAt(steps=True))
    assert used(solution)[1].max() < 1.3


def _bounce_to(t: Any, y: Any, args: Any) -> Any:
    restitution, height = args
    return jnp.stack([height, -restitution * y[1]])


FROM_HEIGHT = {
    "Newton": Event(hits, NEWTON, direction=False, effect=_bounce_to),
    "Bisection": Event(hits, BISECTION, direction=False, effect=_bounce_to),
}


@pytest.mark.parametrize("height", [0.0, -1e-14])
@pytest.mark.parametrize("finder", FROM_HEIGHT)
def test_a_whole_flight_in_a_step_from_just_below_zero(finder: str, height: float) -> None:
    args = (jnp.asarray(0.8), jnp.asarray(height))
    solution = drop(FROM_HEIGHT[finder], args=args, dt0=2.0, throw=False)
    np.testing.assert_allclose(solution.ys[0], dropped(2.0, 1.0, 0.8), rtol=1e-9, atol=1e-9)


def test_a_condition_without_a_value_after_an_effect_has_not_crossed() -> None:
    """`sqrt(t - 0.5) + 1` has no root; its value is not a number at the effect at 0.25, and 1 from 0.5 on."""
    events = Event(
        [lambda t, y, args, **kwargs: t - 0.25, lambda t, y, args, **kwargs: jnp.sqrt(t - 0.5) + 1],
        NEWTON,
        effect=[lambda t, y, args: y, None],
    )
    solution = diffeqsolve(lambda t, y, args: -y, Euler(), 0.0, 1.0, 0.1, 1.0, event=events, throw=False)
    assert solution.result == RESULTS.successful
    np.testing.assert_array_equal(solution.ts, [1.0])
