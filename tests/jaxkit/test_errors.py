"""Errors of programs know every batch element, pass through derivatives, and leave values as they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rungax.jaxkit import raise_where


class _Negative(Exception):
    """The error of the tests, with the elements that it is about."""

    def __init__(self, failed: np.ndarray, values: Any):
        super().__init__(f"{np.argwhere(failed).tolist()}")
        self.failed, self.values = failed, values


def checked(x: Any, y: Any) -> Any:
    """`x * y`, an error where `x` is negative."""
    return raise_where({"product": x * y, "text": "as it is"}, x < 0, {"x": x, "y": y}, _Negative)["product"]


TWICE = jax.vmap(jax.vmap(checked, (0, None)), (0, 0))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.floats(-1.0, 1.0, allow_subnormal=False), min_size=3, max_size=3), min_size=2, max_size=2))
def test_a_batch_of_batches_knows_its_elements(rows: list[list[float]]) -> None:
    x, y = np.asarray(rows), np.asarray([2.0, 3.0])
    failed = x < 0
    if not failed.any():
        np.testing.assert_array_equal(TWICE(x, y), x * y[:, None])
        return
    with pytest.raises(_Negative) as error:
        TWICE(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_array_equal(error.value.failed, failed)
    np.testing.assert_array_equal(error.value.values["x"], x)
    np.testing.assert_array_equal(error.value.values["y"], np.repeat(y[:, None], 3, axis=1))


def test_derivatives_are_those_without_a_check() -> None:
    x, y = jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray(2.0)
    of = lambda function: lambda x: jnp.sum(jax.vmap(lambda x: function(x, y) ** 2)(x))
    plain = lambda x, y: x * y
    for derivative in (jax.grad, jax.jacfwd, jax.hessian, lambda f: jax.jacrev(jax.jacfwd(f))):
        expected = derivative(of(plain))(x)
        np.testing.assert_allclose(derivative(of(checked))(x), expected)
        np.testing.assert_allclose(jax.jit(derivative(of(checked)))(x), expected)


@pytest.mark.parametrize("derivative", [jax.grad, jax.jacfwd], ids=["reverse", "forward"])
def test_a_program_that_returns_only_a_derivative_raises(derivative: Any) -> None:
    program = jax.jit(derivative(checked))
    assert program(1.0, 2.0) == 2.0
    with pytest.raises((RuntimeError, ValueError), match="_Negative"):
        jax.block_until_ready(program(-1.0, 2.0))


def test_nothing_is_computed_twice_for_it() -> None:
    text = str(jax.make_jaxpr(checked)(1.0, 2.0))
    assert text.count("raise_where") == 1
    assert text.count(" mul ") == 1
