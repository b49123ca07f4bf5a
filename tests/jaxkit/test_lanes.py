"""Questions to all lanes of a `vmap`, answered once for all."""

import jax
import jax.numpy as jnp
import numpy as np

from rungax.jaxkit import any_element, any_other_element

FLAGS = np.array([[True, False], [False, False]])


def test_a_single_lane_has_no_others() -> None:
    assert bool(any_element(jnp.asarray(True)))
    assert not any_other_element(jnp.asarray(True))


def test_lanes_are_asked_along_every_axis() -> None:
    for question in (any_element, any_other_element):
        np.testing.assert_array_equal(jax.vmap(question)(FLAGS[0]), [True, True])
        np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(question)))(FLAGS), np.full((2, 2), True))
        np.testing.assert_array_equal(jax.vmap(question)(FLAGS[1]), [False, False])


def test_lanes_that_cannot_differ_are_one() -> None:
    found = jax.vmap(lambda x: x + any_other_element(jnp.asarray(True)).astype(x.dtype))(jnp.zeros(2))
    np.testing.assert_array_equal(found, [0.0, 0.0])
