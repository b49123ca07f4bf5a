"""The solver state after a jump of the state or of the vector field."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ...jaxkit import Args, BoolScalar, RealScalar, Y, any_element, select
from ..base import AbstractSolver


def after_jump[SolverState](
    solver: AbstractSolver[SolverState],
    terms: PyTree[Any],
    t0: RealScalar,
    t1: RealScalar,
    y0: Y,
    args: Args,
    solver_state: SolverState,
    made_jump: BoolScalar,
) -> SolverState:
    """The state that `solver` starts a step with: its `restart` where `made_jump` holds, else `solver_state`.

    The arguments are those of `AbstractSolver.step`. Restarting costs something only in steps after a jump.
    """
    if made_jump is False or not jax.tree.leaves(solver_state):
        return solver_state

    def restarted() -> SolverState:
        fresh = solver.restart(terms, jnp.asarray(t0), jnp.asarray(t1), y0, args, solver_state)
        return select(made_jump, fresh, solver_state)

    return lax.cond(any_element(made_jump), restarted, lambda: solver_state)
