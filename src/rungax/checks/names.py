"""Names of solvers in messages."""

from typing import Any

from ..solvers import AbstractSolver, AbstractWrappedSolver


def name_of(solver: AbstractSolver[Any]) -> str:
    """The class of a solver, and of the solver that it wraps."""
    name = type(solver).__name__
    return f"{name}({name_of(solver.solver)})" if isinstance(solver, AbstractWrappedSolver) else name
