"""`HalfSolver` gives implicit methods an error estimate by step doubling, also for leaves of different dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import TRBDF2, HalfSolver, ImplicitEuler, PIDController, Sil3, diffeqsolve

from ..catalogue import name, terms_for


def test_each_leaf_keeps_its_dtype() -> None:
    y0 = {"a": jnp.ones(2, "float32"), "b": jnp.asarray(1.0), "c": jnp.asarray(1j)}
    decay = lambda t, y, args: jax.tree.map(jnp.negative, y)
    controller = PIDController(rtol=1e-4, atol=1e-6)
    ys = diffeqsolve(decay, HalfSolver(ImplicitEuler()), 0.0, 1.0, 0.1, y0, stepsize_controller=controller).ys
    assert [leaf.dtype.name for leaf in jax.tree.leaves(ys)] == ["float32", "float64", "complex128"]
    jax.tree.map(lambda y1, y: np.testing.assert_allclose(y1[0], np.exp(-1) * np.asarray(y), rtol=1e-2), ys, y0)


@pytest.mark.parametrize("solver", [TRBDF2(), Sil3()], ids=name)
def test_the_error_is_controlled(solver: Any) -> None:
    solution = diffeqsolve(
        terms_for(solver, lambda t, y, args: -50 * (y - jnp.cos(t)), explicit=0), HalfSolver(solver), 0.0, 2.0, None,
        jnp.asarray(1.0), stepsize_controller=PIDController(rtol=1e-5, atol=1e-7),
    )  # fmt: skip
    exact = (50 * 50 * np.cos(2.0) + 50 * np.sin(2.0)) / (50 * 50 + 1)
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-4)
