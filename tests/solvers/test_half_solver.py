"""`HalfSolver` makes each step once whole and once as two halves; its facts and failures are those of its solver."""

from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimistix import rms_norm

import rungax
from rungax import (
    AbstractPath,
    Auto,
    Bosh3,
    ControlTerm,
    Dopri5,
    Euler,
    Heun,
    ImplicitEuler,
    KenCarp4,
    Kvaerno3,
    MultiTerm,
    ODETerm,
    PIDController,
    Rodas5P,
    SaveAt,
    VirtualBrownianTree,
    diffeqsolve,
)
from rungax.nonlinear import Tolerances
from rungax.results import RESULTS
from rungax.solvers.stochastic.milstein.methods import ItoMilstein
from rungax.solvers.stochastic.reversible_heun import ReversibleHeun
from rungax.solvers.stochastic.sri.methods import SRIW1
from rungax.solvers.wrappers.base import AbstractWrappedSolver
from rungax.solvers.wrappers.half import HalfSolver

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..fakes import FAKE_TERM, FakeSolver, fake_y0
from ..steps import make_step

TERM = ODETerm(lambda t, y, args: jnp.cos(t) * y - y * y)
Y0 = jnp.asarray([0.7, 1.3])
T0, T1 = jnp.asarray(0.2), jnp.asarray(0.5)
MIDDLE = T0 + 0.5 * (T1 - T0)
SOLVERS = [Euler(), Heun(), Dopri5(), ReversibleHeun(), ImplicitEuler(), Kvaerno3(), Rodas5P()]


