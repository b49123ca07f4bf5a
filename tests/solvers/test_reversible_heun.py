"""`ReversibleHeun` makes the steps of its formula, which can be reversed, and handles jumps and derivatives."""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from rungax import (
    ClipStepSizeController,
    ConstantStepSize,
    ControlTerm,
    MultiTerm,
    ODETerm,
    PIDController,
    ReversibleAdjoint,
    SaveAt,
    VirtualBrownianTree,
    diffeqsolve,
)
from rungax.solvers.stochastic.reversible_heun import ReversibleHeun, ReversibleHeunState
from rungax.terms import in_direction_of_travel

from ..compare import assert_trees_close

SOLVER = ReversibleHeun()


def drift(t: Any, y: Any, args: Any) -> Any:
    x, z = y["x"], y["z"]
    return {"x": jnp.sin(x) - jnp.asarray(t).astype(x.dtype), "z": z * z - 0.3 * z}


def diffusion(t: Any, y: Any, args: Any) -> Any:
    return lx.DiagonalLinearOperator({"x": 0.4 * jnp.cos(y["x"]), "z": 0.3 * y["z"]})


def stochastic(key: Any) -> MultiTerm:
    shape = {"x": jax.ShapeDtypeStruct((2,), jnp.float32), "z": jax.ShapeDtypeStruct((), jnp.complex128)}
    tree = VirtualBrownianTree(0.0, 1.0, 2**-8, shape, key)
    return MultiTerm(ODETerm(drift), ControlTerm(diffusion, tree))


Y0 = {"x": jnp.asarray([0.4, -1.1], jnp.float32), "z": jnp.asarray(0.3 - 0.6j)}


@eqx.filter_jit
def walk(terms: Any, ts: Any) -> tuple[Any, Any]:
    """States and companions at all `ts`, stacked."""

    def advance(carry: Any, ends: Any) -> Any:
        y, state = carry
        y, _, _, state, _ = SOLVER.step(terms, *ends, y, None, state, False)
        return (y, state), (y, state.companion)

    start = (Y0, SOLVER.init(terms, ts[0], ts[1], Y0, None))
    return jax.lax.scan(advance, start, (ts[:-1], ts[1:]))[1]


@eqx.filter_jit
def walk_back(terms: Any, ts: Any, end: Any) -> tuple[Any, Any]:
    """The start, by reversing all steps."""

    def backward_step(carry: Any, ends: Any) -> Any:
        y, companion = carry
        return SOLVER.undo(terms, *ends, y, None, companion), None

    return jax.lax.scan(backward_step, end, (ts[:-1], ts[1:]), reverse=True)[0]


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_steps_can_be_reversed(key: jax.Array, direction: float) -> None:
    terms = in_direction_of_travel(stochastic(key), jnp.asarray(direction))
    ts = direction * jnp.linspace(0.0, 1.0, 41)[:: int(direction)]
    states, companions = walk(terms, ts)
    end = jax.tree.map(lambda x: x[-1], (states, companions))
    assert float(jnp.max(jnp.abs(end[0]["x"] - end[1]["x"]))) > 1e-3, "else nothing is tested"
    y0, companion = walk_back(terms, ts, end)
    for found in (y0, companion):
        assert_trees_close(found["z"], Y0["z"], rtol=1e-12)
        assert_trees_close(found["x"], Y0["x"], rtol=1e-4)


def test_two_steps_are_those_of_the_formula() -> None:
    def f(t: Any, y: Any, args: Any) -> Any:
        return jnp.cos(t) * y - y * y

    def g(t: float, y: float) -> float:
        return np.cos(t) * y - y * y

    ts, y, companion = [0.2, 0.5, 0.6], 0.7, 0.7
    terms, y0 = ODETerm(f), jnp.asarray(0.7)
    state = SOLVER.init(terms, jnp.asarray(ts[0]), jnp.asarray(ts[1]), y0, None)
    for t0, t1 in pairwise(ts):
        h, before = t1 - t0, g(t0, companion)
        companion = 2 * y - companion + before * h
        after = g(t1, companion)
        y = y + 0.5 * (before + after) * h
        y0, error, _, state, _ = SOLVER.step(terms, t0, t1, y0, None, state, False)
        np.testing.assert_allclose([y0, state.companion, state.field], [y, companion, after], rtol=1e-14)
        np.testing.assert_allclose(error, 0.5 * (after - before) * h, rtol=1e-12)


