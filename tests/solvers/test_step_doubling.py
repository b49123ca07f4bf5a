"""`HalfSolver` controls the error of a method for two terms, one explicit and one implicit."""

import jax.numpy as jnp
import numpy as np

from rungax import HalfSolver, PIDController, Sil3, diffeqsolve

from ..catalogue import terms_for


def test_the_error_of_an_implicit_explicit_method_is_controlled() -> None:
    """y' = -50 (y - cos t), whose fast mode has decayed at the end."""
    solver = Sil3()
    solution = diffeqsolve(
        terms_for(solver, lambda t, y, args: -50 * (y - jnp.cos(t)), explicit=0), HalfSolver(solver), 0.0, 2.0, None,
        jnp.asarray(1.0), stepsize_controller=PIDController(rtol=1e-5, atol=1e-7),
    )  # fmt: skip
    exact = (50 * 50 * np.cos(2.0) + 50 * np.sin(2.0)) / (50 * 50 + 1)
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-4)
