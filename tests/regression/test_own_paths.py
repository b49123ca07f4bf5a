"""Paths and interpolations of one's own need say no more than `evaluate`: it is differentiated where that is asked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ControlTerm, Heun, SaveAt, diffeqsolve


class Square(rungax.AbstractPath):
    t0: float = 0.0
    t1: float = 10.0

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        return {"x": jnp.asarray(t0) ** 2} if t1 is None else {"x": jnp.asarray(t1) ** 2 - jnp.asarray(t0) ** 2}


class Sided(rungax.AbstractGlobalInterpolation):
    """|t|, of which the derivative has sides."""

    t0: float = -1.0
    t1: float = 1.0

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        at = lambda t: jnp.where((t < 0) | ((t == 0) & left), -t, t)
        return at(t0) if t1 is None else at(t1) - at(t0)


@pytest.mark.parametrize("t", [3, 3.0, jnp.asarray(3.0, "float32")])
def test_the_derivative_of_a_path(t: Any) -> None:
    np.testing.assert_allclose(Square().derivative(t)["x"], 6.0, rtol=1e-6)


def test_the_derivative_has_sides() -> None:
    assert float(Sided().derivative(0.0)) == -1.0
    assert float(Sided().derivative(0.0, left=False)) == 1.0


def test_the_equation_that_a_path_drives() -> None:
    term = ControlTerm(lambda t, y, args: {"x": -y["x"]}, Square()).to_ode()
    y1 = diffeqsolve(term, Heun(), 0.0, 1.0, 0.01, {"x": jnp.asarray(1.0)}).ys["x"][0]
    np.testing.assert_allclose(y1, np.exp(-1), rtol=1e-3)


@pytest.mark.parametrize("path", [rungax.VirtualBrownianTree(0.0, 1.0, 0.1, (), jax.random.key(0)),
                                  rungax.UnsafeBrownianPath((), jax.random.key(0))])  # fmt: skip
def test_noise_has_none(path: Any) -> None:
    with pytest.raises(NotImplementedError, match="no derivative"):
        path.derivative(0.5)


class Constant(rungax.AbstractLocalInterpolation):
    """The value at the start, all the step long."""

    t0: Any
    t1: Any
    y0: Any

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        return jax.tree.map(lambda y: y + 0.0 * t0, self.y0)


class Steps(rungax.Euler):
    interpolation_cls = staticmethod(lambda t0, t1, y0, y1: Constant(t0, t1, y0))


@pytest.mark.parametrize(
    "solver", [Steps(), pytest.param(rungax.HalfSolver(Steps()), marks=pytest.mark.slow)], ids=["plain", "halves"]
)
def test_an_interpolation_of_ones_own(solver: Any) -> None:
    saveat = SaveAt(ts=[0.2, 0.7], dense=True)
    solution = diffeqsolve(lambda t, y, args: jnp.ones_like(y), solver, 0.0, 1.0, 0.5, jnp.asarray(0.0), saveat=saveat)
    np.testing.assert_allclose(solution.ys, [0.0, 0.5], atol=1e-15)
    np.testing.assert_allclose(solution.evaluate(0.7), 0.5)
    assert float(solution.derivative(0.7)) == 0.0
