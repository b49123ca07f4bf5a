"""The problems of the benchmarks, as functions that every library can use."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Problem(NamedTuple):
    """The equation `y' = field(t, y, args)` on [0, `t1`], and the state at `t1` if it is known to sixteen digits."""

    name: str
    field: Callable[..., Any]
    y0: Sequence[float]
    args: Any
    t1: float
    reference: Sequence[float]


def lorenz(t: Any, y: jax.Array, args: Any) -> jax.Array:
    del t
    sigma, rho, beta = args
    return jnp.stack([sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]])


def lotka_volterra(t: Any, y: jax.Array, args: Any) -> jax.Array:
    del t
    birth, hunt, grow, death = args
    return jnp.stack([birth * y[0] - hunt * y[0] * y[1], grow * y[0] * y[1] - death * y[1]])


def pleiades(t: Any, y: jax.Array, args: Any) -> jax.Array:
    """Seven stars in a plane; the i-th has mass i. Hairer, Nørsett, Wanner, *Solving ODEs I*, II.10."""
    del t, args
    position, velocity = y[:14].reshape(2, 7), y[14:]
    apart = position[:, None, :] - position[:, :, None]
    square = jnp.sum(apart**2, axis=0) + jnp.eye(7)  # avoids a division by zero on the diagonal
    pull = jnp.arange(1.0, 8.0)[None, :] / (square * jnp.sqrt(square))
    acceleration = jnp.sum(pull[None] * apart, axis=2)
    return jnp.concatenate([velocity, acceleration.reshape(14)])


def mlp(t: Any, y: jax.Array, args: Any) -> jax.Array:
    """A multilayer perceptron with tanh between its layers; `args` are (weight, bias) of each."""
    del t
    *hidden, (weight, bias) = args
    for w, b in hidden:
        y = jnp.tanh(w @ y + b)
    return weight @ y + bias


def linear(t: Any, y: jax.Array, args: jax.Array) -> jax.Array:
    del t
    return args @ y


def mlp_parameters(sizes: Sequence[int], seed: int = 0) -> list[tuple[jax.Array, jax.Array]]:
    """Weights of variance 1 / fan-in and small biases."""
    rng = np.random.default_rng(seed)
    layers = itertools.pairwise(sizes)
    return [
        (jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(n)), jnp.asarray(0.1 * rng.normal(size=m))) for n, m in layers
    ]


def stable_matrix(size: int, seed: int = 0) -> jax.Array:
    """A dense matrix with eigenvalues in the disc of radius 1 around -1."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(size, size)) / np.sqrt(size) - np.eye(size))


# References: heyoka in 80-bit arithmetic with tolerance 1e-19; with 1e-17 it gives the same to 1e-16, and SciPy's
# DOP853 with rtol=3e-14 the same to 1e-12. The initial values of the Pleiades are those of Hairer, Nørsett, Wanner.

LORENZ = Problem(
    name="Lorenz",
    field=lorenz,
    y0=(1.0, 0.0, 0.0),
    args=(10.0, 28.0, 8 / 3),
    t1=10.0,
    reference=(-5.857685382424091, -5.831082486426098, 23.93213298702757),
)

LOTKA_VOLTERRA = Problem(
    name="Lotka–Volterra",
    field=lotka_volterra,
    y0=(30.0, 4.0),
    args=(0.55, 0.028, 0.024, 0.8),
    t1=20.0,
    reference=(18.489301086278854, 5.2031772522347755),
)

# fmt: off
PLEIADES = Problem(
    name="Pleiades",
    field=pleiades,
    y0=(
        3.0, 3.0, -1.0, -3.0, 2.0, -2.0, 2.0,
        3.0, -3.0, 2.0, 0.0, 0.0, -4.0, 4.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 1.75, -1.5,
        0.0, 0.0, 0.0, -1.25, 1.0, 0.0, 0.0,
    ),
    args=None,
    t1=3.0,
    reference=(
        0.37061391439705094, 3.237284092057233, -3.2225590324183235, 0.6597091455775308,
        0.34255817071565803, 1.5621721014006311, -0.7003092922212495,
        -3.9434375855173927, -3.27138097397255, 5.225081843456544, -2.5906124349774697,
        1.1982136933922747, -0.24296823449358235, 1.09144924042898,
        3.4170038063143138, 1.3545845016255011, -2.590065597810775, 2.025053734714241,
        -1.1558151001604489, -0.8072988170223021, 0.5952396354208718,
        -3.7412449612340093, 0.37734596857506286, 0.9386858869551077, 0.36679222272005696,
        -0.3474046353808493, 2.344915448180937, -1.9470204342632917,
    ),
)
# fmt: on
