"""A diagonally implicit method may have explicit stages after the first, and evaluates them without an iteration."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

import rungax


class MidpointWithLastStage(rungax.AbstractDIRK):
    """The implicit midpoint rule, with explicit stages at both ends of the step for an error estimate."""

    tableau = rungax.ButcherTableau(
        c=[0.5, 1.0],
        b_sol=[0.0, 1.0, 0.0],
        b_error=[-0.5, 1.0, -0.5],
        a_lower=[[0.0], [0.0, 1.0]],
        a_diagonal=[0.0, 0.5, 0.0],
        a_predictor=[[1.0], [-1.0, 2.0]],
    )
    calculate_jacobian = rungax.CalculateJacobian.second_stage
    interpolation_cls = staticmethod(
        lambda *, t0, t1, y0, y1, k: rungax.LocalLinearInterpolation(t0=t0, t1=t1, y0=y0, y1=y1)
    )

    def order(self, terms: Any) -> int:
        return 2


RATE = 1e3
TERM = rungax.ODETerm(lambda t, y, args: -RATE * (y - jnp.cos(t)))


def test_a_stiff_step_is_that_of_the_midpoint_rule() -> None:
    solver, t0, t1, y0 = MidpointWithLastStage(), jnp.asarray(0.0), jnp.asarray(0.125), jnp.asarray([1.5])
    y1, error, info, _, result = solver.step(TERM, t0, t1, y0, None, solver.init(TERM, t0, t1, y0, None), False)
    assert result == rungax.RESULTS.successful
    z = 0.125 * RATE
    expected = ((1 - z / 2) * 1.5 + z * math.cos(0.0625)) / (1 + z / 2)
    np.testing.assert_allclose(y1, [expected], rtol=1e-10)
    last = -z * (expected - math.cos(0.125))
    np.testing.assert_allclose(info["k"][2], [last], rtol=1e-9)
    np.testing.assert_allclose(error, [(z * 0.5 - last) / 2 + expected - 1.5], rtol=1e-9)


def test_explicit_stages_do_not_fail_where_the_equation_is_stiff() -> None:
    """Iterated with the matrix of the implicit stages they would need 908 steps here instead of 91."""
    solution = rungax.diffeqsolve(
        TERM,
        MidpointWithLastStage(),
        0.0,
        1.0,
        0.125,
        jnp.ones(2),
        stepsize_controller=rungax.PIDController(rtol=1e-4, atol=1e-4),
    )
    assert int(solution.stats["num_steps"]) < 150
    np.testing.assert_allclose(solution.ys, math.cos(1.0) * np.ones((1, 2)), rtol=5e-3)
