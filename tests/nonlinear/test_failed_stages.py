"""A stage that is not solved rejects the step, which is made again, shorter; with fixed steps it ends the solve.

The error control is one that finds no fault with any step, so that every rejection is for a stage's sake.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import RESULTS, ODETerm

from .problems import EVERY_IMPLICIT, LoggedJacobian, strict_chord, terms_for, undemanding

DECAY = ODETerm(lambda t, y, args: -y)
Y0 = jnp.asarray([1.0, 2.0])


class FailsOnLongSteps(optx.Newton):
    """Newton's iteration, which gives up at once in steps longer than `limit`, or gives none in time."""

    limit: float = 0.3
    by_patience: bool = False

    def terminate(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
        ended, result = super().terminate(fn, y, args, options, state, tags)
        fails = args.step_size > self.limit
        if self.by_patience:
            return ended & ~fails, result
        failure = optx.RESULTS.where(fails, optx.RESULTS.nonlinear_divergence, result)
        return ended | fails, failure


def fails_on_long_steps(by_patience: bool = False) -> FailsOnLongSteps:
    return FailsOnLongSteps(rtol=1e-8, atol=1e-8, by_patience=by_patience)


def solve(solver: Any, term: ODETerm = DECAY, y0: Any = Y0, **options: Any) -> rungax.Solution:
    options = {"t1": 1.0, "dt0": 1.0, "max_steps": 64, "throw": False, "args": None, **options}
    t1, dt0, args = (options.pop(name) for name in ("t1", "dt0", "args"))
    return rungax.diffeqsolve(terms_for(type(solver), term), solver, 0.0, t1, dt0, y0, args, **options)


def states(solution: rungax.Solution) -> np.ndarray:
    return np.asarray(solution.ys)


def times(solution: rungax.Solution) -> np.ndarray:
    return np.asarray(solution.ts)


def expected_steps(limit: float, dt0: float) -> tuple[list[float], int]:
    """Ends of the kept steps, and how many were rejected, by the controller's factors 0.2 and 10."""
    t, dt, kept, rejected = 0.0, dt0, [], 0
    while t < 1:
        dt = min(dt, 1 - t)
        if dt > limit:
            dt, rejected = 0.2 * dt, rejected + 1
        else:
            kept.append(t + dt)
            t, dt = t + dt, 10 * dt
    return kept, rejected


@pytest.mark.parametrize("solver", EVERY_IMPLICIT)
@pytest.mark.parametrize("by_patience", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_that_fails_is_made_again_shorter(solver: type[Any], by_patience: bool) -> None:
    finder = fails_on_long_steps(by_patience)
    saveat = rungax.SaveAt(steps=True)
    solution = solve(solver(root_finder=finder), stepsize_controller=undemanding(), saveat=saveat)
    kept, rejected = expected_steps(finder.limit, 1.0)
    assert rejected > 1
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) == rejected
    assert int(solution.stats["num_accepted_steps"]) == len(kept)
    # The controller's factor has the precision of float32.
    np.testing.assert_allclose(times(solution)[: len(kept)], kept, rtol=1e-6)
    ys = states(solution)[: len(kept)]
    np.testing.assert_allclose(ys, np.exp(-np.asarray(kept))[:, None] * np.asarray(Y0), rtol=0.2)


@pytest.mark.parametrize("solver", EVERY_IMPLICIT)
@pytest.mark.parametrize("by_patience", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_fixed_step_that_fails_ends_the_solve_with_that_result(solver: type[Any], by_patience: bool) -> None:
    solution = solve(solver(root_finder=fails_on_long_steps(by_patience)), dt0=0.5)
    expected = RESULTS.nonlinear_max_steps_reached if by_patience else RESULTS.nonlinear_divergence
    assert solution.result == expected
    assert int(solution.stats["num_steps"]) == 1
    assert solve(solver(root_finder=fails_on_long_steps(by_patience)), dt0=0.25).result == RESULTS.successful


def test_a_failed_stage_raises() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Nonlinear solve diverged.*t = .*1 attempted") as error:
        solve(rungax.ImplicitEuler(root_finder=fails_on_long_steps()), dt0=0.5, throw=True)
    assert "throw=False" in str(error.value)
    with pytest.raises(RuntimeError, match="maximum number of steps was reached in the nonlinear solver"):
        solve(rungax.ImplicitEuler(root_finder=fails_on_long_steps(by_patience=True)), dt0=0.5, throw=True)


def test_a_solve_that_fails_at_every_length_ends() -> None:
    finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=-1.0)
    solution = solve(rungax.ImplicitEuler(root_finder=finder), stepsize_controller=undemanding())
    assert not rungax.is_okay(solution.result)
    assert int(solution.stats["num_accepted_steps"]) == 0


def test_a_failed_lane_does_not_disturb_the_others() -> None:
    """Lanes fail at lengths of their own, and each makes the steps that it makes alone."""

    def one(limit: Any) -> Any:
        finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=limit)
        solution = solve(rungax.ImplicitEuler(root_finder=finder), stepsize_controller=undemanding())
        return solution.ys, solution.stats["num_steps"], solution.stats["num_rejected_steps"]

    limits = jnp.asarray([2.0, 0.3, 0.1])
    ys, steps, rejected = jax.vmap(one)(limits)
    expected = [expected_steps(float(limit), 1.0) for limit in limits]
    assert [len(kept) + fails for kept, fails in expected] == steps.tolist()
    assert [fails for _, fails in expected] == rejected.tolist()
    alone = jnp.stack([one(limit)[0] for limit in limits])
    np.testing.assert_allclose(ys, alone, rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- Newton's failure


def steep(t: Any, y: Any, args: Any) -> Any:
    """Far from zero its derivative is small, so that Newton's iteration leaps across the root, and farther back."""
    return -200 * jnp.arctan(y)


def steep_jacobian(t: Any, y: Any, args: Any) -> Any:
    return jnp.diag(-200 / (1 + y**2))


@pytest.mark.parametrize("solver", EVERY_IMPLICIT)
def test_divergence_shortens_the_step_and_one_jacobian_serves_each_place(solver: type[Any]) -> None:
    jacobian = LoggedJacobian(steep_jacobian)
    solution = solve(
        solver(root_finder=strict_chord()),
        ODETerm(steep, jacobian=jacobian),
        jnp.asarray([10.0]),
        stepsize_controller=undemanding(),
        saveat=rungax.SaveAt(steps=True),
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 2
    # By then hardly anything is left.
    kept = int(solution.stats["num_accepted_steps"])
    assert abs(float(states(solution)[kept - 1, 0])) < 1e-2
    places = [0.0, *times(solution)[: kept - 1].tolist()]
    assert jacobian.times[0] == 0.0
    assert set(jacobian.times) <= set(places)
    assert len(jacobian.times) == len(set(jacobian.times)), "evaluated again where it had been evaluated"


@pytest.mark.parametrize("solver", EVERY_IMPLICIT)
def test_divergence_in_a_fixed_step_ends_the_solve(solver: type[Any]) -> None:
    solution = solve(solver(), ODETerm(steep), jnp.asarray([10.0]), dt0=0.5)
    assert solution.result == RESULTS.nonlinear_divergence
    assert int(solution.stats["num_steps"]) == 1


def stiffer_later(t: Any, y: Any, args: Any) -> Any:
    """Ten thousand times faster after 0.5, without a word of warning."""
    return -jnp.where(t > 0.5, 1e4, 1.0) * (y**3 - jnp.cos(t))


def stiffer_later_jacobian(t: Any, y: Any, args: Any) -> Any:
    """At 0.5 itself that of what is to come."""
    return jnp.diag(-3 * jnp.where(t >= 0.5, 1e4, 1.0) * y**2)


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler, pytest.param(rungax.KenCarp4, marks=pytest.mark.slow)])
def test_a_failure_with_an_old_jacobian_is_answered_by_a_new_one(solver: type[Any]) -> None:
    jacobian = LoggedJacobian(stiffer_later_jacobian)
    solution = solve(
        solver(root_finder=strict_chord()),
        ODETerm(stiffer_later, jacobian=jacobian),
        jnp.asarray([1.0]),
        dt0=0.125,
        stepsize_controller=undemanding(dtmax=0.125),
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 1
    assert 0.5 in jacobian.times
    assert len(jacobian.times) == len(set(jacobian.times))
    assert float(states(solution)[0, 0]) == pytest.approx(np.cos(1.0) ** (1 / 3), rel=1e-2)


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler, rungax.Kvaerno3])
def test_a_jacobian_that_no_longer_fits_a_linear_field_is_noticed(solver: type[Any]) -> None:
    """Either the solve says that it failed, or its solution is right: it never ends successfully far away."""
    term = ODETerm(lambda t, y, args: -jnp.where(t > 0.5, 1e4, 1.0) * (y - jnp.cos(t)))
    solution = solve(solver(), term, jnp.asarray([2.0]), dt0=0.125)
    assert solution.result == RESULTS.nonlinear_divergence or abs(float(states(solution)[0, 0]) - np.cos(1.0)) < 0.1


