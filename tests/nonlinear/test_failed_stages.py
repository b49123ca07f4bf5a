"""A stage that is not solved rejects the step, which is repeated shorter; with fixed steps it ends the solve.

The error control accepts every step whose stages are solved, so that every rejection is due to a stage.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ODETerm

from ..catalogue import IMPLICIT, SPLIT, name, slow_unless, terms_around
from ..fakes import FailsOnLongSteps, LoggedJacobian, fails_on_long_steps, strict_chord, undemanding

DECAY = ODETerm(lambda t, y, args: -y)
Y0 = jnp.asarray([1.0, 2.0])


def solve(solver: Any, term: ODETerm = DECAY, y0: Any = Y0, **options: Any) -> rungax.Solution:
    options = {"t1": 1.0, "dt0": 1.0, "max_steps": 64, "throw": False, "args": None, **options}
    t1, dt0, args = (options.pop(name) for name in ("t1", "dt0", "args"))
    return rungax.diffeqsolve(terms_around(solver, term), solver, 0.0, t1, dt0, y0, args, **options)


def states(solution: rungax.Solution) -> np.ndarray:
    return np.asarray(solution.ys)


def times(solution: rungax.Solution) -> np.ndarray:
    return np.asarray(solution.ts)


def expected_steps(limit: float, dt0: float) -> tuple[list[float], int]:
    """Ends of the accepted steps, and number of rejected ones, by the controller's factors 0.2 and 10."""
    t, dt, accepted, rejected = 0.0, dt0, [], 0
    while t < 1:
        dt = min(dt, 1 - t)
        if dt > limit:
            dt, rejected = 0.2 * dt, rejected + 1
        else:
            accepted.append(t + dt)
            t, dt = t + dt, 10 * dt
    return accepted, rejected


OF_ONE_AND_OF_MANY_STAGES = [
    pytest.param(type(s), id=name(s), marks=slow_unless(name(s) in ("ImplicitEuler", "Sil3"))) for s in IMPLICIT + SPLIT
]


@pytest.mark.parametrize("solver", OF_ONE_AND_OF_MANY_STAGES)
@pytest.mark.parametrize("never_ends", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_that_fails_is_repeated_with_a_shorter_one(solver: type[Any], never_ends: bool) -> None:
    finder = fails_on_long_steps(never_ends)
    saveat = rungax.SaveAt(steps=True)
    solution = solve(solver(root_finder=finder), stepsize_controller=undemanding(), saveat=saveat)
    accepted, rejected = expected_steps(finder.limit, 1.0)
    assert rejected > 1
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) == rejected
    assert int(solution.stats["num_accepted_steps"]) == len(accepted)
    # The controller's factor has the precision of float32.
    np.testing.assert_allclose(times(solution)[: len(accepted)], accepted, rtol=1e-6)
    ys = states(solution)[: len(accepted)]
    np.testing.assert_allclose(ys, np.exp(-np.asarray(accepted))[:, None] * np.asarray(Y0), rtol=0.2)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(type(s), id=name(s), marks=slow_unless(name(s) == "Sil3")) for s in IMPLICIT + SPLIT],
)
@pytest.mark.parametrize("never_ends", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_fixed_step_that_fails_ends_the_solve_with_that_result(solver: type[Any], never_ends: bool) -> None:
    solution = solve(solver(root_finder=fails_on_long_steps(never_ends)), dt0=0.5)
    expected = RESULTS.nonlinear_max_steps_reached if never_ends else RESULTS.nonlinear_divergence
    assert solution.result == expected
    assert int(solution.stats["num_steps"]) == 1
    assert solve(solver(root_finder=fails_on_long_steps(never_ends)), dt0=0.25).result == RESULTS.successful


def test_a_failed_stage_raises() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Nonlinear solve diverged.*t = .*1 attempted") as error:
        solve(rungax.ImplicitEuler(root_finder=fails_on_long_steps()), dt0=0.5, throw=True)
    assert "throw=False" in str(error.value)
    with pytest.raises(RuntimeError, match="maximum number of steps was reached in the nonlinear solver"):
        solve(rungax.ImplicitEuler(root_finder=fails_on_long_steps(never_ends=True)), dt0=0.5, throw=True)


def test_a_solve_that_fails_at_every_length_ends() -> None:
    finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=-1.0)
    solution = solve(rungax.ImplicitEuler(root_finder=finder), stepsize_controller=undemanding())
    assert not rungax.is_okay(solution.result)
    assert int(solution.stats["num_accepted_steps"]) == 0


