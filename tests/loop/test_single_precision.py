"""With times in float32 a solve ends, and on `t1`, however small its steps are against the resolution of time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ClipStepSizeController, Euler, Heun, PIDController, SaveAt, StepTo, Tsit5, diffeqsolve

from ..fakes import FAKE_TERM, FakeSolver, Script, fake_y0, scripted
from .measure import DECAY

F32 = np.float32
ONE = jnp.asarray(1.0, jnp.float32)
STEPS = SaveAt(t1=True, steps=True)
PID = PIDController(rtol=1e-4, atol=1e-6)


def fixed(t0: float, t1: float, dt0: float, **kwargs: Any) -> rungax.Solution:
    return diffeqsolve(
        DECAY, Euler(), F32(t0), F32(t1), F32(dt0), ONE, saveat=STEPS, max_steps=2048, throw=False, **kwargs
    )


def adaptive(t0: float, t1: float, dt0: float | None, controller: Any = PID, **kwargs: Any) -> rungax.Solution:
    first = None if dt0 is None else F32(dt0)
    options = {"max_steps": 2048, **kwargs}
    return diffeqsolve(
        DECAY, Tsit5(), F32(t0), F32(t1), first, ONE, stepsize_controller=controller, throw=False, **options
    )


@pytest.mark.parametrize("step", [0.1, 0.01, 0.001, 1 / 3, 1 / 49])
def test_a_fixed_step_makes_as_many_steps_as_fit(step: float) -> None:
    solution = fixed(0.0, 1.0, step)
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) == round(1 / step)
    assert solution.ts.dtype == jnp.float32
    assert float(solution.ts[round(1 / step) - 1]) == 1.0


@pytest.mark.parametrize("t0", [1e3, 1e5, -1e5])
def test_a_fixed_step_at_large_times_lands_on_the_end(t0: float) -> None:
    solution = fixed(t0, t0 + 10, 0.25)
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) == 40
    assert float(solution.ts[39]) == t0 + 10
    np.testing.assert_allclose(solution.ys[39], 0.75**40, rtol=1e-4)


@pytest.mark.parametrize("t0", [0.0, 1.0, 1e4, 1e6])
@pytest.mark.parametrize("backwards", [False, True])
def test_adaptive_steps_land_on_the_end(t0: float, backwards: bool) -> None:
    for length in (1.0, 2.0, 2.5):
        end = float(F32(t0 + (-length if backwards else length)))
        for dt0 in (None, 1e-2 if not backwards else -1e-2):
            solution = adaptive(t0, end, dt0)
            assert solution.result in (RESULTS.successful, RESULTS.dt_min_reached)
            if t0 < 1e6:
                assert solution.result == RESULTS.successful
                assert float(solution.ts[0]) == end
                np.testing.assert_allclose(solution.ys[0], np.exp(t0 - end), rtol=2e-2 if t0 > 1 else 1e-3)


@pytest.mark.parametrize("ulps", [1, 2, 3, 5, 9])
def test_an_interval_of_a_few_roundings(ulps: int) -> None:
    end = F32(1.0)
    for _ in range(ulps):
        end = np.nextafter(end, F32(2.0))
    for solution in (fixed(1.0, float(end), 1e-2), adaptive(1.0, float(end), None), adaptive(1.0, float(end), 1e-6)):
        assert solution.result == RESULTS.successful
        assert float(np.asarray(solution.ts)[np.isfinite(solution.ts)][-1]) == float(end)
        assert int(solution.stats["num_steps"]) <= ulps


def test_a_step_that_time_does_not_resolve_ends_the_solve() -> None:
    tight = PIDController(rtol=1e-4, atol=1e-6, dtmax=1e-9)
    solution = adaptive(1.0, 2.0, 1e-9, tight, max_steps=None)
    assert solution.result == RESULTS.dt_min_reached
    assert float(solution.ts[0]) == 1.0


def test_a_fixed_step_that_time_does_not_resolve_ends_the_solve() -> None:
    solution = diffeqsolve(DECAY, Euler(), F32(1e6), F32(1e6 + 1), F32(1e-3), ONE, max_steps=None, throw=False)
    assert solution.result == RESULTS.dt_min_reached


@pytest.mark.parametrize("where", ["end", "stop", "jump"])
def test_a_rejected_step_of_some_roundings_is_not_made_again(where: str) -> None:
    # Six numbers from 1 on; every step is rejected and shortened by one number.
    times = [F32(1)]
    for _ in range(6):
        times.append(np.nextafter(times[-1], F32(2)))
    inner = scripted(float(times[6]), *[Script(False, float(t)) for t in times[5::-1]], jumps=False)
    end = {"end": float(times[6])}.get(where, 2.0)
    clip = {"stop": {"step_ts": times[6:]}, "jump": {"jump_ts": times[6:]}}.get(where, {})
    first = 5 if where == "jump" else 6
    solution = diffeqsolve(
        FAKE_TERM, FakeSolver(), F32(1), F32(end), None, jax.tree.map(lambda x: x.astype(F32), fake_y0()),
        stepsize_controller=ClipStepSizeController(inner, **clip), saveat=SaveAt(t1=True, controller_state=True),
        max_steps=8, throw=False,
    )  # fmt: skip
    ends = solution.controller_state.controller_state.inner_state.log[:, 1]
    assert float(ends[0]) == times[first]
    assert (np.diff(ends[2:6]) < 0).all()


def test_times_between_the_steps_are_saved_under_their_own_name() -> None:
    ts = np.linspace(100, 101, 7, dtype=F32)
    solution = diffeqsolve(
        DECAY, Heun(), F32(100), F32(101), F32(0.1), ONE, stepsize_controller=PID, saveat=SaveAt(ts=ts), max_steps=4096
    )
    np.testing.assert_array_equal(solution.ts, ts)
    np.testing.assert_allclose(solution.ys, np.exp(100 - ts), rtol=1e-3)


def test_stops_and_jumps_are_met_in_single_precision() -> None:
    jumps, stops = np.asarray([100.5], F32), np.asarray([100.1, 100.7], F32)
    controller = ClipStepSizeController(PID, step_ts=stops, jump_ts=jumps)
    solution = adaptive(100.0, 101.0, None, controller, saveat=STEPS)
    times = set(np.asarray(solution.ts).tolist())
    assert {float(t) for t in stops} <= times
    # Whether a step saved at a jump carries the number before or after it is not this test's matter.
    assert times & {float(np.nextafter(F32(100.5), F32(side))) for side in (0, 200)}
    assert 100.5 not in times


def test_step_to_takes_single_precision() -> None:
    ts = np.asarray([0.0, 0.1, 0.7, 1.0], F32)
    solution = diffeqsolve(
        DECAY, Euler(), F32(0), F32(1), None, ONE, stepsize_controller=StepTo(ts), saveat=STEPS, max_steps=8
    )
    np.testing.assert_array_equal(solution.ts[:3], ts[1:])


@pytest.mark.filterwarnings("ignore:`rtol=.*` is smaller than the rounding of the state")
def test_without_a_bound_on_their_number_steps_of_a_few_roundings_end() -> None:
    """Fixed steps that would miss the end if their lengths were added up, and adaptive ones at large times."""
    many = diffeqsolve(DECAY, Euler(), F32(0), F32(10), F32(1e-3), ONE, max_steps=None, throw=False)
    assert int(many.stats["num_steps"]) == 10_000
    assert float(many.ts[0]) == 10.0
    tight = PIDController(rtol=1e-7, atol=1e-9)
    for t0, t1 in ((1e5, 1e5 + 0.0625), (1e5 + 0.0625, 1e5)):
        solution = adaptive(t0, t1, None, tight, max_steps=None)
        assert solution.result == RESULTS.successful
        assert float(solution.ts[0]) == t1
        np.testing.assert_allclose(solution.ys[0], np.exp(t0 - t1), rtol=1e-4)