@pytest.mark.parametrize("solver", EVERY_IMPLICIT)
def test_error_control_notices_it_anyway(solver: type[Any]) -> None:
    term = ODETerm(lambda t, y, args: -jnp.where(t > 0.5, 1e4, 1.0) * (y - jnp.cos(t)))
    controller = rungax.PIDController(rtol=1e-4, atol=1e-4)
    solution = solve(solver(), term, jnp.asarray([2.0]), dt0=0.125, stepsize_controller=controller, max_steps=4096)
    assert solution.result == RESULTS.successful
    assert float(states(solution)[0, 0]) == pytest.approx(np.cos(1.0), abs=1e-3)


@pytest.mark.parametrize("size", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_singular_matrix_ends_a_fixed_step(size: int) -> None:
    """`1 - h lambda = 0` exactly: there is no solution, and the solve does not pretend there is one."""
    solution = solve(rungax.ImplicitEuler(), ODETerm(lambda t, y, args: 4 * y), jnp.ones(size), dt0=0.25)
    assert not rungax.is_okay(solution.result)
    assert int(solution.stats["num_steps"]) == 1


def test_a_singular_matrix_rejects_a_step() -> None:
    solution = solve(
        rungax.ImplicitEuler(root_finder=strict_chord()),
        ODETerm(lambda t, y, args: 4 * y),
        dt0=0.25,
        t1=0.25,
        stepsize_controller=undemanding(),
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 1
    assert np.isfinite(states(solution)).all()
