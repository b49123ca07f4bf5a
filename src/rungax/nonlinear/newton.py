r"""Simplified Newton iteration: one factorisation for all stages of a step, and for more steps while it serves.

$$(I - \gamma h J)\,\Delta = F(t, b + \gamma k) - k, \qquad k \leftarrow k + \Delta.$$

The iteration stops when the error that remains, judged by the rate $\Theta$ at which the displacements shrink, is a
fraction $\kappa$ of the step's tolerance: $\frac{\Theta}{1 - \Theta} \lVert \gamma \Delta \rVert \le \kappa$.

References
----------
E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 2nd ed. (1996), IV.8, equation 8.10.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import RealScalar, any_element, match_varying, optimization_barrier, scaled, select
from ..results import RESULTS, choose, is_successful
from .jacobian import Vector
from .linear import LinearSystem, solve
from .stage import AbstractStageSolver, Stage, StageSolution, StepStart
from .tolerances import Weights

SLOW_RATE = 0.03
"""A stage that converges more slowly than this asks for a new Jacobian at the next step."""

OLD_AGE = 50
"""A Jacobian is made anew after so many steps at the latest."""

SIMILAR = 0.2
"""A factorisation serves steps whose sizes differ from its own by less than this fraction."""

GROWN = 2.0
"""A step longer by this factor than the one that its factorisation was made for leads too far for its Jacobian."""

LEAST_RATE = 0.01
"""An iteration is not trusted to converge faster than this before its own displacements show it."""

RUNNING, CONVERGED, DIVERGED, TOO_SLOW = 0, 1, 2, 3


class Convergence(NamedTuple):
    """What one stage tells the next: the rate at which iterations converge, and whether the Jacobian still serves."""

    rate: Array
    needs_jacobian: Array


class NewtonCache(eqx.Module):
    """What is kept from step to step.

    Parameters
    ----------
    jacobian
        What is kept of the Jacobian.
    factors, scale
        A factorisation, and the product of diagonal coefficient and step size that it was made for; `None` if every
        stage makes its own.
    convergence
        Of the last stage.
    jacobian_time
        At which time the Jacobian was evaluated.
    age
        For how many attempts it has served.
    """

    jacobian: Array
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
        The size of a displacement, relative to the step's tolerance.
    kappa
        The fraction of the tolerance to which equations are solved.
    """

    weights: Weights
    kappa: RealScalar

    def empty_cache(self, start: StepStart) -> NewtonCache:
        """Nothing yet: the Jacobian counts as needs_jacobian."""
        real = jnp.finfo(start.y0.dtype).dtype
        one = jnp.ones((), real)
        shape = jax.eval_shape(lambda: start.field.jacobian(start.algebra, start.t0, start.y0))
        kept = jnp.zeros(shape.shape, shape.dtype)
        stores = start.diagonal is not None and start.algebra.jacobian.is_stored
        factors = (
            start.algebra.empty_factors(LinearSystem(start.field, start.t0, kept, start.step_size)) if stores else None
        )
        convergence = Convergence(one, jnp.asarray(True))
        nowhere = jnp.full_like(start.t0, jnp.nan)
        scale = jnp.ones_like(start.step_size) if stores else None
        return NewtonCache(kept, factors, scale, convergence, nowhere, jnp.asarray(0, jnp.int32))

    def outdated(self, cache: NewtonCache) -> NewtonCache:
        """The cache, in need of a Jacobian, even at the time of the one that it has."""
        convergence = Convergence(cache.convergence.rate, jnp.ones_like(cache.convergence.needs_jacobian))
        no_time = jnp.full_like(cache.jacobian_time, jnp.nan)
        return NewtonCache(cache.jacobian, cache.factors, cache.scale, convergence, no_time, cache.age)

    def prepare(self, start: StepStart, cache: NewtonCache) -> tuple[NewtonCache, Convergence]:
        """The cache with a new Jacobian and a new factorisation, where the old ones no longer serve."""
        cache = match_varying(cache, (start, cache))
        # A rejected step is made again from where its Jacobian may just have been evaluated.
        needs_jacobian = cache.convergence.needs_jacobian | (cache.age >= OLD_AGE)
        if cache.scale is not None and start.diagonal is not None:
            needs_jacobian = needs_jacobian | ~(start.diagonal * start.step_size < GROWN * cache.scale)
        stale = needs_jacobian & (cache.jacobian_time != start.t0)
        jacobian = lax.cond(
            any_element(stale),
            lambda: select(stale, start.field.jacobian(start.algebra, start.t0, start.y0), cache.jacobian),
            lambda: cache.jacobian,
        )
        convergence = Convergence(cache.convergence.rate, jnp.zeros_like(stale))
        jacobian_time, age = jnp.where(stale, start.t0, cache.jacobian_time), jnp.where(stale, 0, cache.age)
        if cache.factors is None or cache.scale is None or start.diagonal is None:
            return NewtonCache(jacobian, None, None, convergence, jacobian_time, age), convergence
        scale = start.diagonal * start.step_size
        other = stale | ~(jnp.abs(scale - cache.scale) <= SIMILAR * cache.scale)
        system = LinearSystem(start.field, start.t0, jacobian, scale)
        factors = lax.cond(
            any_element(other),
            lambda: select(other, start.algebra.factorise(system), cache.factors),
            lambda: cache.factors,
        )
        return NewtonCache(
            jacobian, factors, jnp.where(other, scale, cache.scale), convergence, jacobian_time, age
        ), convergence

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: NewtonCache, convergence: Convergence
    ) -> StageSolution:
        """Iterate until converged, diverging, or out of patience."""
        displacement = _displacements(stage, start, prepared)
        k, last = self._iterate(stage, guess, start, convergence.rate, lambda k, residual: displacement(residual))
        return _solution(k, last, convergence)

    def _iterate(
        self,
        stage: Stage,
        guess: Vector,
        start: StepStart,
        rate: Array,
        displacement: Callable[[Vector, Vector], Vector],
    ) -> "tuple[Vector, Iterate]":
        """Add displacements, made of the increment and its residual, until that is of no more use."""
        size_of = self.weights.at(start.y0)
        noise = 10 * float(jnp.finfo(guess.dtype).eps) * size_of(jnp.abs(start.y0) + jnp.abs(stage.base))

        def improve(now: tuple[Vector, Iterate]) -> tuple[Vector, Iterate]:
            k, iterate = now
            delta = optimization_barrier(displacement(k, optimization_barrier(stage.increment(k) - k)))
            judged = iterate.judge(size_of(scaled(stage.diagonal, delta)), noise, self.kappa, start.max_steps)
            return select(_is_running(iterate), (k + delta, judged), now)

        first = (guess, Iterate.start(jnp.maximum(_power(rate, 0.8), LEAST_RATE)))
        first = match_varying(first, (stage, guess, start, rate, displacement(guess, guess)))
        return lax.while_loop(lambda now: any_element(_is_running(now[1])), improve, first)

    def update_cache(self, prepared: NewtonCache, convergence: Convergence) -> NewtonCache:
        """What the step used, and the last stage's convergence."""
        age = prepared.age + 1
        return NewtonCache(
            prepared.jacobian, prepared.factors, prepared.scale, convergence, prepared.jacobian_time, age
        )


