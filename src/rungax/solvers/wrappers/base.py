"""The protocol of a solver that is made of another one."""

from typing import Any

import equinox as eqx

from ..base import AbstractSolver


class AbstractWrappedSolver[SolverState](AbstractSolver[SolverState]):
    """A solver made of another one.

    Attributes
    ----------
    solver
        The other one.

    See Also
    --------
    HalfSolver : one of them.
    """

    solver: eqx.AbstractVar[AbstractSolver[Any]]
