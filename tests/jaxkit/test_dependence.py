"""The dependence read from a program contains that of the derivative, and for stencils equals it."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

from rungax.jaxkit import dependence

N = 24
SHAPE = (4, 6)
INDICES = np.random.default_rng(1).integers(0, N, N)
MATRIX = np.eye(N) + np.eye(N, k=3)
FIVE_POINTS = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])

Field = Callable[[jax.Array], jax.Array]


def found(field: Field, size: int = N, most: int = N**2, **options: Any) -> np.ndarray | None:
    """The pairs of a field's derivative, as a matrix."""
    like = jax.ShapeDtypeStruct((size,), options.get("dtype", jnp.result_type(float)))
    derivative = lambda v, y: jax.jvp(field, (y,), (v,))[1]
    pairs = dependence(derivative, like, like, most=most)
    if pairs is None:
        return None
    matrix = np.zeros((size, size), bool)
    matrix[pairs.outputs, pairs.inputs] = True
    return matrix


def derived(field: Field, size: int = N) -> np.ndarray:
    """The entries of the Jacobian that are not zero at one of several states."""
    jacobian = jax.jit(jax.jacfwd(field))
    states = np.random.default_rng(0).uniform(-2.0, 2.0, (12, size))
    return np.any([np.asarray(jacobian(jnp.asarray(y))) != 0 for y in states], axis=0)


def on_grid(field: Field) -> Field:
    return lambda y: field(y.reshape(SHAPE)).reshape(-1)


def inside(y: jax.Array) -> jax.Array:
    return y[2:] - 2 * y[1:-1] + y[:-2]


@jax.custom_jvp
def step_function(y: jax.Array) -> jax.Array:
    return (y > 0).astype(y.dtype)


@step_function.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return step_function(*primals), tangents[0] / (1 + primals[0] ** 2)


def _parts(z: jax.Array) -> list[jax.Array]:
    return [z.real, z.imag]


