"""A value that is updated in a loop of at most one turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.jaxkit import select, update_if


def doubled(pred: jax.Array, value: jax.Array, step: jax.Array) -> jax.Array:
    """`2 * value + step` where `pred`, by `update_if`, whose update must select by itself."""

    def update(value: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        pred, step = inputs
        return select(pred, 2 * value + step, value)

    return update_if(pred, update, value, (pred, step))


@pytest.mark.parametrize("pred", [True, False])
def test_it_is_updated_once_or_not_at_all(pred: bool) -> None:
    found = jax.jit(doubled)(jnp.asarray(pred), jnp.asarray(3.0), jnp.asarray(0.5))
    assert found == (6.5 if pred else 3.0)


def test_under_vmap_it_is_a_loop() -> None:
    preds, values = jnp.asarray([True, False, True]), jnp.arange(3.0)
    found = jax.jit(jax.vmap(doubled, in_axes=(0, 0, None)))(preds, values, jnp.asarray(0.5))
    np.testing.assert_array_equal(found, [0.5, 1.0, 4.5])
