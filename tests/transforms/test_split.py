"""A solve in two halves, the second going on with what the first left, equals the solve in one."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import terms_for
from ..compare import assert_trees_close
from ..problems.ordinary import CLOCKED_TORUS

T0, MIDDLE, T1 = 0.0, 1.0, 2.0
DT = 1 / 16  # a power of two, so that times carry no rounding


def states(solution: rungax.Solution) -> dict[str, Any]:
    """What to pass to the solve that goes on from this one."""
    return {
        "solver_state": solution.solver_state,
        "controller_state": solution.controller_state,
        "made_jump": solution.made_jump,
    }


def solve(t0: float, t1: float, y0: Any, before: rungax.Solution | None = None, **kwargs: Any) -> rungax.Solution:
    """From `t0` to `t1`, going on where `before` ended, if given."""
    resumed = {} if before is None else states(before)
    options: dict[str, Any] = {"solver": rungax.Tsit5(), "dt0": DT if t1 > t0 else -DT, **kwargs}
    return rungax.diffeqsolve(
        terms_for(options["solver"], CLOCKED_TORUS.field),
        t0=t0,
        t1=t1,
        y0=y0,
        saveat=rungax.SaveAt(steps=True, solver_state=True, controller_state=True, made_jump=True),
        max_steps=64,
        **(resumed | options),
    )


def accepted_steps(solution: rungax.Solution) -> tuple[np.ndarray, np.ndarray]:
    """Times and states of the steps that were made."""
    made = int(solution.stats["num_accepted_steps"])
    return np.asarray(solution.ts[:made]), np.asarray(solution.ys[:made])


def last(solution: rungax.Solution) -> Any:
    return accepted_steps(solution)[1][-1]


def assert_halves_are_the_whole(whole: rungax.Solution, first: rungax.Solution, second: rungax.Solution) -> None:
    halves = tuple(np.concatenate(pair) for pair in zip(accepted_steps(first), accepted_steps(second), strict=True))
    assert_trees_close(halves, accepted_steps(whole))
    assert_trees_close(second.solver_state, whole.solver_state)


@pytest.mark.slow
def test_fixed_steps_are_the_same_steps() -> None:
    whole = solve(T0, T1, CLOCKED_TORUS.y0)
    first = solve(T0, MIDDLE, CLOCKED_TORUS.y0)
    second = solve(MIDDLE, T1, last(first), first)
    assert_halves_are_the_whole(whole, first, second)


def test_fixed_steps_backwards() -> None:
    whole = solve(T1, T0, CLOCKED_TORUS.y0)
    first = solve(T1, MIDDLE, CLOCKED_TORUS.y0)
    second = solve(MIDDLE, T0, last(first), first)
    assert_halves_are_the_whole(whole, first, second)


def test_given_steps_are_the_same_steps() -> None:
    ts = np.array([0.0, 0.125, 0.5, 1.0, 1.125, 1.75, 2.0])
    options = {"dt0": None}
    whole = solve(T0, T1, CLOCKED_TORUS.y0, stepsize_controller=rungax.StepTo(ts), **options)
    first = solve(T0, MIDDLE, CLOCKED_TORUS.y0, stepsize_controller=rungax.StepTo(ts[:4]), **options)
    second = solve(MIDDLE, T1, last(first), first, stepsize_controller=rungax.StepTo(ts[3:]), **options)
    assert_halves_are_the_whole(whole, first, second)


@pytest.mark.parametrize("dt0", [None, pytest.param(DT, marks=pytest.mark.slow)], ids=["dt0=None", "dt0"])
@pytest.mark.parametrize("pcoeff", [0.0, 0.4], ids=["I", "PI"])
def test_adaptive_steps_agree_within_tolerance(pcoeff: float, dt0: float | None) -> None:
    assert CLOCKED_TORUS.exact is not None
    controller = rungax.PIDController(rtol=1e-8, atol=1e-8, pcoeff=pcoeff, icoeff=0.4)
    options = {"stepsize_controller": controller, "dt0": dt0}
    whole = solve(T0, T1, CLOCKED_TORUS.y0, **options)
    first = solve(T0, MIDDLE, CLOCKED_TORUS.y0, **options)
    second = solve(MIDDLE, T1, last(first), first, **options)
    np.testing.assert_allclose(last(second), last(whole), rtol=1e-6)
    np.testing.assert_allclose(last(second), CLOCKED_TORUS.exact(T1), rtol=1e-6)


def test_the_state_of_the_controller_is_used() -> None:
    """With a proportional part, the second step after the break depends on the errors before it."""
    controller = rungax.PIDController(rtol=1e-6, atol=1e-6, pcoeff=0.4, icoeff=0.4)
    first = solve(T0, MIDDLE, CLOCKED_TORUS.y0, stepsize_controller=controller)
    with_state = solve(MIDDLE, T1, last(first), first, stepsize_controller=controller)
    without = solve(MIDDLE, T1, last(first), None, stepsize_controller=controller)
    assert with_state.ts[0] == without.ts[0]
    assert with_state.ts[1] != without.ts[1]


def test_the_state_of_the_solver_is_used() -> None:
    """Tsit5 goes on with the slope it is given, unless the state has jumped meanwhile."""
    first = solve(T0, MIDDLE, CLOCKED_TORUS.y0)
    true = solve(MIDDLE, T1, last(first), first)
    wrong = {"solver_state": jnp.zeros(3)}
    misled = solve(MIDDLE, T1, last(first), first, **wrong)
    assert not np.allclose(last(misled), last(true))
    jumped = solve(MIDDLE, T1, last(first), first, **wrong, made_jump=True)
    assert_trees_close(accepted_steps(jumped), accepted_steps(true), rtol=1e-14)


def test_states_are_returned_only_when_asked_for() -> None:
    solution = rungax.diffeqsolve(CLOCKED_TORUS.field, rungax.Tsit5(), 0.0, 1.0, DT, CLOCKED_TORUS.y0)
    assert solution.solver_state is None
    assert solution.controller_state is None
    assert solution.made_jump is None


def test_made_jump_is_false_where_nothing_jumps() -> None:
    assert solve(T0, MIDDLE, CLOCKED_TORUS.y0).made_jump is False
