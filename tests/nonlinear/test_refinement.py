"""Solutions with the factors of a nearby matrix are those of the matrix itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rungax.nonlinear.refinement import refined

SIZE = 6


@jax.jit
def solved(matrix: jax.Array, nearby: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The solution, and the same with a matrix of its own that is of no use."""
    near, own = (lambda b, m=m: jnp.linalg.solve(m, b) for m in (nearby, matrix))
    product = lambda x: matrix @ x
    return refined(product, b, near, own), refined(product, b, near, lambda b: jnp.full_like(b, jnp.nan))


def problem(seed: int, change: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = np.eye(SIZE) + 0.3 * rng.uniform(-1, 1, (SIZE, SIZE))
    return matrix, matrix + change * rng.uniform(-1, 1, (SIZE, SIZE)), rng.normal(size=SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-9, 1))
def test_the_solution_is_that_of_the_matrix_itself(seed: int, magnitude: float) -> None:
    matrix, nearby, b = problem(seed, 10**magnitude)
    expected = np.linalg.solve(matrix, b)
    scale = np.linalg.cond(matrix) * np.max(np.abs(expected))
    np.testing.assert_allclose(solved(matrix, nearby, b)[0], expected, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize(("change", "is_used"), [(0.0, False), (1e-6, False), (1e-3, False), (1.0, True)])
def test_the_own_factors_are_used_only_where_the_iteration_is_slow(change: float, is_used: bool) -> None:
    for seed in range(8):
        assert np.isnan(solved(*problem(seed, change))[1]).any() == is_used


def test_elements_of_a_batch_need_not_agree() -> None:
    problems = [problem(seed, change) for seed, change in enumerate((1e-8, 1.0, 1e-4, 0.0))]
    stacked = [jnp.asarray(np.stack(parts)) for parts in zip(*problems, strict=True)]
    found = jax.vmap(solved)(*stacked)[0]
    for row, (matrix, _, b) in zip(found, problems, strict=True):
        np.testing.assert_allclose(row, np.linalg.solve(matrix, b), rtol=1e-11)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_it_ends_for_every_right_hand_side(value: float) -> None:
    matrix, nearby, b = problem(0, 1e-3)
    found = solved(matrix, nearby, np.full_like(b, value))[0]
    np.testing.assert_array_equal(found, np.zeros(SIZE) if value == 0 else np.full(SIZE, np.nan))
