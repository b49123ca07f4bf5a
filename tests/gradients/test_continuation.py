"""A solve that hands out its solver state and one that goes on from it have the derivative of the two together.

In forward and in reverse mode, for every kind of solver state: none, a slope that the last stage gives, a companion
solution, the step before, a wrapped solver's state, the states of two methods.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import EXPLICIT, MULTISTEP, STIFF, name, slow_unless, terms_for

# The field of the defect with `ReversibleHeun`, whose derivative was 3.4019 in every mode.
RATE, Y0 = 1.3, np.array([1.0, 0.5])


def field(t: Any, y: Any, rate: Any) -> Any:
    return rate * jnp.sin(y) + jnp.cos(t)


type Adjoints = tuple[rungax.AbstractAdjoint, rungax.AbstractAdjoint]

DEFAULT = rungax.RecursiveCheckpointAdjoint()


def loss(solver: rungax.AbstractSolver[Any], rate: Any, adjoints: Adjoints = (DEFAULT, DEFAULT)) -> jax.Array:
    """The sum of squares after two unit intervals, of which the second goes on with the first one's solver state."""
    is_pair = isinstance(solver, rungax.AbstractSymmetricComposition)
    terms = (rungax.ODETerm(field), rungax.ODETerm(field)) if is_pair else terms_for(solver, field)
    y = (jnp.asarray(Y0), jnp.asarray(Y0[::-1].copy())) if is_pair else jnp.asarray(Y0)
    saveat, state = rungax.SaveAt(t1=True, solver_state=True), None
    for t0, adjoint in zip((0.0, 1.0), adjoints, strict=True):
        solution = rungax.diffeqsolve(
            terms, solver, t0, t0 + 1, 0.1, y, rate, saveat=saveat, solver_state=state, adjoint=adjoint, max_steps=16
        )
        y, state = jax.tree.map(lambda x: x[-1], solution.ys), solution.solver_state
    return sum((jnp.sum(x**2) for x in jax.tree.leaves(y)), start=jnp.asarray(0.0))


@cache
def compiled_loss(solver: rungax.AbstractSolver[Any]) -> Callable[[Any], Any]:
    """Value and gradient."""
    return jax.jit(jax.value_and_grad(lambda rate: loss(solver, rate)))


WITH_STATE: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.ReversibleHeun(),
    rungax.LeapfrogMidpoint(),
    rungax.VelocityVerlet(),
    rungax.HalfSolver(rungax.ReversibleHeun()),
    rungax.Auto(),
)
ONE_PER_STATE = ("ReversibleHeun", "LeapfrogMidpoint", "HalfSolver", "Bosh3")
SOLVERS = [
    pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in ONE_PER_STATE))
    for solver in (*WITH_STATE, *EXPLICIT, *STIFF, *MULTISTEP)
]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_derivative_across_a_continuation_is_that_of_both_solves(solver: rungax.AbstractSolver[Any]) -> None:
    compiled, rate, step = compiled_loss(solver), np.asarray(RATE), 1e-4
    difference = (compiled(rate + step)[0] - compiled(rate - step)[0]) / (2 * step)
    forward = jax.jit(jax.jacfwd(lambda rate: loss(solver, rate)))(rate)
    reverse = compiled(rate)[1]
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    np.testing.assert_allclose(reverse, difference, rtol=1e-5)


GRID = np.array([0.02, 0.1, 0.47, 1.3])
"""Start, size of the steps, end of the first solve, which is not on their grid, and rate."""


def grid_loss(p: Any, adjoint: rungax.AbstractAdjoint) -> jax.Array:
    """The sum of squares after two solves with constant steps, whose size only the first one is given."""
    t0, dt0, middle, rate = p
    saveat = rungax.SaveAt(t1=True, controller_state=True)
    solve = lambda t0, t1, dt0, y, state: rungax.diffeqsolve(
        field, rungax.Heun(), t0, t1, dt0, y, rate, saveat=saveat, controller_state=state, adjoint=adjoint, max_steps=16
    )
    first = solve(t0, middle, dt0, jnp.asarray(Y0), None)
    second = solve(middle, 1.1, None, first.ys[-1], first.controller_state)
    return jnp.sum(second.ys[-1] ** 2)


