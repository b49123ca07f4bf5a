"""Every path has increments that are differences of its values, a derivative if any, and is the same in any program."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ..catalogue import INTERPOLATIONS, NOISES, slow_unless
from ..compare import assert_trees_close

PATHS = INTERPOLATIONS | NOISES
TIMES = np.array([0.0, 0.3, 0.7, 1.6, 1.7, 2.0])
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("name", [name for name in PATHS if name != "UnsafeBrownianPath"])
def test_an_increment_is_the_difference_of_two_values(name: str) -> None:
    """For a pytree of values; an unsafe Brownian path promises no such thing."""
    path = PATHS[name]()

    @jax.jit
    def both(a: Any, b: Any) -> tuple[Any, Any]:
        return path.evaluate(a, b), jax.tree.map(jnp.subtract, path.evaluate(b), path.evaluate(a))

    for a, b in ((0.3, 1.7), (1.7, 0.3), (0.0, 2.0)):
        increment, difference = both(np.asarray(a), np.asarray(b))
        assert set(increment) == {"a", "b"}
        assert any(np.abs(leaf).max() > 0.1 for leaf in jax.tree.leaves(increment))
        assert_trees_close(increment, difference, **ROUNDING)


# A `Solution` hands the times on to its `DenseInterpolation`.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=slow_unless(name not in ("Solution", "UnsafeBrownianPath"))) for name in PATHS],
)
def test_vmap_is_a_loop_and_jit_is_eager(name: str) -> None:
    """Over increments between neighbouring times."""
    path = PATHS[name]()
    increment = lambda a, b: path.evaluate(a, b)
    together, alone = jax.jit(jax.vmap(increment))(TIMES[:-1], TIMES[1:]), jax.jit(increment)
    for i, (a, b) in enumerate(pairwise(TIMES)):
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], together), alone(a, b), **ROUNDING)
    assert_trees_close(increment(*TIMES[1:3]), alone(*TIMES[1:3]), **ROUNDING)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_the_derivative_is_that_of_the_value(name: str) -> None:
    """Between the knots, by forward mode."""
    path = INTERPOLATIONS[name]()
    slopes = jax.jit(lambda t: (path.derivative(t), jax.jvp(path.evaluate, (t,), (jnp.ones_like(t),))[1]))
    for t in TIMES[1:-1]:
        assert_trees_close(*slopes(t), rtol=1e-9, atol=1e-9)
