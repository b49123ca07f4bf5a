"""Before a jump of the vector field, stages that lie past the end of a step are given the field of their own side."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ClipStepSizeController, PIDController
from rungax.terms import evaluated_up_to

from ..catalogue import EXPLICIT, STIFF, name, slow_unless, terms_for

JUMP = 1.0
PAST = [rungax.Kvaerno4(), rungax.Kvaerno5()]
OTHERS = [rungax.Rodas5P(), rungax.KenCarp4(), rungax.HalfSolver(rungax.Kvaerno4())]
CASES = [
    pytest.param(s, direction, id=f"{name(s)}-{direction}", marks=slow_unless((name(s), direction) in often))
    for often in [{("Kvaerno4", 1.0), ("Kvaerno5", -1.0)}]
    for s in PAST + OTHERS
    for direction in (1.0, -1.0)
]


def test_a_given_jacobian_is_that_of_the_own_side_too() -> None:
    term = rungax.ODETerm(lambda t, y, args: t * y, jacobian=lambda t, y, args: t * jnp.ones((1, 1)))
    bounded = evaluated_up_to(jnp.asarray(JUMP), term)
    for t, expected in ((0.5, 0.5), (1.5, JUMP)):
        assert bounded.jacobian_at(jnp.asarray(t), jnp.ones(1), None) == expected
        assert bounded.vf(jnp.asarray(t), jnp.ones(1), None) == expected


def test_solvers_say_that_they_look_past_a_step() -> None:
    names = {name(solver) for solver in EXPLICIT + STIFF if solver.evaluates_past_steps}
    assert names == {"Kvaerno4", "Kvaerno5"}
    assert rungax.HalfSolver(rungax.Kvaerno5()).evaluates_past_steps
    assert rungax.Auto(stiff=rungax.Kvaerno5()).evaluates_past_steps
    assert not rungax.Auto().evaluates_past_steps


@pytest.mark.parametrize(("solver", "direction"), CASES)
def test_each_side_of_a_jump_sees_its_own_values(solver: Any, direction: float) -> None:
    """The field of the other side is not a number: a solve that saw it would not come as far as the jump."""

    @jax.jit
    def solve(t0: Any, t1: Any, y0: Any, force: Any) -> rungax.Solution:
        def field(t: Any, y: Any, args: Any) -> Any:
            seen = jnp.where(direction * t < JUMP, args, jnp.nan)
            return -100 * direction * (y - seen * jnp.cos(t))

        controller = ClipStepSizeController(PIDController(rtol=1e-6, atol=1e-6), jump_ts=[direction * JUMP])
        return rungax.diffeqsolve(
            terms_for(solver, field, 0.0), solver, t0, t1, None, y0, force,
            stepsize_controller=controller, throw=False, max_steps=1000,
        )  # fmt: skip

    end = direction * np.nextafter(JUMP, 0.0)
    solution = solve(0.0, end, jnp.asarray(1.0), jnp.asarray(1.0))
    assert solution.result == rungax.RESULTS.successful
    # The slow solution of y' = -λ (y - cos t), the fast one having died out.
    expected = (1e4 * np.cos(end) + 100 * np.sin(abs(end))) / (1e4 + 1)
    np.testing.assert_allclose(solution.ys[0], expected, rtol=1e-4)
    # The solution is linear in the force from a start of zero, on any grid.
    force, derivative = jax.jvp(
        lambda force: solve(0.0, end, jnp.asarray(0.0), force).ys[0], (jnp.asarray(1.0),), (jnp.asarray(1.0),)
    )
    np.testing.assert_allclose(derivative, force, rtol=1e-5)


@pytest.mark.parametrize("solver", PAST)
def test_a_jump_costs_few_steps(solver: Any) -> None:
    """A method that saw the field past the jump would come near it in ever smaller steps, most of them rejected."""

    def field(t: Any, y: Any, args: Any) -> Any:
        return -(y - jnp.where(t < JUMP, 0.0, 1e6))

    controller = ClipStepSizeController(PIDController(rtol=1e-6, atol=1e-6), jump_ts=[JUMP])
    solution = rungax.diffeqsolve(field, solver, 0.0, JUMP + 1, None, jnp.asarray(1.0), stepsize_controller=controller)
    np.testing.assert_allclose(solution.ys[0], 1e6 + (np.exp(-1.0) - 1e6) * np.exp(-1.0), rtol=1e-5)
    assert int(solution.stats["num_rejected_steps"]) <= 6
