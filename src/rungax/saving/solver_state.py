"""The solver state that a solve returns, from which another solve continues."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, IntScalar, constant_where, nan_derivative_where, with_derivatives_of
from ..plan import AbstractRecorder, Plan
from ..step import SolverState, Start, State, Step

SOLVER_STATE = "solver_state"
"""The name of the recorder."""


class SolverStateRecorder(AbstractRecorder):
    """The recorder of the final solver state.

    Its derivatives are those of the state that the solver restores from the last checkpoint: the parts that a solver
    can recompute from time, state and checkpoint have these derivatives.
    """

    def init(self, plan: Plan, state: State) -> None:
        """No record: the loop carries the solver state."""

    def record(self, plan: Plan, record: None, step: Step, accepted: BoolScalar, index: IntScalar) -> None:
        """No record: the loop carries the solver state."""

    def finish(self, plan: Plan, record: None, state: State) -> SolverState:
        """The final solver state."""
        return handed_out(state.solver_state, state)

    def savers(self) -> Mapping[str, AbstractRecorder]:
        """No savers: the final state and checkpoint are enough."""
        return {}

    def rebuild(self, plan: Plan, saved: Mapping[str, PyTree[Any]], state: State, end: Start) -> PyTree[Array]:
        """The final solver state with the derivatives of the restored one."""
        del saved
        plan, end, t, y = constant_where(state.lacks_end, (plan, end, state.t, state.y))
        restored = plan.solver.restore(plan.problem.terms, t, y, plan.problem.args, end.solver_checkpoint)
        return handed_out(jax.tree.map(with_derivatives_of, state.solver_state, restored), state)


def handed_out(solver_state: SolverState, state: State) -> SolverState:
    """The solver state, whose derivatives are NaN if the solve failed."""
    return nan_derivative_where(state.lacks_end, solver_state, state.y)
