"""A step much longer than a decay damps it as the stability function of the method predicts: to zero if L-stable."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import STIFF, name, slow_unless, terms_for

RATE = 1e6
A_STABLE = {"ROS3P": 1 - 3**0.5}
"""The stability function at infinity of the methods that are not L-stable."""


def after_one_step(solver: rungax.AbstractSolver[Any], rate: complex, dtype: Any) -> np.ndarray:
    terms = terms_for(solver, lambda t, y, args: jnp.asarray(-rate, y.dtype) * y, 0.0)
    real = jnp.finfo(dtype).dtype
    t0, t1 = jnp.asarray(0.0, real), jnp.asarray(1.0, real)
    return np.asarray(rungax.diffeqsolve(terms, solver, t0, t1, t1, jnp.ones(1, dtype), max_steps=1).ys[-1])


KINDS = ("Kvaerno3", "KenCarp3", "ROS3P")
"""One of each family; `tableaus/` has the stability function of every method."""
FEW = [
    pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in ("Kvaerno3", "ROS3P"))) for solver in STIFF
]


OFTEN = {*((kind, "float64") for kind in KINDS), ("KenCarp3", "float32")}


# In single precision the rounding of a stage, times rate and step, is as large as the solution. With fused
# multiply-additions it cancels in KenCarp's methods; without optimizations it does not.
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    ("solver", "dtype", "rest"),
    [
        pytest.param(s, dtype, rest, id=f"{name(s)}-{dtype}", marks=slow_unless((name(s), dtype) in OFTEN))
        for s in STIFF
        for dtype, rest in (("float64", 5e-5), ("float32", 2e-4))
    ],
)
def test_a_fast_decay_is_over_after_one_step(solver: rungax.AbstractSolver[Any], dtype: str, rest: float) -> None:
    # L-stable functions fall like 1 / z; the largest numerator here, of Rodas5P, is 31.
    left = after_one_step(solver, RATE, dtype)
    np.testing.assert_allclose(left, A_STABLE.get(name(solver), 0.0), atol=rest)


@pytest.mark.parametrize("solver", FEW)
def test_a_fast_oscillation_that_decays_is_over_after_one_step(solver: rungax.AbstractSolver[Any]) -> None:
    left = after_one_step(solver, RATE * (1 + 10j), "complex128")
    np.testing.assert_allclose(left, A_STABLE.get(name(solver), 0.0), atol=5e-5)