@pytest.mark.parametrize("on_grid", [True, False])
def test_the_derivative_with_respect_to_the_grid_that_is_handed_on(on_grid: bool) -> None:
    """On the grid, the second solve goes on along the first one's; else along a new one, of the same size."""
    p = GRID.copy()
    if on_grid:
        p[2] = p[0] + 4 * p[1] + 0.0
    reverse = jax.jit(jax.grad(lambda p: grid_loss(p, rungax.RecursiveCheckpointAdjoint())))(p)
    forward = jax.jit(jax.jacfwd(lambda p: grid_loss(p, rungax.ForwardMode())))(p)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    if not on_grid:
        value, step = jax.jit(lambda p: grid_loss(p, rungax.RecursiveCheckpointAdjoint())), 1e-5
        differences = [(value(p + step * e) - value(p - step * e)) / (2 * step) for e in np.eye(4)]
        np.testing.assert_allclose(reverse, differences, rtol=1e-6)


def test_the_derivative_with_the_reversible_method_is_known() -> None:
    gradient = compiled_loss(rungax.ReversibleHeun())(np.asarray(RATE))[1]
    assert float(gradient) == pytest.approx(3.2923, abs=1e-4)


FORWARD: dict[str, rungax.AbstractAdjoint] = {
    "default": DEFAULT,
    "forward": rungax.ForwardMode(),
    "direct": rungax.DirectAdjoint(),
}
OFTEN = {("ReversibleHeun", "default", "forward"), ("ReversibleHeun", "forward", "default")}


@pytest.mark.parametrize(
    ("solver", "adjoints"),
    [
        pytest.param(
            solver,
            (FORWARD[first], FORWARD[second]),
            id=f"{name(solver)}-{first}-{second}",
            marks=slow_unless((name(solver), first, second) in OFTEN),
        )
        for solver in (*WITH_STATE, rungax.Bosh3(), rungax.TRBDF2())
        for first in FORWARD
        for second in FORWARD
    ],
)
def test_what_one_adjoint_hands_on_has_tangents_for_another(
    solver: rungax.AbstractSolver[Any], adjoints: Adjoints
) -> None:
    tangent = jax.jit(jax.jacfwd(lambda rate: loss(solver, rate, adjoints)))(np.asarray(RATE))
    np.testing.assert_allclose(tangent, compiled_loss(solver)(np.asarray(RATE))[1], rtol=1e-9)


@pytest.mark.parametrize("adjoint", [DEFAULT, pytest.param(rungax.ForwardMode(), marks=pytest.mark.slow)], ids=name)
def test_two_solves_have_the_derivative_of_one(adjoint: rungax.AbstractAdjoint) -> None:
    """On the same grid, with a method whose state holds more than `y`."""

    def whole(rate: Any) -> jax.Array:
        ys = rungax.diffeqsolve(
            rungax.ODETerm(field), rungax.ReversibleHeun(), 0.0, 2.0, 0.1, jnp.asarray(Y0), rate, max_steps=32
        ).ys
        return jnp.sum(ys[-1] ** 2)

    parts = lambda rate: loss(rungax.ReversibleHeun(), rate, (DEFAULT, adjoint))
    found, expected = (jax.jit(jax.jacfwd(function))(np.asarray(RATE)) for function in (parts, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def chained(rate: Any, *bounds: int) -> jax.Array:
    """The sum of squares at 2, by solves with these bounds on attempts, of which each goes on from the one before."""
    t, y, states = jnp.asarray(0.0), jnp.asarray(Y0), {}
    saveat = rungax.SaveAt(t1=True, solver_state=True, controller_state=True)
    for bound in bounds:
        solution = rungax.diffeqsolve(
            rungax.ODETerm(field), rungax.Tsit5(), t, 2.0, None, y, rate, saveat=saveat, max_steps=bound, throw=False,
            stepsize_controller=rungax.PIDController(rtol=1e-6, atol=1e-6), **states,
        )  # fmt: skip
        assert solution.ts is not None
        t, y = solution.ts[-1], solution.ys[-1]
        states = {"solver_state": solution.solver_state, "controller_state": solution.controller_state}
    return jnp.sum(y**2)


@pytest.mark.parametrize("mode", [jax.grad, pytest.param(jax.jacfwd, marks=pytest.mark.slow)])
def test_a_solve_that_ended_at_its_bound_hands_on_its_derivatives(mode: Any) -> None:
    found, expected = (
        jax.jit(mode(lambda rate, bounds=bounds: chained(rate, *bounds)))(np.asarray(RATE))
        for bounds in ((5, 64), (64,))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-7)
