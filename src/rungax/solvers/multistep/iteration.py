"""The equation of a multistep method's step: solved again with a new Jacobian where an old one has failed."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ...jaxkit import Time, any_element, match_varying, select
from ...nonlinear import AbstractStageSolver, Stage, StageSolution, StepStart, Vector
from ...results import is_successful


class RepeatedIfOutdated(AbstractStageSolver):
    """Another stage solver for the only equation of a step.

    An iteration that fails with a Jacobian from an earlier step is repeated at once with a new one. The convergence
    information is the cache of the other stage solver.

    Parameters
    ----------
    inner
        The other stage solver.
    """

    inner: AbstractStageSolver

    def empty_cache(self, start: StepStart) -> PyTree[Any]:
        """The cache of the other stage solver."""
        return self.inner.empty_cache(start)

    def outdated(self, cache: PyTree[Any]) -> PyTree[Any]:
        """The cache, marked so that the next step evaluates its Jacobian again."""
        return self.inner.outdated(cache)

    def is_outdated(self, cache: PyTree[Any], t0: Time) -> bool:
        """False: an iteration that fails has been repeated."""
        del cache, t0
        return False

    def prepare(self, start: StepStart, cache: PyTree[Any]) -> tuple[PyTree[Any], PyTree[Any]]:
        """The cache as it is, twice: what a step uses of it shows in the iteration."""
        del start
        return cache, cache

    def solve(
        self, stage: Stage, guess: Vector, start: StepStart, prepared: PyTree[Any], convergence: PyTree[Any]
    ) -> StageSolution:
        """The solution by the other stage solver, at the second attempt if need be."""
        del convergence

        def attempt(cache: PyTree[Any]) -> StageSolution:
            own, information = self.inner.prepare(start, cache)
            solution = self.inner.solve(stage, guess, start, own, information)
            cache = self.inner.update_cache(own, solution.convergence)
            return StageSolution(solution.displacement, solution.result, cache)

        first = attempt(prepared)
        failed = jnp.logical_not(is_successful(first.result))
        again = failed & self.inner.is_outdated(first.convergence, start.t0)
        like = (stage, start, prepared)
        return lax.cond(
            any_element(again),
            lambda: match_varying(select(again, attempt(first.convergence), first), like),
            lambda: match_varying(first, like),
        )

    def kept_factors(self, prepared: PyTree[Any], solution: StageSolution) -> PyTree[Any]:
        """The factors in the cache that the iteration left."""
        del prepared
        return self.inner.kept_factors(solution.convergence, solution)

    def update_cache(self, prepared: PyTree[Any], convergence: PyTree[Any]) -> PyTree[Any]:
        """The cache that the iteration left."""
        del prepared
        return convergence
