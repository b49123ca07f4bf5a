r"""Simplified Newton iteration: one factorisation for all stages of a step, and for later steps if it converges fast.

$$(M - \gamma h J)\,\Delta = \gamma F(t, y_n + z) - M (z - r), \qquad z \leftarrow z + \Delta.$$

The iteration stops when the estimate of the remaining error is a fraction $\kappa$ of the step's tolerance. The
estimate follows from the rate $\Theta$ at which the corrections $\Delta$ shrink:
$\frac{\Theta}{1 - \Theta} \lVert \Delta \rVert \le \kappa$.

References
----------
E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.8, equation 8.10.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import RealScalar, Time, any_element, match_varying, optimization_barrier, select, single_power
from ..results import RESULTS, choose, is_successful
from .jacobian import Vector
from .linear import AbstractLinearAlgebra, LinearSystem, solve
from .stage import AbstractStageSolver, Stage, StageSolution, StepStart
from .tolerances import Accuracy, ErrorWeights

SLOW_RATE = 0.03
"""Rate of convergence above which a stage asks for a new Jacobian at the next step."""

MAX_AGE = 50
"""Number of attempts after which the Jacobian is evaluated again."""

MAX_SCALE_CHANGE = 0.2
"""Relative change of the step size up to which a factorisation is used again."""

MAX_SCALE_GROWTH = 2.0
"""Growth of the step size since the factorisation above which the Jacobian is evaluated again too."""

MIN_RATE = 0.01
"""Lower bound of the rate that the first correction of a stage is judged by, which is taken from earlier stages."""

MIN_RATE_ALGEBRAIC = 0.2
"""The lower bound for equations some of which may be algebraic."""

LINEAR_FRACTION = 0.05
"""The fraction of the iteration's tolerance to which an iterative solver solves linear systems, as in CVODE."""

RUNNING, CONVERGED, DIVERGED, TOO_SLOW = 0, 1, 2, 3


class ReuseRules(NamedTuple):
    """The rules by which a Jacobian and its factorisation serve several steps; by default those for stages of a step.

    Parameters
    ----------
    slow_rate, max_age, max_scale_change, max_scale_growth
        The bounds that `SLOW_RATE`, `MAX_AGE`, `MAX_SCALE_CHANGE` and `MAX_SCALE_GROWTH` are by default.
    """

    slow_rate: float = SLOW_RATE
    max_age: int = MAX_AGE
    max_scale_change: float = MAX_SCALE_CHANGE
    max_scale_growth: float = MAX_SCALE_GROWTH


class Convergence(NamedTuple):
    """Convergence information from one stage for the next: the rate, and whether a new Jacobian is needed."""

    rate: Array
    needs_jacobian: Array


class NewtonCache(eqx.Module):
    """The Jacobian and its factorisation, carried from step to step.

    Parameters
    ----------
    jacobian
        The stored array for the Jacobian.
    factors, scale
        A factorisation, and the product of diagonal coefficient and step size that it was computed for; `None` if
        every stage computes its own.
    convergence
        Convergence information of the last stage.
    jacobian_time
        Time at which the Jacobian was evaluated.
    age
        Number of attempts that have used the Jacobian.
    """

    jacobian: PyTree[Array]
    factors: PyTree[Array] | None
    scale: Array | None
    convergence: Convergence
    jacobian_time: Array
    age: Array


