"""The pattern that is found is that of the dense Jacobian."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

from rungax import ControlTerm, LinearInterpolation, MultiTerm, ODETerm, SparsityPattern, jacobian_sparsity
from rungax.sparsity import detection, entries_at

from .patterns import arrow, grid, random
from .test_pattern import dense


def of_matrix(matrix: np.ndarray) -> Callable[..., jax.Array]:
    return lambda t, y, args: jnp.asarray(matrix) @ (y**2)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.floats(0.05, 0.6), st.integers(0, 2), st.integers(0, 1000))
def test_any_pattern_is_found(size: int, density: float, dense_rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = (generator.random((size, size)) < density) * 1.0
    matrix[:dense_rows] = generator.random((size, size))[:dense_rows] < 0.8
    pattern = jacobian_sparsity(of_matrix(matrix), 0.0, jnp.ones(size))
    assert np.array_equal(dense(pattern), matrix != 0)


@pytest.mark.parametrize(
    "matrix",
    [grid(8, 8, species=2), pytest.param(arrow(100), marks=pytest.mark.slow), random(90, 90)],
    ids=["grid", "arrow", "random"],
)
def test_large_patterns_are_found_with_few_derivatives(matrix: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, calls = SparsityPattern(matrix), 0
    blocks = detection._blocks

    def counted(numbers: np.ndarray, size: int) -> Any:
        nonlocal calls
        calls += numbers.size
        return blocks(numbers, size)

    monkeypatch.setattr(detection, "_blocks", counted)
    assert jacobian_sparsity(of_matrix(matrix.toarray()), 0.0, jnp.ones(pattern.size)) == pattern
    assert calls < 1.3 * pattern.size


def test_blocks_of_directions_give_the_same_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "_AT_ONCE", 100)
    matrix = arrow(33).toarray()
    matrix[0, 1::3] = 0.0  # a dense row that is not full
    assert jacobian_sparsity(of_matrix(matrix), 0.0, jnp.ones(33)) == SparsityPattern(matrix)


def test_a_field_without_derivatives_in_reverse_mode() -> None:
    matrix = arrow(12).toarray()
    loop = lambda y: lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, jnp.asarray(matrix) @ c[1]), (0, y))[1]
    assert jacobian_sparsity(lambda t, y, args: loop(y), 0.0, jnp.ones(12)) == SparsityPattern(matrix)


def test_states_are_pytrees_and_complex_entries_one_row() -> None:
    y0 = {"a": jnp.array([1.0, 2.0]), "z": jnp.array([1.0 + 1j, 2.0]), "n": jnp.array(3)}

    def field(t: Any, y: Any, args: Any) -> Any:
        return {
            "a": jnp.stack([y["a"][0] * args, jnp.imag(y["z"][1])]),
            "z": jnp.conj(y["z"]) * lax.complex(y["a"][0], jnp.zeros(())),
            "n": jnp.real(y["z"][0]) * 1.0,
        }

    # The leaves in the order of a dictionary's keys: a, n, z.
    expected = np.zeros((5, 5), bool)
    expected[[0, 1, 2, 3, 3, 4, 4], [0, 4, 3, 0, 3, 0, 4]] = True
    assert np.array_equal(dense(jacobian_sparsity(field, 0, y0, 2.0)), expected)


def test_entries_that_vanish_at_the_state_or_time_given_are_found() -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        upwind = jnp.where(y > 0, y * jnp.roll(y, 1), y * jnp.roll(y, -1))
        return upwind + t * jnp.roll(y, 2)

    pattern = jacobian_sparsity(field, 0.0, jnp.zeros(8).at[0].set(1.0))
    offsets = [np.roll(np.eye(8, dtype=bool), k, axis=1) for k in (-2, -1, 0, 1)]
    assert np.array_equal(dense(pattern), np.logical_or.reduce(offsets))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_at_which_a_derivative_is_not_finite_are_skipped(dtype: type) -> None:
    """Logarithms of negative states, and the square root at zero, are not."""
    field = lambda t, y, args: jnp.stack([jnp.log(y[1]), jnp.sqrt(y[0])])
    pattern = jacobian_sparsity(field, 0.0, jnp.asarray([0.0, 1.0], dtype))
    assert np.array_equal(dense(pattern), [[False, True], [True, False]])


@pytest.mark.parametrize("size", [0, 1])
def test_small_sizes(size: int) -> None:
    assert np.array_equal(dense(jacobian_sparsity(lambda t, y, args: -y, 0.0, jnp.ones(size))), np.eye(size))
    assert not dense(jacobian_sparsity(lambda t, y, args: jnp.ones_like(y), 0.0, jnp.ones(size))).any()


def test_terms() -> None:
    forward, back = ODETerm(lambda t, y, args: jnp.roll(y, 1)), ODETerm(lambda t, y, args: jnp.roll(y, -1))
    expected = np.roll(np.eye(5), 1, axis=0) + np.roll(np.eye(5), -1, axis=0)
    assert np.array_equal(dense(jacobian_sparsity(MultiTerm(forward, back), 0.0, jnp.ones(5))), expected != 0)


def test_a_term_without_dy_dt_is_an_error() -> None:
    term = ControlTerm(lambda t, y, args: y, LinearInterpolation(jnp.arange(2.0), jnp.arange(2.0)))
    with pytest.raises(ValueError, match=r"takes the pattern of dy/dt[^$]*Found:    a `ControlTerm`"):
        jacobian_sparsity(term, 0.0, jnp.ones(5))


def test_a_pattern_is_found_inside_jit_for_known_values() -> None:
    found: list[SparsityPattern] = []

    @jax.jit
    def program(x: jax.Array) -> jax.Array:
        found.append(jacobian_sparsity(lambda t, y, args: y**2, 0.0, np.ones(3)))
        return x

    program(jnp.ones(3))
    assert np.array_equal(dense(found[0]), np.eye(3))


@pytest.mark.parametrize("kind", ["state", "time", "args", "field"])
def test_values_that_are_not_known_are_an_error(kind: str) -> None:
    def program(x: jax.Array) -> jax.Array:
        y0, t0, args = (x if kind == name else np.ones(3) for name in ("state", "time", "args"))
        t0 = x[0] if kind == "time" else 0.0
        jacobian_sparsity(lambda t, y, args: y * x if kind == "field" else y, t0, y0, args)
        return x

    with pytest.raises(ValueError, match=r"Expected: values that are known\nFound:    .*\nCall it outside of `jit`"):
        jax.eval_shape(program, jnp.ones(3))


def test_no_finite_derivative_is_an_error() -> None:
    with pytest.raises(ValueError, match=re.escape("y0 = float64[2]\nFound:    infinities or NaN at all 6")):
        jacobian_sparsity(lambda t, y, args: y * jnp.nan, 0.0, jnp.ones(2))


def test_a_field_that_does_not_return_the_structure_of_the_state_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"The shape of the value of `vector_field`[^$]*Expected: \(3,\)"):
        jacobian_sparsity(lambda t, y, args: y[:2], 0.0, jnp.ones(3))
    with pytest.raises(ValueError, match="Expected: a callable"):
        jacobian_sparsity("heat", 0.0, jnp.ones(3))


def test_an_entry_that_is_zero_at_some_points_counts() -> None:
    """One point at which it is not zero is enough."""
    field = lambda t, y: jnp.stack([y[0] * y[1], y[1]])
    points = (jnp.zeros(2), jnp.array([[0.0, 0.0], [1.0, 0.0]]))
    rows, columns = entries_at(field, points)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 1)]
