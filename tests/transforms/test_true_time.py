"""Backwards in time, events, saved functions and controls are called with the true time, not with a reflected one."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optimistix as optx

from rungax import ControlTerm, Euler, Event, SaveAt, diffeqsolve


def test_events_saved_functions_and_controls_see_the_true_time() -> None:
    """All three in one solve: y = t² along its control, from 2 down to the time 0.5 that the event finds."""
    intervals: list[Any] = []

    def square(t0: Any, t1: Any) -> Any:
        intervals.append((t0, t1))
        return t1**2 - t0**2

    # Zero at t = 0.5, and only with t0 = 2, t1 = 0 and dt0 = -0.25.
    event = Event(
        lambda t, y, args, *, t0, t1, dt0, **kwargs: t - 0.25 * (t0 + t1) * -dt0 / 0.25,
        optx.Newton(rtol=1e-12, atol=1e-12),
    )
    term = ControlTerm(lambda t, y, args: jnp.ones_like(y), square)
    saveat = SaveAt(t0=True, t1=True, steps=True, fn=lambda t, y, args: (t, y))
    solution = diffeqsolve(term, Euler(), 2.0, 0.0, -0.25, jnp.asarray(4.0), saveat=saveat, event=event, max_steps=16)
    times, states = (np.asarray(x)[np.isfinite(x)] for x in solution.ys)
    np.testing.assert_allclose(times, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(times, np.asarray(solution.ts)[: len(times)])
    np.testing.assert_allclose(states, times**2, rtol=1e-12)
    assert intervals
