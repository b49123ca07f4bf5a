"""The loop attempts exactly the steps that the controller's verdicts ask for, keeps those accepted and counts both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import rungax
from rungax import RESULTS, SaveAt

from ..fakes import FAKE_TERM, FakeController, FakeSolver, Script, fake_y0, scripted

KEEP, REJECT = True, False
EVERYTHING = SaveAt(t1=True, steps=True, solver_state=True, controller_state=True, made_jump=True)


def solve(controller: FakeController, t0: float = 0.0, t1: float = 1.0, **kwargs: Any) -> rungax.Solution:
    options = {"solver": FakeSolver(), "max_steps": 8, "throw": False, "saveat": EVERYTHING, **kwargs}
    solver = options.pop("solver")
    return rungax.diffeqsolve(FAKE_TERM, solver, t0, t1, None, fake_y0(), stepsize_controller=controller, **options)


def attempts(solution: rungax.Solution) -> list[tuple[float, float]]:
    return [(float(row[0]), float(row[1])) for row in log(solution)]


def log(solution: rungax.Solution) -> np.ndarray:
    state = solution.controller_state.controller_state
    return np.asarray(state.log[: int(state.attempt)])


def accepted_ends(solution: rungax.Solution) -> list[float]:
    return [float(t) for t in solution.ts if np.isfinite(t)]


def counts(solution: rungax.Solution) -> tuple[int, int, int]:
    stats = solution.stats
    return int(stats["num_steps"]), int(stats["num_accepted_steps"]), int(stats["num_rejected_steps"])


def chained(controller: FakeController) -> rungax.Solution:
    """The last of a chain of solves with one attempt each, whose log is that of all."""
    saveat = SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)
    solution = solve(controller, max_steps=1, saveat=saveat)
    for _ in range(7):
        if solution.result != RESULTS.max_steps_reached:
            break
        states = {key: getattr(solution, key) for key in ("solver_state", "controller_state", "made_jump")}
        solution = rungax.diffeqsolve(
            FAKE_TERM, FakeSolver(), solution.ts[0], 1.0, None, jax.tree.map(lambda y: y[0], solution.ys), max_steps=1,
            stepsize_controller=controller, saveat=saveat, throw=False, **states,
        )  # fmt: skip
    return solution


def forwards(seed: int) -> FakeController:
    """A random script that goes forwards.

    Some ends lie so near to 1, the end of the solve, that a step after an accepted one is clipped to that.
    """
    random = np.random.default_rng(seed)
    t, end, lines = 0.0, random.uniform(0.0, 1.1), []
    first = end
    for _ in range(8):
        keep, gap = random.random() < 0.5, random.choice([0.0, 0.0, 1e-3])
        t = end + gap if keep else t
        end = random.choice([t + random.uniform(0.0, 0.4), 1 - random.integers(1, 12) * 2.0**-53])
        lines.append(Script(keep, end, gap))
    return scripted(first, *lines)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_chain_of_single_attempts_makes_those_of_one_solve(seed: int) -> None:
    controller = forwards(seed)
    whole, chain = solve(controller), chained(controller)
    np.testing.assert_array_equal(log(chain), log(whole))
    assert chain.result == whole.result
    np.testing.assert_array_equal(chain.ts[0], whole.controller_state.t)
    jax.tree.map(np.testing.assert_array_equal, chain.controller_state, whole.controller_state)


def test_all_steps_accepted() -> None:
    solution = solve(scripted(0.25, Script(KEEP, 0.75), Script(KEEP, 1.0), Script(KEEP, 2.0)))
    assert attempts(solution) == [(0.0, 0.25), (0.25, 0.75), (0.75, 1.0)]
    assert accepted_ends(solution) == [0.25, 0.75, 1.0]
    assert counts(solution) == (3, 3, 0)
    assert solution.result == RESULTS.successful


def test_a_rejected_step_is_made_again_from_the_same_state_with_the_new_end() -> None:
    script = [Script(KEEP, 1.0), Script(REJECT, 0.75), Script(REJECT, 0.5), Script(KEEP, 1.0), Script(KEEP, 2.0)]
    solution = solve(scripted(0.25, *script))
    assert attempts(solution) == [(0.0, 0.25), (0.25, 1.0), (0.25, 0.75), (0.25, 0.5), (0.5, 1.0)]
    assert log(solution)[:, 4].tolist() == [0.0, 0.25, 0.25, 0.25, 0.5]
    assert accepted_ends(solution) == [0.25, 0.5, 1.0]
    assert counts(solution) == (5, 3, 2)


def test_the_first_step_may_be_rejected() -> None:
    solution = solve(scripted(1.0, Script(REJECT, 0.5), Script(KEEP, 1.0), Script(KEEP, 2.0)))
    assert attempts(solution) == [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)]
    assert counts(solution) == (3, 2, 1)


def test_solver_state_reverts_on_rejection_and_controller_state_does_not() -> None:
    solution = solve(scripted(0.5, Script(REJECT, 0.25), Script(KEEP, 0.75), Script(REJECT, 1.0), Script(KEEP, 2.0)))
    assert log(solution)[:, 3].tolist() == [0, 0, 1, 1]
    assert int(solution.solver_state) == 2
    assert int(solution.controller_state.controller_state.attempt) == 4


def test_made_jump_is_seen_by_each_attempt_at_the_next_step_and_reverts_on_rejection() -> None:
    script = [
        Script(KEEP, 0.75, gap=0.125),
        Script(REJECT, 0.625, gap=0.125),
        Script(REJECT, 0.5),
        Script(KEEP, 1.0),
        Script(KEEP, 2.0),
    ]
    solution = solve(scripted(0.25, *script))
    assert attempts(solution) == [(0.0, 0.25), (0.375, 0.75), (0.375, 0.625), (0.375, 0.5), (0.5, 1.0)]
    assert log(solution)[:, 2].tolist() == [False, True, True, True, False]
    assert not solution.made_jump


def test_a_jump_at_the_last_step_is_handed_out() -> None:
    solution = solve(scripted(0.5, Script(KEEP, 1.0), Script(KEEP, 2.0, gap=1e-16)))
    assert solution.result == RESULTS.successful
    assert solution.made_jump


def test_a_controller_that_never_jumps_hands_out_a_plain_false() -> None:
    solution = solve(scripted(1.0, Script(KEEP, 2.0), jumps=False))
    assert solution.made_jump is False


@pytest.mark.parametrize("past", [1.25, 1e9, np.inf, 1.0 - 2e-16])
def test_a_step_past_the_end_or_within_rounding_of_it_ends_on_it(past: float) -> None:
    solution = solve(scripted(0.5, Script(KEEP, past), Script(KEEP, 2.0)))
    assert attempts(solution) == [(0.0, 0.5), (0.5, 1.0)]
    assert accepted_ends(solution) == [0.5, 1.0]


def test_a_first_step_past_the_end_ends_on_it() -> None:
    assert attempts(solve(scripted(3.0, Script(KEEP, 4.0)))) == [(0.0, 1.0)]


def test_backwards_the_solver_and_the_controller_see_increasing_time() -> None:
    solution = solve(scripted(-0.5, Script(REJECT, -0.75), Script(KEEP, 0.0), Script(KEEP, 1.0)), 1.0, 0.0)
    assert attempts(solution) == [(-1.0, -0.5), (-1.0, -0.75), (-0.75, 0.0)]
    assert accepted_ends(solution) == [0.75, 0.0]


def test_max_steps_bounds_attempts_whether_accepted_or_not() -> None:
    script = [Script(KEEP, 0.5), Script(REJECT, 0.375), Script(KEEP, 0.5), Script(KEEP, 0.75)]
    solution = solve(scripted(0.25, *script), max_steps=3)
    assert solution.result == RESULTS.max_steps_reached
    assert counts(solution) == (3, 2, 1)
    assert accepted_ends(solution) == [0.25, 0.375]


def test_a_solve_that_ends_with_its_last_permitted_step_is_a_success() -> None:
    solution = solve(
        scripted(0.25, Script(KEEP, 0.5), Script(REJECT, 0.375), Script(KEEP, 1.0)), 0.0, 0.375, max_steps=3
    )
    assert solution.result == RESULTS.successful
    assert counts(solution) == (3, 2, 1)


def test_without_max_steps_the_script_alone_ends_the_solve() -> None:
    saveat = SaveAt(t1=True, controller_state=True)
    solution = solve(
        scripted(0.5, Script(REJECT, 0.25), Script(KEEP, 1.0), Script(KEEP, 2.0)), max_steps=None, saveat=saveat
    )
    assert attempts(solution) == [(0.0, 0.5), (0.0, 0.25), (0.25, 1.0)]
    assert solution.stats["max_steps"] is None


def test_no_way_on_is_nonfinite_and_no_length_is_dt_min_reached() -> None:
    no_number = solve(scripted(0.5, Script(KEEP, 0.75), Script(REJECT, np.nan)))
    no_length = solve(scripted(0.5, Script(KEEP, 0.75), Script(REJECT, 0.5)))
    backwards = solve(scripted(0.5, Script(KEEP, 0.75), Script(REJECT, 0.25)))
    assert no_number.result == RESULTS.nonfinite
    assert no_length.result == RESULTS.dt_min_reached
    assert backwards.result == RESULTS.dt_min_reached
    for solution in (no_number, no_length, backwards):
        assert counts(solution) == (2, 1, 1)
        assert accepted_ends(solution) == [0.5]


def test_a_controller_that_fails_ends_the_solve_with_its_result() -> None:
    rejected = solve(scripted(0.5, Script(KEEP, 0.75), Script(REJECT, 0.625, fails=True), Script(KEEP, 1.0)))
    accepted = solve(scripted(0.5, Script(KEEP, 0.75), Script(KEEP, 1.0, fails=True), Script(KEEP, 2.0)))
    assert rejected.result == RESULTS.internal_error
    assert accepted.result == RESULTS.internal_error
    assert accepted_ends(rejected) == [0.5]
    assert accepted_ends(accepted) == [0.5, 0.75]


def test_a_failed_step_is_a_failure_only_if_it_is_accepted() -> None:
    script = [Script(KEEP, 1.0), Script(REJECT, 0.75), Script(REJECT, 0.5), Script(KEEP, 1.0)]
    accepted = solve(scripted(0.25, *script), solver=FakeSolver(fails=1))
    assert accepted.result == RESULTS.internal_error
    assert counts(accepted) == (4, 2, 2)
    no_way_on = solve(scripted(0.25, *script[:3]), solver=FakeSolver(fails=1), max_steps=3)
    assert no_way_on.result == RESULTS.max_steps_reached
    assert jnp.isinf(no_way_on.ts[-1])
