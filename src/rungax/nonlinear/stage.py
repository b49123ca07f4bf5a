r"""The equation of an implicit stage, and its derivative.

With increments as unknowns a stage of a diagonally implicit method is

$$k = F(t, b + \gamma k), \qquad F = f \cdot h,$$

where $b$ collects the earlier stages. Whoever solves it, its solution is differentiated by the implicit function
theorem, so that no iteration is ever differentiated.
"""

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Time, scaled, without_derivatives
from ..results import Result
from .jacobian import Vector
from .linear import AbstractField, LinearAlgebra, LinearSystem, solve_tangent


class Stage(eqx.Module):
    r"""The equation of one stage.

    Parameters
    ----------
    field
        The vector field over the step.
    t
        Time of the stage.
    base
        What its state is without its own contribution.
    diagonal
        The coefficient $\gamma$ of its own contribution.
    step_size
        Length of the step.
    """

    field: AbstractField
    t: Time
    base: Vector
    diagonal: RealScalar
    step_size: Time

    def state(self, k: Vector) -> Vector:
        """The state at the stage."""
        return self.base + scaled(self.diagonal, k)

    def increment(self, k: Vector) -> Vector:
        """What `k` must be equal to."""
        return self.field.increment(self.t, self.state(k))


class StageSolution(eqx.Module):
    """The increment that solves a stage's equation, whether it really does, and what the next stage may learn of it."""

    k: Vector
    result: Result
    convergence: PyTree[Any]


class AbstractStageSolver(eqx.Module):
    """How the equations of a step's stages are solved.

    What serves later steps as well, its *cache*, never changes what the solution is.
    """

    @abc.abstractmethod
    def empty_cache(self, start: "StepStart") -> PyTree[Any]:
        """What is known before the first step: nothing."""

    @abc.abstractmethod
    def outdated(self, cache: PyTree[Any]) -> PyTree[Any]:
        """The cache, marked so that the next step evaluates its Jacobian again."""

    @abc.abstractmethod
    def prepare(self, start: "StepStart", cache: PyTree[Any]) -> tuple[PyTree[Any], PyTree[Any]]:
        """What the stages of a step have in common, and the convergence that the first of them starts with."""

    @abc.abstractmethod
    def solve(
        self, stage: Stage, guess: Vector, start: "StepStart", prepared: PyTree[Any], convergence: PyTree[Any]
    ) -> StageSolution:
        """Solve one stage's equation, starting from `guess`."""

    @abc.abstractmethod
    def update_cache(self, prepared: PyTree[Any], convergence: PyTree[Any]) -> PyTree[Any]:
        """The cache for the next attempt."""


class StepStart(eqx.Module):
    """Where a step starts, as its stage equations see it.

    Parameters
    ----------
    field
        The vector field over the step; no derivative flows through it here.
    algebra
        How linear systems are solved.
    t0, y0
        The start.
    step_size
        Length of the step.
    diagonal
        The coefficient that all implicit stages share, or `None` if they differ.
    max_steps
        How often a stage may iterate.
    """

    field: AbstractField
    algebra: LinearAlgebra
    t0: Time
    y0: Vector
    step_size: Time
    diagonal: float | None = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


def solve_stage(
    solver: AbstractStageSolver,
    stage: Stage,
    guess: Vector,
    start: StepStart,
    prepared: PyTree[Any],
    convergence: PyTree[Any],
) -> StageSolution:
    """Solve a stage's equation; the solution moves with the field, the time and the earlier stages."""
    return _solve(stage, without_derivatives((solver, guess, start, prepared, convergence)))


@eqx.filter_custom_jvp
def _solve(stage: Stage, others: Any) -> StageSolution:
    solver, guess, start, prepared, convergence = others
    return solver.solve(stage, guess, start, prepared, convergence)


@_solve.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    r"""From $k = F(p, k)$: $(I - F_k)\,\dot k = F_p\,\dot p$."""
    stage, others = primals
    solution = _solve(stage, others)
    k, algebra = solution.k, others[2].algebra
    moved = eqx.filter_jvp(lambda stage: stage.increment(k), (stage,), (tangents[0],))[1]
    # Not the user's Jacobian: the iteration does with an approximate one, the derivative does not.
    kept = algebra.jacobian.evaluate(lambda y: stage.field.slope(stage.t, y), stage.state(k))
    system = LinearSystem(stage.field, stage.t, kept, stage.diagonal * stage.step_size)
    k_dot = solve_tangent(algebra, system, moved)
    still = jax.tree.map(lambda x: None, solution)
    return solution, eqx.tree_at(lambda s: s.k, still, k_dot, is_leaf=lambda x: x is None)
