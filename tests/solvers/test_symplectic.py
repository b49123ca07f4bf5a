"""Symplectic methods: order, symplecticity, reversibility, and the error of the energy in long solves."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax import (
    RK4,
    AbstractAdjoint,
    AbstractSolver,
    AbstractTerm,
    DirectAdjoint,
    HalfSolver,
    KahanLi8,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    ReversibleAdjoint,
    SaveAt,
    SemiImplicitEuler,
    ThirdOrderHermitePolynomialInterpolation,
    UnsafeBrownianPath,
    VelocityVerlet,
    Vern9,
    Yoshida4,
    diffeqsolve,
)
from rungax.solvers.common.stage_loop import StepInputs
from rungax.solvers.symplectic.composition import AbstractSymmetricComposition, _plan, _Point, _scan, _unroll

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..convergence.measure import TOLERANCE, slope
from ..fakes import CountedField
from ..steps import make_step

COMPOSITIONS: tuple[AbstractSymmetricComposition, ...] = (VelocityVerlet(), Yoshida4(), KahanLi8())
SOLVERS: tuple[AbstractSolver[Any], ...] = (SemiImplicitEuler(), *COMPOSITIONS)

OFTEN = ("SemiImplicitEuler", "Yoshida4")
"""One of each class of step; the other compositions repeat it with weights whose conditions are tested exactly."""


def name(solver: object) -> str:
    return type(solver).__name__


one_of_each = pytest.mark.parametrize(
    "solver", [pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in OFTEN)) for solver in SOLVERS]
)
each_composition = pytest.mark.parametrize("solver", COMPOSITIONS, ids=name)


def as_one(terms: tuple[ODETerm, ODETerm]) -> ODETerm:
    """The same equation for a solver that is not for pairs."""
    f, g = terms
    return ODETerm(lambda t, y, args: (f.vf(t, y[1], args), g.vf(t, y[0], args)))


# Separable, both parts depending on time, and without a symmetry that might hide an error.
DRIVEN = (
    ODETerm(lambda t, w, args: -args * jnp.sin(w) + 0.5 * jnp.cos(1.3 * t)),
    ODETerm(lambda t, v, args: v * (1 + 0.3 * jnp.sin(0.7 * t)) + 0.1 * v**3),
)
Y0 = (jnp.asarray(0.3), jnp.asarray(1.1))
STRENGTH = 1.0
END = 3.0


@eqx.filter_jit
def solve(
    solver: Any,
    y0: Any,
    dt0: Any,
    args: Any = STRENGTH,
    t0: Any = 0.0,
    t1: Any = END,
    saveat: SaveAt = SaveAt(t1=True),
    terms: Any = DRIVEN,
    max_steps: int | None = 1000,
) -> Any:
    return diffeqsolve(terms, solver, t0, t1, dt0, y0, args, saveat=saveat, max_steps=max_steps)


@eqx.filter_jit
def solves(solver: Any, y0: Any, steps: Any, t0: Any, t1: Any) -> tuple[Any, Any]:
    """Values at `INSIDE` and at the end, of a batch of solves with their own initial states and lengths of steps.

    All numbers are arrays and batches have the size four, so that it is one program for each solver.
    """
    inside = jnp.asarray(INSIDE)
    saveat = SaveAt(ts=jnp.where(t1 > t0, inside, inside[::-1]), t1=True)

    def one(y0: Any, step: Any) -> Any:
        dt0 = jnp.sign(t1 - t0) * step
        return diffeqsolve(DRIVEN, solver, t0, t1, dt0, y0, STRENGTH, saveat=saveat, max_steps=1000).ys

    ys = jax.vmap(one)(y0, steps)
    return jax.tree.map(lambda x: x[:, :-1], ys), jax.tree.map(lambda x: x[:, -1], ys)


def four_times(y: Any) -> Any:
    return jax.tree.map(lambda x: np.full(4, x), y)


FORWARDS, BACKWARDS = (jnp.asarray(0.0), jnp.asarray(END)), (jnp.asarray(END), jnp.asarray(0.0))


@pytest.fixture(scope="module")
def reference() -> Any:
    """The solution of the driven equation at `INSIDE` and at the end."""
    solution = diffeqsolve(
        as_one(DRIVEN),
        Vern9(),
        0.0,
        END,
        0.01,
        Y0,
        STRENGTH,
        saveat=SaveAt(ts=jnp.asarray([*INSIDE, END])),
        stepsize_controller=PIDController(1e-14, 1e-14),
    )
    return solution.ys


COARSE = 27
INSIDE = tuple((k + 0.5) * END / COARSE for k in (7, 14, 21))
"""Times in the middle of steps, also of an odd number of times shorter ones: the error of a line is regular there."""


def largest(tree: Any, axis: int = -1) -> np.ndarray:
    return np.max(np.stack([np.abs(leaf).max(axis=axis) for leaf in jax.tree.leaves(tree)]), axis=0)


# --------------------------------------------------------------------------------------------------------------- order


def words_of(solver: AbstractSymmetricComposition, longest: int) -> dict[str, float]:
    """The step as a power series in two variables that do not commute: the coefficients of all words.

    A kick with weight c is exp(cA), a drift exp(cB).
    """
    plan = _plan(solver.weights)
    letters = [("A", plan.first_kick)]
    for drift, kick in zip(plan.moves.drift, plan.moves.kick, strict=True):
        letters += [("B", float(drift)), ("A", float(kick))]
    words = ["".join(letters) for n in range(longest + 1) for letters in product("AB", repeat=n)]
    series = {word: float(word == "") for word in words}
    for letter, c in letters:
        before = dict(series)
        for word in words:
            weight, rest = 1.0, word
            for k in range(1, len(word) - len(word.rstrip(letter)) + 1):
                weight, rest = weight * c / k, rest[:-1]
                series[word] += weight * before[rest]
    return series


@each_composition
def test_the_weights_satisfy_exactly_the_conditions_up_to_their_order(solver: AbstractSymmetricComposition) -> None:
    order = solver.order(DRIVEN)
    missed = np.zeros(order + 2)
    for word, found in words_of(solver, order + 1).items():
        # The exact flow is exp(A + B).
        n = len(word)
        missed[n] = max(missed[n], abs(found - 1 / np.prod(np.arange(1, n + 1, dtype=float))))
    assert np.all(missed[:-1] < 1e-14)
    assert missed[-1] > 1e-8


@each_composition
def test_the_weights_are_symmetric(solver: AbstractSymmetricComposition) -> None:
    assert list(solver.weights) == list(solver.weights)[::-1]
    plan = _plan(solver.weights)
    assert plan.moves.w_time[-1] == 1
    np.testing.assert_allclose(plan.moves.v_time + plan.moves.v_time[::-1], 1, rtol=1e-15)


def steps_for(solver: AbstractSolver[Any]) -> np.ndarray:
    return END / (np.array([10, 14, 20, 28]) if isinstance(solver, KahanLi8) else np.array([64, 96, 128, 192]))


@one_of_each
@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_order(solver: AbstractSolver[Any], direction: str, reference: Any) -> None:
    y1 = jax.tree.map(lambda x: x[-1], reference)
    start, end, times = (Y0, y1, FORWARDS) if direction == "forwards" else (y1, Y0, BACKWARDS)
    steps = steps_for(solver)
    _, found = solves(solver, four_times(start), jnp.asarray(steps), *times)
    errors = largest(jax.tree.map(lambda x, y: np.asarray(x)[:, None] - np.asarray(y), found, end))
    stated = solver.order(DRIVEN)
    assert stated is not None
    assert abs(slope(steps, errors) - stated) < TOLERANCE, errors


@one_of_each
def test_order_between_steps(solver: AbstractSolver[Any], reference: Any) -> None:
    # A straight line is regular in the middle of steps; steps made again are so everywhere.
    is_line = isinstance(solver, SemiImplicitEuler)
    steps = END / (COARSE * np.array([1, 3, 5, 9])) if is_line else steps_for(solver)
    found, _ = solves(solver, four_times(Y0), jnp.asarray(steps), *FORWARDS)
    errors = largest(jax.tree.map(lambda x, y: np.asarray(x) - np.asarray(y)[:-1], found, reference))
    stated = solver.order(DRIVEN)
    assert stated is not None
    assert abs(slope(steps, errors) - stated) < TOLERANCE, errors


def test_dense_output_starts_with_the_slope_and_ends_at_the_step() -> None:
    times = jnp.asarray([0.5, 0.75])
    terms, solver = DRIVEN, Yoshida4()
    step = make_step(solver, terms, *times, Y0, STRENGTH)
    path = solver.interpolation_for(terms, STRENGTH)(t0=times[0], t1=times[1], **solver.densify(step))
    for t, y in zip(times, (Y0, step.y1), strict=True):
        assert_trees_close(path.evaluate(t), y, rtol=0)
    assert_trees_close(path.derivative(times[0]), solver.func(terms, times[0], Y0, STRENGTH), rtol=1e-13)


class Dense(NamedTuple):
    """The dense output of a solve in steps of 0.3, at a time inside one."""

    value: Any
    increment: Any
    slope: Any


@jax.jit
def dense(y0: Any, strength: Any, t: Any) -> Dense:
    # With a function in `args`, which no program can return.
    args = {"strength": strength, "sine": jnp.sin}
    f = ODETerm(lambda t, w, args: -args["strength"] * args["sine"](w) + 0.5 * jnp.cos(1.3 * t))
    solution = solve(KahanLi8(), y0, 0.3, args, saveat=SaveAt(dense=True), terms=(f, DRIVEN[1]), max_steps=10)
    return Dense(solution.evaluate(t), solution.evaluate(0.1, t), solution.derivative(t))


@pytest.mark.slow
def test_dense_output_is_as_exact_as_the_steps(reference: Any) -> None:
    found = jax.vmap(lambda t: dense(Y0, STRENGTH, t))(jnp.asarray(INSIDE))
    expected = jax.tree.map(lambda y: y[:-1], reference)
    assert_trees_close(found.value, expected, rtol=2e-8)
    by_hand = jax.vmap(lambda t, y: KahanLi8().func(DRIVEN, t, y, STRENGTH))(jnp.asarray(INSIDE), expected)
    assert_trees_close(found.slope, by_hand, rtol=1e-6)
    start = dense(Y0, STRENGTH, jnp.asarray(0.1)).value
    assert_trees_close(found.increment, jax.tree.map(lambda y, y0: y - y0, found.value, start), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
def test_derivatives_of_dense_output(mode: Any) -> None:
    point = (Y0, jnp.asarray(STRENGTH), jnp.asarray(1.4))
    found = mode(lambda *at: dense(*at).value, (0, 1, 2))(*point)
    for index in (1, 2):
        above, below = (dense(*point[:index], point[index] + h, *point[index + 1 :]).value for h in (1e-5, -1e-5))
        quotient = jax.tree.map(lambda a, b: (a - b) / 2e-5, above, below)
        assert_trees_close([part[index] for part in found], list(quotient), rtol=1e-8)


class Shaken(AbstractTerm[Any, Any]):
    """A kick by a Brownian path."""

    path: UnsafeBrownianPath

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.cos(y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return self.path.evaluate(t0, t1)

    def prod(self, vf: Any, control: Any) -> Any:
        return vf * control


def test_with_noise_the_step_is_not_made_again() -> None:
    # The path draws anew for another interval.
    terms, solver = (Shaken(UnsafeBrownianPath((), jax.random.key(0))), DRIVEN[1]), VelocityVerlet()
    step = make_step(solver, terms, jnp.asarray(0.5), jnp.asarray(0.75), Y0)
    path = solver.interpolation_for(terms, None)(t0=step.t0, t1=step.t1, **solver.densify(step))
    assert isinstance(path, ThirdOrderHermitePolynomialInterpolation)
    assert_trees_close((path.evaluate(step.t0), path.evaluate(step.t1)), (Y0, step.y1), rtol=0)


def test_a_batch_of_solutions_can_be_evaluated() -> None:
    saveat, strengths = SaveAt(dense=True), jnp.asarray([0.5, 1.0])
    batch = jax.vmap(lambda strength: solve(Yoshida4(), Y0, 0.3, strength, saveat=saveat, max_steps=10))(strengths)
    found = jax.vmap(lambda solution: solution.evaluate(1.4))(batch)
    one = solve(Yoshida4(), Y0, 0.3, strengths[1], saveat=saveat, max_steps=10).evaluate(1.4)
    assert_trees_close(jax.tree.map(lambda y: y[1], found), one, rtol=1e-13)


# ------------------------------------------------------------------------------------------------------ steps by hand


def f(t: float, w: float) -> float:
    return -STRENGTH * np.sin(w) + 0.5 * np.cos(1.3 * t)


def g(t: float, v: float) -> float:
    return v * (1 + 0.3 * np.sin(0.7 * t)) + 0.1 * v**3


def euler_by_hand(t: float, h: float, v: float, w: float) -> tuple[float, float]:
    v = v + h * f(t, w)
    return v, w + h * g(t, v)


def verlet_by_hand(t: float, h: float, v: float, w: float) -> tuple[float, float]:
    v = v + h / 2 * f(t, w)
    w = w + h * g(t + h / 2, v)
    return v + h / 2 * f(t + h, w), w


def yoshida_by_hand(t: float, h: float, v: float, w: float) -> tuple[float, float]:
    long = 1 / (2 - 2 ** (1 / 3))
    for part in (long, 1 - 2 * long, long):
        v, w = verlet_by_hand(t, part * h, v, w)
        t += part * h
    return v, w


@pytest.mark.parametrize(
    ("solver", "by_hand"),
    [(SemiImplicitEuler(), euler_by_hand), (VelocityVerlet(), verlet_by_hand), (Yoshida4(), yoshida_by_hand)],
    ids=["SemiImplicitEuler", "VelocityVerlet", "Yoshida4"],
)
def test_steps_are_those_of_the_formula(solver: AbstractSolver[Any], by_hand: Any) -> None:
    expected, y = (0.3, 1.1), Y0
    state = solver.init(DRIVEN, jnp.asarray(0.2), jnp.asarray(0.5), y, STRENGTH)
    for t0, t1 in pairwise([0.2, 0.5, 0.6]):
        expected = by_hand(t0, t1 - t0, *expected)
        y, error, _, state, _ = solver.step(DRIVEN, t0, t1, y, STRENGTH, state, False)
        np.testing.assert_allclose(y, expected, rtol=1e-14)
        assert error is None


@each_composition
def test_after_a_jump_the_solver_state_is_not_used(solver: AbstractSymmetricComposition) -> None:
    stale = jnp.asarray(1e3)
    fresh = solver.init(DRIVEN, jnp.asarray(0.2), jnp.asarray(0.5), Y0, STRENGTH)
    expected = solver.step(DRIVEN, 0.2, 0.5, Y0, STRENGTH, fresh, False)[0]
    assert_trees_close(solver.step(DRIVEN, 0.2, 0.5, Y0, STRENGTH, stale, jnp.asarray(True))[0], expected, rtol=1e-15)
    unjumped = solver.step(DRIVEN, 0.2, 0.5, Y0, STRENGTH, fresh, jnp.asarray(False))[0]
    assert_trees_close(unjumped, expected, rtol=1e-15)


def test_the_solver_state_can_be_computed_again() -> None:
    solver = VelocityVerlet()
    state = solver.init(DRIVEN, jnp.asarray(0.2), jnp.asarray(0.5), Y0, STRENGTH)
    y1, _, _, state, _ = solver.step(DRIVEN, 0.2, 0.5, Y0, STRENGTH, state, False)
    assert jax.tree.leaves(solver.checkpoint_state(state)) == []
    assert_trees_close(solver.restore(DRIVEN, 0.5, y1, STRENGTH, None), state, rtol=1e-15)


def test_a_loop_over_the_moves_is_the_same_step() -> None:
    plan = _plan(KahanLi8().weights)
    inputs = StepInputs(DRIVEN, jnp.asarray(0.2), jnp.asarray(0.5), Y0, STRENGTH, (0.3, 0.3))
    start = _Point(*Y0, DRIVEN[0].vf(0.2, Y0[1], STRENGTH))
    assert_trees_close(_scan(inputs, start, plan.moves), _unroll(inputs, start, plan.moves), rtol=1e-13)


@pytest.mark.parametrize(
    ("solver", "stages"),
    [(SemiImplicitEuler(), 1), pytest.param(VelocityVerlet(), 1, marks=pytest.mark.slow), (KahanLi8(), 17)],
)
def test_each_field_is_traced_once_and_evaluated_as_often_as_stated(solver: AbstractSolver[Any], stages: int) -> None:
    kick, drift = (CountedField(lambda t, y, args: -y), CountedField(lambda t, y, args: 2.0 * y))
    diffeqsolve((kick, drift), solver, 0.0, 1.0, 0.25, Y0)
    at_start = int(isinstance(solver, AbstractSymmetricComposition))
    assert (kick.num_calls, drift.num_calls) == (4 * stages + at_start, 4 * stages)
    assert (kick.num_traces, drift.num_traces) == (1, 1)


# ------------------------------------------------------------------------------------------------------------ geometry

SHAPE = (
    ODETerm(lambda t, w, args: -jax.grad(lambda w: jnp.sum(jnp.cos(w)) + jnp.prod(w) + w[0] ** 4)(w)),
    ODETerm(lambda t, v, args: jax.grad(lambda v: jnp.sum(jnp.sqrt(1 + v**2)) + 0.3 * v[0] * v[1] * v[2])(v)),
)


def defect(solver: AbstractSolver[Any], terms: Any) -> float:
    """The defect of symplecticity of a long step with derivative J: the size of J^T S J - S."""
    n = 3

    def step(flat: jax.Array) -> jax.Array:
        y0 = (flat[:n], flat[n:])
        state = solver.init(terms, jnp.asarray(0.0), jnp.asarray(0.5), y0, None)
        y1 = solver.step(terms, jnp.asarray(0.0), jnp.asarray(0.5), y0, None, state, False)[0]
        return jnp.concatenate(y1)

    jacobian = np.asarray(jax.jit(jax.jacfwd(step))(jnp.asarray([0.3, -0.7, 0.2, 0.5, 0.4, -0.9])))
    unit = np.eye(n)
    structure = np.block([[0 * unit, unit], [-unit, 0 * unit]])
    return float(np.max(np.abs(jacobian.T @ structure @ jacobian - structure)))


@one_of_each
def test_a_step_is_symplectic(solver: AbstractSolver[Any]) -> None:
    assert defect(solver, SHAPE) < 1e-13


def test_a_step_that_is_not_symplectic_is_caught() -> None:
    assert defect(RK4(), as_one(SHAPE)) > 1e-5


@one_of_each
def test_a_solve_back_returns_if_the_method_is_symmetric(solver: AbstractSolver[Any]) -> None:
    steps = jnp.asarray([1 / 16, 1 / 8, 3 / 16, 1 / 4])
    start = four_times(Y0)
    _, there = solves(solver, start, steps, *FORWARDS)
    _, back = solves(solver, there, steps, *BACKWARDS)
    missed = largest(jax.tree.map(lambda x, y: np.asarray(x - y)[:, None], back, start))
    if isinstance(solver, AbstractSymmetricComposition):
        assert missed.max() < 1e-13
    else:
        assert missed.min() > 1e-3


def kepler_force(t: Any, w: Any, args: Any) -> Any:
    x, y = w
    cubed = (x * x + y * y) ** 1.5
    return (-x / cubed, -y / cubed)


def henon_force(t: Any, w: Any, args: Any) -> Any:
    x, y = w
    return (-x - 2.0 * x * y, -y - x * x + y * y)


def velocity(t: Any, v: Any, args: Any) -> Any:
    return v


def kepler_energy(v: Any, w: Any) -> Any:
    return 0.5 * (v[0] ** 2 + v[1] ** 2) - 1 / np.hypot(w[0], w[1])


def henon_energy(v: Any, w: Any) -> Any:
    return 0.5 * (v[0] ** 2 + v[1] ** 2 + w[0] ** 2 + w[1] ** 2) + w[0] ** 2 * w[1] - w[1] ** 3 / 3


def pair(*numbers: float) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    a, b, c, d = map(jnp.asarray, numbers)
    return (a, b), (c, d)


PROBLEMS = {
    # Eccentricity 0.6, from the point nearest to the centre; then the energy 1/12, where most orbits are regular.
    "Kepler": ((ODETerm(kepler_force), ODETerm(velocity)), kepler_energy, pair(0.0, 2.0, 0.4, 0.0)),
    "Hénon–Heiles": ((ODETerm(henon_force), ODETerm(velocity)), henon_energy, pair(0.3, 0.2, 0.1, 0.1)),
}
PERIODS = 300


def orbit(solver: AbstractSolver[Any], problem: str, steps: int) -> tuple[np.ndarray, Any]:
    """Times in periods and states (v, w), every 17th of `steps` steps a period, so that all phases occur."""
    terms, _, y0 = PROBLEMS[problem]
    terms = terms if solver.term_structure == SemiImplicitEuler.term_structure else as_one(terms)
    solution = solve(
        solver,
        y0,
        jnp.asarray(2 * np.pi / steps),
        t1=2 * np.pi * PERIODS,
        saveat=SaveAt(steps=17),
        terms=terms,
        max_steps=PERIODS * steps + 10,
    )
    seen = np.isfinite(solution.ts)
    return np.asarray(solution.ts)[seen] / (2 * np.pi), jax.tree.map(lambda x: np.asarray(x)[seen], solution.ys)


def drift(ts: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """The linear trend of the energy over the solve, and its largest error."""
    error = energy - energy[0]
    return abs(float(np.polyfit(ts, error, 1)[0])) * PERIODS, float(np.max(np.abs(error)))


@pytest.mark.parametrize(
    ("solver", "problem", "steps"),
    [
        (SemiImplicitEuler(), "Kepler", 400),
        pytest.param(VelocityVerlet(), "Kepler", 200, marks=pytest.mark.slow),
        (Yoshida4(), "Kepler", 100),
        pytest.param(KahanLi8(), "Kepler", 64, marks=pytest.mark.slow),
        (VelocityVerlet(), "Hénon–Heiles", 30),
        pytest.param(Yoshida4(), "Hénon–Heiles", 20, marks=pytest.mark.slow),
        (KahanLi8(), "Hénon–Heiles", 8),
    ],
    ids=lambda x: name(x) if isinstance(x, AbstractSolver) else str(x),
)
def test_the_error_of_the_energy_does_not_grow(solver: AbstractSolver[Any], problem: str, steps: int) -> None:
    ts, (v, w) = orbit(solver, problem, steps)
    steady, error = drift(ts, PROBLEMS[problem][1](v, w))
    assert error > 1e-10, "else rounding is seen"
    assert steady < 0.05 * error
    if problem == "Kepler":
        momentum = w[0] * v[1] - w[1] * v[0]
        assert np.max(np.abs(momentum - 0.8)) < 1e-12


@pytest.mark.parametrize(("problem", "steps"), [("Kepler", 100), ("Hénon–Heiles", 20)])
def test_the_error_of_another_method_grows(problem: str, steps: int) -> None:
    ts, (v, w) = orbit(RK4(), problem, steps)
    steady, error = drift(ts, PROBLEMS[problem][1](v, w))
    assert steady > 0.5 * error


# ---------------------------------------------------------------------------------------------- transforms, dtypes, use


# `conformance/` differentiates VelocityVerlet, of which the other methods are compositions.
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(solver, id=name(solver), marks=slow_unless(isinstance(solver, SemiImplicitEuler)))
        for solver in (SemiImplicitEuler(), Yoshida4())
    ],
)
def test_derivatives(solver: AbstractSolver[Any]) -> None:
    point = (Y0, jnp.asarray(STRENGTH), jnp.asarray(2.87))
    tangent = ((jnp.asarray(0.4), jnp.asarray(-0.7)), jnp.asarray(0.6), jnp.asarray(0.5))

    def end_value(y0: Any, strength: Any, t1: Any) -> Any:
        v, w = solve(solver, y0, jnp.asarray(0.2), strength, t1=t1).ys
        return v[-1] * w[-1] + w[-1] ** 2

    @jax.jit
    def value_and_derivatives(*point: Any) -> tuple[Any, Any, Any]:
        value, gradient = jax.value_and_grad(end_value, argnums=(0, 1, 2))(*point)
        return value, gradient, jax.jvp(end_value, point, tangent)[1]

    def shifted(size: float) -> float:
        return float(value_and_derivatives(*jax.tree.map(lambda x, d: x + size * d, point, tangent))[0])

    # Fourth-order central differences.
    near, far = ((shifted(h) - shifted(-h)) / (2 * h) for h in (1e-3, 2e-3))
    difference = (4 * near - far) / 3
    _, gradient, forwards = value_and_derivatives(*point)
    reverse = sum(float(x * d) for x, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangent), strict=True))
    np.testing.assert_allclose(forwards, difference, rtol=1e-9)
    np.testing.assert_allclose(reverse, forwards, rtol=1e-12)


@cache
def gradient_by(adjoint: AbstractAdjoint) -> Any:
    def value(strength: Any) -> Any:
        v, w = diffeqsolve(DRIVEN, VelocityVerlet(), 0.0, 1.0, 0.1, Y0, strength, adjoint=adjoint).ys
        return v[-1] * w[-1]

    return jax.jit(jax.grad(value))(STRENGTH)


@pytest.mark.parametrize(
    "adjoint",
    [
        pytest.param(adjoint, id=name(adjoint), marks=slow_unless(isinstance(adjoint, ReversibleAdjoint)))
        for adjoint in (RecursiveCheckpointAdjoint(checkpoints=2), DirectAdjoint(), ReversibleAdjoint())
    ],
)
def test_other_adjoints(adjoint: AbstractAdjoint) -> None:
    np.testing.assert_allclose(gradient_by(adjoint), gradient_by(RecursiveCheckpointAdjoint()), rtol=1e-12)


@pytest.mark.slow  # `conformance/` has VelocityVerlet in a batch
def test_vmap_is_a_loop() -> None:
    solver, strengths = KahanLi8(), jnp.asarray([0.5, 1.0, 2.0])
    ts = jnp.asarray(INSIDE)
    one = jax.jit(lambda strength: solve(solver, Y0, jnp.asarray(0.3), strength, saveat=SaveAt(ts=ts)).ys)
    elements = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(strengths))
    for i, strength in enumerate(strengths):
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], elements), one(strength), rtol=1e-13)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(solver, id=name(solver), marks=slow_unless(isinstance(solver, SemiImplicitEuler | VelocityVerlet)))
        for solver in SOLVERS
    ],
)
def test_pytrees_keep_their_dtypes(solver: AbstractSolver[Any]) -> None:
    v = {"a": jnp.ones(2, jnp.float32), "b": [jnp.asarray(0.5 + 0j)]}
    w = {"a": jnp.zeros(2), "b": [jnp.asarray(1.0 + 0.5j)]}

    def pull(t: Any, w: Any, args: Any) -> Any:
        return {"a": -w["a"], "b": [-w["b"][0]]}

    def move(t: Any, v: Any, args: Any) -> Any:
        return {"a": 2.0 * v["a"], "b": [v["b"][0]]}

    saveat = SaveAt(ts=jnp.asarray([0.33, 0.5]))
    ys = diffeqsolve((pull, move), solver, 0.0, 0.5, 0.125, (v, w), saveat=saveat).ys
    assert jax.tree.structure(ys) == jax.tree.structure((v, w))
    kinds: Sequence[Any] = [x.dtype for x in jax.tree.leaves(ys)]
    assert kinds == [x.dtype for x in jax.tree.leaves((v, w))]
    tolerance = 0.2 if isinstance(solver, SemiImplicitEuler) else 0.01
    np.testing.assert_allclose(ys[0]["a"][-1], np.cos(np.sqrt(2) * 0.5) * np.ones(2), atol=tolerance)


def test_step_doubling_controls_the_error(reference: Any) -> None:
    solution = diffeqsolve(
        DRIVEN,
        HalfSolver(Yoshida4()),
        0.0,
        END,
        None,
        Y0,
        STRENGTH,
        stepsize_controller=PIDController(1e-7, 1e-9),
    )
    assert_trees_close(solution.ys, jax.tree.map(lambda x: x[-1:], reference), rtol=1e-5)


# -------------------------------------------------------------------------------------------------------------- errors


def test_a_state_that_is_not_a_pair_is_refused() -> None:
    for y0 in (jnp.zeros(2), [jnp.zeros(2), jnp.zeros(2)], (jnp.zeros(2),)):
        with pytest.raises(ValueError, match=r"y0 = \(v, w\)"):
            diffeqsolve(DRIVEN, VelocityVerlet(), 0.0, 1.0, 0.1, y0, STRENGTH)


def test_parts_that_differ_are_refused() -> None:
    zero = jnp.zeros(2)
    for y0 in ((zero, jnp.zeros(3)), ({"x": zero}, zero), (zero, zero.astype(complex))):
        with pytest.raises(ValueError, match="must have the same structure"):
            diffeqsolve(DRIVEN, SemiImplicitEuler(), 0.0, 1.0, 0.1, y0, STRENGTH)


def test_a_sum_of_terms_is_refused() -> None:
    with pytest.raises(ValueError, match="not compatible with solver `VelocityVerlet`"):
        diffeqsolve(MultiTerm(*DRIVEN), VelocityVerlet(), 0.0, 1.0, 0.1, Y0, STRENGTH)


def test_a_field_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape of the value of `vector_field`"):
        diffeqsolve((lambda t, w, args: jnp.zeros(3), DRIVEN[1]), VelocityVerlet(), 0.0, 1.0, 0.1, Y0, STRENGTH)
