"""Comparison of pytrees by structure, shape, dtype and value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def assert_trees_close(found: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0, dtypes: bool = True) -> None:
    """`found` is `expected` leaf by leaf, exactly unless a tolerance is given; an infinity or NaN equals itself."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert jnp.shape(a) == jnp.shape(b), f"{where}: {jnp.shape(a)} is not {jnp.shape(b)}"
        kinds = jnp.result_type(a), jnp.result_type(b)
        assert not dtypes or kinds[0] == kinds[1], f"{where}: {kinds[0]} is not {kinds[1]}"
        np.testing.assert_allclose(wide(a), wide(b), rtol=rtol, atol=atol, err_msg=where)


def wide(x: Any) -> np.ndarray:
    """`x` in a dtype that NumPy can compare."""
    array = np.asarray(x)
    return array.astype(np.float64) if array.dtype.name in ("bfloat16", "float16") else array
