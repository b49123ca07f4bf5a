"""What `SaveAt(ts)` saves is what dense output says at those times, wherever they fall and whichever way time runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

import rungax

from ..catalogue import name, slow_unless, terms_for
from ..compare import assert_trees_close
from ..problems.ordinary import SPRING

NUM_TIMES = 6


def solve(
    solver: rungax.AbstractSolver[Any], t0: jax.Array, t1: jax.Array, ts: jax.Array
) -> tuple[Any, Any, jax.Array]:
    """The values saved at `ts`, the dense output there, and the ends of the steps."""
    subs = (rungax.SubSaveAt(ts=ts), rungax.SubSaveAt(steps=True))
    solution = rungax.diffeqsolve(
        terms_for(solver, SPRING.field),
        solver,
        t0,
        t1,
        None,
        SPRING.y0,
        SPRING.args,
        saveat=rungax.SaveAt(subs=subs, dense=True),
        stepsize_controller=rungax.PIDController(rtol=1e-4, atol=1e-4),
        max_steps=128,
        throw=False,
    )
    return solution.ys[0], jax.vmap(solution.evaluate)(ts), solution.ts[1]


SOLVERS = (
    rungax.Bosh3(),
    rungax.Tsit5(),
    rungax.Vern7(),
    rungax.Kvaerno3(),
    rungax.KenCarp4(),
    rungax.ROS3P(),
)
programs = {name(solver): jax.jit(lambda *times, solver=solver: solve(solver, *times)) for solver in SOLVERS}

ends = strategies.floats(-3.0, 3.0)
fractions = strategies.lists(strategies.floats(0.0, 1.0), min_size=NUM_TIMES, max_size=NUM_TIMES).map(sorted)


# Dense output from the stages of every step, and from stages that only dense output needs.
EACH = [pytest.param(n, marks=slow_unless(n in ("Bosh3", "Vern7"))) for n in programs]


@pytest.mark.parametrize("solver", EACH)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(t0=ends, t1=ends, fractions=fractions)
def test_saved_times_are_dense_output(solver: str, t0: float, t1: float, fractions: list[float]) -> None:
    ts = np.clip(t0 + (t1 - t0) * np.array(fractions), min(t0, t1), max(t0, t1))
    saved, dense, _ = programs[solver](jnp.asarray(t0), jnp.asarray(t1), jnp.asarray(ts))
    assert_trees_close(saved, dense, rtol=1e-12, atol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved))


@pytest.mark.parametrize("solver", EACH)
def test_saved_times_at_the_ends_of_steps(solver: str) -> None:
    """There two steps meet, and both must agree on the value."""
    t0, t1 = jnp.asarray(0.0), jnp.asarray(2.0)
    _, _, steps = programs[solver](t0, t1, jnp.linspace(t0, t1, NUM_TIMES))
    ts = jnp.sort(jnp.concatenate([steps[: NUM_TIMES - 2], t0[None], t1[None]]))
    saved, dense, again = programs[solver](t0, t1, ts)
    np.testing.assert_array_equal(again, steps)
    assert_trees_close(saved, dense, rtol=1e-12, atol=1e-12)
