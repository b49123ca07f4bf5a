"""A predicate of all elements of a `vmap` is reduced to one value for the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np

from rungax.jaxkit import any_element, any_other_element

FLAGS = np.array([[True, False], [False, False]])


def test_without_vmap_there_are_no_other_elements() -> None:
    assert bool(any_element(jnp.asarray(True)))
    assert not any_other_element(jnp.asarray(True))


def test_predicates_are_reduced_over_every_axis() -> None:
    for reduction in (any_element, any_other_element):
        np.testing.assert_array_equal(jax.vmap(reduction)(FLAGS[0]), [True, True])
        np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(reduction)))(FLAGS), np.full((2, 2), True))
        np.testing.assert_array_equal(jax.vmap(reduction)(FLAGS[1]), [False, False])


def test_an_unbatched_predicate_has_no_other_elements() -> None:
    found = jax.vmap(lambda x: x + any_other_element(jnp.asarray(True)).astype(x.dtype))(jnp.zeros(2))
    np.testing.assert_array_equal(found, [0.0, 0.0])
