"""Random conditions: derivatives of times and states, in two modes and by difference quotients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from hypothesis import assume, given, settings, strategies as st

from rungax import ConstantStepSize, Event, ForwardMode, RecursiveCheckpointAdjoint, SaveAt, Tsit5, diffeqsolve

from ..compare import assert_trees_close

APART = 2.5e-4
PLACES = jnp.asarray([-2.0, -1.0, 1.0, 2.0]) * APART
WEIGHTS = jnp.asarray([1.0, -8.0, 8.0, -1.0]) / (12 * APART)
"""The difference quotient of fourth order."""


def swing(t: Any, y: Any, args: Any) -> Any:
    """A pendulum that is pushed, and the number of effects."""
    return jnp.stack([y[1], args["push"] * jnp.cos(t) - jnp.sin(y[0]), jnp.zeros_like(y[0])])


def condition(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    """The height above a moving level, in a direction."""
    return y[0] * jnp.cos(args["angle"]) + y[1] * jnp.sin(args["angle"]) - args["level"] - 0.1 * jnp.sin(t)


def kick(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[0] + 0.1 * args["push"], -0.7 * y[1] + 0.1 * jnp.sin(t), y[2] + 1])


EFFECTS = {"ends": None, "goes on": kick}


@functools.cache
def program(kind: str, *, has_forward_mode: bool) -> Callable[..., Any]:
    """Time, state and slope of the condition at the end, their derivatives in one mode or two, and by differences."""
    finder = optx.Newton(rtol=1e-13, atol=1e-13)
    event = Event(condition, finder, direction=False, effect=EFFECTS[kind])

    def end(p: Any, adjoint: Any) -> Any:
        y0 = jnp.stack([p["x"], p["v"], jnp.zeros(())])
        solution = diffeqsolve(
            swing, Tsit5(), 0.0, 5.0, 0.025, y0, p, event=event, stepsize_controller=ConstantStepSize(),
            saveat=SaveAt(t1=True), max_steps=512, throw=False, adjoint=adjoint,
        )  # fmt: skip
        assert solution.ts is not None
        t, y = solution.ts[0], solution.ys[0]
        slope = jax.jvp(lambda t, y: condition(t, y, p), (t, y), (jnp.ones_like(t), swing(t, y, p)))[1]
        return (t, y[:2]), (y[2], slope)

    @jax.jit
    def everything(p: Any) -> Any:
        reverse, facts = jax.jacrev(lambda p: end(p, RecursiveCheckpointAdjoint()), has_aux=True)(p)
        forward = jax.jacfwd(lambda p: end(p, ForwardMode()), has_aux=True)(p)[0] if has_forward_mode else None
        names = sorted(p)

        def at(index: Any) -> Any:
            """In a loop: a program for a batch takes longer to compile than this one to run."""
            i, place = index // PLACES.size, PLACES[index % PLACES.size]
            moved = {name: p[name] + jnp.where(k == i, place, 0.0) for k, name in enumerate(names)}
            return end(moved, RecursiveCheckpointAdjoint())

        values, (numbers, _) = jax.lax.map(at, jnp.arange(len(names) * PLACES.size))
        by_name = lambda x: x.reshape(len(names), PLACES.size, *x.shape[1:])
        slopes = jax.tree.map(lambda x: jnp.einsum("p,ip...->i...", WEIGHTS, by_name(x)), values)
        quotients = jax.tree.map(lambda x: {name: x[k] for k, name in enumerate(names)}, slopes)
        return facts, numbers, reverse, forward, quotients

    return everything


# Closed forms show the derivatives of a time that ends the solve, and those of forward mode, in `test_gradients.py`.
@pytest.mark.parametrize(
    ("kind", "has_forward_mode"),
    [
        pytest.param("goes on", False, id="goes on"),
        pytest.param("goes on", True, id="goes on, two modes", marks=pytest.mark.slow),
        pytest.param("ends", True, id="ends, two modes", marks=pytest.mark.slow),
    ],
)
def test_derivatives_of_times_and_states(kind: str, has_forward_mode: bool) -> None:
    run = program(kind, has_forward_mode=has_forward_mode)

    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(
        angle=st.floats(0.0, 6.28),
        level=st.floats(-0.5, 0.5),
        push=st.floats(-0.5, 0.5),
        x=st.floats(-1.0, 1.0),
        v=st.floats(0.5, 1.0),
    )
    def check(**values: float) -> None:
        (number, slope), numbers, reverse, forward, quotients = run({k: jnp.asarray(x) for k, x in values.items()})
        # Neighbours with other numbers of effects, or a condition that grazes zero, have no common derivative.
        assume(np.all(np.asarray(numbers) == number))
        assume(kind != "ends" or abs(slope) > 0.1)
        if has_forward_mode:
            assert_trees_close(forward, reverse, rtol=1e-8, atol=1e-8)
        assert_trees_close(reverse, quotients, rtol=1e-7, atol=1e-7)

    check()
