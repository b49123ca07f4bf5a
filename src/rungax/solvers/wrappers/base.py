"""The protocol of a solver that wraps another one."""

from typing import Any

import equinox as eqx

from ..base import AbstractSolver


class AbstractWrappedSolver[SolverState](AbstractSolver[SolverState]):
    """A solver that makes its steps from those of another solver.

    Attributes
    ----------
    solver
        The wrapped solver.

    See Also
    --------
    HalfSolver : an example.
    """

    solver: eqx.AbstractVar[AbstractSolver[Any]]
