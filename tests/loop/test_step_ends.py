"""Steps end at the times that the controller determines, and the last one exactly at `t1`, in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ConstantStepSize, Euler, Heun, SaveAt, StepTo, diffeqsolve

from .measure import DECAY, ONE, PID, SQUARE, STEPS, counts, finite


def fixed(t0: float, t1: float, dt0: float, max_steps: int = 128) -> rungax.Solution:
    return diffeqsolve(DECAY, Euler(), t0, t1, dt0, ONE, saveat=STEPS, max_steps=max_steps)


def test_a_fixed_step_visits_its_multiples_and_then_the_end() -> None:
    times = finite(fixed(0.0, 1.0, 0.3).ts)
    assert times == [1 * 0.3, 2 * 0.3, 3 * 0.3, 1.0]


def test_a_fixed_step_backwards_visits_the_mirror_image() -> None:
    assert finite(fixed(0.0, -1.0, -0.3).ts) == [-t for t in finite(fixed(0.0, 1.0, 0.3).ts)]


@pytest.mark.parametrize("step", [0.1, 0.01, 1 / 3, 1 / 49, 1 / 98])
def test_a_fixed_step_that_divides_the_interval_makes_no_step_of_rounding(step: float) -> None:
    solution = fixed(0.0, 1.0, step)
    assert counts(solution) == (round(1 / step), round(1 / step), 0)
    assert finite(solution.ts)[-1] == 1.0


def test_a_fixed_step_longer_than_the_interval_is_shortened() -> None:
    assert finite(fixed(0.0, 1.0, 5.0).ts) == [1.0]


def test_a_fixed_step_does_not_accumulate_rounding() -> None:
    solution = fixed(1e6, 1e6 + 10, 0.1)
    np.testing.assert_array_equal(finite(solution.ts), [*(1e6 + 0.1 * i for i in range(1, 100)), 1e6 + 10])


def test_a_fixed_step_towards_infinity_goes_on_until_max_steps() -> None:
    solution = diffeqsolve(DECAY, Euler(), 0.0, jnp.inf, 0.5, ONE, saveat=STEPS, max_steps=4, throw=False)
    assert solution.result == RESULTS.max_steps_reached
    assert finite(solution.ts) == [0.5, 1.0, 1.5, 2.0]
    np.testing.assert_allclose(solution.ys, [0.5, 0.25, 0.125, 0.0625], rtol=1e-15)


@pytest.mark.parametrize("max_steps", [4096, None])
def test_adaptive_steps_land_on_the_end_exactly(max_steps: int | None) -> None:
    for t0, t1 in [(0.0, 1.0), (0.1, 0.7), (1.0, 1.0 + 1e-12), (-1e5, -1e5 + 1.0), (1.0, 0.0), (0.7, 0.1)]:
        solution = diffeqsolve(DECAY, Heun(), t0, t1, None, ONE, stepsize_controller=PID, max_steps=max_steps)
        assert float(solution.ts[0]) == t1
        assert solution.t0 == t0
        assert solution.t1 == t1
        np.testing.assert_allclose(solution.ys[0], np.exp(t0 - t1), rtol=1e-5)


def test_a_solve_backwards_undoes_the_solve_forwards() -> None:
    there = diffeqsolve(SQUARE, Heun(), 0.5, 2.0, None, ONE, stepsize_controller=PID, max_steps=None)
    back = diffeqsolve(SQUARE, Heun(), 2.0, 0.5, None, there.ys[0], stepsize_controller=PID, max_steps=None)
    np.testing.assert_allclose(there.ys[0], 1 + 4 - 0.25, rtol=1e-9)
    np.testing.assert_allclose(back.ys[0], 1.0, rtol=1e-8)


def test_backwards_a_field_sees_true_time() -> None:
    solution = diffeqsolve(SQUARE, Heun(), 3.0, 1.0, -0.25, ONE, saveat=SaveAt(ts=[2.5, 2.0, 1.5], t1=True))
    np.testing.assert_allclose(solution.ts, [2.5, 2.0, 1.5, 1.0], rtol=0)
    np.testing.assert_allclose(solution.ys, np.square([2.5, 2.0, 1.5, 1.0]) - 8.0, rtol=1e-13)


@pytest.mark.parametrize("dt0", [0.1, -0.1, None])
def test_no_interval_is_no_step_and_a_success(dt0: float | None) -> None:
    solution = diffeqsolve(DECAY, Heun(), 2.0, 2.0, dt0, ONE, stepsize_controller=PID, max_steps=None)
    assert solution.result == RESULTS.successful
    assert counts(solution) == (0, 0, 0)
    assert float(solution.ts[0]) == 2.0
    assert float(solution.ys[0]) == 1.0


def test_no_interval_with_a_fixed_step() -> None:
    solution = fixed(2.0, 2.0, 0.1)
    assert counts(solution) == (0, 0, 0)
    assert finite(solution.ts) == [2.0]


@pytest.mark.parametrize(("t0", "t1", "ts"), [(0.0, 1.0, [0.0, 0.1, 0.7, 1.0]), (1.0, -1.0, [1.0, 0.7, -0.2, -1.0])])
def test_step_to_visits_its_times_exactly(t0: float, t1: float, ts: list[float]) -> None:
    solution = diffeqsolve(DECAY, Euler(), t0, t1, None, ONE, stepsize_controller=StepTo(ts), saveat=STEPS, max_steps=8)
    assert finite(solution.ts) == ts[1:]
    lengths = np.diff(ts)
    np.testing.assert_allclose(solution.ys[:3], np.cumprod(1 - lengths), rtol=1e-14)


def test_step_to_takes_traced_times() -> None:
    def end(ts: jax.Array) -> jax.Array:
        controller = StepTo(ts)
        solution = diffeqsolve(DECAY, Euler(), ts[0], ts[-1], None, ONE, stepsize_controller=controller, throw=False)
        return solution.ys[0]

    ts = jnp.asarray([0.0, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(jax.jit(end)(ts), 0.5 * 0.75 * 0.75, rtol=1e-15)


def test_a_chosen_first_step_is_taken_and_one_past_the_end_is_shortened() -> None:
    for dt0, first in [(0.125, 0.125), (50.0, 1.0)]:
        solution = diffeqsolve(
            DECAY, Heun(), 0.0, 1.0, dt0, ONE, stepsize_controller=rungax.PIDController(1e3, 1e3), saveat=STEPS
        )
        assert finite(solution.ts)[0] == first
        assert solution.result == RESULTS.successful


def test_integer_times_count_as_floats() -> None:
    solution = diffeqsolve(DECAY, Euler(), 0, 1, 0.3, ONE, saveat=STEPS, max_steps=128)
    assert finite(solution.ts) == finite(fixed(0.0, 1.0, 0.3).ts)


@pytest.mark.parametrize("t1", [1.0, -1.0])
def test_jit_changes_nothing(t1: float) -> None:
    def steps(t1: jax.Array, dt0: jax.Array) -> tuple[jax.Array, jax.Array]:
        solution = diffeqsolve(
            DECAY, Euler(), 0.0, t1, dt0, ONE, saveat=STEPS, max_steps=128, stepsize_controller=ConstantStepSize()
        )
        return solution.ts, solution.ys

    jitted = jax.jit(steps)(jnp.asarray(t1), jnp.asarray(0.3 * t1))
    eager = fixed(0.0, t1, 0.3 * t1)
    np.testing.assert_array_equal(jitted[0], eager.ts)
    np.testing.assert_array_equal(jitted[1], eager.ys)
