"""Backwards in time, fields, saved functions, controls and events see the true time."""

import jax.numpy as jnp
import numpy as np
import optimistix as optx

import rungax

from ..compare import assert_trees_close
from ..problems.ordinary import BELL


def test_saved_function_sees_the_true_time() -> None:
    saveat = rungax.SaveAt(t0=True, ts=[1.0, 0.25], steps=True, t1=True, fn=lambda t, y, args: (t, args * t))
    solution = rungax.diffeqsolve(BELL.field, rungax.Tsit5(), 1.0, 0.0, -0.25, 0.5, 3.0, saveat=saveat, max_steps=8)
    assert list(solution.ts[:8]) == [1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.0, np.inf]
    assert_trees_close(solution.ys, (solution.ts, 3 * solution.ts))


def test_field_sees_the_true_time() -> None:
    """What a field returns for its time alone is integrated as such: y' = t from 2 to 1 loses 3/2."""
    solution = rungax.diffeqsolve(lambda t, y, args: t, rungax.Tsit5(), 2.0, 1.0, -0.5, 0.0)
    np.testing.assert_allclose(solution.ys, [-1.5], rtol=1e-15)
    assert list(solution.ts) == [1.0]


def test_a_control_an_event_and_a_saved_function_see_the_true_time() -> None:
    """y = t² along its control, read where the event finds t = 0.5 on the way from 2 to 0."""
    term = rungax.ControlTerm(lambda t, y, args: jnp.ones_like(y), lambda t0, t1: t1**2 - t0**2)
    finder = optx.Newton(rtol=1e-12, atol=1e-12)
    event = rungax.Event(lambda t, y, args, *, t0, t1, dt0, **kwargs: t + 0.25 * (t0 + t1) * dt0 / 0.25, finder)
    saveat = rungax.SaveAt(t0=True, t1=True, steps=True, fn=lambda t, y, args: (t, y))
    solution = rungax.diffeqsolve(
        term, rungax.Euler(), 2.0, 0.0, -0.25, np.asarray(4.0), saveat=saveat, event=event, max_steps=16
    )
    times, states = (np.asarray(x)[np.isfinite(x)] for x in solution.ys)
    np.testing.assert_allclose(times, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(times, np.asarray(solution.ts)[: len(times)])
    np.testing.assert_allclose(states, times**2, rtol=1e-12)
