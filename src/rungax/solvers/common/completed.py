"""A step with all that its interpolation needs, from the attempt that a solve makes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from ...jaxkit import Args, BoolScalar, DenseInfo, RealScalar, Y
from ...results import Result
from ...step import Step


def completed_step[SolverState](
    attempt: Callable[..., tuple[Y, Y | None, DenseInfo, SolverState, Result]],
    complete: Callable[[Step], DenseInfo],
    terms: PyTree[Any],
    t0: RealScalar,
    t1: RealScalar,
    y0: Y,
    args: Args,
    solver_state: SolverState,
    made_jump: BoolScalar,
) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]:
    """An attempt with the complete `dense_info`: what `AbstractSolver.step` returns.

    Parameters
    ----------
    attempt
        The solver's attempt. It and `complete` are those of the class whose `step` this is: a subclass with a `step` of
        its own, which may call this one, has others.
    complete
        The complete `dense_info` as a function of the record of the attempt.
    terms, t0, t1, y0, args, solver_state, made_jump
        As for `AbstractSolver.step`.
    """
    y1, y_error, dense_info, after, result = attempt(terms, t0, t1, y0, args, solver_state, made_jump)
    step = Step(
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
    return y1, y_error, complete(step), after, result
