"""Tolerances may be scalars, arrays or pytrees like the state, and each is honoured where it applies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import slow_unless
from ..compare import assert_trees_close

# Two oscillators with nothing in common, of the same size but different speed.
START = {"quick": jnp.asarray([[1.0, 0.0]] * 2), "lazy": jnp.asarray([1.0, 0.0])}
SPEEDS = {"quick": 3.0, "lazy": 0.5}
END = 2.0


def oscillators(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(
        lambda speed, leaf: speed * leaf[..., ::-1] * jnp.asarray([1.0, -1.0]).reshape((1,) * (leaf.ndim - 1) + (2,)),
        args,
        y,
    )


def exact() -> dict[str, np.ndarray]:
    return {
        name: np.broadcast_to([np.cos(speed * END), -np.sin(speed * END)], START[name].shape)
        for name, speed in SPEEDS.items()
    }


@jax.jit
def solve(rtol: Any, atol: Any) -> rungax.Solution:
    """Compiled once for each structure of the tolerances."""
    controller = rungax.PIDController(rtol=rtol, atol=atol)
    return rungax.diffeqsolve(
        oscillators,
        rungax.Bosh3(),
        0.0,
        END,
        None,
        START,
        SPEEDS,
        stepsize_controller=controller,
        max_steps=None,
        throw=False,
    )


def errors(solution: rungax.Solution) -> dict[str, float]:
    return {
        name: float(np.abs(np.asarray(solution.ys[name][-1]) - expected).max()) for name, expected in exact().items()
    }


def everywhere(value: float, leaf_of: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), leaf_of)


SAME = {
    "array of one": lambda value: jnp.asarray(value),
    "array over the last axis": lambda value: jnp.full(2, value),
    "pytree of scalars": lambda value: {"quick": value, "lazy": value},
    "pytree of arrays": lambda value: everywhere(value, START),
    "pytree of float32 arrays": lambda value: jax.tree.map(lambda x: x.astype("float32"), everywhere(value, START)),
    "NumPy scalar": np.float64,
}


REPEATS = ("array of one", "pytree of scalars", "pytree of float32 arrays", "NumPy scalar")
"""Forms that differ from another one in their shape, width or class only."""


@pytest.mark.parametrize("form", [pytest.param(form, marks=slow_unless(form not in REPEATS)) for form in SAME])
def test_every_form_of_one_tolerance_is_the_same(form: str) -> None:
    expected = solve(1e-4, 1e-6)
    for found in (solve(SAME[form](1e-4), 1e-6), solve(1e-4, SAME[form](1e-6))):
        # Single precision of a tolerance, and of a step size, leaves seven digits.
        assert_trees_close(found.ys, expected.ys, rtol=1e-6, atol=1e-6)
        assert found.stats["num_steps"] == expected.stats["num_steps"]


LOOSE, TIGHT = 1e-2, 1e-7


@pytest.mark.parametrize("which", START)
def test_tight_tolerance_on_one_leaf_is_honoured(which: str) -> None:
    loose = dict.fromkeys(START, LOOSE)
    tight = loose | {which: TIGHT}
    assert errors(solve(loose, loose))[which] > 1e3 * TIGHT
    assert errors(solve(tight, tight))[which] < 1e2 * TIGHT


def test_tight_tolerance_on_one_component_is_honoured() -> None:
    tolerance = everywhere(LOOSE, START)
    tight = tolerance | {"lazy": tolerance["lazy"].at[0].set(TIGHT)}
    assert errors(solve(tolerance, tolerance))["lazy"] > 1e3 * TIGHT
    assert errors(solve(tight, tight))["lazy"] < 1e2 * TIGHT


def test_loose_tolerance_on_the_demanding_leaf_saves_steps() -> None:
    steps = {}
    for name in START:
        tolerance = dict.fromkeys(START, LOOSE) | {name: TIGHT}
        steps[name] = int(solve(tolerance, tolerance).stats["num_steps"])
    assert steps["lazy"] < 0.5 * steps["quick"]


@pytest.mark.parametrize("relative", [True, False], ids=["rtol", "atol"])
def test_each_tolerance_counts(relative: bool) -> None:
    """With the other one out of the way, the error follows the one that is left."""
    found = [errors(solve(tol if relative else 0.0, 0.0 if relative else tol))["lazy"] for tol in (1e-3, 1e-6)]
    assert found[1] < 1e-2 * found[0]
    assert found[1] < 1e-4


def test_vmap_over_pytree_tolerances() -> None:
    tolerances = jax.tree.map(lambda leaf: jnp.stack([leaf * 0 + 1e-2, leaf * 0 + 1e-5]), START)
    together = jax.jit(jax.vmap(lambda tol: solve(tol, tol).ys))(tolerances)
    for i in range(2):
        tolerance = jax.tree.map(lambda leaf, i=i: leaf[i], tolerances)
        found = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        assert_trees_close(found, solve(tolerance, tolerance).ys, rtol=1e-6, atol=1e-6)
