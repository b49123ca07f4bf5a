"""States that fulfil algebraic equations: the search for them by a damped Newton iteration, and its failures.

Newton's method with the natural monotonicity test: a step is shortened until the next correction, computed with the
same matrix, is smaller than the last one. Unlike a test of residuals, as root finders of Optimistix make it, this does
not depend on the units of the equations, which in a system of different physical laws have nothing to do with each
other; and it uses the structure of the Jacobian.

References
----------
P. Deuflhard, Newton Methods for Nonlinear Problems (2004), 3.3: the algorithm NLEQ-ERR.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..jaxkit import (
    BoolScalar,
    RealScalar,
    Time,
    any_element,
    match_varying,
    select,
    with_derivatives_of,
    without_derivatives,
)
from ..results import RESULTS, Result, choose
from ..sparsity import random_direction
from .constraint_field import ConstraintField, system_of
from .jacobian import Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearSystem, solve
from .null_spaces import AbstractNullSpaces
from .stage import AbstractStageSolver, Stage, StageSolution, StepStart, solve_stage
from .tolerances import ErrorWeights

KAPPA = 0.03
"""The fraction of the tolerances to which algebraic equations are solved."""

MAX_ITERATIONS = 200
"""The number of iterations after which initial values count as inconsistent."""

SMALLEST_DAMPING = 1e-4
"""The part of a correction below which no shorter one is tried."""

NUM_WORST = 3
"""The number of equations that a message names."""

RUNNING, CONVERGED, FAILED = 0, 1, 2


def consistent(
    field: AbstractField,
    spaces: AbstractNullSpaces,
    algebra: AbstractLinearAlgebra,
    weights: ErrorWeights,
    t: Time,
    y: Vector,
) -> tuple[Vector, Result]:
    """The state with the differential part of `y` that fulfils the algebraic equations, and whether it was found.

    It is `y` itself, without an iteration, where the first correction is within the tolerance. It depends
    differentiably on the equations, on time, and on the differential part of `y`.
    """
    constraints = ConstraintField.at(field, spaces, t, y)
    one, zeros = jnp.ones((), y.real.dtype), jnp.zeros_like(y)
    stage = Stage(constraints, jnp.asarray(t), y, zeros, one, one.astype(jnp.result_type(t)))
    held = without_derivatives((constraints, jnp.asarray(t), y, stage.step_size))
    start = StepStart(held[0], algebra, *held[1:], diagonal=1.0, max_steps=MAX_ITERATIONS)
    solution = solve_stage(DampedNewton(weights), stage, zeros, start, None, None)
    # Also of the differential equations, whose slopes the iteration does not see.
    is_finite = jnp.all(jnp.isfinite(y)) & jnp.all(jnp.isfinite(field.slope(t, y)))
    moved = y + solution.displacement
    # An entry that does not move stays as it is, also a negative zero.
    found = with_derivatives_of(jnp.where(solution.displacement == 0, y, moved), moved)
    return found, choose(is_finite, solution.result, RESULTS.nonfinite)


def is_consistent(
    field: AbstractField,
    spaces: AbstractNullSpaces,
    algebra: AbstractLinearAlgebra,
    weights: ErrorWeights,
    t: Time,
    y: Vector,
) -> BoolScalar:
    """True if a correction of Newton's method is within the tolerance."""
    constraints = ConstraintField.at(field, spaces, t, y)
    correction = solve(algebra, system_of(constraints, algebra, t, y), constraints.slope(t, y))
    return weights.at(y)(correction) <= 1


class _Iteration(NamedTuple):
    """The progress: the displacement, the part of corrections that is taken, their number, and the status."""

    displacement: Vector
    damping: Array
    steps: Array
    status: Array


