"""The solver state that a solve hands out, from which another solve goes on."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, IntScalar, finite_or_one, nan_derivative_where, select, with_derivatives_of
from ..plan import AbstractRecorder, Plan
from ..step import SolverState, Start, State, Step

SOLVER_STATE = "solver_state"
"""The name of the recorder."""


class SolverStateRecorder(AbstractRecorder):
    """The recorder of the final solver state.

    Its derivatives are those of the state that the solver restores from the last checkpoint: whatever of it a solver
    can make again from time, state and checkpoint follows these.
    """

    def init(self, plan: Plan, state: State) -> None:
        """No record: the loop carries the solver state."""

    def record(self, plan: Plan, record: None, step: Step, accepted: BoolScalar, index: IntScalar) -> None:
        """No record: the loop carries the solver state."""

    def finish(self, plan: Plan, record: None, state: State) -> SolverState:
        """The final solver state."""
        return _finished(state.solver_state, state)

    def savers(self) -> Mapping[str, AbstractRecorder]:
        """No savers: the final state and checkpoint are enough."""
        return {}

    def rebuild(self, plan: Plan, saved: Mapping[str, PyTree[Any]], state: State, end: Start) -> PyTree[Array]:
        """The final solver state with the derivatives of the restored one."""
        del saved
        problem = plan.problem
        # The state of a failed solve may not be finite, and zero times the slope there be NaN.
        t, y = select(state.lacks_end, (problem.t0, finite_or_one(problem.y0)), (state.t, state.y))
        restored = plan.solver.restore(problem.terms, t, y, problem.args, end.solver_checkpoint)
        return _finished(jax.tree.map(with_derivatives_of, state.solver_state, restored), state)


def _finished(solver_state: SolverState, state: State) -> SolverState:
    """The solver state, whose derivatives are NaN if the solve failed."""
    return nan_derivative_where(state.lacks_end, solver_state, state.y)
