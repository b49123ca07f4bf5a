"""`BDF` solves reference problems as accurately as SciPy's BDF and CVODE at the same tolerances, in as many steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import slow_unless
from ..problems.grids import HEATING, brusselator
from ..problems.references import NAMES, case, references

LARGEST_RATIO = 2.0
"""The largest error, relative to the larger of the others' errors.

The aim is 1.5, and the largest ratio that `benchmarks/bdf.py` measures is 1.6. The error at one time is a sum of many
local errors of both signs, which changes much with the step sizes.
"""
MORE_STEPS = 1.15
"""The largest number of accepted steps, relative to SciPy's, whose formulas are the same."""
CASES = [
    pytest.param(name, marks=slow_unless(name == "HIRES")) for name in NAMES if name not in ("Beam", "Ring modulator")
]


@pytest.mark.parametrize("name", CASES)
def test_errors_fall_with_the_tolerance_and_are_those_of_other_codes(name: str) -> None:
    problem, table, errors = case(name), references(), list[float]()
    solve = jax.jit(lambda rtol: problem.solve(rungax.BDF(), rtol))
    for rtol in problem.tolerances:
        solution, reference = solve(jnp.asarray(rtol)), table[name, rtol]
        assert solution.result == rungax.RESULTS.successful
        y = np.asarray(solution.ys[-1])
        errors.append(problem.error(y))
        assert errors[-1] <= LARGEST_RATIO * reference.largest_error, rtol
        if reference.scipy_steps > 0:
            assert int(solution.stats["num_accepted_steps"]) <= MORE_STEPS * reference.scipy_steps, rtol
        if name == "Robertson":
            assert abs(y.sum() - 1) < 1e-12, "mass is conserved"
    # Over two decades, because a single error may be small by accident.
    assert all(after < before for before, after in zip(errors, errors[2:], strict=False)), errors
    assert errors[-1] < 1e-4 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Beam", "Ring modulator"])
def test_oscillations_take_no_more_steps_than_in_other_codes(name: str) -> None:
    """The formulas are unstable for them, and the step sizes as small as the oscillation asks for.

    No error is compared: the phase after thousands of periods is random at such tolerances.
    """
    problem, table = case(name), references()
    solve = jax.jit(lambda rtol: problem.solve(rungax.BDF(), rtol))
    for rtol in problem.tolerances[:2]:
        solution, reference = solve(jnp.asarray(rtol)), table[name, rtol]
        assert solution.result == rungax.RESULTS.successful
        largest = max(reference.scipy_steps, reference.cvode_steps)
        assert int(solution.stats["num_accepted_steps"]) <= MORE_STEPS * largest, rtol


@pytest.mark.slow
def test_an_a_stable_order_makes_far_fewer_steps_for_oscillations_with_little_damping() -> None:
    """The numbers of the docstring: 179 steps of orders up to 2, and 16 892 of orders up to 5."""
    problem = case("Beam")
    stable, whole = (problem.solve(rungax.BDF(max_order=order), 1e-3) for order in (2, 5))
    assert int(stable.stats["num_accepted_steps"]) < 0.02 * int(whole.stats["num_accepted_steps"])
    assert problem.error(np.asarray(stable.ys[-1])) < problem.error(np.asarray(whole.ys[-1]))


OTHERS = [
    ("EMEP", rungax.Rodas5P(), 1e-6, 1e-4),
    ("Robertson", rungax.Kvaerno5(), 1e-9, 1e-8),
    ("Heat", rungax.Kvaerno5(), 1e-8, 1e-8),
    ("Beam", rungax.Rodas5P(), 1e-6, 1e-4),
    ("Ring modulator", rungax.Rodas5P(), 1e-6, 1e-4),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "solver", "rtol", "largest"), OTHERS, ids=lambda value: str(value).split("(")[0])
def test_other_families_solve_them_too(name: str, solver: Any, rtol: float, largest: float) -> None:
    problem = case(name)
    solution = jax.jit(lambda rtol: problem.solve(solver, rtol))(jnp.asarray(rtol))
    assert solution.result == rungax.RESULTS.successful
    assert problem.error(np.asarray(solution.ys[-1])) < largest


@pytest.mark.slow
def test_the_brusselator_has_the_same_derivatives_in_three_modes() -> None:
    """Of a weighted sum of the last state with respect to A and alpha, and by differences of accurate solutions."""
    grid = brusselator(6)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=grid.y0.size))

    def loss(args: jax.Array, adjoint: Any, rtol: float) -> jax.Array:
        controller = rungax.ClipStepSizeController(rungax.PIDController(rtol, rtol), jump_ts=[HEATING])
        solution = rungax.diffeqsolve(
            rungax.ODETerm(grid.field, sparsity=grid.pattern), rungax.BDF(), 0.0, 2.0, None, jnp.asarray(grid.y0),
            (args[0], args[1]), stepsize_controller=controller, max_steps=4096, adjoint=adjoint,
        )  # fmt: skip
        return jnp.vdot(weights, solution.ys[-1])

    args = jnp.array([3.4, 0.05])
    reverse = jax.jit(jax.grad(lambda args: loss(args, rungax.RecursiveCheckpointAdjoint(), 1e-7)))(args)
    forward = jax.jit(jax.jacfwd(lambda args: loss(args, rungax.ForwardMode(), 1e-7)))(args)
    # Reverse mode makes each step again, with another Jacobian, and solves its equation to a part of the tolerance.
    np.testing.assert_allclose(reverse, forward, rtol=1e-6)
    value = jax.jit(lambda args: loss(args, rungax.RecursiveCheckpointAdjoint(), 1e-10))
    for i, change in enumerate(1e-4 * np.asarray(args)):
        shift = change * jnp.eye(2)[i]
        np.testing.assert_allclose(forward[i], (value(args + shift) - value(args - shift)) / (2 * change), rtol=1e-4)