class NewtonStages(AbstractStageSolver):
    """Simplified Newton iteration for the stages of a step.

    Parameters
    ----------
    weights
        The norm of a correction, relative to the step's tolerance.
    kappa
        The fraction of the tolerance to which equations are solved.
    rules
        The rules by which a Jacobian and a factorisation serve several steps.
    """

    weights: ErrorWeights
    kappa: RealScalar
    rules: ReuseRules = eqx.field(static=True, default=ReuseRules())

    def empty_cache(self, start: StepStart) -> NewtonCache:
        """The cache before the first step: zeros, marked as in need of a Jacobian."""
        real = jnp.finfo(start.y0.dtype).dtype
        one = jnp.ones((), real)
        shape = jax.eval_shape(start.jacobian)
        stored = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
        has_factors = start.diagonal is not None and start.algebra.has_factors
        system = LinearSystem(start.field, start.t0, stored, start.step_size)
        factors = start.algebra.empty_factors(system) if has_factors else None
        convergence = Convergence(one, jnp.asarray(True))
        no_time = jnp.full_like(start.t0, jnp.nan)
        scale = jnp.ones_like(start.step_size) if has_factors else None
        return NewtonCache(stored, factors, scale, convergence, no_time, jnp.asarray(0, jnp.int32))

    def outdated(self, cache: NewtonCache) -> NewtonCache:
        """The cache, in need of a Jacobian, even at the time of the one that it has."""
        convergence = Convergence(cache.convergence.rate, jnp.ones_like(cache.convergence.needs_jacobian))
        no_time = jnp.full_like(cache.jacobian_time, jnp.nan)
        return NewtonCache(cache.jacobian, cache.factors, cache.scale, convergence, no_time, cache.age)

    def is_outdated(self, cache: NewtonCache, t0: Time) -> Array:
        """True if the last stages converged too slowly, with a Jacobian from another time."""
        # A rejected step is repeated from the same time, where the Jacobian may just have been evaluated.
        return cache.convergence.needs_jacobian & (cache.jacobian_time != t0)

    def prepare(self, start: StepStart, cache: NewtonCache) -> tuple[NewtonCache, Convergence]:
        """The cache with a new Jacobian and a new factorisation, where the old ones would converge too slowly."""
        cache = match_varying(cache, (start, cache))
        needs_jacobian = cache.convergence.needs_jacobian | (cache.age >= self.rules.max_age)
        if cache.scale is not None and start.diagonal is not None:
            scale = start.diagonal * start.step_size
            needs_jacobian = needs_jacobian | ~(scale < self.rules.max_scale_growth * cache.scale)
        # A rejected step is repeated from the same time, where the Jacobian may just have been evaluated.
        stale = needs_jacobian & (cache.jacobian_time != start.t0)
        jacobian = lax.cond(
            any_element(stale),
            lambda: select(stale, start.jacobian(), cache.jacobian),
            lambda: cache.jacobian,
        )
        convergence = Convergence(cache.convergence.rate, jnp.zeros_like(stale))
        jacobian_time, age = jnp.where(stale, start.t0, cache.jacobian_time), jnp.where(stale, 0, cache.age)
        if cache.factors is None or cache.scale is None or start.diagonal is None:
            return NewtonCache(jacobian, None, None, convergence, jacobian_time, age), convergence
        scale = start.diagonal * start.step_size
        refactor = stale | ~(jnp.abs(scale - cache.scale) <= self.rules.max_scale_change * cache.scale)
        system = LinearSystem(start.field, start.t0, jacobian, scale)
        factors = lax.cond(
            any_element(refactor),
            lambda: select(refactor, start.algebra.factorise(system), cache.factors),
            lambda: cache.factors,
        )
        scale = jnp.where(refactor, scale, cache.scale)
        return NewtonCache(jacobian, factors, scale, convergence, jacobian_time, age), convergence

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: NewtonCache, convergence: Convergence
    ) -> StageSolution:
        """Iterate until the stage has converged, diverges, or would take too many iterations."""
        correct = self._simplified_correction(stage, guess, start, prepared)
        displacement, last = self._iterate(
            stage,
            guess,
            start,
            prepared,
            self._expected_rate(stage, start, prepared, convergence.rate),
            lambda displacement, residual: correct(residual),
            slow_if_linear,
        )
        return self._solution(displacement, last, convergence, start.algebra)

    def _simplified_correction(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: NewtonCache
    ) -> Callable[[Vector], Vector]:
        """The map from a residual to a correction, by the prepared factorisation."""
        scale, algebra, accuracy = stage.diagonal * stage.step_size, start.algebra, self._accuracy(start)
        system = LinearSystem(start.field, start.t0, prepared.jacobian, scale)
        following = algebra.at_iterate(system, stage.t, stage.state(guess))
        if prepared.scale is None:
            factors = algebra.factorise(system) if algebra.has_factors else None
            return lambda residual: solve(algebra, following, residual, factors, accuracy)
        # (The scale is zero for a batch element that takes no step.)
        damping = jnp.where(scale == 0, 1.0, algebra.damping(scale, prepared.scale)).astype(start.y0.dtype)
        return lambda residual: damping * solve(algebra, following, residual, prepared.factors, accuracy)

    def _expected_rate(self, stage: Stage, start: StepStart, prepared: NewtonCache, earlier: Array) -> Array:
        """The rate by which the first correction is judged: that of earlier stages, and of algebraic equations.

        Those converge at the rate at which a factorisation for another step size corrects them, or more slowly where
        they bend. A differential component forgets an error within a few steps. That of an algebraic one is an error of
        the next step, which no step size reduces.
        """
        rate = jnp.maximum(_power(earlier, 0.8), MIN_RATE)
        if not start.field.has_mass:
            return rate
        rate = jnp.maximum(rate, MIN_RATE_ALGEBRAIC)
        if prepared.scale is None:
            return rate
        scale = stage.diagonal * stage.step_size
        damped = start.algebra.damping(scale, prepared.scale) * scale / prepared.scale
        return jnp.maximum(rate, jnp.abs(1 - damped).astype(rate.dtype))

    def _accuracy(self, start: StepStart) -> Accuracy:
        """The accuracy of an iterative linear solver."""
        return Accuracy(self.weights, start.y0, LINEAR_FRACTION * self.kappa)

    def _iterate(
        self,
        stage: Stage,
        guess: Vector,
        start: StepStart,
        prepared: NewtonCache,
        rate: Array,
        correction: Callable[[Vector, Vector], Vector],
        foresees: "Foresight",
    ) -> "tuple[Vector, Iteration]":
        """Add corrections, computed from the displacement and its residual, until the iteration ends."""
        size_of = self.weights.at(start.y0)
        size_of_terms = size_of(jnp.abs(start.y0) + jnp.abs(stage.y0 + stage.known))
        rounding = 10 * float(jnp.finfo(guess.dtype).eps) * size_of_terms

        def improve(now: "tuple[Vector, Iteration]") -> "tuple[Vector, Iteration]":
            displacement, iteration = now
            residual = optimization_barrier(stage.residual(displacement))
            delta = optimization_barrier(correction(displacement, residual))
            following = iteration.judge(size_of(delta), rounding, self.kappa, start.max_steps, foresees)
            return select(_is_running(iteration), (displacement + delta, following), now)

        first = (guess, Iteration.start(rate))
        # What `correction` reads: the carry must vary over devices as it does.
        first = match_varying(first, (stage, guess, start, prepared, rate))
        return lax.while_loop(lambda now: any_element(_is_running(now[1])), improve, first)

    def _solution(
        self, displacement: Vector, last: "Iteration", convergence: Convergence, algebra: AbstractLinearAlgebra
    ) -> StageSolution:
        """The solution that an iteration ended with, and its convergence information."""
        converged = last.status == CONVERGED
        failure = choose(last.status == DIVERGED, RESULTS.nonlinear_divergence, RESULTS.nonlinear_max_steps_reached)
        failure = algebra.failure(jnp.isinf(last.size), failure)
        is_slow = (last.steps > 1) & (last.rate > self.rules.slow_rate)
        needs_jacobian = convergence.needs_jacobian | ~converged | is_slow
        rate = jnp.where(converged, last.rate, 1.0)
        result = choose(converged, RESULTS.successful, failure)
        return StageSolution(displacement, result, Convergence(rate, needs_jacobian))

    def kept_factors(self, prepared: NewtonCache, solution: StageSolution) -> PyTree[Array] | None:
        """The factorisation that the stages of the step share, if there is one."""
        del solution
        return prepared.factors

    def update_cache(self, prepared: NewtonCache, convergence: Convergence) -> NewtonCache:
        """The Jacobian and factorisation that the step used, with the convergence information of its last stage."""
        age = prepared.age + 1
        return NewtonCache(
            prepared.jacobian, prepared.factors, prepared.scale, convergence, prepared.jacobian_time, age
        )