class FullNewtonStages(NewtonStages):
    """The same for steps that nobody can make again shorter: where it fails, a new Jacobian for every displacement."""

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: NewtonCache, convergence: Convergence
    ) -> StageSolution:
        """Simplified iteration, and full Newton iteration for lanes where it fails."""
        quick = super().solve(stage, guess, start, prepared, convergence)
        failed = jnp.logical_not(is_successful(quick.result))

        def displacement(k: Vector, residual: Vector) -> Vector:
            scale = stage.diagonal * stage.step_size
            system = LinearSystem.at(start.algebra, start.field, stage.t, stage.state(k), scale)
            return solve(start.algebra, system, residual)

        def slow() -> StageSolution:
            k, last = self._iterate(stage, guess, start, jnp.ones_like(convergence.rate), displacement)
            return select(failed, _solution(k, last, convergence), quick)

        return lax.cond(any_element(failed), slow, lambda: quick)


class Iterate(NamedTuple):
    """An iteration after some steps: the last displacement's size, the rate of convergence, and how it stands."""

    size: Array
    rate: Array
    steps: Array
    status: Array

    @classmethod
    def start(cls, rate: Array) -> "Iterate":
        """Before the first step; an earlier iteration converged at this rate, 1 if there is none."""
        zero = jnp.zeros((), jnp.int32)
        return cls(jnp.ones_like(rate), rate, zero, zero + RUNNING)

    def judge(self, size: Array, noise: Array, kappa: RealScalar, max_steps: int | None) -> "Iterate":
        """After a displacement of some size; what is smaller than `noise` is rounding."""
        first = self.steps == 0
        rate = jnp.where(first, self.rate, size / self.size)
        shrinks = rate < 1
        remaining = jnp.where(shrinks, rate / jnp.where(shrinks, 1 - rate, 1.0), jnp.inf) * size
        converged = (remaining <= kappa) | (size <= noise)
        diverged = (~first & ~shrinks) | ~jnp.isfinite(size)
        too_slow = jnp.asarray(False)
        if max_steps is not None:
            left = max_steps - 1 - self.steps
            too_slow = (~first & ~(remaining * _power(rate, left) <= kappa)) | (left <= 0)
        status = jnp.where(diverged, DIVERGED, jnp.where(too_slow, TOO_SLOW, RUNNING))
        status = jnp.where(converged, CONVERGED, status)
        return Iterate(size, rate, self.steps + 1, status.astype(jnp.int32))


def _is_running(iterate: Iterate) -> Array:
    return jnp.asarray(iterate.status == RUNNING)


def _solution(k: Vector, last: Iterate, convergence: Convergence) -> StageSolution:
    """What an iteration has come to."""
    converged = last.status == CONVERGED
    failure = choose(last.status == DIVERGED, RESULTS.nonlinear_divergence, RESULTS.nonlinear_max_steps_reached)
    needs_jacobian = convergence.needs_jacobian | ~converged | ((last.steps > 1) & (last.rate > SLOW_RATE))
    rate = jnp.where(converged, last.rate, 1.0)
    return StageSolution(k, choose(converged, RESULTS.successful, failure), Convergence(rate, needs_jacobian))


def _displacements(stage: Stage, start: StepStart, prepared: NewtonCache) -> Callable[[Vector], Vector]:
    """What turns a residual into a displacement."""
    scale = stage.diagonal * stage.step_size
    system = LinearSystem(start.field, start.t0, prepared.jacobian, scale)
    if prepared.scale is None:
        factors = start.algebra.factorise(system) if start.algebra.jacobian.is_stored else None
        return lambda residual: solve(start.algebra, system, residual, factors)
    # A factorisation made for a step of another size errs by a factor between one and their ratio. (A lane that makes
    # no step has sizes of zero.)
    damping = jnp.where(scale == 0, 1.0, 2 * prepared.scale / (prepared.scale + scale)).astype(start.y0.dtype)
    return lambda residual: damping * solve(start.algebra, system, residual, prepared.factors)


def _power(rate: Array, exponent: Any) -> Array:
    """`rate ** exponent` in single precision, which is enough for a rate and takes half the time."""
    return (rate.astype(jnp.float32) ** jnp.asarray(exponent, jnp.float32)).astype(rate.dtype)
