"""`LeapfrogMidpoint` makes the steps of its formula, and handles jumps, continued solves and derivatives."""

from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import (
    ClipStepSizeController,
    HalfSolver,
    LeapfrogMidpoint,
    ODETerm,
    PIDController,
    ReversibleAdjoint,
    SaveAt,
    StepTo,
    diffeqsolve,
)

from ..compare import assert_trees_close
from ..convergence.measure import TOLERANCE, slope

SOLVER = LeapfrogMidpoint()

# y = exp(sin t), and a wave.
SWING = ODETerm(lambda t, y, args: args * jnp.cos(t) * y)
WAVE = ODETerm(lambda t, y, args: args * y)
RATE = jnp.asarray(1.0)


@eqx.filter_jit
def solve(
    y0: Any,
    dt0: Any,
    rate: Any = RATE,
    t0: Any = 0.0,
    t1: Any = 2.0,
    saveat: SaveAt = SaveAt(t1=True),
    terms: Any = SWING,
    max_steps: int | None = 2000,
) -> Any:
    return diffeqsolve(terms, SOLVER, t0, t1, dt0, y0, rate, saveat=saveat, max_steps=max_steps)


def by_hand(ts: list[float], y: float) -> list[float]:
    ys, past = [y], (ts[0], y)
    for t0, t1 in pairwise(ts):
        past, y = (t0, y), past[1] + np.cos(t0) * y * (t1 - past[0])
        ys.append(y)
    return ys


@pytest.mark.parametrize("direction", [1, -1])
def test_steps_are_those_of_the_formula(direction: int) -> None:
    ts = [0.2, 0.5, 0.6, 0.85][::direction]
    controller, saveat = StepTo(jnp.asarray(ts)), SaveAt(t0=True, steps=True)
    solution = diffeqsolve(
        SWING, SOLVER, ts[0], ts[-1], None, jnp.asarray(0.7), RATE, stepsize_controller=controller, saveat=saveat
    )
    np.testing.assert_allclose(solution.ys[:4], by_hand(ts, 0.7), rtol=1e-14)


@pytest.mark.parametrize("direction", [1, -1])
def test_order(direction: int) -> None:
    numbers = np.array([40, 60, 80, 120])
    ends = (0.0, 2.0)[::direction]
    start, end = (np.exp(np.sin(t)) for t in ends)
    solve_with = lambda dt: solve(jnp.asarray(start), dt, t0=ends[0], t1=ends[1]).ys[-1]
    found = jax.vmap(solve_with)(jnp.asarray(direction * 2 / numbers))
    assert abs(slope(1 / numbers, np.abs(found - end)) - 2) < TOLERANCE
    assert SOLVER.order(SWING) == 2


def test_straight_lines_between_steps() -> None:
    saveat = SaveAt(ts=jnp.asarray([0.0, 0.1, 0.25, 0.5]))
    ys = solve(jnp.asarray(1.0), jnp.asarray(0.5), saveat=saveat).ys
    np.testing.assert_allclose(ys, [1.0, 1.1, 1.25, 1.5], rtol=1e-14)


@pytest.mark.slow
def test_a_wave_keeps_its_size() -> None:
    saveat = SaveAt(steps=7)
    solution = solve(
        jnp.asarray(1.0 + 0j),
        jnp.asarray(0.25),
        jnp.asarray(1j),
        t1=5000.0,
        saveat=saveat,
        terms=WAVE,
        max_steps=20_001,
    )
    sizes = np.abs(solution.ys[np.isfinite(solution.ts)])
    assert np.max(np.abs(sizes - 1)) < 0.04
    assert abs(sizes[-200:].mean() - sizes[:200].mean()) < 1e-3


def test_two_steps_can_be_reversed() -> None:
    ts = [jnp.asarray(t) for t in (0.2, 0.5, 0.8)]
    state = SOLVER.init(SWING, ts[0], ts[1], jnp.asarray(0.7), RATE)
    y1, *_, state, _ = SOLVER.step(SWING, ts[0], ts[1], jnp.asarray(0.7), RATE, state, False)
    y2, *_ = SOLVER.step(SWING, ts[1], ts[2], y1, RATE, state, False)
    back = type(state)(ts[2], y2)
    y0, *_ = SOLVER.step(SWING, ts[1], ts[0], y1, RATE, back, False)
    np.testing.assert_allclose(y0, 0.7, rtol=1e-14)