class FullNewtonStages(NewtonStages):
    """Simplified Newton iteration and, where it fails, full Newton iteration with a new Jacobian at every iterate.

    It serves solves with constant steps, where a failed step cannot be repeated with a shorter one.
    """

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: NewtonCache, convergence: Convergence
    ) -> StageSolution:
        """Iterate with the prepared factorisation, and with new ones for batch elements where that fails."""
        simplified = super().solve(stage, guess, start, prepared, convergence)
        failed = jnp.logical_not(is_successful(simplified.result))

        def correction(displacement: Vector, residual: Vector) -> Vector:
            scale = stage.diagonal * stage.step_size
            state, rate = stage.state(displacement), stage.rate(displacement)
            system = LinearSystem.at(start.algebra, start.field, stage.t, state, scale, rate)
            return solve(start.algebra, system, residual, accuracy=self._accuracy(start))

        def full() -> StageSolution:
            displacement, last = self._iterate(
                stage, guess, start, prepared, jnp.ones_like(convergence.rate), correction, nothing_foreseen
            )
            return select(failed, self._solution(displacement, last, convergence, start.algebra), simplified)

        return lax.cond(any_element(failed), full, lambda: simplified)


type Foresight = Callable[[Array, Array, Array, RealScalar], Array]
"""True if an iteration will not converge in time, from a bound on its error, the rate of convergence, the number of
iterations left, and the error at which it has converged.
"""


