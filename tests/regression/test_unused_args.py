"""A variable that the field does not use, but a condition of an event: its derivative through an implicit method.

The tangent of each stage's equation is then absent and not an array of zeros: there is no system to solve.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import ODETerm, PIDController, diffeqsolve

FORWARD = lambda end, x: jax.jacfwd(lambda x: end(x, rungax.ForwardMode()))(x)
REVERSE = lambda end, x: jax.grad(lambda x: end(x, rungax.RecursiveCheckpointAdjoint()))(x)


@pytest.mark.parametrize("mode", [pytest.param(FORWARD, id="forward"), pytest.param(REVERSE, id="back")])
def test_a_variable_that_nothing_uses_has_a_derivative_of_zero(mode: Any) -> None:
    def end(threshold: Any, adjoint: Any) -> Any:
        solution = diffeqsolve(
            ODETerm(lambda t, y, args: -y), rungax.ImplicitEuler(), 0.0, 1.0, 0.5, jnp.ones(2), threshold,
            adjoint=adjoint,
        )  # fmt: skip
        return solution.ys[-1, 0]

    assert float(mode(end, 1.1)) == 0.0


@pytest.mark.parametrize(
    "mode", [pytest.param(FORWARD, id="forward", marks=pytest.mark.slow), pytest.param(REVERSE, id="back")]
)
def test_the_threshold_of_an_event_of_an_equation_with_a_constraint(mode: Any) -> None:
    """`y' = -z`, `z = y`; at y = p/2 an effect adds 1/2, so that y(1) = (p + 1) / (e p)."""
    event = rungax.Event(
        lambda t, y, args, **kwargs: y[0] - 0.5 * args,
        optx.Newton(1e-10, 1e-10),
        direction=False,
        effect=lambda t, y, args: y + 0.5,
    )

    def end(threshold: Any, adjoint: Any) -> Any:
        term = ODETerm(lambda t, y, args: jnp.stack([-y[1], y[1] - y[0]]), mass=jnp.array([1.0, 0.0]))
        solution = diffeqsolve(
            term, rungax.Rodas5P(), 0.0, 1.0, None, jnp.ones(2), threshold, event=event,
            stepsize_controller=PIDController(1e-8, 1e-8), adjoint=adjoint, max_steps=100,
        )  # fmt: skip
        return solution.ys[-1, 0]

    np.testing.assert_allclose(mode(end, 1.1), -np.exp(-1) / 1.1**2, rtol=1e-5)
