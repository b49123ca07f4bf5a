"""Explicit, diagonally implicit and implicit-explicit methods solve for a state whose leaves differ in dtype."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import TRBDF2, Heun, Sil3, diffeqsolve

from ..catalogue import name, terms_for


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


@pytest.mark.parametrize("solver", [Heun(), TRBDF2(), pytest.param(Sil3(), marks=pytest.mark.slow)], ids=name)
def test_each_leaf_is_solved_in_its_own_dtype(solver: Any) -> None:
    y0 = {"narrow": jnp.ones(2, "float32"), "wide": jnp.asarray(1.0)}
    ys = diffeqsolve(terms_for(solver, decay), solver, 0.0, 1.0, 0.05, y0).ys
    assert {key: leaf.dtype.name for key, leaf in ys.items()} == {"narrow": "float32", "wide": "float64"}
    jax.tree.map(lambda leaf: np.testing.assert_allclose(leaf, np.full_like(leaf, np.exp(-1)), rtol=1e-3), ys)