def test_order_and_estimate_for_ordinary_equations() -> None:
    term = ODETerm(lambda t, y, args: jnp.cos(t) * y)
    numbers, errors = np.array([20, 40, 80]), []
    for n in numbers:
        y1 = diffeqsolve(term, SOLVER, 0.0, 1.0, 1 / n, jnp.asarray(1.0)).ys[0]
        errors.append(abs(float(y1) - np.exp(np.sin(1.0))))
    slope = np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert abs(slope + 2) < 0.1
    assert (SOLVER.order(term), SOLVER.error_order(term)) == (2, 2)
    solution = diffeqsolve(
        term, SOLVER, 0.0, 1.0, None, jnp.asarray(1.0), stepsize_controller=PIDController(1e-6, 1e-6)
    )
    assert abs(float(solution.ys[0]) - np.exp(np.sin(1.0))) < 1e-4


def test_the_facts_for_noise(key: jax.Array) -> None:
    terms = stochastic(key)
    assert SOLVER.interpretations == {"Stratonovich"}
    assert (SOLVER.strong_order(terms), SOLVER.error_order(terms), SOLVER.noise) == (0.5, 1.0, "general")


@pytest.mark.parametrize("jump", [True, jnp.asarray(True)], ids=["known", "traced"])
def test_the_companion_starts_again_after_a_jump(jump: Any) -> None:
    term, y0 = ODETerm(lambda t, y, args: -y), jnp.asarray(2.0)
    stale = ReversibleHeunState(jnp.asarray(-50.0), jnp.asarray(70.0))
    t0, t1 = jnp.asarray(0.1), jnp.asarray(0.3)
    found = SOLVER.step(term, t0, t1, y0, None, stale, jump)
    expected = SOLVER.step(term, t0, t1, y0, None, SOLVER.init(term, t0, t1, y0, None), False)
    assert_trees_close(found[:4], expected[:4])


def test_the_checkpoint_is_the_companion() -> None:
    term, y0, t = ODETerm(lambda t, y, args: t - y * y), jnp.asarray(0.9), jnp.asarray(0.1)
    state = SOLVER.step(term, t, t + 0.2, y0, None, SOLVER.init(term, t, t, y0, None), False)[3]
    checkpoint = SOLVER.checkpoint_state(state)
    assert_trees_close(checkpoint, state.companion)
    assert_trees_close(SOLVER.restore(term, t + 0.2, jnp.asarray(jnp.nan), None, checkpoint), state)


def test_derivatives_go_through_the_companion(key: jax.Array) -> None:
    @jax.jit
    @jax.value_and_grad
    def loss(y0: Any) -> Any:
        path = VirtualBrownianTree(0.0, 1.0, 2**-6, (), key)
        terms = MultiTerm(ODETerm(lambda t, y, args: jnp.sin(y)), ControlTerm(lambda t, y, args: jnp.cos(y), path))
        saveat = SaveAt(ts=[0.4, 1.0])
        return jnp.sum(diffeqsolve(terms, SOLVER, 0.0, 1.0, 1 / 16, y0, saveat=saveat, max_steps=32).ys)

    eps = 1e-5
    below, above = (float(loss(jnp.asarray(0.4 + s))[0]) for s in (-eps, eps))
    np.testing.assert_allclose(loss(jnp.asarray(0.4))[1], (above - below) / (2 * eps), rtol=1e-7)


def test_jumps_in_a_solve_restart_the_companion() -> None:
    """A field that is constant except for a jump at 0.5 is solved exactly if no value from before the jump is used."""
    term = ODETerm(lambda t, y, args: jnp.where(t < 0.5, 1.0, -3.0) + 0.0 * y)
    controller = ClipStepSizeController(PIDController(1e-3, 1e-3), jump_ts=jnp.asarray([0.5]))
    solution = diffeqsolve(term, SOLVER, 0.0, 1.0, 0.1, jnp.asarray(0.0), stepsize_controller=controller)
    np.testing.assert_allclose(solution.ys[0], -1.0, rtol=1e-12)


def test_the_reversible_adjoint_says_that_it_makes_methods_reversible_itself() -> None:
    term = ODETerm(lambda t, y, args: -y)
    with pytest.raises(ValueError, match="whose state holds more"):
        diffeqsolve(
            term,
            SOLVER,
            0.0,
            1.0,
            0.1,
            jnp.asarray(1.0),
            stepsize_controller=ConstantStepSize(),
            adjoint=ReversibleAdjoint(),
        )
