"""A pytree of numbers becomes a vector and is restored from it exactly, with its dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rungax.jaxkit import FlatSpace

F32, F64, C64, C128 = (np.dtype(x) for x in ("float32", "float64", "complex64", "complex128"))


def numbers(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Different numbers that are exact in every dtype."""
    count = np.arange(int(np.prod(shape))).reshape(shape) + 0.5
    return jnp.asarray(count - 1j * (count + 100) if np.issubdtype(dtype, np.complexfloating) else count, dtype)


STATES: dict[str, tuple[Any, int, Any]] = {
    "vector": (numbers((3,), F64), 3, F64),
    "narrow vector": (numbers((3,), F32), 3, F32),
    "scalar": (numbers((), F64), 1, F64),
    "matrix": (numbers((2, 3), F64), 6, F64),
    "nested": ({"b": (numbers((2,), F64), [numbers((), F64)]), "a": numbers((2, 1), F64), "none": None}, 5, F64),
    "two widths": ([numbers((2,), F32), numbers((), F64)], 3, F64),
    "with an empty leaf": ((numbers((0,), F64), numbers((2,), F64), numbers((3, 0), F64)), 2, F64),
    "nothing": ((), 0, F64),
    "only empty leaves": ([numbers((0,), F32)], 0, F32),
    "complex": (numbers((3,), C128), 6, F64),
    "narrow complex": (numbers((2,), C64), 4, F32),
    "complex scalar": (numbers((), C128), 2, F64),
    "complex and real": ({"z": numbers((2,), C128), "x": numbers((3,), F64)}, 7, F64),
    "narrow complex, wide real": ({"z": numbers((2,), C64), "x": numbers((3,), F64)}, 7, F64),
}
HOLOMORPHIC: dict[str, tuple[Any, int, Any]] = {
    "complex": (numbers((3,), C128), 3, C128),
    "narrow complex": (numbers((2,), C64), 2, C64),
    "complex scalar": (numbers((), C128), 1, C128),
    "complex tree": ([numbers((2,), C128), numbers((1, 2), C64)], 4, C128),
}
CASES = [
    *(pytest.param(*case, False, id=name) for name, case in STATES.items()),
    *(pytest.param(*case, True, id=f"{name}, holomorphic") for name, case in HOLOMORPHIC.items()),
]


def assert_same(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert jnp.array_equal(a, b)


@pytest.mark.parametrize(("state", "size", "dtype", "holomorphic"), CASES)
def test_round_trip(state: Any, size: int, dtype: Any, holomorphic: bool) -> None:
    space = FlatSpace(state, holomorphic)
    vector = space.ravel(state)
    assert (vector.shape, vector.dtype) == ((size,), dtype)
    assert (space.size, space.dtype) == (size, dtype)
    assert_same(space.unravel(vector), state)
    assert_same(jax.jit(lambda x: space.unravel(space.ravel(x)))(state), state)
    # From a vector to a pytree and back.
    other = jnp.arange(size).astype(dtype)
    assert jnp.array_equal(space.ravel(space.unravel(other)), other)


@pytest.mark.parametrize(("state", "size", "dtype", "holomorphic"), CASES)
def test_shapes_suffice(state: Any, size: int, dtype: Any, holomorphic: bool) -> None:
    assert FlatSpace(jax.eval_shape(lambda: state), holomorphic) == FlatSpace(state, holomorphic)


@pytest.mark.parametrize("name", ["vector", "matrix", "nested"])
def test_the_order_is_that_of_ravel_pytree(name: str) -> None:
    state = STATES[name][0]
    assert jnp.array_equal(FlatSpace(state).ravel(state), ravel_pytree(state)[0])


def test_complex_leaves_become_their_real_and_then_their_imaginary_parts() -> None:
    state = {"b": jnp.asarray([5.0]), "a": jnp.asarray([1 + 3j, 2 + 4j])}
    assert FlatSpace(state).ravel(state).tolist() == [1, 2, 3, 4, 5]


def test_python_numbers_are_leaves() -> None:
    space = FlatSpace({"a": 1.0, "b": 2j})
    assert space.ravel({"a": 1.0, "b": 2j}).tolist() == [1.0, 0.0, 2.0]
    assert space.unravel(jnp.asarray([1.0, 0.0, 2.0]))["b"] == 2j


def test_it_is_static() -> None:
    """A module without arrays, so that it may be stored, compared and passed through any transformation."""
    state = STATES["complex and real"][0]
    space = FlatSpace(state)
    assert jax.tree.leaves(space) == []
    assert hash(space) == hash(FlatSpace(state))
    assert space != FlatSpace(state["x"])


def test_the_map_is_linear_in_both_modes() -> None:
    state = STATES["complex and real"][0]
    space = FlatSpace(state)
    tangent = jax.tree.map(lambda x: 2 * x, state)
    assert_same(jax.jvp(space.ravel, (state,), (tangent,))[1], space.ravel(tangent))
    vector = space.ravel(state)
    (back,) = jax.vjp(space.ravel, state)[1](vector)
    # In JAX's convention the cotangent of a complex number is the complex conjugate of the gradient.
    assert_same(back, jax.tree.map(jnp.conj, space.unravel(vector)))


def test_under_vmap() -> None:
    state = STATES["nested"][0]
    space = FlatSpace(state)
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x, 3 * x]), state)
    assert_same(jax.vmap(space.unravel)(jax.vmap(space.ravel)(batch)), batch)
