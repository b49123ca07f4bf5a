"""The reuse of a Jacobian and its factorisation changes no solution beyond its tolerance, and saves evaluations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ODETerm, PIDController
from rungax.jaxkit import with_fields
from rungax.nonlinear import ReuseRules, newton

from ..fakes import LoggedJacobian
from ..problems.base import Problem
from ..problems.stiff import HIRES, ROBERTSON

RTOL = 1e-6
ATOL = {ROBERTSON.name: 1e-11, HIRES.name: 1e-10}
NEVER_REUSE = ReuseRules(slow_rate=-1.0, max_age=0, max_scale_change=-1.0, max_scale_growth=0.0)


def logged(problem: Problem) -> ODETerm:
    """The problem's term, with a new function object, so that no program compiled before is used."""
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
def test_reuse_changes_no_solution(problem: Problem, solver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reusing, renewing = logged(problem), logged(problem)
    reused = solve(reusing, problem, solver)
    stages = rungax.VeryChord.stages
    never_reusing = lambda self, space: with_fields(stages(self, space), rules=NEVER_REUSE)
    monkeypatch.setattr(rungax.VeryChord, "stages", never_reusing)
    renewed = solve(renewing, problem, solver)

    scale = ATOL[problem.name] + RTOL * np.abs(problem.final)
    difference = np.abs(np.asarray(reused.ys) - np.asarray(renewed.ys))[0] / scale
    assert difference.max() < 20, "far less than the global error, which is some hundred tolerances"
    for solution in (reused, renewed):
        assert (np.abs(np.asarray(solution.ys)[0] - problem.final) / scale).max() < 500

    # Without reuse there is one evaluation for every accepted step; rejected steps are repeated with the same Jacobian.
    assert len(evaluations(renewing)) == int(renewed.num_accepted_steps)
    assert len(evaluations(reusing)) < 0.8 * int(reused.num_accepted_steps)
    for term in (reusing, renewing):
        assert len(evaluations(term)) == len(set(evaluations(term)))
    # Reuse costs at most a tenth more steps.
    assert int(reused.num_steps) < 1.1 * int(renewed.num_steps)


# ------------------------------------------------------------------------------------------- times of evaluation


def run(steps: int, jump_ts: Any = None, solver: Any = None, made_jump: bool | None = None) -> list[float]:
    """The times at which the Jacobian of a linear field is evaluated, in `steps` equal steps over [0, 1]."""
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


def test_while_the_iteration_converges_fast_it_is_evaluated_once() -> None:
    assert run(32) == [0.0]


def test_it_is_evaluated_again_after_its_maximum_age() -> None:
    assert run(128) == [0.0, newton.MAX_AGE / 128, 2 * newton.MAX_AGE / 128]


@pytest.mark.parametrize("made_jump", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_is_evaluated_again_after_a_jump(made_jump: bool) -> None:
    jumps = [0.25, 0.625]
    assert run(32, jumps, made_jump=made_jump) == [0.0, *np.nextafter(jumps, 1.0).tolist()]


def test_a_rosenbrock_method_evaluates_it_at_every_step() -> None:
    assert run(8, solver=rungax.Rosenbrock23()) == [i / 8 for i in range(8)]


def test_a_method_whose_stages_differ_evaluates_it_no_more_often() -> None:
    """It computes one factorisation for each stage, from the same Jacobian."""

    class EveryStage(rungax.ImplicitEuler):
        calculate_jacobian = rungax.CalculateJacobian.every_stage

    assert run(32, solver=EveryStage(root_finder=rungax.VeryChord(rtol=1e-8, atol=1e-8))) == [0.0]


@pytest.mark.slow
def test_batch_elements_renew_it_independently() -> None:
    """Their solutions are those of solves one by one, up to tolerances."""
    controller = PIDController(rtol=1e-8, atol=1e-11)

    def end(rates: Any) -> Any:
        return rungax.diffeqsolve(
            ROBERTSON.field, rungax.Kvaerno5(), 0.0, 1e2, 1e-3, jnp.asarray(ROBERTSON.y0), rates,
            stepsize_controller=controller,
        ).ys  # fmt: skip

    rates = jnp.asarray([[0.04, 3e7, 1e4], [0.4, 3e6, 1e4], [0.04, 3e5, 1e5]])
    batch = jax.vmap(end)(rates)
    alone = jnp.stack([end(rate) for rate in rates])
    np.testing.assert_allclose(batch, alone, rtol=1e-6, atol=1e-10)
