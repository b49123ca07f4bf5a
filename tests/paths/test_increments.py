"""`evaluate(t0, t1)` of every interpolation is `evaluate(t1) - evaluate(t0)`, leaf by leaf, for any pytree."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import SaveAt, Tsit5, diffeqsolve

TS = np.asarray([0.0, 0.5, 2.0])
KNOTS = {"a": np.asarray([1.0, -1.0, 4.0]), "b": (np.asarray([[0.0, 1.0], [2.0, 2.0], [3.0, 0.0]]),)}


def knot(i: int) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x[i]), KNOTS)


def straight() -> Any:
    return rungax.LocalLinearInterpolation(t0=0.0, t1=2.0, y0=knot(0), y1=knot(1))


def hermite() -> Any:
    return rungax.ThirdOrderHermitePolynomialInterpolation(
        t0=0.0, t1=2.0, y0=knot(0), y1=knot(1), k0=knot(2), k1=knot(0)
    )


class Quartic(rungax.FourthOrderPolynomialInterpolation):
    c_mid = np.asarray([0.2, 0.3])


def quartic() -> Any:
    k = jax.tree.map(lambda *x: jnp.stack(x), knot(0), knot(2))
    return Quartic(t0=0.0, t1=2.0, y0=knot(0), y1=knot(1), k=k)


def solution() -> Any:
    field = lambda t, y, args: jax.tree.map(jnp.negative, y)
    return diffeqsolve(field, Tsit5(), 0.0, 2.0, 0.5, knot(0), saveat=SaveAt(dense=True), max_steps=8)


INTERPOLATIONS: dict[str, Callable[[], Any]] = {
    "linear": lambda: rungax.LinearInterpolation(TS, KNOTS),
    "cubic": lambda: rungax.CubicInterpolation(TS, rungax.backward_hermite_coefficients(TS, KNOTS)),
    "solution": solution,
    "dense": lambda: solution().interpolation,
    "local linear": straight,
    "Hermite": hermite,
    "quartic": quartic,
}


@pytest.mark.parametrize("kind", INTERPOLATIONS)
def test_an_increment_is_a_difference_of_values(kind: str) -> None:
    path = INTERPOLATIONS[kind]()
    increment = path.evaluate(0.3, 1.7)
    expected = jax.tree.map(jnp.subtract, path.evaluate(1.7), path.evaluate(0.3))
    assert jax.tree.structure(increment) == jax.tree.structure(KNOTS)
    assert any(float(jnp.abs(leaf).max()) > 0.1 for leaf in jax.tree.leaves(increment))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), increment, expected)