def test_a_failed_batch_element_does_not_disturb_the_others() -> None:
    """Steps fail at a different length in each batch element, which takes the steps that it takes alone."""

    def one(limit: Any) -> Any:
        finder = FailsOnLongSteps(rtol=1e-8, atol=1e-8, limit=limit)
        solution = solve(rungax.ImplicitEuler(root_finder=finder), stepsize_controller=undemanding())
        return solution.ys, solution.stats["num_steps"], solution.stats["num_rejected_steps"]

    limits = jnp.asarray([2.0, 0.3, 0.1])
    ys, steps, rejected = jax.jit(jax.vmap(one))(limits)
    expected = [expected_steps(float(limit), 1.0) for limit in limits]
    assert [len(accepted) + fails for accepted, fails in expected] == steps.tolist()
    assert [fails for _, fails in expected] == rejected.tolist()
    alone = np.stack([jax.jit(one)(limit)[0] for limit in limits])
    np.testing.assert_allclose(ys, alone, rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- Newton's failure


def steep(t: Any, y: Any, args: Any) -> Any:
    """A field with a small derivative far from zero, where Newton's iteration jumps back and forth across the root."""
    return -200 * jnp.arctan(y)


def steep_jacobian(t: Any, y: Any, args: Any) -> Any:
    return jnp.diag(-200 / (1 + y**2))


@pytest.mark.parametrize(
    "solver",
    [pytest.param(type(s), id=name(s), marks=slow_unless(name(s) in ("Kvaerno5", "Sil3"))) for s in IMPLICIT + SPLIT],
)
def test_divergence_shortens_the_step_and_no_jacobian_is_evaluated_twice(solver: type[Any]) -> None:
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
    # The solution is close to zero at the end.
    accepted = int(solution.stats["num_accepted_steps"])
    assert abs(float(states(solution)[accepted - 1, 0])) < 1e-2
    starts = [0.0, *times(solution)[: accepted - 1].tolist()]
    assert jacobian.times[0] == 0.0
    assert set(jacobian.times) <= set(starts)
    assert len(jacobian.times) == len(set(jacobian.times)), "evaluated twice at the same time"


@pytest.mark.parametrize(
    "solver",
    [pytest.param(type(s), id=name(s), marks=slow_unless(name(s) == "ImplicitEuler")) for s in IMPLICIT + SPLIT],
)
def test_divergence_in_a_fixed_step_ends_the_solve(solver: type[Any]) -> None:
    solution = solve(solver(), ODETerm(steep), jnp.asarray([10.0]), dt0=0.5)
    assert solution.result == RESULTS.nonlinear_divergence
    assert int(solution.stats["num_steps"]) == 1


def stiffer_later(t: Any, y: Any, args: Any) -> Any:
    """A field that becomes ten thousand times faster after 0.5."""
    return -jnp.where(t > 0.5, 1e4, 1.0) * (y**3 - jnp.cos(t))


def stiffer_later_jacobian(t: Any, y: Any, args: Any) -> Any:
    """The Jacobian, at 0.5 that of the faster field."""
    return jnp.diag(-3 * jnp.where(t >= 0.5, 1e4, 1.0) * y**2)


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler, pytest.param(rungax.KenCarp4, marks=pytest.mark.slow)])
def test_a_failure_with_an_old_jacobian_leads_to_a_new_one(solver: type[Any]) -> None:
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


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler, pytest.param(rungax.KenCarp4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("force", [True, False])
def test_at_dtmin_a_failure_with_an_old_jacobian_leads_to_a_new_one(solver: Any, force: bool) -> None:
    """The step cannot be made shorter. With a new Jacobian the equations, which are linear, are solved at once."""
    jacobian = LoggedJacobian(lambda t, y, args: jnp.diag(-jnp.where(t >= 0.5, 1e4, 1.0) * jnp.ones_like(y)))
    solution = solve(
        solver(root_finder=strict_chord()),
        ODETerm(lambda t, y, args: -jnp.where(t > 0.5, 1e4, 1.0) * (y - jnp.cos(t)), jacobian=jacobian),
        jnp.asarray([2.0]),
        dt0=0.125,
        stepsize_controller=undemanding(dtmin=0.125, dtmax=0.125, force_dtmin=force),
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 1
    assert 0.5 in jacobian.times
    np.testing.assert_allclose(states(solution)[0], np.cos(1.0), atol=1e-3)


@pytest.mark.parametrize("force", [True, False])
def test_at_dtmin_a_step_that_fails_with_a_new_jacobian_too_ends_the_solve(force: bool) -> None:
    solution = solve(
        rungax.ImplicitEuler(root_finder=strict_chord()),
        ODETerm(steep),
        jnp.asarray([10.0]),
        dt0=0.5,
        stepsize_controller=undemanding(dtmin=0.25, force_dtmin=force),
    )
    assert solution.result == RESULTS.nonlinear_divergence
    assert int(solution.stats["num_steps"]) == 2


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler, pytest.param(rungax.Kvaerno3, marks=pytest.mark.slow)])
def test_an_outdated_jacobian_gives_no_wrong_solution(solver: type[Any]) -> None:
    """Either the solve fails with a result, or its solution is right."""
    term = ODETerm(lambda t, y, args: -jnp.where(t > 0.5, 1e4, 1.0) * (y - jnp.cos(t)))
    solution = solve(solver(), term, jnp.asarray([2.0]), dt0=0.125)
    assert solution.result == RESULTS.nonlinear_divergence or abs(float(states(solution)[0, 0]) - np.cos(1.0)) < 0.1


@pytest.mark.parametrize(
    "solver", [pytest.param(type(s), id=name(s), marks=slow_unless(name(s) == "Sil3")) for s in IMPLICIT + SPLIT]
)
def test_error_control_copes_with_an_outdated_jacobian(solver: type[Any]) -> None:
    term = ODETerm(lambda t, y, args: -jnp.where(t > 0.5, 1e4, 1.0) * (y - jnp.cos(t)))
    controller = rungax.PIDController(rtol=1e-4, atol=1e-4)
    solution = solve(solver(), term, jnp.asarray([2.0]), dt0=0.125, stepsize_controller=controller, max_steps=4096)
    assert solution.result == RESULTS.successful
    assert float(states(solution)[0, 0]) == pytest.approx(np.cos(1.0), abs=1e-3)


@pytest.mark.parametrize("size", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_singular_matrix_ends_a_fixed_step(size: int) -> None:
    """`1 - h lambda = 0` exactly: the equation has no solution, and the solve fails."""
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
