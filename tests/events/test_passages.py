"""Each passage of a condition is found, once, and the state there is before the passage and good to the tolerance."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from jax.sharding import Mesh, PartitionSpec

import rungax
from rungax import RESULTS, ConstantStepSize, Event, PIDController, SaveAt, Tsit5, diffeqsolve

from ..catalogue import slow_unless

NEWTON, STRICT = optx.Newton(rtol=1e-8, atol=1e-8), optx.Newton(rtol=1e-10, atol=1e-10)
GRAVITY = 9.81


def oscillator(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -y[0]])


def falling(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], jnp.full_like(y[1], -GRAVITY)])


def counted(field: Any, condition: Any, effect: Any = None, finder: Any = NEWTON, **options: Any) -> dict[str, Any]:
    """The field, effect and condition for a state with a counter of the effects beside it, by the names of arguments.

    The default effect leaves the state alone.
    """
    change = (lambda t, y: y) if effect is None else effect
    event = Event(
        lambda t, state, args, **kwargs: condition(t, state[0]),
        finder,
        effect=lambda t, state, args: (change(t, state[0]), state[1] + 1),
        **options,
    )
    return {"terms": lambda t, state, args: (field(t, state[0], args), jnp.zeros_like(state[1])), "event": event}


def run(terms: Any, y0: Any, t1: float, dt0: float | None, event: Event, solver: Any = None, **options: Any) -> Any:
    solver = Tsit5() if solver is None else solver
    options = {"throw": False, "max_steps": 100_000, "t0": 0.0, **options}
    return diffeqsolve(terms, solver, t1=t1, dt0=dt0, y0=y0, event=event, **options)


def pid(tol: float) -> PIDController:
    return PIDController(rtol=tol, atol=tol)


# --------------------------------------------------------------------------------------------------------- none is lost


@pytest.mark.parametrize("distance", [1e-5, 1e-7])
def test_an_event_soon_after_an_effect_is_seen(distance: float) -> None:
    conditions = [lambda t, y, args, **kwargs: t - 1.0, lambda t, y, args, **kwargs: t - 1.0 - args]
    event = Event(conditions, NEWTON, effect=[lambda t, y, args: y, None])
    solution = run(
        lambda t, y, args: -y, jnp.ones(1), 5.0, 0.1, event, stepsize_controller=pid(1e-6), args=jnp.asarray(distance)
    )
    assert solution.result == RESULTS.event_occurred
    assert [bool(x) for x in solution.event_mask] == [False, True]
    np.testing.assert_allclose(solution.ts[0], 1.0 + distance, atol=1e-8)


def test_a_terminal_event_soon_after_a_bounce() -> None:
    floor, up = (lambda t, y, args, **kwargs: y[0]), (lambda t, y, args, **kwargs: y[0] - args)
    effects = [lambda t, y, args: y * jnp.asarray([1.0, -0.8]), None]
    event = Event([floor, up], NEWTON, effect=effects, direction=[False, True])
    speed = 0.8 * np.sqrt(2 * GRAVITY)
    level = 0.002 * speed - GRAVITY * 0.002**2 / 2
    solution = run(falling, jnp.asarray([1.0, 0.0]), 5.0, 0.1, event, args=jnp.asarray(level))
    np.testing.assert_allclose(solution.ts[0], np.sqrt(2 / GRAVITY) + 0.002, atol=1e-8)


def test_a_state_that_is_set_back_fires_each_time_it_arrives() -> None:
    parts = counted(lambda t, y, args: -jnp.ones_like(y), lambda t, y: y, lambda t, y: jnp.full_like(y, 1e-3))
    solution = run(y0=(jnp.asarray(1.0), jnp.asarray(0.0)), t1=3.0005, dt0=1.0, max_steps=4096, **parts)
    assert solution.result == RESULTS.successful
    assert solution.ys[1] == 2001
    assert solution.ys[0] >= 0


def test_events_at_the_same_time_both_happen() -> None:
    conditions = [lambda t, y, args, **kwargs: y[0] - 0.3, lambda t, y, args, **kwargs: 2 * y[0] - 0.6]
    effects = [lambda t, y, args: y + jnp.asarray([0.0, 1.0, 0.0]), lambda t, y, args: y + jnp.asarray([0.0, 0.0, 1.0])]
    field = lambda t, y, args: jnp.asarray([1.0, 0.0, 0.0]) * (1.0 + t)
    solution = run(field, jnp.zeros(3), 1.0, 0.4, Event(conditions, NEWTON, effect=effects))
    np.testing.assert_array_equal(solution.ys[0, 1:], [1.0, 1.0])


def test_nine_roots_in_one_step() -> None:
    parts = counted(lambda t, y, args: jnp.ones_like(y), lambda t, y: jnp.cos(9 * jnp.pi * y), interior=32)
    solution = run(y0=(jnp.asarray(0.0), jnp.asarray(0.0)), t1=1.0, dt0=1.0, **parts)
    assert solution.ys[1] == 9


# ------------------------------------------------------------------------------------------------------- each once only


@pytest.mark.parametrize(
    ("solver", "controller"),
    [
        pytest.param(rungax.Kvaerno5(), PIDController(rtol=1e-4, atol=1e-7), id="Kvaerno5"),
        pytest.param(rungax.Bosh3(), pid(1e-3), id="Bosh3"),
        pytest.param(rungax.Rodas5P(), pid(1e-4), id="Rodas5P", marks=pytest.mark.slow),
    ],
)
def test_an_effect_that_changes_nothing_fires_once_a_passage(solver: Any, controller: Any) -> None:
    parts = counted(oscillator, lambda t, y: y[0] - 0.5)
    solution = run(
        y0=(jnp.asarray([1.0, 0.0]), jnp.asarray(0.0)), t1=100.0, dt0=None, solver=solver,
        stepsize_controller=controller, **parts,
    )  # fmt: skip
    assert solution.ys[1] == 32


@pytest.mark.parametrize(
    ("sign", "dt0"),
    [
        pytest.param(sign, dt0, marks=slow_unless((sign, dt0) in ((1.0, 0.25), (-1.0, 0.3))))
        for sign in (1.0, -1.0)
        for dt0 in (0.1, 0.25, 0.3)
    ],
)
def test_a_passage_at_or_between_the_ends_of_fixed_steps(sign: float, dt0: float) -> None:
    parts = counted(lambda t, y, args: jnp.ones_like(y), lambda t, y: sign * y)
    solution = run(y0=(jnp.asarray(-1.0), jnp.asarray(0.0)), t1=1.0, dt0=dt0, t0=-1.0, **parts)
    assert solution.ys[1] == 1


def test_a_chain_of_solves_that_restart_at_events_finds_each_once() -> None:
    event = Event(lambda t, y, args, **kwargs: y[0], NEWTON, direction=False)

    @jax.jit
    def next_event(t: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = run(oscillator, y, 100.0, None, event, t0=t, stepsize_controller=pid(1e-10))
        return solution.ts[0], solution.ys[0]

    t, y, found = jnp.asarray(0.0), jnp.asarray([1.0, 0.0]), list[float]()
    for _ in range(4):
        t, y = next_event(t, y)
        found.append(float(t))
    np.testing.assert_allclose(found, np.pi / 2 + 2 * np.pi * np.arange(4), atol=1e-7)


# -------------------------------------------------------------------------------------------------- the state is right


@pytest.mark.parametrize("level", [0.5, -0.3])
@pytest.mark.parametrize(
    ("solver", "controller", "dt0"),
    [
        pytest.param(Tsit5(), pid(1e-3), None, id="Tsit5-adaptive"),
        pytest.param(Tsit5(), ConstantStepSize(), 1.0, id="Tsit5-constant"),
        pytest.param(rungax.Heun(), pid(1e-3), None, id="Heun-adaptive", marks=pytest.mark.slow),
        pytest.param(rungax.Kvaerno3(), pid(1e-3), None, id="Kvaerno3-adaptive", marks=pytest.mark.slow),
    ],
)
def test_the_state_is_before_the_passage_and_within_the_tolerance(
    solver: Any, controller: Any, dt0: float | None, level: float
) -> None:
    event = Event(lambda t, y, args, **kwargs: y[0] - level, NEWTON)
    start = jnp.asarray([1.0, 0.0])
    solution = run(oscillator, start, 10.0, dt0, event, solver, stepsize_controller=controller, max_steps=256)
    assert solution.result == RESULTS.event_occurred
    assert 0 <= solution.ys[0, 0] - level <= 1e-8


@pytest.mark.parametrize(
    ("finder", "controller"),
    [
        pytest.param(NEWTON, pid(1e-8), id="adaptive"),
        pytest.param(STRICT, ConstantStepSize(), id="constant, strict"),
        pytest.param(NEWTON, ConstantStepSize(), id="constant", marks=pytest.mark.slow),
        pytest.param(STRICT, pid(1e-8), id="adaptive, strict", marks=pytest.mark.slow),
        pytest.param(optx.Bisection(rtol=1e-10, atol=1e-10), pid(1e-8), id="adaptive, bisection"),
    ],
)
def test_a_ball_that_comes_to_rest_stays_above_the_floor(finder: Any, controller: Any) -> None:
    bounce = lambda t, y, args: y * jnp.asarray([1.0, -0.8])
    event = Event(lambda t, y, args, **kwargs: y[0], finder, effect=bounce)
    solution = run(
        falling, jnp.asarray([1.0, 0.0]), 5.0, 0.1, event, stepsize_controller=controller, max_steps=4096,
        saveat=SaveAt(steps=True),
    )  # fmt: skip
    n = int(solution.stats["num_accepted_steps"])
    assert solution.result in (RESULTS.max_steps_reached, RESULTS.max_effects_reached)
    assert solution.ts[n - 1] == pytest.approx(4.0637, abs=1e-4)
    assert np.min(solution.ys[:n, 0]) >= -1e-14


@pytest.mark.slow
def test_a_thousand_elastic_bounces() -> None:
    gravity, height = 9.8, 50_000.0
    field = lambda t, y, args: jnp.stack([y[1], jnp.full_like(y[1], -gravity)])
    parts = counted(field, lambda t, y: y[0], lambda t, y: y * jnp.asarray([1.0, -1.0]), STRICT)
    first = 101.01525445522107
    start = (jnp.asarray([height, 0.0]), jnp.asarray(0.0))
    solution = run(y0=start, t1=2000 * first, dt0=None, stepsize_controller=pid(1e-8), **parts)
    assert solution.ys[1] == 1000
    position, speed = solution.ys[0][0]
    np.testing.assert_allclose(gravity * position + speed**2 / 2, gravity * height, rtol=1e-8)
    np.testing.assert_allclose(position, height, rtol=1e-6)


@pytest.mark.parametrize(
    "finder",
    [
        NEWTON,
        pytest.param(optx.Bisection(rtol=1e-8, atol=1e-8), marks=pytest.mark.slow),
        pytest.param(optx.Chord(rtol=1e-8, atol=1e-8), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_root_at_the_end_of_a_step(sign: float, finder: Any) -> None:
    event = Event(lambda t, y, args, **kwargs: sign * (y - 0.5), finder)
    solution = run(lambda t, y, args: jnp.ones_like(y), jnp.asarray(0.0), 1.0, 0.25, event)
    assert solution.ts[0] == 0.5


def test_a_root_far_from_the_end_of_its_step() -> None:
    event = Event(lambda t, y, args, **kwargs: y[0], STRICT)
    start = jnp.asarray([5e6, 0.0])
    solution = run(falling, start, 1e9, None, event, stepsize_controller=pid(1e-3))
    np.testing.assert_allclose(solution.ts[0], np.sqrt(1e7 / GRAVITY), rtol=1e-12)


def test_a_flat_root() -> None:
    event = Event(lambda t, y, args, **kwargs: (y - 0.4) ** 3, NEWTON)
    solution = run(lambda t, y, args: jnp.ones_like(y), jnp.asarray(0.0), 1.0, 0.25, event)
    assert solution.result == RESULTS.event_occurred
    assert 0 <= 0.4 - solution.ts[0] <= 1e-8


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e9])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_small_and_large_times(scale: float, dtype: Any) -> None:
    event = Event(lambda t, y, args, **kwargs: y - 0.5, NEWTON)
    solution = run(
        lambda t, y, args: args * (1 - y), jnp.asarray(0.0, dtype), 2 * scale, 0.3 * scale, event,
        args=jnp.asarray(1 / scale, dtype),
    )  # fmt: skip
    tolerance = 1e-4 if dtype == jnp.float64 else 2e-4
    np.testing.assert_allclose(solution.ts[0] / scale, np.log(2.0), rtol=tolerance)
    np.testing.assert_allclose(solution.ys[0], 0.5, atol=1e-8 if dtype == jnp.float64 else 1e-6)


@pytest.mark.parametrize("dt0", [-0.3, -0.25])
def test_backwards_in_time(dt0: float) -> None:
    parts = counted(oscillator, lambda t, y: y[0])
    start = (jnp.asarray([1.0, 0.0]), jnp.asarray(0.0))
    solution = run(y0=start, t1=-20.0, dt0=dt0, **parts)
    assert solution.ys[1] == int((20.0 - np.pi / 2) / np.pi) + 1


def test_inside_shard_map() -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("x",))
    spec = PartitionSpec("x")

    def time(level: jax.Array) -> jax.Array:
        event = Event(lambda t, y, args, **kwargs: y[0] - args, NEWTON, direction=False)
        start = jnp.asarray([1.0, 0.0])
        controller = pid(1e-9)
        return run(oscillator, start, 10.0, None, event, args=level, stepsize_controller=controller, max_steps=256).ts

    levels = jnp.asarray([0.5, 0.1, -0.2, 0.9])
    sharded = jax.jit(jax.shard_map(jax.vmap(time), mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(sharded(levels)[:, 0], np.arccos(levels), atol=1e-7)
