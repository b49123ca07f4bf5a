"""Derivatives by letting JAX differentiate the kept steps, one after another."""

from collections.abc import Sequence

import jax

from ..jaxkit import without_derivatives
from ..step import Outcome, Plan, State
from .base import AbstractAdjoint
from .replay import Replay, play_bounded
from .taped import Kept, Restore, differentiated_as, nan_if_failed, rebuild, record, tape_size


class DirectAdjoint(AbstractAdjoint):
    """Derivatives by differentiating the operations of the kept steps directly, in every mode and to any order.

    Use it for derivatives of third and higher order, or to check another adjoint. First derivatives are faster with
    `RecursiveCheckpointAdjoint`, which also takes less memory: here reverse mode stores all that every step computes.

    Raises
    ------
    ValueError
        In a solve with `max_steps=None`.

    Differentiability
    -----------------
    As `RecursiveCheckpointAdjoint`, without a limit on the order; needs `max_steps`.

    Cost
    ----
    Two solves and their derivative. Reverse mode's memory grows with `max_steps` times all that a step computes.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.DirectAdjoint()
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y, rungax.Euler(), 0.0, 1.0, 0.5, 1.0, rate, adjoint=adjoint, max_steps=2
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.50
    """

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with the derivatives of its kept steps in loops of known length."""

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            plan, state = restore(leaves)
            return rebuild(plan, _played(plan, state))

        if plan.max_steps is None:
            raise ValueError(
                "`DirectAdjoint` differentiates a loop of known length.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`, or use `RecursiveCheckpointAdjoint`, whose first derivatives do without."
            )
        return differentiated_as(replayed, plan, state)


def _played(plan: Plan, state: State) -> Kept:
    """What the kept steps leave, made again in operations that JAX differentiates."""
    size = tape_size(plan, 2)  # only the times are of use
    kept = record(*without_derivatives((plan, state)), size)
    replay = Replay(plan, kept.tape, kept.saved_parts)
    end, values = play_bounded(replay, plan.start(state.y, state.solver_state), size.max_steps)
    end, values = nan_if_failed((end, values), kept.outcome.result)
    return Kept(end, values, kept.tape, kept.parts, kept.outcome)
