"""The default adjoint: the solve leaves a tape, and every derivative replays it."""

from collections.abc import Sequence

import jax

from ..jaxkit import known, shown
from ..plan import Plan
from ..saving import TapeSize
from ..step import Outcome, State
from .error_control import AbstractErrorControllingAdjoint
from .operands import Restore, Solve, differentiated_as
from .reverse import reverse_from_checkpoints
from .taped_solve import rebuild_outcome, taped

DEFAULT_BUDGET = 16 * 2**20
"""The default limit of the bytes that the checkpoints on the tape of one solve take."""

DEFAULT_CHECKPOINTS = 1024
"""The default limit of the number of checkpoints on the tape of one solve.

Allocating the tape takes time, which `vmap` multiplies; most solves take fewer steps.
"""


class RecursiveCheckpointAdjoint(AbstractErrorControllingAdjoint):
    """Derivatives of the computed solution, in every mode and to any order: the default.

    The solve leaves a tape of its accepted steps. Forward mode replays it forwards, reverse mode backwards, with one
    product with a Jacobian for each step between the times that the solve chose; rejected attempts cost nothing, and
    neither the step size control nor the saving is differentiated. `jvp`, `vjp`, `jacfwd`, `jacrev`, `hessian` and
    their combinations work, inside `jit`, `vmap` and `shard_map`, with respect to the initial state, `args`, parameters
    inside the terms, `t0`, `t1` and `SaveAt(ts=...)`.

    Parameters
    ----------
    checkpoints
        The largest number of checkpoints (states) on the tape. If a solve makes more steps, the tape holds every k-th
        state, with k doubled as needed, and reverse mode repeats the steps in between: it takes up to half as long
        again, in the same memory. By default 1024, or fewer if 16 MiB hold no more; never more than `max_steps`.
    budget
        The bytes that the checkpoints may take, for each solve of a `vmap`, instead of their number. It has no effect
        where `checkpoints` is given.
    error_control
        The errors that determine the size of a step: those of the `"solution"`, or also those of its `"tangents"`. For
        example, the steps of a solution at an equilibrium are too long for its derivatives, which are then wrong at any
        tolerance. With `"tangents"`, random tangents of the solution (through `y0`, `args` and the values that the
        terms hold, the same in every solve) are carried with it, whether anything is differentiated or not, and the
        error that a step adds to each is kept below `rtol` times the tangent's size. It has no effect with constant
        steps.
    num_tangents
        The number of tangents, by default two. Every second one goes through the parameters alone.

    Raises
    ------
    ValueError
        If `checkpoints` is less than two, or a single state is larger than `budget`; with `error_control="tangents"`,
        if the equation has noise, or the controller has no relative tolerance.

    Differentiability
    -----------------
    First derivatives need no bound on the number of steps; second ones need `max_steps`. In a solve that failed, the
    values saved before the failure have their derivatives; those of values that were not reached are NaN, and a
    cotangent of zero contributes nothing to a gradient. The ends of steps between `t0` and `t1` are rescaled when those
    change.

    Cost
    ----
    Reverse mode: the solve, and for each accepted step one evaluation of the step and one of its vector–Jacobian
    product, together 2 to 4 times the solve. Memory: `checkpoints` states, and one number for each of `max_steps`, but
    no more than 2²⁰. With a larger `max_steps`, or none, there is room for the times of 2¹⁷ steps, and a derivative of
    a longer solve repeats its steps, a few times each. With `error_control="tangents"` an attempt costs one more
    Jacobian–vector product for each tangent.

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
    ...         lambda t, y, rate: -rate * y,
    ...         rungax.Euler(),
    ...         0.0,
    ...         1.0,
    ...         0.1,
    ...         1.0,
    ...         rate,
    ...         adjoint=adjoint,
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.39
    """

    checkpoints: int | None = None
    budget: int | None = None
    error_control: str = "solution"
    num_tangents: int = 2

    def __check_init__(self) -> None:
        where = "`RecursiveCheckpointAdjoint(checkpoints=...)`"
        if self.checkpoints is not None and known(self.checkpoints, where, "a Python integer") < 2:
            raise ValueError(
                f"{where} is the largest number of states on the tape.\n"
                f"Expected: at least 2\nFound:    {shown(self.checkpoints)}\n"
                "Leave it out to let the tape fill its budget."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with derivatives from its tape."""
        plan, state = self.with_error_control(plan, state)
        size = TapeSize.of(plan, self._slots(plan, state))

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            return rebuild_outcome(restore(leaves), taped(restore, leaves, size, reverse_from_checkpoints))

        return differentiated_as(replayed, Solve(plan, state))

    def _slots(self, plan: Plan, state: State) -> int:
        """The largest number of checkpoints."""
        size = sum(
            x.size * x.dtype.itemsize
            for x in jax.tree.leaves(plan.start(state.y, state.solver_state, state.user_state))
        )
        if self.checkpoints is not None:
            return self.checkpoints
        if self.budget is None:
            return min(DEFAULT_BUDGET // max(size, 1), DEFAULT_CHECKPOINTS)
        if self.budget < 2 * size:
            raise ValueError(
                "`RecursiveCheckpointAdjoint(budget=...)` must have room for two states.\n"
                f"Expected: at least {2 * size} bytes\nFound:    {self.budget}\nIncrease it, or leave it out."
            )
        return self.budget // max(size, 1)
