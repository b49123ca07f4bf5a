"""The dense output of a solve reaches its order on a nonlinear problem, and is one function whichever way it is asked.

`test_one_step.py` measures the orders themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import (
    ADAPTIVE,
    SOLVERS,
    dense_order,
    name,
    order,
    slow_unless,
    solved_exactly,
    terms_for,
)
from ..problems.ordinary import CLOCKED_TORUS, SPRING
from .measure import TOLERANCE, slope

# No fraction of a step is 1/2, where some interpolants are better than elsewhere.
THETAS = np.linspace(0, 1, 12)[1:]


def local_errors(solver: rungax.AbstractSolver[Any], steps: np.ndarray) -> np.ndarray:
    """The largest errors inside solves of one step, relative to the largest component."""
    exact = CLOCKED_TORUS.exact
    assert exact is not None
    start, terms, method = exact(0.0), terms_for(solver, CLOCKED_TORUS.field), solved_exactly(solver)

    @jax.jit
    def inside(h: jax.Array) -> jax.Array:
        saveat = rungax.SaveAt(dense=True)
        solution = rungax.diffeqsolve(terms, method, 0.0, h, h, start, saveat=saveat, max_steps=1, throw=False)
        return jax.vmap(solution.evaluate)(h * jnp.asarray(THETAS))

    values = np.array([inside(jnp.asarray(h)) for h in steps])
    expected = np.array([[exact(h * theta) for theta in THETAS] for h in steps])
    return np.abs(values - expected).max(axis=(1, 2)) / np.abs(start).max()


OFTEN = (rungax.Tsit5(), rungax.Rodas5P())
DENSE = [
    *(pytest.param(solver, id=name(solver)) for solver in OFTEN),
    *(
        pytest.param(solver, id=name(solver), marks=pytest.mark.slow)
        for solver in (
            rungax.Bosh3(),
            rungax.Vern7(),
            rungax.Vern9(),
            rungax.Kvaerno4(),
            rungax.KenCarp4(),
            rungax.ROS3P(),
        )
    ),
]


@pytest.mark.parametrize("solver", DENSE)
def test_dense_order_is_reached_on_a_nonlinear_problem(solver: rungax.AbstractSolver[Any]) -> None:
    steps = 2 ** np.arange(0, -6.1, -0.25)
    errors = local_errors(solver, steps)
    clean = np.flatnonzero(errors > 1e-13)[-5:]
    assert slope(steps[clean], errors[clean]) - 1 >= dense_order(solver) - TOLERANCE


def test_dense_order_is_at_most_one_less_than_the_order() -> None:
    for solver in SOLVERS:
        assert dense_order(solver) >= order(solver) - 1, name(solver)


# -------------------------------------------------------------------------------------------- at a solver's tolerance

END = 4.0
CONTROLLED = (*ADAPTIVE, rungax.HalfSolver(rungax.RK4()), rungax.Auto())
KINDS = ("Tsit5", "Kvaerno5", "KenCarp5")
"""Their own stages; implicit ones; a further implicit stage."""


@pytest.mark.parametrize(
    "solver", [pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in KINDS)) for solver in CONTROLLED]
)
def test_dense_output_is_as_exact_as_the_steps(solver: rungax.AbstractSolver[Any]) -> None:
    """The error inside steps is at most ten times that at their ends, or ten tolerances where that is smaller."""
    exact, terms = CLOCKED_TORUS.exact, terms_for(solver, CLOCKED_TORUS.field)
    assert exact is not None
    tolerance = {1: 1e-2, 2: 1e-4, 3: 1e-5}.get(order(solver), 1e-7)
    controller = rungax.PIDController(rtol=tolerance, atol=tolerance)

    @jax.jit
    def solve() -> tuple[Any, Any, Any]:
        saveat = rungax.SaveAt(steps=True, dense=True)
        solution = rungax.diffeqsolve(
            terms, solver, 0.0, END, None, exact(0.0), saveat=saveat, stepsize_controller=controller, max_steps=1000
        )
        assert isinstance(solution.ts, jax.Array)
        ends = jnp.minimum(solution.ts, END)
        starts = jnp.append(0.0, ends[:-1])
        inside = starts[:, None] + jnp.asarray(THETAS[:-1])[None] * (ends - starts)[:, None]
        return (inside, jax.vmap(jax.vmap(solution.evaluate))(inside)), (ends, solution.ys), solution.num_accepted_steps

    inside, ends, count = solve()

    def error(times: Any, values: Any) -> float:
        made = np.asarray(times)[:count].ravel()
        expected = np.array([exact(t) for t in made])
        return np.abs(np.asarray(values)[:count].reshape(expected.shape) - expected).max()

    assert error(*inside) <= 10 * max(error(*ends), tolerance)


# ------------------------------------------------------------------------------------------------ one function of time


class Dense(NamedTuple):
    """What a solve of `SPRING` with eight steps says at two times, and where two steps meet."""

    start: Any
    end: Any
    increment: Any
    slope: Any
    left_slope: Any
    right_slope: Any


ASKED = [
    pytest.param(rungax.Tsit5(), id="Tsit5"),
    *(
        pytest.param(solver, id=name(solver), marks=pytest.mark.slow)
        for solver in (rungax.Euler(), rungax.Dopri8(), rungax.KenCarp3(), rungax.ROS3P())
    ),
]


@pytest.fixture(scope="module", params=ASKED)
def ask(request: pytest.FixtureRequest) -> Callable[..., Dense]:
    """`ask(t0, t1, a, b, meeting)`: compiled once for each solver."""

    terms = terms_for(request.param, SPRING.field)

    @jax.jit
    def ask(t0: jax.Array, t1: jax.Array, a: jax.Array, b: jax.Array, meeting: jax.Array) -> Dense:
        saveat = rungax.SaveAt(dense=True)
        dt0 = (t1 - t0) / 8
        solution = rungax.diffeqsolve(
            terms, request.param, t0, t1, dt0, SPRING.y0, SPRING.args, saveat=saveat, max_steps=8, throw=False
        )
        return Dense(
            start=solution.evaluate(a),
            end=solution.evaluate(b),
            increment=solution.evaluate(a, b),
            slope=solution.derivative(a),
            left_slope=solution.derivative(meeting, left=True),
            right_slope=solution.derivative(meeting, left=False),
        )

    return lambda *times: ask(*(jnp.asarray(float(t)) for t in times))


def assert_close(found: Any, expected: Any, **tolerances: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), found, expected)


def quotient(ask: Callable[..., Dense], t0: float, t1: float, t: float, width: float) -> Any:
    """The difference quotient of the dense output between `t - width` and `t + width`."""
    increment = ask(t0, t1, t - width, t + width, 0.5).increment
    return jax.tree.map(lambda x: x / (2 * width), increment)


@pytest.mark.slow
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_dense_output_is_one_function(ask: Callable[..., Dense], t0: float, t1: float) -> None:
    a, b, width = 0.3, 0.8, 1e-4
    found = ask(t0, t1, a, b, 0.5)
    assert_close(found.increment, jax.tree.map(jnp.subtract, found.end, found.start), rtol=0, atol=0)
    assert_close(found.slope, quotient(ask, t0, t1, a, width), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0)], ids=["forwards", "backwards"])
def test_left_picks_the_earlier_of_two_steps(ask: Callable[..., Dense], t0: float, t1: float) -> None:
    meeting, width = 0.5, 1e-4
    earlier, later = (meeting - width, meeting + width) if t1 > t0 else (meeting + width, meeting - width)
    found = ask(t0, t1, meeting, meeting, meeting)
    # The quotients are slopes at a distance `width`, which differ by so much times the curvature, at most 16.
    assert_close(found.left_slope, quotient(ask, t0, t1, earlier, width), rtol=0, atol=20 * width)
    assert_close(found.right_slope, quotient(ask, t0, t1, later, width), rtol=0, atol=20 * width)


def test_dense_output_is_not_a_number_outside(ask: Callable[..., Dense]) -> None:
    found = ask(0.0, 1.0, -0.01, 1.01, 0.5)
    for leaf in jax.tree.leaves((found.start, found.end, found.slope)):
        assert np.isnan(leaf).all()
