"""Entries of mass matrices as variables: derivatives with respect to those of a singular matrix without rows of zeros,
and batches of matrices of different rank.

The algebraic equations of a matrix without rows of zeros are sums of equations, which turn with its entries. So do the
consistent initial values.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ODETerm, PIDController, diffeqsolve

from ..catalogue import name, slow_unless

ROWS = np.array([[1.0, 0.5, 0.2], [0.3, -1.0, 0.4], [0.5, 0.2, 1.0]])
COLUMNS = np.array([[1.0, 0.2, -0.3], [0.4, 1.0, 0.1], [-0.2, 0.3, 1.0]])
THETA = np.array([1.5, 0.8, 1.2, 1.1, 0.6])


def _field(t: Any, y: Any, rate: Any) -> Any:
    a, b, c = y
    return ROWS @ jnp.stack([c - rate * a, jnp.sin(t) - b * c, c + c**3 - rate * a - b])


def end(theta: Any, solver: Any, **options: Any) -> Any:
    """The last state from two entries of the mass matrix, a mixing angle of its rows, the rate, and a scale of y0."""
    first, second, angle, rate, scale = theta
    turn = (
        jnp.eye(3)
        .at[:2, :2]
        .set(jnp.stack([jnp.stack([jnp.cos(angle), -jnp.sin(angle)]), jnp.stack([jnp.sin(angle), jnp.cos(angle)])]))
    )
    mass = ROWS @ turn @ jnp.diag(jnp.stack([first, second, jnp.zeros_like(first)])) @ COLUMNS
    y0 = scale * jnp.array([1.0, 0.5, 0.3])
    controller = PIDController(1e-9, 1e-9)
    options = {"max_steps": 2000, **options}
    return diffeqsolve(
        ODETerm(_field, mass=mass), solver, 0.0, 1.0, None, y0, rate, stepsize_controller=controller, **options
    ).ys[-1]


def differences(solver: Any) -> np.ndarray:
    program, step = jax.jit(lambda theta: end(theta, solver)), 1e-4
    shifts = step * np.eye(len(THETA))
    return np.stack([(program(THETA + s) - program(THETA - s)) / (2 * step) for s in shifts], axis=1)


MODES = {
    "forward": lambda end: jax.jacfwd(lambda x: end(x, adjoint=rungax.ForwardMode())),
    "reverse": lambda end: jax.jacrev(end),
    "direct, reverse": lambda end: jax.jacrev(lambda x: end(x, adjoint=rungax.DirectAdjoint(), max_steps=256)),
}


@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        pytest.param(
            solver, mode, marks=slow_unless((name(solver), mode) == ("Rodas5P", "reverse")), id=f"{name(solver)}-{mode}"
        )
        for solver, mode in itertools.product((rungax.Rodas5P(), rungax.Kvaerno5(), rungax.BDF()), MODES)
    ],
)
def test_derivatives_with_respect_to_a_singular_matrix_without_rows_of_zeros(solver: Any, mode: str) -> None:
    """Its rank is that of two entries, its kernels turn with all that is differentiated but the rate and the scale."""
    found = jax.jit(MODES[mode](lambda x, **options: end(x, solver, **options)))(jnp.asarray(THETA))
    assert np.abs(found).max(axis=0).min() > 1e-2, "every one of the variables matters"
    np.testing.assert_allclose(found, differences(solver), atol=2e-6)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, marks=slow_unless(name(s) == "Rodas5P"), id=name(s))
        for s in (rungax.Rodas5P(), rungax.Kvaerno5(), rungax.BDF())
    ],
)
def test_matrices_of_different_rank_in_a_batch(solver: Any) -> None:
    """Which equations are algebraic differs from lane to lane; the values are those of single solves."""

    def solve(diagonal: Any) -> tuple[Any, Any]:
        field = lambda t, y, args: jnp.stack([y[1] - y[0], y[1] + y[1] ** 3 - y[0]])
        solution = diffeqsolve(
            ODETerm(field, mass=diagonal), solver, 0.0, 1.0, None, jnp.array([1.0, 0.5]),
            stepsize_controller=PIDController(1e-7, 1e-7), throw=False,
        )  # fmt: skip
        return solution.ys[-1], solution.result == rungax.RESULTS.successful

    diagonals = jnp.array([[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]])
    found, successful = jax.jit(jax.vmap(solve))(diagonals)
    assert np.all(successful)
    single = jax.jit(solve)
    np.testing.assert_allclose(found, np.stack([single(x)[0] for x in diagonals]), rtol=1e-9)
    algebraic = [found[0, 1] + found[0, 1] ** 3 - found[0, 0], found[2, 1] - found[2, 0]]
    np.testing.assert_allclose(algebraic, 0.0, atol=1e-5)
