"""Weak order: expectations converge with the stated order.

Nothing is sampled. The mean over the random variables of a step is a quadrature: over normals, and over the sign of
each Lévy area, because only its sign enters a step. A step is therefore a matrix, which acts on the moments of a linear
equation or on functions on a circle, and its powers contain no errors but those of the solver.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from rungax import DRI1, ControlTerm, Euler, ItoMilstein, MultiTerm, ODETerm
from rungax.brownian import SpaceTimeLevyArea
from rungax.brownian.base import AbstractBrownianPath

from ..catalogue import slow_unless
from .measure import TOLERANCE

WEAK = [(Euler(), 1.0), (ItoMilstein(), 1.0), (DRI1(), 2.0)]
NAMES = [type(solver).__name__ for solver, _ in WEAK]

DRIFT = np.array([[-0.7, 0.4], [-0.3, -0.5]])
SOURCES = np.array([[[0.5, 0.3], [-0.2, 0.4]], [[0.1, -0.6], [0.4, 0.3]]])
"""Two sources that do not commute."""


class Given(AbstractBrownianPath):
    """A path that returns a given increment."""

    increment: SpaceTimeLevyArea
    t0: float = 0.0
    t1: float = 1.0
    levy_area = SpaceTimeLevyArea

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        return self.increment if use_levy else self.increment.W


def step_matrix(solver, h, w, signs) -> jax.Array:
    """The matrix by which a step of the linear equation multiplies the state."""
    increment = SpaceTimeLevyArea(dt=h, W=jnp.sqrt(h) * w, H=jnp.sqrt(h / 12.0) * signs)
    diffusion = ControlTerm(lambda t, y, args: jnp.stack([b @ y for b in SOURCES], axis=1), Given(increment))
    terms = MultiTerm(ODETerm(lambda t, y, args: DRIFT @ y), diffusion)
    step = lambda y: solver.step(terms, 0.0 * h, h, y, None, None, False)[0]
    return jax.vmap(step, out_axes=1)(jnp.eye(2))


def quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes and weights of a quadrature over two standard normals and two signs."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    grid = np.stack([x.ravel() for x in np.meshgrid(nodes, nodes, [-1.0, 1.0], [-1.0, 1.0], indexing="ij")], axis=1)
    parts = [weights / weights.sum()] * 2 + [np.array([0.5, 0.5])] * 2
    return grid, np.einsum("i,j,k,l->ijkl", *parts).ravel()


def moment_errors(solver, steps) -> np.ndarray:
    """The errors of the first and second moments at time 1, of shape (steps, 2)."""
    grid, mass = quadrature(10)
    matrices = jax.jit(jax.vmap(lambda h, x: step_matrix(solver, h, x[:2], x[2:]), in_axes=(None, 0)))
    start, eye = np.array([1.0, -0.5]), np.eye(2)
    squares = np.kron(DRIFT, eye) + np.kron(eye, DRIFT) + sum(np.kron(b, b) for b in SOURCES)
    exact = expm(DRIFT) @ start, expm(squares) @ np.kron(start, start)

    def errors(h):
        each = np.asarray(matrices(h, grid))
        first = np.einsum("n,nij->ij", mass, each)
        second = np.einsum("n,nij,nkl->ikjl", mass, each, each).reshape(4, 4)
        powers = [np.linalg.matrix_power(m, round(1 / h)) for m in (first, second)]
        found = powers[0] @ start, powers[1] @ np.kron(start, start)
        return [np.linalg.norm(a - b) for a, b in zip(found, exact, strict=True)]

    return np.array([errors(h) for h in steps])


def slope(steps, errors) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize(("solver", "order"), WEAK, ids=NAMES)
def test_second_moments(solver, order):
    """For noise that does not commute; the quadrature is exact up to rounding."""
    steps = [2.0**-k for k in (3, 4, 5, 6)]
    assert abs(slope(steps, moment_errors(solver, steps)[:, 1]) - order) < TOLERANCE


def test_the_mean_of_a_linear_equation_is_that_of_the_drift():
    """It therefore converges with the order for ordinary equations, which is three."""
    steps = [2.0**-k for k in (3, 4, 5, 6)]
    assert abs(slope(steps, moment_errors(DRI1(), steps)[:, 0]) - DRI1().order(None)) < TOLERANCE


def test_dri1_states_its_weak_order():
    assert DRI1().weak_order(None) == dict(zip(NAMES, [order for _, order in WEAK], strict=True))["DRI1"]


# ----------------------------------------------------------------------------------------------------- on the circle

POINTS = np.arange(49) * 2 * np.pi / 49


def circle_drift(t, y, args):
    return 0.8 + 0.5 * jnp.sin(y)


def circle_noise(t, y, args):
    """Two sources that do not commute."""
    return jnp.stack([0.5 + 0.3 * jnp.cos(y), 0.5 * jnp.sin(y + 1.0)])


def interpolation(x: np.ndarray) -> np.ndarray:
    """The weights, along the last axis, of values at `POINTS` in their trigonometric interpolant at `x`."""
    half = 0.5 * (x[..., None] - POINTS)
    small = np.abs(np.sin(half)) < 1e-12
    safe = np.where(small, 1.0, np.sin(half))
    return np.where(small, 1.0, np.sin(POINTS.size * half) / (POINTS.size * safe))


def exact_expectation(values: np.ndarray) -> np.ndarray:
    """E[u(y(1))] for each starting point, by a spectral solution of Kolmogorov's backward equation."""
    waves = 1j * np.fft.fftfreq(POINTS.size, 1 / POINTS.size)
    diff = np.real(np.fft.ifft(waves[:, None] * np.fft.fft(np.eye(POINTS.size), axis=0), axis=0))
    drift, noise = np.asarray(circle_drift(0.0, POINTS, None)), np.asarray(circle_noise(0.0, POINTS, None))
    return expm(drift[:, None] * diff + 0.5 * np.sum(noise**2, axis=0)[:, None] * diff @ diff) @ values


def expectations(solver, steps: list[float], values: np.ndarray) -> list[np.ndarray]:
    """E[u(y(1))] by the solver with each of `steps`: each step is a quadrature over its random variables."""

    def image(h, y, x):
        increment = SpaceTimeLevyArea(dt=h, W=jnp.sqrt(h) * x[:2], H=jnp.sqrt(h / 12.0) * x[2:])
        terms = MultiTerm(ODETerm(circle_drift), ControlTerm(circle_noise, Given(increment)))
        return solver.step(terms, 0.0 * h, h, y, None, None, False)[0]

    grid, mass = quadrature(16)
    images = jax.jit(jax.vmap(jax.vmap(image, (None, None, 0)), (None, 0, None)))
    kernels = [np.einsum("n,pnq->pq", mass, interpolation(np.asarray(images(h, POINTS, grid)))) for h in steps]
    return [np.linalg.matrix_power(kernel, round(1 / h)) @ values for h, kernel in zip(steps, kernels, strict=True)]


@pytest.mark.parametrize(
    ("solver", "order"),
    # The moments of linear equations are tested above for all.
    [pytest.param(*case, id=name, marks=slow_unless(name == "Euler")) for case, name in zip(WEAK, NAMES, strict=True)],
)
def test_a_nonlinear_equation(solver, order):
    """For noise that does not commute, at 49 starting points; the quadrature is exact up to rounding."""
    values, steps = np.exp(np.sin(POINTS)), [2.0**-k for k in (2, 3, 4, 5, 6)]
    exact = exact_expectation(values)
    errors = [np.abs(found - exact).max() for found in expectations(solver, steps, values)]
    assert abs(slope(steps, errors) - order) < TOLERANCE, errors