class DampedNewton(AbstractStageSolver):
    """Newton's method with step control for the equation of a `ConstraintField`; nothing is carried on.

    Parameters
    ----------
    weights
        The norm of a correction, relative to the tolerance.
    """

    weights: ErrorWeights

    def empty_cache(self, start: StepStart) -> None:
        """No cache."""

    def outdated(self, cache: None) -> None:
        """No cache."""

    def is_outdated(self, cache: None, t0: Time) -> bool:
        """False: there is no cache."""
        del cache, t0
        return False

    def prepare(self, start: StepStart, cache: None) -> tuple[None, None]:
        """Nothing."""
        del start, cache
        return None, None

    def update_cache(self, prepared: None, convergence: None) -> None:
        """No cache."""

    def solve(self, stage: Stage, guess: Vector, start: StepStart, prepared: None, convergence: None) -> StageSolution:
        """Iterate until a correction is small, cannot be shortened any more, or there have been too many."""
        size_of = self.weights.at(stage.y0)
        rounding = 10 * float(jnp.finfo(guess.dtype).eps) * size_of(jnp.abs(stage.y0))

        def improve(now: _Iteration) -> _Iteration:
            return select(now.status == RUNNING, self._improved(stage, start, now, rounding), now)

        one, zero = jnp.ones((), guess.real.dtype), jnp.zeros((), jnp.int32)
        first = match_varying(_Iteration(guess, one, zero, zero + RUNNING), (stage, guess, start))
        last = lax.while_loop(lambda now: any_element(now.status == RUNNING), improve, first)
        result = choose(last.status == CONVERGED, RESULTS.successful, RESULTS.inconsistent_initial_values)
        # Where there is none, the state stays as it was given.
        return StageSolution(jnp.where(last.status == CONVERGED, last.displacement, guess), result, convergence)

    def _improved(self, stage: Stage, start: StepStart, now: _Iteration, rounding: Array) -> _Iteration:
        """The progress after one more correction, or the part of it that passes the test."""
        size_of = self.weights.at(stage.y0)
        scale = jnp.ones((), stage.y0.real.dtype)  # the field has no driver
        system = LinearSystem.at(start.algebra, start.field, stage.t, stage.state(now.displacement), scale)
        factors = start.algebra.factorise(system) if start.algebra.has_factors else None
        correction = solve(start.algebra, system, stage.residual(now.displacement), factors)
        size = size_of(correction)

        def simplified(damping: Array) -> tuple[Array, Array]:
            """The size of the next correction with the same matrix, and its distance from what a line would give."""
            part = damping.astype(correction.dtype)
            following = solve(start.algebra, system, stage.residual(now.displacement + part * correction), factors)
            return size_of(following), size_of(following - (1 - part) * correction)

        def shorter(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            damping, _ = carry
            following, bend = simplified(damping)
            passes = following <= (1 - damping / 4) * size
            predicted = damping**2 * size / (2 * jnp.where(bend > 0, bend, 1.0))
            less = jnp.where(jnp.isfinite(predicted), jnp.minimum(predicted, damping / 2), damping / 2)
            return jnp.where(passes, damping, jnp.maximum(less, damping / 10)), passes

        is_small = (size <= KAPPA) | (size <= rounding)
        goes_on = lambda carry: ~carry[1] & (carry[0] >= SMALLEST_DAMPING) & ~is_small & jnp.isfinite(size)
        carry = match_varying((now.damping, jnp.asarray(False)), (stage, start, now))
        shortened = lambda carry: select(goes_on(carry), shorter(carry), carry)
        damping, passes = lax.while_loop(lambda carry: any_element(goes_on(carry)), shortened, carry)
        # A first correction that is within the tolerance is left out: the state is consistent.
        is_first = now.steps == 0
        part = jnp.where(is_small, jnp.where(is_first, 0.0, 1.0), damping).astype(correction.dtype)
        displacement = now.displacement + part * correction
        has_failed = ~is_small & (~passes | (now.steps + 1 >= start.max_steps))
        status = jnp.where(is_small, CONVERGED, jnp.where(has_failed, FAILED, RUNNING)).astype(jnp.int32)
        return _Iteration(displacement, jnp.minimum(4 * damping, 1.0), now.steps + 1, status)


def worst_equations(
    field: AbstractField, spaces: AbstractNullSpaces, t: RealScalar, y: Vector
) -> tuple[Int[Array, " worst"], Array]:
    """The numbers of the equations with the largest residuals, and these residuals, the largest first.

    Residuals are compared relative to a derivative of the equation in a random direction, of the size of the state.
    """
    sizes = jnp.abs(y)
    largest = jnp.max(sizes, initial=0.0)
    scale = jnp.where(largest > 0, largest, 1.0).astype(y.dtype)
    direction = jnp.asarray(random_direction(y.size)).astype(y.dtype) * scale
    slope = lambda y: spaces.left(field.slope(t, y))
    residuals, rates = (jnp.abs(x) for x in jax.jvp(slope, (y,), (direction,)))
    relative = jnp.where(residuals > 0, residuals / jnp.where(rates > 0, rates, 0.0), 0.0)
    rows = lax.top_k(jnp.nan_to_num(relative, nan=math.inf), min(NUM_WORST, y.size))[1]
    return rows, residuals[rows]
