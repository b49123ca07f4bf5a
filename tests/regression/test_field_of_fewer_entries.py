"""A vector field whose value is broadcast to the shape of the state was refused, unless it was a Python number."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rungax import Heun, ODETerm, diffeqsolve

SHAPES = [(), (1,), (3,), (1, 1), (2, 1), (1, 3), (2, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_counts_for_every_entry(shape: Any) -> None:
    value = jnp.asarray(np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape))
    y1 = diffeqsolve(ODETerm(lambda t, y, args: args), Heun(), 0.0, 2.0, 1.0, jnp.zeros((2, 3)), value).ys[0]
    np.testing.assert_allclose(y1, np.broadcast_to(2 * np.asarray(value), (2, 3)), rtol=1e-14)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1, 2, 3), (1, 1, 1)], ids=str)
def test_what_does_not_broadcast_is_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match="must be that of the state"):
        diffeqsolve(ODETerm(lambda t, y, args: jnp.zeros(shape)), Heun(), 0.0, 1.0, 0.5, jnp.zeros((2, 3)))
