"""The first step of `dt0=None` is not below the resolution of time, and chosen without a look past the first jump."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies

import rungax
from rungax import RESULTS, ClipStepSizeController, PIDController, SaveAt

CONTROL = PIDController(rtol=1e-3, atol=1e-6)


def relax(t: Any, y: Any, args: Any) -> Any:
    """Relaxation at the rate of the first argument towards the second."""
    rate, target = args
    return -rate * (y - target)


@jax.jit
def solve(t0: Any, t1: Any, y0: Any, args: Any) -> rungax.Solution:
    return rungax.diffeqsolve(
        relax, rungax.Tsit5(), t0, t1, None, y0, args, stepsize_controller=CONTROL, throw=False, max_steps=256
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=60, deadline=None)
@given(
    start=strategies.floats(-1e4, 1e4),
    span=strategies.floats(-30, 12).map(lambda power: 10.0**power),
    backwards=strategies.booleans(),
    state=strategies.sampled_from([0.0, 1e-12, 1.0]),
)
@example(start=32.0, span=1.0, backwards=False, state=0.0)
@example(start=0.0, span=1e-18, backwards=False, state=1.0)
def test_a_solve_starts_wherever_and_however_long_it_is(
    dtype: str, start: float, span: float, backwards: bool, state: float
) -> None:
    """The start in units of the span; the exact solution is the same in all units of time."""
    t0 = np.asarray(start * span, dtype)
    # In single precision a long way from zero leaves few times within the span.
    t0 = np.where(np.abs(start) * np.finfo(dtype).eps < 1e-4, t0, np.zeros_like(t0))
    t1 = np.asarray(t0 - span if backwards else t0 + span, dtype)
    rate = 1 / (t1 - t0)
    y0, args = jnp.asarray(state, dtype), (jnp.asarray(rate), jnp.asarray(2.0, dtype))
    solution = solve(jnp.asarray(t0), jnp.asarray(t1), y0, args)
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.ys[0], 2 + (state - 2) * np.exp(-1), rtol=5e-3)


def test_milliseconds_since_1970() -> None:
    t0 = 1.7e12
    solution = solve(t0, t0 + 1e4, jnp.asarray(0.0), (jnp.asarray(1e-4), jnp.asarray(2.0)))
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.ys[0], 2 - 2 * np.exp(-1), rtol=5e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_times_are_not_multiplied(sign: float) -> None:
    """`dt0` and `StepTo` are checked against the direction of a solve whose times have no product in float32."""
    t0, t1 = jnp.zeros((), "float32"), jnp.asarray(sign * 1e-25, "float32")
    args = (1 / t1, jnp.asarray(2.0, "float32"))
    for dt0, controller in (
        (t1 / 64, CONTROL),
        (t1 / 64, rungax.ConstantStepSize()),
        (None, rungax.StepTo(jnp.linspace(0, 1, 65, dtype="float32") * t1)),
    ):
        y0 = jnp.ones((), "float32")
        solution = rungax.diffeqsolve(relax, rungax.Tsit5(), t0, t1, dt0, y0, args, stepsize_controller=controller)
        np.testing.assert_allclose(solution.ys[0], 2 - np.exp(-1), rtol=1e-3)


@pytest.mark.parametrize(
    ("direction", "span"),
    [
        (1.0, 1e-9),
        (-1.0, 1e-3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(1.0, 1e-3), (-1.0, 1e-9)]),
    ],
)
def test_nothing_is_evaluated_past_the_first_jump(span: float, direction: float) -> None:
    """The field past the jump would make the first step as short as it is fast."""

    def jumps(t: Any, y: Any, args: Any) -> Any:
        return jnp.where(direction * t < span, 1.0, 1e12) * (1 - y)

    controller = ClipStepSizeController(CONTROL, jump_ts=[3 * direction, direction * span])
    solution = rungax.diffeqsolve(
        jumps, rungax.Tsit5(), 0.0, direction, None, jnp.asarray(0.5), stepsize_controller=controller,
        saveat=SaveAt(steps=True), max_steps=2, throw=False,
    )  # fmt: skip
    # The first step is as long as it would be for the slow field alone, or as there is room for.
    assert abs(float(solution.ts[0])) == pytest.approx(span, rel=1e-6)
