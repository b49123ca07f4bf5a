r"""The equation of an implicit stage, and its derivative.

The unknown of a stage is its displacement $z = Y - y_n$, the distance of its state $Y$ from the start of the step:

$$M (z - r) = \gamma F(t, y_n + z), \qquad F = f \cdot h, \qquad r = \sum_{j<i} a_{ij} K_j,$$

where $M$ is the mass matrix, $K_j$ is the increment of an earlier stage, $h$ times the derivative of the state there,
and $r$ is known. The unknown is not the increment, because an algebraic equation, a zero row of $M$, determines the
state and not its derivative: that row of the stage's equation is the algebraic equation itself. The increment of the
stage, $K = (z - r) / \gamma$, is recovered from the solution: an evaluation of the field at the stage's state would
multiply the error that the iteration leaves by the stiffness.

The solution is differentiated by the implicit function theorem, whatever solves the equation, so that no iteration is
ever differentiated.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, RealScalar, Time, without_derivatives
from ..results import Result
from .jacobian import Vector
from .linear import AbstractField, AbstractLinearAlgebra, LinearSystem, solve_tangent
from .refinement import refinement_pays, solve_tangent_near


class Stage(eqx.Module):
    r"""The equation of one stage.

    Parameters
    ----------
    field
        The vector field over the step.
    t
        Time of the stage.
    y0
        The state $y_n$ at the start of the step.
    known
        The contribution $r$ of earlier stages to the displacement.
    diagonal
        The diagonal coefficient $\gamma$, which is not zero.
    step_size
        Length of the step.
    """

    field: AbstractField
    t: Time
    y0: Vector
    known: Vector
    diagonal: RealScalar
    step_size: Time

    def state(self, displacement: Vector) -> Vector:
        """The state of the stage."""
        return self.y0 + displacement

    def residual(self, displacement: Vector) -> Vector:
        """The right-hand side of the stage's equation minus its left-hand side; zero at the solution."""
        return self.field.residual(self.t, self.state(displacement), self.diagonal, self.known, displacement)

    def increment(self, displacement: Vector) -> Vector:
        """The increment of the stage, without an evaluation of the field; `displacement` is the solution."""
        change = displacement - self.known
        return change / jnp.asarray(self.diagonal).astype(change.dtype)

    def rate(self, displacement: Vector) -> Vector:
        """The derivative of the state at the stage; zero in a step of length zero."""
        size = jnp.where(self.step_size == 0, 1.0, self.step_size)
        return self.increment(displacement) / size.astype(displacement.dtype)


class StageSolution(eqx.Module):
    """The solution of a stage's equation.

    Parameters
    ----------
    displacement
        The displacement of the stage's state from the start of the step.
    result
        Successful, or the reason why the equation was not solved.
    convergence
        Convergence information for the next stage.
    """

    displacement: Vector
    result: Result
    convergence: PyTree[Any]


class AbstractStageSolver(eqx.Module):
    """A method for the equations of a step's stages.

    The *cache* is carried from step to step, for example a Jacobian and its factorisation. It speeds up the iteration
    and never changes the solution beyond the tolerance. The *convergence information* is carried from stage to stage.
    """

    @abc.abstractmethod
    def empty_cache(self, start: "StepStart") -> PyTree[Any]:
        """The cache before the first step, with the shapes and dtypes of every later one."""

    @abc.abstractmethod
    def outdated(self, cache: PyTree[Any]) -> PyTree[Any]:
        """The cache, marked so that the next step evaluates its Jacobian again."""

    @abc.abstractmethod
    def is_outdated(self, cache: PyTree[Any], t0: Time) -> BoolScalar:
        """True if a step from `t0` with this cache evaluates its Jacobian again."""

    @abc.abstractmethod
    def prepare(self, start: "StepStart", cache: PyTree[Any]) -> tuple[PyTree[Any], PyTree[Any]]:
        """The data that all stages of a step use, and the convergence information for the first stage.

        Parameters
        ----------
        start
            The start of the step.
        cache
            The cache that `update_cache` returned after the last attempt, or the empty one.
        """

    @abc.abstractmethod
    def solve(
        self, stage: Stage, guess: Vector, start: "StepStart", prepared: PyTree[Any], convergence: PyTree[Any]
    ) -> StageSolution:
        """The solution of one stage's equation, by iteration from `guess`.

        Parameters
        ----------
        stage
            The equation.
        guess
            A displacement near the solution.
        start
            The start of the step.
        prepared
            The data that `prepare` returned.
        convergence
            The convergence information of the stage before.
        """

    def iteration(self, *args: Any) -> Callable[..., StageSolution]:
        """`solve` as a pytree, for arguments like `args`: what a user's function in it has captured must be leaves."""
        del args
        return self.solve

    def kept_factors(self, prepared: PyTree[Any], solution: StageSolution) -> PyTree[Any]:
        """The factors of the last matrix of the iteration; `None` if there are none.

        Parameters
        ----------
        prepared
            The data that `prepare` returned.
        solution
            What `solve` returned.
        """
        del prepared, solution

    @abc.abstractmethod
    def update_cache(self, prepared: PyTree[Any], convergence: PyTree[Any]) -> PyTree[Any]:
        """The cache for the next attempt, from the data that the stages used and the last convergence information."""


