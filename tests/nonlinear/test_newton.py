"""Simplified Newton stops at the right iteration, with the right result, and renews its Jacobian when it must.

The sizes of the corrections follow a script. In the first part they are numbers given to `Iteration.judge`; in the
second they come from a field of one unknown with Jacobian zero, for which an iteration replaces `z` by `F(z)`, an entry
of a table.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from rungax import RESULTS
from rungax.jaxkit import FlatSpace, select
from rungax.nonlinear import NewtonStages, Stage, StageSolution, StepStart, Tolerances, linear_algebra
from rungax.nonlinear.linear import AbstractField, LinearAlgebra
from rungax.nonlinear.newton import (
    CONVERGED,
    DIVERGED,
    MAX_AGE,
    MAX_SCALE_CHANGE,
    MAX_SCALE_GROWTH,
    RUNNING,
    SLOW_RATE,
    TOO_SLOW,
    Convergence,
    Iteration,
    NewtonCache,
)
from rungax.nonlinear.tolerances import ErrorWeights

NAN, INF = float("nan"), float("inf")
KAPPA = 1e-2


class Case(NamedTuple):
    """Sizes of corrections, what is known before the first, and the status after the last; before it, `RUNNING`."""

    sizes: tuple[float, ...]
    status: int
    rate: float = 1.0
    rounding: float = 0.0
    kappa: float = KAPPA
    max_steps: int | None = 10


CASES: dict[str, Case] = {
    # rate / (1 - rate) * size <= kappa, with the rate of the last two sizes.
    "by its rate": Case((1.0, 0.1, 0.01), CONVERGED),  # 0.1 / 0.9 * 0.1 is a little too much, a tenth of it is not
    "by its rate, at the edge": Case((1.0, 0.1), CONVERGED, kappa=0.0112),
    "by its rate, past the edge": Case((1.0, 0.1), RUNNING, kappa=0.0111),
    "fast": Case((1.0, 1e-3), CONVERGED),
    "rate of the last two alone": Case((1.0, 0.9, 0.01), CONVERGED, max_steps=100),
    "small but slow": Case((0.05, 0.04), RUNNING, max_steps=100),
    # The first correction has no rate of its own.
    "first, no rate known": Case((1e-3,), RUNNING),
    "first, rate of the stage before": Case((0.5,), CONVERGED, rate=0.01),
    "first, rate of the stage before, at the edge": Case((1.0,), CONVERGED, rate=0.01, kappa=0.0102),
    "first, rate of the stage before, past the edge": Case((1.0,), RUNNING, rate=0.01, kappa=0.0101),
    "first, rate of the stage before too slow": Case((0.5,), RUNNING, rate=0.5),
    "first, the stage before diverged": Case((1e-6,), RUNNING, rate=2.0),
    "rate of the stage before counts once": Case((2.0, 1.0), RUNNING, rate=0.01),
    # Rounding.
    "solved already": Case((0.0,), CONVERGED),
    "first is rounding": Case((1e-3,), CONVERGED, rounding=1e-3),
    "rounding that does not shrink": Case((0.1, 0.09), CONVERGED, rounding=0.09, kappa=0.0),
    "rounding after a larger one": Case((2e-16, 1e-16), CONVERGED, rounding=1.5e-16, kappa=0.0),
    # Divergence.
    "no progress": Case((1.0, 1.0), DIVERGED),
    "growth": Case((1.0, 0.5, 0.6), DIVERGED),
    "not a number": Case((NAN,), DIVERGED),
    "infinite": Case((INF,), DIVERGED),
    "later not a number": Case((1.0, NAN), DIVERGED),
    "later infinite": Case((1.0, INF), DIVERGED),
    # 0.9 / 0.1 * 0.9 * 0.9 ** 8 is far above 0.01; with rate 0.5 and eight more iterations it is 0.5 * 0.5 ** 8 < 0.01.
    "much too slow": Case((1.0, 0.9), TOO_SLOW),
    "slow, enough iterations left": Case((1.0, 0.5), RUNNING),
    "slow, just enough iterations left": Case((1.0, 0.5), RUNNING, max_steps=8),
    "slow, one too few": Case((1.0, 0.5), TOO_SLOW, max_steps=7),
    "too slow from the third on": Case((1.0, 0.5, 0.45), TOO_SLOW),
    # The maximum number of iterations.
    "at most one iteration": Case((1.0,), TOO_SLOW, max_steps=1),
    "no iteration at all": Case((1.0,), TOO_SLOW, max_steps=0),
    "converged with the last": Case((1.0, 1e-3), CONVERGED, max_steps=2),
    "no maximum": Case((1.0, 0.99, 0.985), RUNNING, max_steps=None),
}


def statuses(case: Case) -> list[int]:
    """The status after each correction."""
    iteration, found = Iteration.start(jnp.asarray(case.rate)), list[int]()
    for size in case.sizes:
        iteration = iteration.judge(jnp.asarray(size), jnp.asarray(case.rounding), case.kappa, case.max_steps)
        found.append(int(iteration.status))
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_status_after_each_correction(case: Case) -> None:
    assert statuses(case) == [RUNNING] * (len(case.sizes) - 1) + [case.status]


def test_the_iteration_records_size_rate_and_number() -> None:
    first = Iteration.start(jnp.asarray(0.5)).judge(jnp.asarray(4.0), jnp.asarray(0.0), KAPPA, 10)
    second = first.judge(jnp.asarray(1.0), jnp.asarray(0.0), KAPPA, 10)
    assert [float(x) for x in (first.size, first.rate, first.steps)] == [4.0, 0.5, 1]
    assert [float(x) for x in (second.size, second.rate, second.steps)] == [1.0, 0.25, 2]


# --------------------------------------------------------------------------------------------------------- one stage

LENGTH = 12


class ScriptedField(AbstractField):
    """A field for which an iteration goes from one entry of a table to the next, and starts at the first, zero.

    Its Jacobian is zero, or a multiple of the time at which it is evaluated.
    """

    values: jax.Array
    jacobian_rate: float = 0.0

    def increment(self, t: Any, y: Any) -> Any:
        index = jnp.sum(self.values <= y[0]) - 1
        return jnp.append(self.values, jnp.nan)[index + 1][None]

    def slope(self, t: Any, y: Any) -> Any:
        return self.increment(t, y)

    def jacobian(self, algebra: LinearAlgebra, t: Any, y: Any, rate: Any = None) -> jax.Array:
        return jnp.full((1, 1), self.jacobian_rate * t)


def weights(rtol: float = 0.0) -> ErrorWeights:
    return ErrorWeights(Tolerances(rtol, 1.0, optx.max_norm), FlatSpace(jnp.zeros(1)))


def start_of_step(
    field: AbstractField, t0: Any = 0.0, step_size: Any = 1.0, y0: Any = 0.0, max_steps: int = 10
) -> StepStart:
    t0, step_size, y0 = (jnp.asarray(x) for x in (t0, step_size, y0))
    return StepStart(
        field, linear_algebra(frozenset(), None, FlatSpace(jnp.zeros(1))), t0, y0[None], step_size, 1.0, max_steps
    )


@eqx.filter_jit
def iterate(sizes: jax.Array, rate: jax.Array, max_steps: int = 10, y0: jax.Array | float = 0.0) -> StageSolution:
    """The first stage of a step, with corrections of these sizes."""
    field = ScriptedField(jnp.cumsum(jnp.append(0.0, sizes)))
    start = start_of_step(field, max_steps=max_steps, y0=y0)
    solver = NewtonStages(weights(), KAPPA)
    prepared, convergence = solver.prepare(start, solver.empty_cache(start))
    stage = Stage(field, start.t0, jnp.zeros(1), jnp.zeros(1), jnp.asarray(1.0), start.step_size)
    return solver.solve(stage, jnp.zeros(1), start, prepared, Convergence(rate, convergence.needs_jacobian))


def solve_script(*sizes: float, rate: float = 1.0, max_steps: int = 10, y0: float = 0.0) -> StageSolution:
    padded = jnp.asarray(sizes + (1.0,) * (LENGTH - len(sizes)))
    return iterate(padded, jnp.asarray(rate), max_steps, jnp.asarray(y0))


def test_a_stage_is_the_sum_of_its_corrections_up_to_the_one_that_converged() -> None:
    solution = solve_script(1.0, 0.1, 0.01, 0.001)
    assert solution.result == RESULTS.successful
    assert float(solution.displacement[0]) == pytest.approx(1.11)
    assert float(solution.convergence.rate) == pytest.approx(0.1)


def test_the_rate_of_the_stage_before_saves_the_second_iteration() -> None:
    rate = 1e-2  # used to the power 0.8, because the next stage may converge more slowly
    assert float(solve_script(0.1, 0.05, 1e-4, rate=rate).displacement[0]) == pytest.approx(0.1)
    assert float(solve_script(1.0, 1e-4, rate=rate).displacement[0]) == pytest.approx(1.0001)
    edge = KAPPA * (1 - rate**0.8) / rate**0.8
    assert float(solve_script(0.99 * edge, 1e-5, rate=rate).displacement[0]) == pytest.approx(0.99 * edge)
    assert float(solve_script(1.01 * edge, 1e-5, rate=rate).displacement[0]) == pytest.approx(1.01 * edge + 1e-5)


def test_rounding_is_accepted() -> None:
    eps = float(np.finfo(float).eps)
    assert solve_script(9e8 * eps, y0=1e8).result == RESULTS.successful
    assert float(solve_script(9e8 * eps, y0=1e8).displacement[0]) == pytest.approx(9e8 * eps)
    assert float(solve_script(11e8 * eps, eps, y0=1e8).displacement[0]) == pytest.approx(11e8 * eps + eps)


@pytest.mark.parametrize(
    ("sizes", "num_iterations"),
    [((1.0, 2.0), 2), ((1.0, 0.5, 0.5), 3), ((1.0, NAN), 2), ((NAN,), 1)],
    ids=["growth", "standstill", "later NaN", "NaN"],
)
def test_divergence_ends_the_stage_at_once(sizes: tuple[float, ...], num_iterations: int) -> None:
    solution = solve_script(*sizes)
    assert solution.result == RESULTS.nonlinear_divergence
    np.testing.assert_allclose(solution.displacement[0], sum(sizes[:num_iterations]))
    assert float(solution.convergence.rate) == 1.0
    assert bool(solution.convergence.needs_jacobian)


def test_the_maximum_number_of_iterations_has_its_own_result() -> None:
    assert solve_script(1.0, 0.1, max_steps=1).result == RESULTS.nonlinear_max_steps_reached


def test_an_iteration_that_would_exceed_the_maximum_has_the_same_result() -> None:
    """A stage that converges, but not fast enough for `root_find_max_steps`, has not diverged."""
    assert solve_script(1.0, 0.5, 0.25, max_steps=3).result == RESULTS.nonlinear_max_steps_reached


@pytest.mark.parametrize(
    ("sizes", "needs_jacobian"),
    [
        ((1.0, 0.9 * SLOW_RATE, 1e-6), False),
        ((10.0, 13 * SLOW_RATE, 1e-2 * SLOW_RATE), False),
        ((1e-1, 1.1e-1 * SLOW_RATE), True),
        ((1.0, 0.1, 0.01), True),
        ((1.0, 2.0), True),
    ],
    ids=["fast", "fast in the end", "slow", "slower", "diverged"],
)
def test_a_slow_stage_asks_for_a_new_jacobian(sizes: tuple[float, ...], needs_jacobian: bool) -> None:
    assert bool(solve_script(*sizes).convergence.needs_jacobian) is needs_jacobian


# ------------------------------------------------------------------------------------------------- before the stages

JACOBIAN_TIME, SCALE = 0.25, 1.0  # of the cached Jacobian and factorisation


@jax.jit
def prepare(needs_jacobian: Any, age: Any, t0: Any, step_size: Any, made_jump: Any) -> tuple[NewtonCache, Convergence]:
    field = ScriptedField(jnp.zeros(1), jacobian_rate=-1.0)
    start = start_of_step(field, t0=t0, step_size=step_size)
    jacobian_time, scale = jnp.asarray(JACOBIAN_TIME), jnp.asarray(SCALE)
    solver = NewtonStages(weights(), KAPPA)
    empty = solver.empty_cache(start)
    cache = NewtonCache(
        -jacobian_time[None, None],
        empty.factors,
        scale,
        Convergence(jnp.asarray(0.125), needs_jacobian),
        jacobian_time,
        age,
    )
    cache = select(made_jump, solver.outdated(cache), cache)
    return solver.prepare(start, cache)


class Refresh(NamedTuple):
    """The next step, and whether it needs a new Jacobian and new factors."""

    jacobian: bool
    factors: bool
    t0: float = 0.5
    step_size: float = SCALE
    needs_jacobian: bool = False
    age: int = 3
    made_jump: bool = False


EDGE = 1e-9
REFRESHES: dict[str, Refresh] = {
    "nothing": Refresh(False, False),
    "slow": Refresh(True, True, needs_jacobian=True),
    "slow, repeated step": Refresh(False, False, needs_jacobian=True, t0=JACOBIAN_TIME),
    "slow, repeated step, shorter": Refresh(False, True, needs_jacobian=True, t0=JACOBIAN_TIME, step_size=0.2),
    "old": Refresh(True, True, age=MAX_AGE),
    "not yet old": Refresh(False, False, age=MAX_AGE - 1),
    "old, repeated step": Refresh(False, False, age=MAX_AGE, t0=JACOBIAN_TIME),
    "jump": Refresh(True, True, made_jump=True),
    "jump, repeated step": Refresh(True, True, made_jump=True, t0=JACOBIAN_TIME),
    "a little longer": Refresh(False, False, step_size=1 + MAX_SCALE_CHANGE - EDGE),
    "longer": Refresh(False, True, step_size=1 + MAX_SCALE_CHANGE + EDGE),
    "a little shorter": Refresh(False, False, step_size=1 - MAX_SCALE_CHANGE + EDGE),
    "shorter": Refresh(False, True, step_size=1 - MAX_SCALE_CHANGE - EDGE),
    "much shorter": Refresh(False, True, step_size=1e-6),
    "much longer": Refresh(True, True, step_size=MAX_SCALE_GROWTH + EDGE),
    "almost much longer": Refresh(False, True, step_size=MAX_SCALE_GROWTH - EDGE),
}


@pytest.mark.parametrize("case", REFRESHES.values(), ids=REFRESHES.keys())
def test_what_is_computed_again_before_a_step(case: Refresh) -> None:
    prepared, convergence = prepare(case.needs_jacobian, case.age, case.t0, case.step_size, case.made_jump)
    assert float(prepared.jacobian[0, 0]) == (-case.t0 if case.jacobian else -JACOBIAN_TIME)
    assert float(prepared.jacobian_time) == (case.t0 if case.jacobian else JACOBIAN_TIME)
    assert int(prepared.age) == (0 if case.jacobian else case.age)
    assert prepared.scale is not None
    assert float(prepared.scale) == (case.step_size if case.factors else SCALE)
    assert not bool(convergence.needs_jacobian)
    assert float(convergence.rate) == 0.125


def test_the_first_step_evaluates_the_jacobian() -> None:
    start = start_of_step(ScriptedField(jnp.zeros(1), jacobian_rate=-1.0), t0=JACOBIAN_TIME)
    solver = NewtonStages(weights(), KAPPA)
    prepared, _ = solver.prepare(start, solver.empty_cache(start))
    assert float(prepared.jacobian[0, 0]) == -JACOBIAN_TIME
    assert solver.update_cache(prepared, Convergence(jnp.asarray(0.5), jnp.asarray(True))).age == 1


@jax.jit
def solve_linear(stiffness: Any, factored_size: Any) -> StageSolution:
    """The stage `z = -stiffness (1 + z)`, with a factorisation computed for a step of another size."""
    field, solver = LinearField(-stiffness), NewtonStages(weights(), 1e-13)
    before = start_of_step(field, step_size=factored_size)
    prepared, convergence = solver.prepare(before, solver.empty_cache(before))
    start = start_of_step(field, max_steps=40)
    stage = Stage(field, start.t0, jnp.ones(1), jnp.zeros(1), jnp.asarray(1.0), start.step_size)
    return solver.solve(stage, jnp.zeros(1), start, prepared, convergence)


@pytest.mark.parametrize("factored_size", [1 - MAX_SCALE_CHANGE, 1.0, 1 + MAX_SCALE_CHANGE])
@pytest.mark.parametrize("stiffness", [1e-3, 1.0, 1e3, 1e6])
def test_a_factorisation_for_a_step_of_similar_size_converges(factored_size: float, stiffness: float) -> None:
    """For every stiffness, the error of a linear field shrinks at least by (r - 1) / (r + 1), with r the ratio."""
    solution = solve_linear(stiffness, factored_size)
    assert solution.result == RESULTS.successful
    assert float(solution.displacement[0]) == pytest.approx(-stiffness / (1 + stiffness), rel=1e-9)
    assert float(solution.convergence.rate) <= abs(1 - factored_size) / (1 + factored_size) + 1e-3


class LinearField(AbstractField):
    """The field `slope * y` over a step of length one."""

    factor: Any

    def increment(self, t: Any, y: Any) -> Any:
        return self.factor * y

    def slope(self, t: Any, y: Any) -> Any:
        return self.factor * y

    def jacobian(self, algebra: LinearAlgebra, t: Any, y: Any, rate: Any = None) -> jax.Array:
        return jnp.full((1, 1), self.factor)
