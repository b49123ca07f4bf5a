"""Gradients of explicit and implicit solves with complex states are right, and no warning is issued."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import Kvaerno3, PIDController, Tsit5, diffeqsolve

from ..catalogue import name, slow_unless


@pytest.mark.parametrize(
    "solver",
    # Of an explicit method the gradient of a complex state is in `test_wrt.py`, too.
    [pytest.param(s, id=name(s), marks=slow_unless(name(s) == "Kvaerno3")) for s in (Tsit5(), Kvaerno3())],
)
def test_gradients_are_those_of_the_exact_solution(solver: Any) -> None:
    """Of a real function of y(1), where y' = rate y, with respect to the state and the rate."""
    controller = PIDController(rtol=1e-8, atol=1e-10)

    def by_solve(y0: Any, rate: Any) -> Any:
        field = lambda t, y, rate: rate * y
        y1 = diffeqsolve(field, solver, 0.0, 1.0, None, y0, rate, stepsize_controller=controller).ys[0]
        return jnp.real(y1 * (1 - 2j))

    exact = lambda y0, rate: jnp.real(y0 * jnp.exp(rate) * (1 - 2j))
    y0, rate = jnp.asarray(1 + 0.5j), jnp.asarray(-0.3 + 2j)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.grad(by_solve, argnums=(0, 1))(y0, rate)
    np.testing.assert_allclose(found, jax.grad(exact, argnums=(0, 1))(y0, rate), rtol=1e-5)