class StepStart(eqx.Module):
    """The start of a step, as its stage equations use it.

    Parameters
    ----------
    field
        The vector field over the step, without derivatives.
    algebra
        The storage of the Jacobian and the linear solver.
    t0, y0
        Time and state at the start.
    step_size
        Length of the step.
    diagonal
        The diagonal coefficient that all implicit stages share, or `None` if they differ.
    max_steps
        Maximum number of iterations for one stage.
    rate
        An approximation of the derivative of the state, for mass matrices that depend on the state; `None` for others.
    """

    field: AbstractField
    algebra: AbstractLinearAlgebra
    t0: Time
    y0: Vector
    step_size: Time
    diagonal: float | None = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    rate: Vector | None = None

    def jacobian(self) -> PyTree[Array]:
        """The array that the linear algebra stores for the Jacobian at the start."""
        return self.field.jacobian(self.algebra, self.t0, self.y0, self.rate)


def solve_stage(
    solver: AbstractStageSolver,
    stage: Stage,
    guess: Vector,
    start: StepStart,
    prepared: PyTree[Any],
    convergence: PyTree[Any],
) -> StageSolution:
    """The solution of a stage's equation; it depends differentiably on all parts of `stage` and on nothing else."""
    given = without_derivatives((guess, start, prepared, convergence))
    methods = without_derivatives((solver.iteration(stage, *given), solver.kept_factors))
    return _solve(stage, (methods, given))


@eqx.filter_custom_jvp
def _solve(stage: Stage, static: Any) -> StageSolution:
    (iteration, _), given = static
    return iteration(stage, *given)


@_solve.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    r"""From $R(p, z) = \gamma F - M (z - r) = 0$, where $p$ holds all other values: $-R_z\,\dot z = R_p\,\dot p$."""
    stage, static = primals
    (_, kept_factors), (_, start, prepared, _) = static
    solution = _solve(stage, static)
    displacement, algebra = solution.displacement, start.algebra
    residual_tangent = eqx.filter_jvp(lambda stage: stage.residual(displacement), (stage,), (tangents[0],))[1]
    no_tangents = jax.tree.map(lambda x: None, solution)
    if residual_tangent is None:  # the equation does not depend on what is differentiated
        return solution, no_tangents
    # Not the user's Jacobian: the iteration converges with an approximate one, the derivative would be wrong.
    stored = stage.field.exact_jacobian(algebra, stage.t, stage.state(displacement), stage.rate(displacement))
    system = LinearSystem(stage.field, stage.t, stored, stage.diagonal * stage.step_size)
    factors = kept_factors(prepared, solution) if refinement_pays(algebra.solver) else None
    if factors is None:
        tangent = solve_tangent(algebra, system, residual_tangent)
    else:
        tangent = solve_tangent_near(algebra, system, residual_tangent, factors)
    return solution, eqx.tree_at(lambda s: s.displacement, no_tangents, tangent, is_leaf=lambda x: x is None)
