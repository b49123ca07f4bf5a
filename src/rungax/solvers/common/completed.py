"""A step with all that its interpolation needs, made of the attempt that a solve makes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y
from ...results import Result
from ...step import Step

type Made = tuple[Y, Y | None, DenseInfo, Any, Result]
"""What `AbstractSolver.step` returns."""


def completed(attempt: Callable[..., Any], complete: Callable[[Any, Step], DenseInfo]) -> Callable[..., Made]:
    """The method `step` of a class of solvers, from two other methods in the body of that class.

    It calls these and not the methods by which a subclass replaces them: a subclass with a `step` of its own, which may
    call this one, has another `dense_info`.

    Parameters
    ----------
    attempt
        The method `attempt`.
    complete
        A method that gives the complete `dense_info` for the record of an attempt, mostly `densify`.
    """

    def step(
        self: Any,
        terms: PyTree[Any],
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: Any,
        made_jump: BoolScalar,
    ) -> Made:
        """One step: the attempt, and for its `dense_info` the evaluations that dense output inside it takes."""
        y1, y_error, dense_info, after, result = attempt(self, terms, t0, t1, y0, args, solver_state, made_jump)
        made = Step(
            terms=terms,
            args=args,
            drivers=(),
            t0=jnp.asarray(t0),
            t1=jnp.asarray(t1),
            y0=y0,
            solver_state0=solver_state,
            made_jump=made_jump,
            y1=y1,
            y_error=y_error,
            dense_info=dense_info,
            solver_state=after,
            result=result,
        )
        return y1, y_error, complete(self, made), after, result

    return step
