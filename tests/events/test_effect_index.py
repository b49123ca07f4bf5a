"""An effect may ask for the index of its event: the number of times that it has happened before."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax

NEWTON = optx.Newton(1e-10, 1e-10)
DOSES = (1.0, 0.5, 0.25)


def solve(doses: Any) -> jax.Array:
    """A decaying quantity that gets the next of `doses` whenever it falls to a half; another event has no index."""

    def refill(t: Any, y: Any, doses: Any, index: Any) -> Any:
        return y + doses[jnp.minimum(index, len(DOSES) - 1)]

    event = rungax.Event(
        [lambda t, y, args, **kwargs: y - 0.5, lambda t, y, args, **kwargs: t - 0.1],
        NEWTON,
        direction=[False, None],
        effect=[refill, lambda t, y, args: y],
    )
    solution = rungax.diffeqsolve(
        lambda t, y, args: -y,
        rungax.Tsit5(),
        0.0,
        2.0,
        None,
        1.0,
        doses,
        event=event,
        max_steps=64,
        stepsize_controller=rungax.PIDController(rtol=1e-8, atol=1e-10),
    )
    return solution.ys[-1]


def end(doses: np.ndarray) -> float:
    """The same by hand: from 1 to 0.5, then from 0.5 + dose to 0.5, as often as there is time."""
    t, y, i = 0.0, 1.0, 0
    while t + np.log(y / 0.5) < 2.0:
        t, y, i = t + np.log(y / 0.5), 0.5 + doses[min(i, len(doses) - 1)], i + 1
    return float(y * np.exp(t - 2.0))


def test_the_index_counts_the_events_own_effects() -> None:
    doses = np.asarray(DOSES)
    np.testing.assert_allclose(jax.jit(solve)(jnp.asarray(doses)), end(doses), rtol=1e-6)


@pytest.mark.parametrize("mode", [jax.grad, pytest.param(jax.jacfwd, marks=pytest.mark.slow)])
def test_the_replay_applies_each_effect_with_its_index(mode: Callable[..., Any]) -> None:
    doses, small = np.asarray(DOSES), 1e-6
    differences = [(end(doses + small * unit) - end(doses - small * unit)) / (2 * small) for unit in np.eye(3)]
    np.testing.assert_allclose(jax.jit(mode(solve))(jnp.asarray(doses)), differences, rtol=1e-4, atol=1e-6)


def test_an_index_with_a_default_is_the_users_own() -> None:
    """As in a loop that makes effects with `index=index`, or in a `functools.partial`."""

    def end(effect: Any) -> jax.Array:
        event = rungax.Event(lambda t, y, args, **kwargs: y - 0.5, NEWTON, direction=False, effect=effect)
        return rungax.diffeqsolve(
            lambda t, y, args: -y, rungax.Tsit5(), 0.0, 1.5, 0.125, 1.0, event=event, max_steps=32
        ).ys[-1]

    def refill(t: Any, y: Any, args: Any, index: float) -> Any:
        return y + index

    expected = end(lambda t, y, args: y + 0.5)
    assert float(end(lambda t, y, args, index=0.5: y + index)) == float(expected)
    assert float(end(functools.partial(refill, index=0.5))) == float(expected)
