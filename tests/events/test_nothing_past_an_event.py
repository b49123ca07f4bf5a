"""No output of a solve reaches past the event that ends it, which is the earliest of those in the step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from rungax import Euler, Event, SaveAt, SubSaveAt, Tsit5, diffeqsolve

NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)


def clock(t: Any, y: Any, args: Any) -> Any:
    """The solution from 0 is t."""
    return jnp.ones_like(y)


def passes(level: float) -> Any:
    return lambda t, y, args, **kwargs: y - level


def test_saves_and_dense_output_of_one_solve_end_at_the_event() -> None:
    event = Event({"a": passes(1.4), "b": passes(1.3), "c": passes(9.0)}, NEWTON)
    subs = {
        "end": SubSaveAt(t1=True),
        "ts": SubSaveAt(ts=[0.5, 1.25, 1.35, 1.5, 2.0]),
        "steps": SubSaveAt(steps=True),
    }
    saveat = SaveAt(subs=subs, dense=True, solver_state=True)
    solution = diffeqsolve(clock, Tsit5(), 0.0, 2.0, 0.5, jnp.asarray(0.0), saveat=saveat, event=event, max_steps=8)
    assert {key: bool(fired) for key, fired in solution.event_mask.items()} == {"a": False, "b": True, "c": False}
    saved = {key: np.asarray(ts)[np.isfinite(ts)] for key, ts in solution.ts.items()}
    np.testing.assert_allclose(saved["end"], [1.3], rtol=1e-12)
    np.testing.assert_allclose(saved["ts"], [0.5, 1.25], rtol=1e-12)
    np.testing.assert_allclose(saved["steps"], [0.5, 1.0, 1.3], rtol=1e-12)
    jax.tree.map(lambda ts, ys: np.testing.assert_allclose(ts, ys, rtol=1e-12), dict(solution.ts), dict(solution.ys))
    np.testing.assert_allclose(solution.evaluate(saved["end"][0]), 1.3, rtol=1e-12)
    assert np.isnan(solution.evaluate(1.31))
    np.testing.assert_allclose(solution.interpolation.t1, 1.3, rtol=1e-12)


@pytest.mark.parametrize(
    ("levels", "fired"),
    [
        pytest.param((0.8, 0.7), (False, True), id="second"),
        pytest.param((0.7, 0.8), (True, False), id="first", marks=pytest.mark.slow),
    ],
)
def test_the_earlier_event_wins_in_either_order(levels: tuple[float, float], fired: tuple[bool, bool]) -> None:
    event = Event(tuple(passes(level) for level in levels), NEWTON)
    solution = diffeqsolve(clock, Euler(), 0.0, 2.0, 0.5, jnp.asarray(0.0), event=event)
    assert tuple(bool(found) for found in solution.event_mask) == fired
    np.testing.assert_allclose(solution.ts[0], 0.7, rtol=1e-12)
