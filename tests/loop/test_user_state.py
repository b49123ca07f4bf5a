"""A user's own state changes with every accepted step and with no other, and differentiates with the solve."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rungax
from rungax.loop import run
from rungax.setup import Stepping, set_up
from rungax.step import Problem
from rungax.terms import in_direction_of_travel

SOLVER = rungax.Heun()


def field(t: Any, y: Any, rate: Any) -> Any:
    return -rate * y + jnp.sin(9 * t)


def update(t: Any, y: Any, args: Any, user_state: Any) -> Any:
    """The number of steps, and the sum of the squares of time and state at their ends."""
    count, total = user_state
    return count + 1, total + t**2 * y**2


PID = rungax.PIDController(rtol=1e-3, atol=1e-3)


def solved(rate: jax.Array, controller: Any = PID, dt0: float = 0.5, checkpoints: int | None = None) -> tuple[Any, Any]:
    """The last state of a solve, and its own state; by default an adaptive solve with rejected steps."""
    one = jnp.asarray(1.0)
    term = rungax.ODETerm(field).trace_once(0 * one, one, rate)
    problem = Problem(in_direction_of_travel(term, one), rate, 0 * one, 2 * one, one, one)
    stepping = Stepping(SOLVER, controller, jnp.asarray(dt0), 256)
    first = (jnp.asarray(0), jnp.asarray(0.0))
    plan, state = set_up(problem, stepping, {}, user_state_update=update, user_state=first)
    adjoint = rungax.RecursiveCheckpointAdjoint(checkpoints)
    final = (run(plan, state) if checkpoints is None else adjoint.integrate(plan, state)).state
    return final, final.user_state


def test_it_changes_with_accepted_steps_alone() -> None:
    final, (count, _) = jax.jit(solved)(jnp.asarray(1.0))
    assert int(final.num_steps) > int(final.num_accepted), "no step was rejected"
    assert int(count) == int(final.num_accepted)


def test_it_is_part_of_what_the_tape_starts_steps_from() -> None:
    rate, small = jnp.asarray(1.0), 1e-6
    # Steps of constant size: the sum over the steps of an adaptive solve depends on their number.
    fixed = rungax.ConstantStepSize(), 0.125
    value = jax.jit(lambda rate: solved(rate, *fixed)[1][1])
    for checkpoints in (4, 256):
        of_rate = lambda rate, n=checkpoints: solved(rate, *fixed, n)[1][1]
        forward, reverse = (jax.jit(mode(of_rate))(rate) for mode in (jax.jacfwd, jax.grad))
        np.testing.assert_allclose(forward, reverse, rtol=1e-10)
        difference = (value(rate + small) - value(rate - small)) / (2 * small)
        np.testing.assert_allclose(reverse, difference, rtol=1e-6)
