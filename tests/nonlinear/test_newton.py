"""Simplified Newton stops at the right iteration, for the right reason, and keeps its Jacobian exactly while it serves.

Displacements follow a script. First as numbers shown to the judge; then as those of a field of one unknown: the fake's
Jacobian is zero, so that each iteration replaces `k` by `F(k)`, which a table gives.
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
    GROWN,
    OLD_AGE,
    RUNNING,
    SIMILAR,
    SLOW_RATE,
    TOO_SLOW,
    Convergence,
    Iterate,
    NewtonCache,
)
from rungax.nonlinear.tolerances import Weights

NAN, INF = float("nan"), float("inf")
KAPPA = 1e-2


class Case(NamedTuple):
    """Sizes of displacements, what is known before them, the verdict after the last of them, and none before."""

    sizes: tuple[float, ...]
    status: int
    rate: float = 1.0
    noise: float = 0.0
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
    # The first displacement has no rate of its own.
    "first, nothing known": Case((1e-3,), RUNNING),
    "first, carried rate": Case((0.5,), CONVERGED, rate=0.01),
    "first, carried rate, at the edge": Case((1.0,), CONVERGED, rate=0.01, kappa=0.0102),
    "first, carried rate, past the edge": Case((1.0,), RUNNING, rate=0.01, kappa=0.0101),
    "first, carried rate too slow": Case((0.5,), RUNNING, rate=0.5),
    "first, carried rate of growth": Case((1e-6,), RUNNING, rate=2.0),
    "carried rate counts once": Case((2.0, 1.0), RUNNING, rate=0.01),
    # Rounding.
    "nothing to do": Case((0.0,), CONVERGED),
    "first is rounding": Case((1e-3,), CONVERGED, noise=1e-3),
    "rounding that does not shrink": Case((0.1, 0.09), CONVERGED, noise=0.09, kappa=0.0),
    "rounding after a larger one": Case((2e-16, 1e-16), CONVERGED, noise=1.5e-16, kappa=0.0),
    # What does not converge.
    "no progress": Case((1.0, 1.0), DIVERGED),
    "growth": Case((1.0, 0.5, 0.6), DIVERGED),
    "not a number": Case((NAN,), DIVERGED),
    "infinite": Case((INF,), DIVERGED),
    "later not a number": Case((1.0, NAN), DIVERGED),
    "later infinite": Case((1.0, INF), DIVERGED),
    # 0.9 / 0.1 * 0.9 * 0.9 ** 8 is far above 0.01; with rate 0.5 and eight more iterations it is 0.5 * 0.5 ** 8 < 0.01.
    "hopeless": Case((1.0, 0.9), TOO_SLOW),
    "slow, with hope": Case((1.0, 0.5), RUNNING),
    "slow, with no iteration left for hope": Case((1.0, 0.5), RUNNING, max_steps=8),
    "slow, with one less": Case((1.0, 0.5), TOO_SLOW, max_steps=7),
    "hope lost on the way": Case((1.0, 0.5, 0.45), TOO_SLOW),
    # Patience.
    "one iteration and no more": Case((1.0,), TOO_SLOW, max_steps=1),
    "no iteration at all": Case((1.0,), TOO_SLOW, max_steps=0),
    "converged with the last": Case((1.0, 1e-3), CONVERGED, max_steps=2),
    "endless patience": Case((1.0, 0.99, 0.985), RUNNING, max_steps=None),
}


def verdicts(case: Case) -> list[int]:
    """The status after each displacement."""
    iterate, found = Iterate.start(jnp.asarray(case.rate)), list[int]()
    for size in case.sizes:
        iterate = iterate.judge(jnp.asarray(size), jnp.asarray(case.noise), case.kappa, case.max_steps)
        found.append(int(iterate.status))
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_judge_follows_the_script(case: Case) -> None:
    assert verdicts(case) == [RUNNING] * (len(case.sizes) - 1) + [case.status]


def test_the_judge_remembers_size_rate_and_number() -> None:
    first = Iterate.start(jnp.asarray(0.5)).judge(jnp.asarray(4.0), jnp.asarray(0.0), KAPPA, 10)
    second = first.judge(jnp.asarray(1.0), jnp.asarray(0.0), KAPPA, 10)
    assert [float(x) for x in (first.size, first.rate, first.steps)] == [4.0, 0.5, 1]
    assert [float(x) for x in (second.size, second.rate, second.steps)] == [1.0, 0.25, 2]


# --------------------------------------------------------------------------------------------------------- one stage

LENGTH = 12


class ScriptedField(AbstractField):
    """`F(k)` from a table, whose first entry belongs to zero; the Jacobian says at which time it was evaluated.

    The state is zero and its derivative too, so that an iteration is a step from one entry of the table to the next.
    """

    places: jax.Array
    slope_of_time: float = 0.0

    def increment(self, t: Any, y: Any) -> Any:
        index = jnp.sum(self.places <= y[0]) - 1
        return jnp.append(self.places, jnp.nan)[index + 1][None]

    def slope(self, t: Any, y: Any) -> Any:
        return self.increment(t, y)

    def jacobian(self, algebra: LinearAlgebra, t: Any, y: Any) -> jax.Array:
        return jnp.full((1, 1), self.slope_of_time * t)


def weights(rtol: float = 0.0) -> Weights:
    return Weights(Tolerances(rtol, 1.0, optx.max_norm), FlatSpace(jnp.zeros(1)))


def start_of_step(
    field: AbstractField, t0: Any = 0.0, step_size: Any = 1.0, y0: Any = 0.0, max_steps: int = 10
) -> StepStart:
    t0, step_size, y0 = (jnp.asarray(x) for x in (t0, step_size, y0))
    return StepStart(
        field, linear_algebra(frozenset(), None, FlatSpace(jnp.zeros(1))), t0, y0[None], step_size, 1.0, max_steps
    )


@eqx.filter_jit
def iterate(sizes: jax.Array, rate: jax.Array, max_steps: int = 10, y0: jax.Array | float = 0.0) -> StageSolution:
    """The first stage of a step, its displacements being `sizes`."""
    field = ScriptedField(jnp.cumsum(jnp.append(0.0, sizes)))
    start = start_of_step(field, max_steps=max_steps, y0=y0)
    solver = NewtonStages(weights(), KAPPA)
    prepared, convergence = solver.prepare(start, solver.empty_cache(start))
    stage = Stage(field, start.t0, jnp.zeros(1), jnp.asarray(1.0), start.step_size)
    return solver.solve(stage, jnp.zeros(1), start, prepared, Convergence(rate, convergence.needs_jacobian))


def solve_script(*sizes: float, rate: float = 1.0, max_steps: int = 10, y0: float = 0.0) -> StageSolution:
    padded = jnp.asarray(sizes + (1.0,) * (LENGTH - len(sizes)))
    return iterate(padded, jnp.asarray(rate), max_steps, jnp.asarray(y0))


def test_a_stage_is_the_sum_of_its_displacements_up_to_the_one_that_converged() -> None:
    solution = solve_script(1.0, 0.1, 0.01, 0.001)
    assert solution.result == RESULTS.successful
    assert float(solution.k[0]) == pytest.approx(1.11)
    assert float(solution.convergence.rate) == pytest.approx(0.1)


def test_a_carried_rate_saves_the_second_iteration() -> None:
    carried = 1e-2  # which is taken to the power 0.8, for it may have been luck
    assert float(solve_script(0.1, 0.05, 1e-4, rate=carried).k[0]) == pytest.approx(0.1)
    assert float(solve_script(1.0, 1e-4, rate=carried).k[0]) == pytest.approx(1.0001)
    edge = KAPPA * (1 - carried**0.8) / carried**0.8
    assert float(solve_script(0.99 * edge, 1e-5, rate=carried).k[0]) == pytest.approx(0.99 * edge)
    assert float(solve_script(1.01 * edge, 1e-5, rate=carried).k[0]) == pytest.approx(1.01 * edge + 1e-5)


def test_rounding_is_accepted() -> None:
    eps = float(np.finfo(float).eps)
    assert solve_script(9e8 * eps, y0=1e8).result == RESULTS.successful
    assert float(solve_script(9e8 * eps, y0=1e8).k[0]) == pytest.approx(9e8 * eps)
    assert float(solve_script(11e8 * eps, eps, y0=1e8).k[0]) == pytest.approx(11e8 * eps + eps)


@pytest.mark.parametrize(
    ("sizes", "num_iterations"),
    [((1.0, 2.0), 2), ((1.0, 0.5, 0.5), 3), ((1.0, NAN), 2), ((NAN,), 1)],
    ids=["growth", "standstill", "later NaN", "NaN"],
)
def test_divergence_ends_the_stage_at_once(sizes: tuple[float, ...], num_iterations: int) -> None:
    solution = solve_script(*sizes)
    assert solution.result == RESULTS.nonlinear_divergence
    np.testing.assert_allclose(solution.k[0], sum(sizes[:num_iterations]))
    assert float(solution.convergence.rate) == 1.0
    assert bool(solution.convergence.needs_jacobian)


def test_patience_ends_with_its_own_result() -> None:
    assert solve_script(1.0, 0.1, max_steps=1).result == RESULTS.nonlinear_max_steps_reached


def test_patience_that_is_foreseen_to_end_has_the_same_result() -> None:
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
def test_what_a_stage_teaches_of_its_jacobian(sizes: tuple[float, ...], needs_jacobian: bool) -> None:
    assert bool(solve_script(*sizes).convergence.needs_jacobian) is needs_jacobian


# ------------------------------------------------------------------------------------------------- before the stages

PLACE, SCALE = 0.25, 1.0  # of the Jacobian and of the factorisation at hand


@jax.jit
def prepare(needs_jacobian: Any, age: Any, t0: Any, step_size: Any, made_jump: Any) -> tuple[NewtonCache, Convergence]:
    field = ScriptedField(jnp.zeros(1), slope_of_time=-1.0)
    start = start_of_step(field, t0=t0, step_size=step_size)
    jacobian_time, scale = jnp.asarray(PLACE), jnp.asarray(SCALE)
    solver = NewtonStages(weights(), KAPPA)
    known = solver.empty_cache(start)
    cache = NewtonCache(
        -jacobian_time[None, None],
        known.factors,
        scale,
        Convergence(jnp.asarray(0.125), needs_jacobian),
        jacobian_time,
        age,
    )
    cache = select(made_jump, solver.outdated(cache), cache)
    return solver.prepare(start, cache)


class Refresh(NamedTuple):
    """The step that is due, and what it needs anew."""

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
    "needs_jacobian": Refresh(True, True, needs_jacobian=True),
    "needs_jacobian, but from here": Refresh(False, False, needs_jacobian=True, t0=PLACE),
    "needs_jacobian, but from here, and shorter": Refresh(False, True, needs_jacobian=True, t0=PLACE, step_size=0.2),
    "old": Refresh(True, True, age=OLD_AGE),
    "not yet old": Refresh(False, False, age=OLD_AGE - 1),
    "old, but from here": Refresh(False, False, age=OLD_AGE, t0=PLACE),
    "jump": Refresh(True, True, made_jump=True),
    "jump, from here": Refresh(True, True, made_jump=True, t0=PLACE),
    "a little longer": Refresh(False, False, step_size=1 + SIMILAR - EDGE),
    "longer": Refresh(False, True, step_size=1 + SIMILAR + EDGE),
    "a little shorter": Refresh(False, False, step_size=1 - SIMILAR + EDGE),
    "shorter": Refresh(False, True, step_size=1 - SIMILAR - EDGE),
    "much shorter": Refresh(False, True, step_size=1e-6),
    "much longer": Refresh(True, True, step_size=GROWN + EDGE),
    "almost much longer": Refresh(False, True, step_size=GROWN - EDGE),
}


@pytest.mark.parametrize("case", REFRESHES.values(), ids=REFRESHES.keys())
def test_what_is_made_anew_before_a_step(case: Refresh) -> None:
    prepared, convergence = prepare(case.needs_jacobian, case.age, case.t0, case.step_size, case.made_jump)
    assert float(prepared.jacobian[0, 0]) == (-case.t0 if case.jacobian else -PLACE)
    assert float(prepared.jacobian_time) == (case.t0 if case.jacobian else PLACE)
    assert int(prepared.age) == (0 if case.jacobian else case.age)
    assert prepared.scale is not None
    assert float(prepared.scale) == (case.step_size if case.factors else SCALE)
    assert not bool(convergence.needs_jacobian)
    assert float(convergence.rate) == 0.125


def test_nothing_is_known_before_the_first_step() -> None:
    start = start_of_step(ScriptedField(jnp.zeros(1), slope_of_time=-1.0), t0=PLACE)
    solver = NewtonStages(weights(), KAPPA)
    prepared, _ = solver.prepare(start, solver.empty_cache(start))
    assert float(prepared.jacobian[0, 0]) == -PLACE
    assert solver.update_cache(prepared, Convergence(jnp.asarray(0.5), jnp.asarray(True))).age == 1


@jax.jit
def solve_linear(stiffness: Any, made_for: Any) -> StageSolution:
    """`k = -stiffness (1 + k)`, with a factorisation made for a step of another size."""
    field, solver = LinearField(-stiffness), NewtonStages(weights(), 1e-13)
    before = start_of_step(field, step_size=made_for)
    prepared, convergence = solver.prepare(before, solver.empty_cache(before))
    start = start_of_step(field, max_steps=40)
    stage = Stage(field, start.t0, jnp.ones(1), jnp.asarray(1.0), start.step_size)
    return solver.solve(stage, jnp.zeros(1), start, prepared, convergence)


@pytest.mark.parametrize("made_for", [1 - SIMILAR, 1.0, 1 + SIMILAR])
@pytest.mark.parametrize("stiffness", [1e-3, 1.0, 1e3, 1e6])
def test_a_factorisation_made_for_a_similar_step_serves(made_for: float, stiffness: float) -> None:
    """Whatever the stiffness, a linear field's error shrinks by (r - 1) / (r + 1) at least, r being the ratio."""
    solution = solve_linear(stiffness, made_for)
    assert solution.result == RESULTS.successful
    assert float(solution.k[0]) == pytest.approx(-stiffness / (1 + stiffness), rel=1e-9)
    assert float(solution.convergence.rate) <= abs(1 - made_for) / (1 + made_for) + 1e-3


class LinearField(AbstractField):
    """The field `slope * y` over a step of length one."""

    factor: Any

    def increment(self, t: Any, y: Any) -> Any:
        return self.factor * y

    def slope(self, t: Any, y: Any) -> Any:
        return self.factor * y

    def jacobian(self, algebra: LinearAlgebra, t: Any, y: Any) -> jax.Array:
        return jnp.full((1, 1), self.factor)
