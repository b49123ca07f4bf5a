"""A step of a stochastic Runge–Kutta method agrees with the published formula, for any state, at its stated cost."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import ControlTerm, MultiTerm, ODETerm
from rungax.brownian import BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea, UnsafeBrownianPath
from rungax.paths import AbstractPath
from rungax.results import RESULTS
from rungax.solvers.stochastic.srk.methods import SEA, SRA1, GeneralShARK, ShARK, SlowRK, SPaRK
from rungax.solvers.stochastic.srk.step import AbstractSRK
from rungax.solvers.tableaus.types.stochastic import AdditiveCoeffs, GeneralCoeffs, StochasticButcherTableau

from ..catalogue import slow_unless

SOLVERS = (SEA, SRA1, ShARK, SPaRK, GeneralShARK, SlowRK)


class Given(AbstractPath):
    """A path that returns a given increment."""

    increment: Any
    t0: float = 0.25  # pyright: ignore[reportIncompatibleVariableOverride]
    t1: float = 0.5  # pyright: ignore[reportIncompatibleVariableOverride]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        del t0, t1, left
        return self.increment if use_levy else self.increment.W


T0, T1 = 0.25, 0.5
W, H, K = np.array([0.3, -0.2]), np.array([0.05, 0.11]), np.array([-0.02, 0.01])
Y0 = np.array([0.5, -0.2])


def drift(t: Any, y: Any, args: Any) -> Any:
    del args
    return jnp.stack([jnp.sin(3.0 * y[1]) + t, jnp.cos(2.0 * y[0]) - y[1]])


def additive(t: Any, y: Any, args: Any) -> Any:
    del y, args
    return jnp.asarray([[1.0, 0.3], [-0.4, 0.8]]) * jnp.cos(4.0 * t)


def general(t: Any, y: Any, args: Any) -> Any:
    del args
    return jnp.stack([jnp.stack([jnp.cos(y[1]), y[1] + t]), jnp.stack([jnp.sin(y[0]), 1.0 + y[0] ** 2])])


def noise_for(solver: type[AbstractSRK]) -> Callable[..., Any]:
    return additive if solver.noise == "additive" else general


def step(solver: AbstractSRK, f: Any, g: Any, y0: Any, increment: Any) -> tuple[Any, Any]:
    terms = MultiTerm(ODETerm(f), ControlTerm(g, Given(increment=increment)))
    y1, y_error, dense_info, _, result = solver.step(terms, T0, T1, y0, None, None, False)
    assert dense_info == {"y0": y0, "y1": y1}
    assert result is RESULTS.successful
    return y1, y_error


def levy_area(w: Any = W, h: Any = H) -> SpaceTimeLevyArea:
    w, h = jnp.asarray(w), jnp.asarray(h)
    return SpaceTimeLevyArea(dt=jnp.asarray(T1 - T0), W=w, H=h)


def levy_areas() -> SpaceTimeTimeLevyArea:
    return SpaceTimeTimeLevyArea(dt=jnp.asarray(T1 - T0), W=jnp.asarray(W), H=jnp.asarray(H), K=jnp.asarray(K))


def written_out(solver: type[AbstractSRK]) -> tuple[Any, Any]:
    """A step and its error estimate, by the formulas in the docstrings of the classes."""
    h = T1 - T0

    def f(c: float, y: Any) -> Any:
        return drift(T0 + c * h, y, None) * h

    def g(c: float, y: Any, increment: Any) -> Any:
        return noise_for(solver)(T0 + c * h, y, None) @ increment

    added = g(0, Y0, W) + g(1, Y0, W / 2 - H) - g(0, Y0, W / 2 - H)
    if solver is SEA:
        return Y0 + f(0, Y0 + g(0, Y0, W / 2 + H)) + added, None
    if solver is SRA1:
        f1 = f(0, Y0)
        f2 = f(3 / 4, Y0 + 3 / 4 * f1 + g(0, Y0, 3 / 4 * W + 3 / 2 * H))
        return Y0 + f1 / 3 + 2 / 3 * f2 + added, 2 / 3 * (f2 - f1)
    if solver is ShARK:
        shifted = Y0 + g(0, Y0, H)
        f1 = f(0, shifted)
        f2 = f(5 / 6, shifted + 5 / 6 * (f1 + g(0, Y0, W)))
        return Y0 + 2 / 5 * f1 + 3 / 5 * f2 + added, 3 / 5 * (f2 - f1)
    if solver is SPaRK:
        beta = (3 - np.sqrt(3)) / 6
        y2 = Y0 + f(0, Y0) / 2 + g(0, Y0, W / 2 + np.sqrt(3) * H)
        y3 = Y0 + f(1 / 2, y2) + g(1 / 2, y2, W)
        y1 = Y0 + beta * (f(0, Y0) + f(1, y3)) + (1 - 2 * beta) * (f(1 / 2, y2) + g(1 / 2, y2, W))
        y1 = y1 + g(0, Y0, beta * W + H) + g(1, y3, beta * W - H)
        return y1, y1 - (Y0 + (f(0, Y0) + f(1, y3) + g(0, Y0, W) + g(1, y3, W)) / 2)
    if solver is GeneralShARK:
        shifted = Y0 + g(0, Y0, H)
        y3 = shifted + 5 / 6 * (f(0, shifted) + g(0, shifted, W))
        y1 = Y0 + 2 / 5 * f(0, shifted) + 3 / 5 * f(5 / 6, y3)
        return y1 + g(0, shifted, 2 / 5 * W + 6 / 5 * H) + g(5 / 6, y3, 3 / 5 * W - 6 / 5 * H), None
    middle = Y0 + f(0, Y0) / 2
    y2 = middle + g(1 / 2, middle, W) / 2
    y3 = middle + g(1 / 2, y2, W) / 2
    y4 = middle + g(1 / 2, y3, W)
    y1 = Y0 + (g(1 / 2, middle, W) + 2 * g(1 / 2, y2, W) + 2 * g(1 / 2, y3, W) + g(1 / 2, y4, W)) / 6
    y1 = y1 + f(0, Y0) / 3 + 2 / 3 * f(3 / 4, Y0 + 3 / 4 * f(0, Y0) + g(1 / 2, y3, 3 / 4 * W + 3 / 2 * H))
    return y1 + 2 * (g(1 / 2, y3, H) - g(1, Y0 + f(0, Y0) + g(1 / 2, y2, W) / 2, H)), None


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_is_the_published_formula(solver: type[AbstractSRK]) -> None:
    y1, y_error = step(solver(), drift, noise_for(solver), jnp.asarray(Y0), levy_area())
    expected, expected_error = written_out(solver)
    np.testing.assert_allclose(y1, expected, rtol=1e-13)
    assert (y_error is None) == (expected_error is None)
    if y_error is not None:
        np.testing.assert_allclose(y_error, expected_error, rtol=1e-12)


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [(SEA, (1, 2)), (SRA1, (2, 2)), (ShARK, (2, 2)), (SPaRK, (3, 3)), (GeneralShARK, (2, 3)), (SlowRK, (2, 5))],
)
def test_cost(solver: type[AbstractSRK], evaluations: tuple[int, int]) -> None:
    """Vector fields are not evaluated at stages without weights."""
    counts = {"f": 0, "g": 0}

    def counted(name: str, field: Callable[..., Any]) -> Callable[..., Any]:
        def count(t: Any, y: Any, args: Any) -> Any:
            counts[name] += 1
            return field(t, y, args)

        return count

    step(solver(), counted("f", drift), counted("g", noise_for(solver)), jnp.asarray(Y0), levy_area())
    assert tuple(counts.values()) == evaluations


@pytest.mark.parametrize("solver", SOLVERS)
def test_states_are_pytrees_of_any_dtypes(solver: type[AbstractSRK]) -> None:
    """Uncoupled leaves of different dtypes are solved as if each were alone, and keep their dtypes."""
    dtypes = {"half": np.float32, "whole": np.float64, "complex": np.complex64}
    y0 = {name: jnp.asarray(Y0, dtype) * (1 + 2j if name == "complex" else 1) for name, dtype in dtypes.items()}

    def f(t: Any, y: Any, args: Any) -> Any:
        del t, args
        return jax.tree.map(lambda x: jnp.sin(x) - 0.5 * x, y)

    def g(t: Any, y: Any, args: Any) -> Any:
        del t, args
        rotate = 0.0 if solver.noise == "additive" else 1.0
        return jax.tree.map(lambda x: jnp.ones((2, 2), x.dtype) + rotate * jnp.outer(x, x), y)

    def increment(names: Any) -> SpaceTimeLevyArea:
        leaves = {name: levy_area(W.astype(dtypes[name]), H.astype(dtypes[name])) for name in names}
        return SpaceTimeLevyArea(*({k: getattr(x, part) for k, x in leaves.items()} for part in ("dt", "W", "H")))

    y1, y_error = step(solver(), f, g, y0, increment(dtypes))
    for name, leaf in y0.items():
        alone, error = step(solver(), f, g, {name: leaf}, increment([name]))
        assert y1[name].dtype == leaf.dtype
        np.testing.assert_allclose(y1[name], alone[name], rtol=1e-6)
        if error is not None:
            np.testing.assert_allclose(y_error[name], error[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_operators_and_scalar_noise(solver: type[AbstractSRK]) -> None:
    """A diagonal operator gives the same step as its matrix, a single source the same as a column."""

    def diagonal(t: Any, y: Any, args: Any) -> Any:
        return jnp.diagonal(noise_for(solver)(t, y, args))

    def column(t: Any, y: Any, args: Any) -> Any:
        return noise_for(solver)(t, y, args)[:, 0]

    y0 = jnp.asarray(Y0)
    as_operator = step(solver(), drift, lambda *x: lx.DiagonalLinearOperator(diagonal(*x)), y0, levy_area())
    as_matrix = step(solver(), drift, lambda *x: jnp.diag(diagonal(*x)), y0, levy_area())
    assert eqx.tree_equal(as_operator, as_matrix, rtol=1e-13)
    as_scalar = step(solver(), drift, column, y0, levy_area(W[0], H[0]))
    as_column = step(solver(), drift, lambda *x: column(*x)[:, None], y0, levy_area(W[:1], H[:1]))
    assert eqx.tree_equal(as_scalar, as_column, rtol=1e-13)


@pytest.mark.parametrize(
    "solver",
    # One for additive noise and one for any noise; `test_gradients.py` has `SPaRK` too.
    [pytest.param(solver, marks=slow_unless(solver in (SEA, GeneralShARK))) for solver in SOLVERS],
)
def test_derivatives(solver: type[AbstractSRK]) -> None:
    """The derivative of a step with respect to its start agrees in both modes, and with finite differences."""

    def end(y0: Any) -> Any:
        return step(solver(), drift, noise_for(solver), y0, levy_area())[0]

    value_and_derivatives = jax.jit(lambda y0: (end(y0), jax.jacrev(end)(y0), jax.jacfwd(end)(y0)))
    y0, small = jnp.asarray(Y0), 1e-6
    _, reverse, forward = value_and_derivatives(y0)
    moved = [[value_and_derivatives(y0 + h * e)[0] for h in (small, -small)] for e in jnp.eye(2)]
    by_hand = jnp.stack([(ahead - behind) / (2 * small) for ahead, behind in moved], axis=1)
    np.testing.assert_allclose(reverse, forward, rtol=1e-12)
    np.testing.assert_allclose(reverse, by_hand, rtol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solve_without_noise_is_that_of_the_drift(solver: type[AbstractSRK]) -> None:
    """In both directions, by one program."""
    path = UnsafeBrownianPath((), jax.random.key(0), levy_area=SpaceTimeLevyArea)
    nothing = ControlTerm(lambda t, y, args: jnp.zeros_like(y), path)
    terms = MultiTerm(ODETerm(lambda t, y, args: -y), nothing)
    end = jax.jit(lambda t0, t1: rungax.diffeqsolve(terms, solver(), t0, t1, 0.01 * (t1 - t0), jnp.ones(2)).ys)
    order = solver().order(None)
    assert order is not None
    for t0, t1 in ((0.0, 1.0), (1.0, 0.0)):
        np.testing.assert_allclose(end(t0, t1)[0], np.exp(t0 - t1) * np.ones(2), rtol=0.01**order)


def test_W_H_and_K_in_additive_noise() -> None:
    class Own(AbstractSRK):
        tableau = StochasticButcherTableau(
            a=[[1]],
            b_sol=[0, 1],
            b_error=[1, -1],
            c=[1],
            coeffs_w=AdditiveCoeffs(a=[0, 0.5], b_sol=1, b_error=3),
            coeffs_hh=AdditiveCoeffs(a=[0, 2], b_sol=0),
            coeffs_kk=AdditiveCoeffs(a=[0, 5], b_sol=0, b_error=7),
        )

    y1, y_error = step(Own(), drift, additive, jnp.asarray(Y0), levy_areas())
    h, at_start, at_end = T1 - T0, additive(T0, Y0, None), additive(T1, Y0, None)
    first = h * drift(T0, Y0, None)
    second = h * drift(T1, Y0 + first + at_start @ (0.5 * W + 2 * H + 5 * K), None)
    np.testing.assert_allclose(y1, Y0 + second + at_start @ W + (at_end - at_start) @ (W / 2 - H), rtol=1e-13)
    np.testing.assert_allclose(y_error, first - second + at_start @ (3 * W + 7 * K), rtol=1e-13)


def test_W_H_and_K_in_general_noise() -> None:
    class Own(AbstractSRK):
        tableau = StochasticButcherTableau(
            a=[[1]],
            b_sol=[0, 1],
            b_error=[1, -1],
            c=[1],
            coeffs_w=GeneralCoeffs(a=[[0.5]], b_sol=[1, 0], b_error=[2, 3]),
            coeffs_hh=GeneralCoeffs(a=[[2]], b_sol=[3, -3]),
            coeffs_kk=GeneralCoeffs(a=[[5]], b_sol=[7, -7], b_error=[0, 4]),
        )

    y1, y_error = step(Own(), drift, general, jnp.asarray(Y0), levy_areas())
    h, g1 = T1 - T0, general(T0, Y0, None)
    first = h * drift(T0, Y0, None)
    y2 = Y0 + first + g1 @ (0.5 * W + 2 * H + 5 * K)
    second, g2 = h * drift(T1, y2, None), general(T1, y2, None)
    np.testing.assert_allclose(y1, Y0 + second + g1 @ W + (g1 - g2) @ (3 * H + 7 * K), rtol=1e-13)
    np.testing.assert_allclose(y_error, first - second + g1 @ (2 * W) + g2 @ (3 * W + 4 * K), rtol=1e-13)


def test_increment_alone() -> None:
    """A method that needs only W ignores H; a g that depends on time enters with its mean."""

    class Own(AbstractSRK):
        tableau = StochasticButcherTableau([], [1], None, [], AdditiveCoeffs(a=[0], b_sol=1))

    increment = BrownianIncrement(dt=jnp.asarray(T1 - T0), W=jnp.asarray(W))
    y1, _ = step(Own(), drift, additive, jnp.asarray(Y0), increment)
    mean = (additive(T0, Y0, None) + additive(T1, Y0, None)) / 2
    np.testing.assert_allclose(y1, Y0 + (T1 - T0) * drift(T0, Y0, None) + mean @ W, rtol=1e-13)