def name_of(solver: Any) -> str:
    return type(solver).__name__


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, id=name_of(s), marks=slow_unless(isinstance(s, Euler | Dopri5 | ReversibleHeun)))
        for s in SOLVERS
    ],
)
def test_a_step_is_two_halves_and_the_error_their_difference_to_the_whole(solver: Any) -> None:
    state = solver.init(TERM, T0, T1, Y0, None)
    step = jax.jit(lambda s, a, b, y, state: s.step(TERM, a, b, y, None, state, False)[:4], static_argnums=0)
    half = HalfSolver(solver)
    assert_trees_close(half.init(TERM, T0, T1, Y0, None), state)
    whole = step(solver, T0, T1, Y0, state)
    middle = step(solver, T0, MIDDLE, Y0, state)
    end = step(solver, MIDDLE, T1, middle[0], middle[3])
    y1, error, dense_info, after = step(half, T0, T1, Y0, state)
    close = {"rtol": 1e-13, "atol": 1e-15}
    assert_trees_close(y1, end[0], **close)
    assert_trees_close(error, end[0] - whole[0], rtol=1e-7, atol=1e-15)
    halves = {"y_middle": middle[0], "first": middle[2], "second": end[2]}
    assert_trees_close(dense_info, halves, rtol=1e-10, atol=1e-15)
    assert_trees_close(after, end[3], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("solver", [*SOLVERS, KenCarp4(), ItoMilstein(), SRIW1()], ids=name_of)
def test_the_facts_are_those_of_the_wrapped_solver(solver: Any) -> None:
    half = HalfSolver(solver)
    assert isinstance(half, AbstractWrappedSolver)
    assert isinstance(half, rungax.AbstractAdaptiveSolver)
    for fact in (
        "term_structure",
        "noise",
        "minimal_levy_area",
        "safe_with_adaptive_steps",
        "interpretations",
    ):
        assert getattr(half, fact) == getattr(solver, fact), fact
    assert half.strong_order(TERM) == solver.strong_order(TERM)
    assert half.weak_order(TERM) == solver.weak_order(TERM)


def test_the_estimate_has_the_order_of_the_local_error() -> None:
    path = VirtualBrownianTree(0.0, 1.0, 1e-2, (), jax.random.key(0))
    noisy = MultiTerm(TERM, ControlTerm(lambda t, y, args: y, path))
    for solver in SOLVERS:
        half = HalfSolver(solver)
        assert half.order(TERM) == solver.order(TERM)
        assert half.error_order(TERM) == solver.order(TERM) + 1
        strong = solver.strong_order(noisy)
        assert half.error_order(noisy) == (None if strong is None else strong + 0.5)
    assert HalfSolver(ItoMilstein()).error_order(noisy) == 1.5


def test_dense_output_is_that_of_the_halves() -> None:
    """Stages that only dense output needs are evaluated in each half."""
    solver = Dopri5()
    first = make_step(solver, TERM, T0, MIDDLE, Y0)
    second = make_step(solver, TERM, MIDDLE, T1, first.y1, solver_state=first.solver_state)
    half = HalfSolver(solver)
    whole = make_step(half, TERM, T0, T1, Y0)
    found = half.densify(whole)
    halves = {"first": solver.densify(first), "second": solver.densify(second)}
    assert_trees_close(found, {"y_middle": first.y1, **halves}, rtol=1e-14)
    interpolation = half.interpolation_cls(t0=T0, t1=T1, **found)
    for t, y in ((T0, Y0), (MIDDLE, first.y1), (T1, second.y1)):
        assert_trees_close(interpolation.evaluate(t), y, rtol=1e-13)
    assert_trees_close(half.stiffness(whole), solver.stiffness(second), rtol=1e-12)


@pytest.mark.parametrize(
    "solver", [Bosh3(), pytest.param(Auto(), marks=pytest.mark.slow)], ids=lambda solver: type(solver).__name__
)
def test_dense_output_in_a_solve(solver: Any) -> None:
    exact = ODETerm(lambda t, y, args: jnp.cos(t) * y)
    t = jnp.linspace(0.0, 2.0, 7)
    saveat = SaveAt(dense=True, ts=t)
    solution = diffeqsolve(exact, HalfSolver(solver), 0.0, 2.0, 0.05, jnp.asarray(1.0), saveat=saveat)
    np.testing.assert_allclose(solution.ys, np.exp(np.sin(t)), rtol=1e-5)
    found = eqx.filter_jit(lambda s, t: jax.vmap(s.evaluate)(t))(solution, t)
    np.testing.assert_allclose(found, np.exp(np.sin(t)), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- failures


class FailsAt(FakeSolver):
    """A solver that fails only in steps from `start` of the length `length`."""

    start: float = 0.0
    length: float = 0.0

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        *made, _ = super().step(terms, t0, t1, y0, args, solver_state, made_jump)
        failed = (jnp.abs(t0 - self.start) < 1e-6) & (jnp.abs(t1 - t0 - self.length) < 1e-6)
        return (*made, RESULTS.where(failed, RESULTS.nonlinear_divergence, RESULTS.successful))


@pytest.mark.parametrize(("start", "length"), [(0.0, 1.0), (0.0, 0.5), (0.5, 0.5)], ids=["whole", "first", "second"])
def test_a_failure_of_any_of_the_three_steps_is_a_failure(start: float, length: float) -> None:
    half = HalfSolver(FailsAt(start=start, length=length))
    state = half.init(FAKE_TERM, 0.0, 1.0, fake_y0(), None)
    y1, error, _, _, result = half.step(FAKE_TERM, 0.0, 1.0, fake_y0(), None, state, False)
    assert bool(result == RESULTS.nonlinear_divergence)
    assert bool(jnp.isinf(error["time"]))
    assert bool(jnp.isfinite(y1["time"]))
    *_, result = half.step(FAKE_TERM, 0.0, 0.8, fake_y0(), None, state, False)
    assert bool(result == RESULTS.successful)


def test_a_failure_makes_the_step_shorter_or_ends_a_solve_with_fixed_steps() -> None:
    half = HalfSolver(FailsAt(start=0.0, length=0.5))
    fixed = diffeqsolve(FAKE_TERM, half, 0.0, 2.0, 1.0, fake_y0(), throw=False)
    assert bool(fixed.result == RESULTS.nonlinear_divergence)
    adaptive = diffeqsolve(
        FAKE_TERM, half, 0.0, 2.0, 1.0, fake_y0(), stepsize_controller=PIDController(1e3, 1e3), throw=False
    )
    assert bool(adaptive.result == RESULTS.successful)
    assert int(adaptive.stats["num_rejected_steps"]) == 1


def test_the_second_half_starts_without_a_jump_and_with_the_state_of_the_first() -> None:
    half = HalfSolver(FakeSolver())
    y1 = half.step(FAKE_TERM, 0.0, 1.0, fake_y0(), None, jnp.asarray(3), jnp.asarray(True))[0]
    t0, t1, made_jump, solver_state, time = y1["seen"]
    assert (float(t0), float(t1), float(made_jump), float(solver_state), float(time)) == (0.5, 1.0, 0.0, 4.0, 0.5)


def van_der_pol(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], 100.0 * (1 - y[0] ** 2) * y[1] - y[0]])


@cache
def end_of_van_der_pol(solver: Any, tolerance: float) -> np.ndarray:
    controller, y0 = PIDController(tolerance, tolerance), jnp.asarray([2.0, 0.0])
    term = ODETerm(van_der_pol)
    solution = diffeqsolve(term, solver, 0.0, 20.0, None, y0, stepsize_controller=controller, max_steps=20_000)
    return np.asarray(solution.ys)


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, id=name_of(s), marks=slow_unless(isinstance(s, ImplicitEuler)))
        for s in (ImplicitEuler(), Kvaerno3(), Rodas5P())
    ],
)
def test_implicit_solvers_solve_a_stiff_equation(solver: Any) -> None:
    """Van der Pol's oscillator; the implicit Euler method has an error estimate of the right size."""
    tolerance = 1e-4 if isinstance(solver, ImplicitEuler) else 1e-6
    found, expected = end_of_van_der_pol(HalfSolver(solver), tolerance), end_of_van_der_pol(Rodas5P(), 1e-9)
    np.testing.assert_allclose(found, expected, atol=100 * tolerance)


