"""The default adjoint: the solve leaves a tape, and every derivative replays it."""

from collections.abc import Sequence

import jax

from ..step import Outcome, Plan, State
from .base import AbstractAdjoint
from .pullback import pull_back
from .sweeps import taped
from .taped import Restore, differentiated_as, rebuild, tape_size

DEFAULT_BUDGET = 16 * 2**20
"""Bytes that the states on the tape of one solve may take, if not told otherwise."""

DEFAULT_CHECKPOINTS = 1024
"""How many states the tape of one solve holds at most, if not told otherwise.

To allocate the tape takes time, which `vmap` multiplies; most solves take fewer steps.
"""


class RecursiveCheckpointAdjoint(AbstractAdjoint):
    """Derivatives of the solve as it was made, in every mode and to any order: the default.

    The solve leaves a tape of the steps it kept. Forward mode replays it forwards, reverse mode backwards, one
    Jacobian product a step on the grid of times that the solve chose; rejected attempts cost nothing, and neither the
    step size control nor the saving is differentiated. `jvp`, `vjp`, `jacfwd`, `jacrev`, `hessian` and their
    combinations work, inside `jit`, `vmap` and `shard_map`, with respect to the initial state, `args`, parameters
    inside the terms, `t0`, `t1` and `SaveAt(ts=...)`.

    Parameters
    ----------
    checkpoints
        How many states the tape may hold. Where a solve takes more steps, the tape keeps every k-th state, k doubling
        as needed, and reverse mode makes the steps in between again: it takes up to half as long again, memory stays.
        By default 1024, or fewer if 16 MiB hold no more; never more than `max_steps`.
    budget
        Bytes that the states on the tape may take, for each solve of a `vmap`, instead of their number. Without effect
        where `checkpoints` is given.

    Raises
    ------
    ValueError
        If `checkpoints` is less than two, or a single state is larger than `budget`.

    Differentiability
    -----------------
    First derivatives need no bound on the number of steps; second ones need `max_steps`. The derivatives of a solve
    that failed are NaN. Times between `t0` and `t1` move in proportion when those do.

    Cost
    ----
    Reverse mode: the solve, and for each kept step one evaluation of the step and one of its vector–Jacobian product,
    together 2 to 4 times the solve. Memory: `checkpoints` states, and one number for each of `max_steps`.

    References
    ----------
    A. Griewank, A. Walther, Algorithm 799: revolve: an implementation of checkpointing for the reverse or adjoint mode
    of computational differentiation, ACM Trans. Math. Softw. 26 (2000), 19–45, for checkpointing.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.RecursiveCheckpointAdjoint(checkpoints=8)
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y, rungax.Euler(), 0.0, 1.0, 0.1, 1.0, rate, adjoint=adjoint
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.39
    """

    checkpoints: int | None = None
    budget: int | None = None

    def __check_init__(self) -> None:
        if self.checkpoints is not None and self.checkpoints < 2:
            raise ValueError(
                "`RecursiveCheckpointAdjoint(checkpoints=...)` is how many states the tape may hold.\n"
                f"Expected: at least 2\nFound:    {self.checkpoints}\nLeave it out to let the tape fill its budget."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with derivatives from its tape."""
        size = tape_size(plan, self._slots(plan, state))

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            return rebuild(restore(leaves)[0], taped(restore, leaves, size, pull_back))

        return differentiated_as(replayed, plan, state)

    def _slots(self, plan: Plan, state: State) -> int:
        """How many starts the tape may hold."""
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(plan.start(state.y, state.solver_state)))
        if self.checkpoints is not None:
            return self.checkpoints
        if self.budget is None:
            return min(DEFAULT_BUDGET // max(size, 1), DEFAULT_CHECKPOINTS)
        if self.budget < 2 * size:
            raise ValueError(
                "`RecursiveCheckpointAdjoint(budget=...)` must have room for two states.\n"
                f"Expected: at least {2 * size} bytes\nFound:    {self.budget}\nGive it more."
            )
        return self.budget // max(size, 1)
