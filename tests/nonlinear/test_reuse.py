"""Keeping the Jacobian and its factorisation changes no solution beyond its tolerance, and saves what it should."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ODETerm, PIDController
from rungax.nonlinear import newton

from ..problems.base import Problem
from ..problems.stiff import HIRES, ROBERTSON
from .problems import LoggedJacobian

RTOL = 1e-6
ATOL = {ROBERTSON.name: 1e-11, HIRES.name: 1e-10}
NEVER_KEEP = {"SLOW_RATE": -1.0, "OLD_AGE": 0, "SIMILAR": -1.0, "GROWN": 0.0}


def logged(problem: Problem) -> ODETerm:
    """The problem, with a function object of its own, so that no program compiled before serves it."""
    return ODETerm(
        lambda t, y, args: problem.field(t, y, args), jacobian=LoggedJacobian(jax.jacfwd(problem.field, argnums=1))
    )


def evaluations(term: ODETerm) -> list[float]:
    assert isinstance(term.jacobian, LoggedJacobian)
    return term.jacobian.times


def solve(term: ODETerm, problem: Problem, solver: Any) -> rungax.Solution:
    controller = PIDController(rtol=RTOL, atol=ATOL[problem.name])
    y0 = jnp.asarray(problem.y0)
    return rungax.diffeqsolve(
        term, solver, problem.t0, problem.t1, None, y0, problem.args, stepsize_controller=controller
    )


CASES = [
    pytest.param(ROBERTSON, rungax.Kvaerno5(), id="Robertson, Kvaerno5"),
    pytest.param(HIRES, rungax.Kvaerno5(), id="HIRES, Kvaerno5", marks=pytest.mark.slow),
    pytest.param(ROBERTSON, rungax.Kvaerno3(), id="Robertson, Kvaerno3", marks=pytest.mark.slow),
    pytest.param(HIRES, rungax.Kvaerno3(), id="HIRES, Kvaerno3", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("problem", "solver"), CASES)
def test_what_is_kept_changes_no_solution(problem: Problem, solver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping, never_keeping = logged(problem), logged(problem)
    kept = solve(keeping, problem, solver)
    for constant, value in NEVER_KEEP.items():
        monkeypatch.setattr(newton, constant, value)
    fresh = solve(never_keeping, problem, solver)

    scale = ATOL[problem.name] + RTOL * np.abs(problem.final)
    difference = np.abs(np.asarray(kept.ys) - np.asarray(fresh.ys))[0] / scale
    assert difference.max() < 20, "far less than the global error, which is some hundred tolerances"
    for solution in (kept, fresh):
        assert (np.abs(np.asarray(solution.ys)[0] - problem.final) / scale).max() < 500

    # Without keeping there is one for every kept step; a rejected one is made again with the same.
    assert len(evaluations(never_keeping)) == int(fresh.num_accepted_steps)
    assert len(evaluations(keeping)) < 0.8 * int(kept.num_accepted_steps)
    for term in (keeping, never_keeping):
        assert len(evaluations(term)) == len(set(evaluations(term)))
    # And no more steps for it than a tenth.
    assert int(kept.num_steps) < 1.1 * int(fresh.num_steps)


# ------------------------------------------------------------------------------------------------- counted by hand


def run(steps: int, jump_ts: Any = None, solver: Any = None, made_jump: bool | None = None) -> list[float]:
    """A linear field over [0, 1] in so many steps of the same length; when its Jacobian was evaluated."""
    term = ODETerm(lambda t, y, args: -5 * y + jnp.sin(t), jacobian=LoggedJacobian(lambda t, y, args: -5 * jnp.eye(2)))
    controller: Any = PIDController(rtol=1e9, atol=1e9, dtmax=1 / steps)
    if jump_ts is not None:
        controller = rungax.ClipStepSizeController(controller, jump_ts=jump_ts)
    finder = rungax.VeryChord(rtol=1e-8, atol=1e-8)
    solver = rungax.ImplicitEuler(root_finder=finder) if solver is None else solver
    solution = rungax.diffeqsolve(
        term, solver, 0.0, 1.0, 1 / steps, jnp.ones(2), stepsize_controller=controller, made_jump=made_jump
    )
    assert int(solution.stats["num_rejected_steps"]) == 0
    return evaluations(term)


def test_while_it_serves_it_is_evaluated_once() -> None:
    assert run(32) == [0.0]


def test_it_grows_old() -> None:
    assert run(128) == [0.0, newton.OLD_AGE / 128, 2 * newton.OLD_AGE / 128]


def test_it_is_evaluated_again_after_a_jump() -> None:
    jumps = [0.25, 0.625]
    assert run(32, jumps) == [0.0, *np.nextafter(jumps, 1.0).tolist()]
    assert run(32, jumps, made_jump=True) == [0.0, *np.nextafter(jumps, 1.0).tolist()]


def test_a_rosenbrock_method_evaluates_it_at_every_step() -> None:
    assert run(8, solver=rungax.Rosenbrock23()) == [i / 8 for i in range(8)]


def test_a_method_whose_stages_differ_evaluates_it_no_more_often() -> None:
    """Only its factorisations are one for each stage."""

    class EveryStage(rungax.ImplicitEuler):
        calculate_jacobian = rungax.CalculateJacobian.every_stage

    assert run(32, solver=EveryStage(root_finder=rungax.VeryChord(rtol=1e-8, atol=1e-8))) == [0.0]


@pytest.mark.slow
def test_lanes_refresh_it_each_on_its_own() -> None:
    """Their solutions are those of lanes alone, up to tolerances, whatever the others ask for."""
    controller = PIDController(rtol=1e-8, atol=1e-11)

    def end(rates: Any) -> Any:
        return rungax.diffeqsolve(
            ROBERTSON.field, rungax.Kvaerno5(), 0.0, 1e2, 1e-3, jnp.asarray(ROBERTSON.y0), rates,
            stepsize_controller=controller,
        ).ys  # fmt: skip

    rates = jnp.asarray([[0.04, 3e7, 1e4], [0.4, 3e6, 1e4], [0.04, 3e5, 1e5]])
    lanes = jax.vmap(end)(rates)
    alone = jnp.stack([end(rate) for rate in rates])
    np.testing.assert_allclose(lanes, alone, rtol=1e-6, atol=1e-10)