def test_leaves_of_several_dtypes_keep_them() -> None:
    y0 = {"a": jnp.ones(2, "float32"), "b": jnp.asarray(1.0), "c": jnp.asarray(1j)}
    term = ODETerm(lambda t, y, args: jax.tree.map(jnp.negative, y))
    controller = PIDController(rtol=1e-4, atol=1e-6)
    ys = diffeqsolve(term, HalfSolver(Heun()), 0.0, 1.0, 0.1, y0, stepsize_controller=controller).ys
    assert ys is not None
    assert [leaf.dtype.name for leaf in jax.tree.leaves(ys)] == ["float32", "float64", "complex128"]
    jax.tree.map(lambda y1, y: np.testing.assert_allclose(y1[0], np.exp(-1) * np.asarray(y), rtol=1e-2), ys, y0)


def test_the_wrapped_solver_has_the_tolerances() -> None:
    tolerances = Tolerances(1e-3, 1e-5, rms_norm)
    configured = HalfSolver(Kvaerno3()).with_tolerances(tolerances, Y0)
    assert isinstance(configured, HalfSolver)
    assert configured.solver == Kvaerno3().with_tolerances(tolerances, Y0)


def test_the_state_and_its_checkpoint_are_the_wrapped_solvers() -> None:
    solver = Kvaerno3()
    half = HalfSolver(solver)
    before = solver.init(TERM, T0, T1, Y0, None)
    after = jax.jit(lambda state: half.step(TERM, T0, T1, Y0, None, state, False)[3])(before)
    assert_trees_close(half.after_rejection(before, after), solver.after_rejection(before, after))
    reversible = HalfSolver(ReversibleHeun())
    state = reversible.step(TERM, T0, T1, Y0, None, reversible.init(TERM, T0, T1, Y0, None), False)[3]
    assert_trees_close(reversible.checkpoint_state(state), state.companion)
    assert_trees_close(reversible.restore(TERM, T1, Y0, None, state.companion), state)
    assert_trees_close(half.func(TERM, T0, Y0, None), TERM.vf(T0, Y0, None))


# ---------------------------------------------------------------------------------------------------------------- noise


class Asked(AbstractPath):
    """A path that logs the intervals over which it is evaluated."""

    log: list[tuple[float, float]]

    @property
    def t0(self) -> float:
        return -np.inf

    @property
    def t1(self) -> float:
        return np.inf

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        self.log.append((float(t0), float(t1)))
        return jnp.asarray(1.0) * (t1 - t0)


def test_the_path_is_evaluated_over_the_whole_step_and_both_halves() -> None:
    log: list[tuple[float, float]] = []
    terms = MultiTerm(TERM, ControlTerm(lambda t, y, args: y, Asked(log)))
    half = HalfSolver(ItoMilstein())
    half.step(terms, 0.0, 1.0, jnp.asarray(1.0), None, None, False)
    assert log == [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)]


def test_adaptive_solves_with_noise_converge_to_the_limit(key: jax.Array) -> None:
    """Geometric Brownian motion with a solver that has no error estimate of its own."""

    @jax.jit
    def errors(keys: jax.Array, tolerance: Any) -> Any:
        return jax.vmap(lambda key: error(key, tolerance))(keys)

    def error(key: jax.Array, tolerance: Any) -> Any:
        path = VirtualBrownianTree(0.0, 1.0, 2**-12, (), key)
        terms = MultiTerm(ODETerm(lambda t, y, args: 0.1 * y), ControlTerm(lambda t, y, args: 0.8 * y, path))
        solution = diffeqsolve(
            terms,
            HalfSolver(ItoMilstein()),
            0.0,
            1.0,
            0.1,
            jnp.asarray(1.0),
            stepsize_controller=PIDController(tolerance, tolerance),
        )
        exact = jnp.exp((0.1 - 0.32) + 0.8 * path.evaluate(0.0, 1.0))
        return jnp.abs(solution.ys[0] - exact)

    keys = jax.random.split(key, 10)
    loose, tight = (float(jnp.mean(errors(keys, jnp.asarray(tolerance)))) for tolerance in (1e-2, 1e-3))
    assert tight < 0.4 * loose
    assert tight < 0.02


def test_an_argument_that_is_not_a_solver_is_refused() -> None:
    with pytest.raises(ValueError, match="wraps another solver"):
        HalfSolver(Euler)  # pyright: ignore[reportArgumentType]