EXACT: dict[str, Field] = {
    "roll": lambda y: jnp.roll(y, 1) * y,
    "roll on a grid": on_grid(lambda u: jnp.roll(u, 1, 0) + jnp.roll(u, -2, 1) - u),
    "set": lambda y: jnp.zeros_like(y).at[1:-1].set(inside(y)),
    "set a boundary": lambda y: jnp.roll(y, 1).at[0].set(0.0).at[-1].set(y[0]),
    "add at indices": lambda y: y.at[INDICES].add(jnp.sin(y)),
    "gather": lambda y: y[INDICES] * y,
    "gather, clipped": lambda y: jnp.take(y, INDICES + 10, mode="clip"),
    "pad": lambda y: jnp.pad(y, 1)[2:] - jnp.pad(y, 1, mode="edge")[:-2],
    "pad, wrapped and reflected": lambda y: jnp.pad(y, 1, mode="wrap")[2:] + jnp.pad(y, 1, mode="reflect")[:-2],
    "interior padding": lambda y: lax.pad(y[::2], 0.0, [(0, 1, 1)]),
    "negative padding": lambda y: lax.pad(jnp.concatenate([y, y]), 0.0, [(-5, -N + 5, 0)]),
    "reverse and transpose": on_grid(lambda u: u[::-1].T.reshape(SHAPE)),
    "dynamic slices": lambda y: lax.dynamic_update_slice(y, lax.dynamic_slice(y, (3,), (5,)) ** 2, (N,)),
    "diff": lambda y: jnp.diff(y, prepend=0.0) + y,
    "gradient": lambda y: jnp.gradient(y) * y,
    "a known condition": lambda y: jnp.where(np.arange(N) < 3, 0.0, jnp.roll(y, 1)),
    "an unknown condition": lambda y: jnp.where(y > 0, jnp.roll(y, 1), jnp.roll(y, -1)),
    "a known matrix": lambda y: MATRIX @ jnp.sin(y),
    "a known matrix on the right": on_grid(lambda u: u @ np.triu(np.ones((6, 6)))),
    "an einsum": on_grid(lambda u: jnp.einsum("ij,kj->ik", u**2, np.eye(6, k=1))),
    "a convolution": lambda y: jnp.convolve(y, np.array([1.0, 0.0, -2.0]), mode="same"),
    "a convolution of a grid": on_grid(lambda u: jax.scipy.signal.convolve2d(u, FIVE_POINTS, mode="same")),
    "sums along an axis": on_grid(lambda u: u * jnp.sum(u, axis=1, keepdims=True)),
    "segment sums": lambda y: jax.ops.segment_sum(y[INDICES] ** 2, np.arange(N)[::-1], N),
    "a map": on_grid(lambda u: lax.map(lambda row: row[0] * jnp.roll(row, 1), u)),
    "a scan whose carry is constant": lambda y: lax.scan(lambda i, x: (i + 1, i * x), 0.0, y)[1].at[0].set(y[0]),
    "a vmap": on_grid(jax.vmap(lambda row: row[0] * row)),
    "branches": lambda y: lax.cond(y[0] > 0, lambda y: y, lambda y: jnp.roll(y, 1), y),
    "parts": lambda y: jnp.concatenate(jnp.split(y, 4)[::-1]) * jnp.tile(y[: N // 2], 2),
    "stacks": on_grid(lambda u: jnp.stack([a * b for a, b in itertools.pairwise(u)] + [u[0]])),
    "complex parts": lambda y: jnp.concatenate(_parts(lax.complex(y[: N // 2], y[N // 2 :]) ** 2)),
    "recomputation": jax.checkpoint(lambda y: jnp.roll(y, 1) * y),
    "a derivative of its own": lambda y: step_function(jnp.roll(y, 1)),
    "a value of one entry": lambda y: jnp.zeros_like(y).at[3].set(y[2] * y[5]),
    "no dependence": lambda y: jnp.ones_like(y) + jnp.round(y).astype(int).astype(y.dtype),
    "random numbers": lambda y: jnp.roll(y, 1) * jax.random.normal(jax.random.key(0), (N,)),
    "a random matrix": lambda y: jnp.triu(jax.random.normal(jax.random.key(0), (N, N)), k=N - 2) @ y,
    "barriers": lambda y: sum(lax.optimization_barrier((jnp.roll(y, 1), y[::-1]))),
}
"""Functions whose derivatives have the entries that their programs show."""

LARGER: dict[str, Field] = {
    "cumulative sums": jnp.cumsum,
    "a scan": lambda y: lax.scan(lambda c, x: (c + x, c * x), 0.0, y)[1],
    "a while loop": lambda y: lax.while_loop(lambda z: z[0] < 1, lambda z: jnp.roll(z, 1) + 1, y),
    "sorting": jnp.sort,
    "unknown indices": lambda y: y[jnp.argsort(y)],
    "an unknown place": lambda y: lax.dynamic_update_slice(y, y[:2] ** 2, (jnp.argmax(y),)),
    "a Fourier transform": lambda y: jnp.fft.irfft(jnp.fft.rfft(y) ** 2, N),
    "a linear solve": lambda y: jnp.linalg.solve(MATRIX, y),
    "the largest entry": lambda y: y * jnp.max(y),
    "interpolation": lambda y: jnp.interp(y, np.arange(5.0), np.arange(5.0) ** 2),
    "a zero": lambda y: y + 0.0 * jnp.roll(y, 1),
    "an unknown kernel": lambda y: jnp.convolve(jnp.ones(3), y, mode="full")[:N],
}
"""Functions whose programs show more entries than their derivatives have."""


@pytest.mark.parametrize("name", EXACT)
def test_the_dependence_is_that_of_the_derivative(name: str) -> None:
    np.testing.assert_array_equal(found(EXACT[name]), derived(EXACT[name]))


@pytest.mark.parametrize("name", LARGER)
def test_the_dependence_contains_that_of_the_derivative(name: str) -> None:
    matrix = found(LARGER[name])
    assert matrix is not None
    assert not np.any(derived(LARGER[name]) & ~matrix)


STEPS: tuple[Field, ...] = (
    jnp.sin,
    lambda u: u * jnp.roll(u, 1, 1),
    lambda u: u.at[1:3].add(u[2:] ** 2),
    lambda u: jnp.pad(u, ((1, 0), (0, 1)))[:-1, 1:] + u,
    lambda u: jnp.where(u > 0, u, jnp.flip(u, 0)),
    lambda u: jnp.cumsum(u, axis=0),
    lambda u: u.reshape(6, 4).T,
    lambda u: u + jnp.mean(u, axis=1, keepdims=True),
    lambda u: lax.map(lambda row: row * row[2], u),
    lambda u: jnp.tril(np.ones((4, 4))) @ u,
    lambda u: lax.fori_loop(0, 2, lambda i, v: v + jnp.roll(v, i, 0), u),
    lambda u: jax.nn.relu(u) - lax.rev(u, (1,)),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=4), st.integers(0, 100))
def test_compositions_contain_the_dependence_of_their_derivative(numbers: list[int], seed: int) -> None:
    def field(y: jax.Array) -> jax.Array:
        u = y.reshape(SHAPE)
        for number in numbers:
            u = STEPS[number](u)
        return u.reshape(-1)

    y = jnp.asarray(np.random.default_rng(seed).uniform(-2.0, 2.0, N))
    matrix = found(field)
    assert matrix is not None
    assert not np.any((np.asarray(jax.jacfwd(field)(y)) != 0) & ~matrix)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=5, unique=True))
def test_the_dependence_of_stencils_is_exact(offsets: list[tuple[int, int]]) -> None:
    field = on_grid(lambda u: sum(jnp.roll(u**2, offset, (0, 1)) for offset in offsets))
    rows, expected = np.arange(N).reshape(SHAPE), np.zeros((N, N), bool)
    for offset in offsets:
        expected[rows, np.roll(rows, offset, (0, 1))] = True
    np.testing.assert_array_equal(found(field), expected)


def test_long_computations_of_indices_are_not_followed() -> None:
    def field(y: jax.Array) -> jax.Array:
        indices = jnp.arange(N)
        for _ in range(1000):
            indices = (indices + 1) % N
        return y[indices]

    matrix = found(field)
    assert matrix is not None
    assert np.all(matrix), "their values are not known, so that each entry may come from every other"


def test_too_many_pairs_are_given_up() -> None:
    assert found(lambda y: y * jnp.sum(y), most=N**2 - 1) is None
    weights = jnp.ones((N, N))
    assert found(lambda y: jnp.tanh(weights @ y), most=N**2 - 1) is None


def test_traced_values_are_not_needed() -> None:
    """Inside `jit`, with a matrix that is not known there."""

    @jax.jit
    def program(matrix: jax.Array) -> jax.Array:
        patterns.append(found(lambda y: jnp.roll(y, 1) * matrix[0, 0]))
        patterns.append(found(lambda y: matrix @ y))
        return matrix

    patterns: list[Any] = []
    program(jnp.eye(N))
    np.testing.assert_array_equal(patterns[0], np.roll(np.eye(N, dtype=bool), -1, axis=1))
    assert np.all(patterns[1]), "its entries may differ from zero"


def test_a_reference_counts_as_everything() -> None:
    """What it holds is changed by other equations than those that read it."""

    def field(y: jax.Array) -> jax.Array:
        held = jax.new_ref(jnp.zeros(N))
        held[...] = jnp.roll(y, 1) ** 2
        return held[...] - y

    assert found(field) is None


def test_a_loop_with_very_many_passes_is_given_up() -> None:
    assert found(lambda y: lax.fori_loop(0, N, lambda i, x: jnp.roll(x, 1), y)) is not None
    shifted = lambda y: lax.fori_loop(0, 400, lambda i, x: jnp.roll(x, 1), y)
    assert found(shifted, size=400) is None