def slow_if_linear(remaining: Array, rate: Array, left: Array, kappa: RealScalar) -> Array:
    """True if the error, multiplied by `rate` in each iteration left, will still be too large."""
    return ~(remaining * _power(rate, left) <= kappa)


def nothing_foreseen(remaining: Array, rate: Array, left: Array, kappa: RealScalar) -> Array:
    """False: Newton's iteration with a new Jacobian each time becomes faster, so that its first rates say nothing."""
    del rate, left, kappa
    return jnp.zeros_like(remaining, bool)


class Iteration(NamedTuple):
    """The progress of an iteration: size of the last correction, rate of convergence, number of steps, status."""

    size: Array
    rate: Array
    steps: Array
    status: Array

    @classmethod
    def start(cls, rate: Array) -> "Iteration":
        """The progress before the first correction; `rate` is that of an earlier iteration, 1 if there is none."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jnp.ones_like(rate), rate, zero, zero + RUNNING)

    def judge(
        self,
        size: Array,
        rounding: Array,
        kappa: RealScalar,
        max_steps: int | None,
        foresees: Foresight = slow_if_linear,
    ) -> "Iteration":
        """The progress after a correction of this size; one smaller than `rounding` is a rounding error."""
        first = self.steps == 0
        rate = jnp.where(first, self.rate, size / self.size)
        shrinks = rate < 1
        remaining = jnp.where(shrinks, rate / jnp.where(shrinks, 1 - rate, 1.0), jnp.inf) * size
        converged = (remaining <= kappa) | (size <= rounding)
        diverged = (~first & ~shrinks) | ~jnp.isfinite(size)
        too_slow = jnp.asarray(False)
        if max_steps is not None:
            left = max_steps - 1 - self.steps
            too_slow = (~first & foresees(remaining, rate, left, kappa)) | (left <= 0)
        status = jnp.where(diverged, DIVERGED, jnp.where(too_slow, TOO_SLOW, RUNNING))
        status = jnp.where(converged, CONVERGED, status)
        return Iteration(size, rate, self.steps + 1, status.astype(jnp.int32))


def _is_running(iteration: Iteration) -> Array:
    return jnp.asarray(iteration.status == RUNNING)


def _power(rate: Array, exponent: RealScalar) -> Array:
    """`rate ** exponent`, in the dtype of `rate`; seven digits are enough for a rate."""
    return single_power(rate, exponent).astype(rate.dtype)