def test_after_a_jump_the_step_is_eulers() -> None:
    state = SOLVER.init(SWING, jnp.asarray(0.0), jnp.asarray(0.1), jnp.asarray(9.0), RATE)
    for jumped, expected in ((True, 0.7 + np.cos(0.2) * 0.7 * 0.3), (False, 9 + np.cos(0.2) * 0.7 * 0.5)):
        y1, *_, after, _ = SOLVER.step(SWING, 0.2, 0.5, jnp.asarray(0.7), RATE, state, jnp.asarray(jumped))
        np.testing.assert_allclose(y1, expected, rtol=1e-14)
        np.testing.assert_allclose((after.t, after.y), (0.2, 0.7))


def test_jumps_of_a_solve_reach_it() -> None:
    steep = ODETerm(lambda t, y, args: jnp.where(t < 0.5, 1.0, -1.0))
    controller = ClipStepSizeController(PIDController(1e-4, 1e-6), jump_ts=jnp.asarray([0.5]))
    y1 = diffeqsolve(steep, HalfSolver(SOLVER), 0.0, 1.0, 0.1, jnp.asarray(0.0), stepsize_controller=controller).ys[-1]
    assert abs(float(y1)) < 1e-12


def test_a_solve_goes_on_where_it_ended() -> None:
    saveat = SaveAt(t1=True, solver_state=True)
    first = diffeqsolve(SWING, SOLVER, 0.0, 1.0, 0.125, jnp.asarray(1.0), RATE, saveat=saveat)
    second = diffeqsolve(SWING, SOLVER, 1.0, 2.0, 0.125, first.ys[-1], RATE, solver_state=first.solver_state)
    assert_trees_close(second.ys, solve(jnp.asarray(1.0), jnp.asarray(0.125)).ys, rtol=1e-14)


def test_derivatives() -> None:
    point = (jnp.asarray(1.2), jnp.asarray(0.9), jnp.asarray(1.87))
    tangent = (jnp.asarray(0.4), jnp.asarray(-0.7), jnp.asarray(0.5))
    value = eqx.filter_jit(lambda y0, rate, t1: solve(y0, jnp.asarray(0.1), rate, t1=t1).ys[-1] ** 2)

    def shifted(size: float) -> float:
        return float(value(*(x + size * d for x, d in zip(point, tangent, strict=True))))

    near, far = ((shifted(h) - shifted(-h)) / (2 * h) for h in (1e-3, 2e-3))
    _, forwards = jax.jvp(value, point, tangent)
    reverse = sum(float(x * d) for x, d in zip(jax.grad(value, (0, 1, 2))(*point), tangent, strict=True))
    np.testing.assert_allclose(forwards, (4 * near - far) / 3, rtol=1e-9)
    np.testing.assert_allclose(reverse, forwards, rtol=1e-12)


def test_vmap_is_a_loop_and_pytrees_keep_their_dtypes() -> None:
    term = ODETerm(lambda t, y, args: {"a": args.astype(jnp.float32) * y["a"], "b": (1j * y["b"][0],)})
    rates = jnp.asarray([0.5, 1.0, -0.3])
    run = partial(solve, {"a": jnp.ones(2, jnp.float32), "b": (jnp.asarray(0.5 + 0j),)}, jnp.asarray(0.1), terms=term)
    elements = jax.vmap(lambda rate: run(rate).ys)(rates)
    assert [x.dtype for x in jax.tree.leaves(elements)] == [jnp.float32, jnp.complex128]
    for i, rate in enumerate(rates):
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], elements), run(rate).ys, rtol=1e-6)


def test_adjoints_for_one_step_methods_refuse_it() -> None:
    with pytest.raises(ValueError, match="LeapfrogMidpoint"):
        diffeqsolve(SWING, SOLVER, 0.0, 1.0, 0.1, jnp.asarray(1.0), RATE, adjoint=ReversibleAdjoint())
