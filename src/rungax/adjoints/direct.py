"""Derivatives by letting JAX differentiate the accepted steps, one after another."""

from collections.abc import Sequence

import jax

from ..jaxkit import Captured, InvalidValueError, nan_derivative_where, with_derivatives_of, without_derivatives
from ..plan import Plan
from ..saving import TapeSize
from ..step import Outcome, State
from .error_control import AbstractErrorControllingAdjoint
from .operands import Restore, Solve, differentiated_as
from .replay import Replay
from .stretches import Stretches
from .taped_solve import TapedResult, missing_values, play_all_bounded, rebuild_outcome, run_with_tape


class DirectAdjoint(AbstractErrorControllingAdjoint):
    """Derivatives by differentiating the operations of the accepted steps directly, in every mode and to any order.

    Use it for derivatives of third and higher order, or to check another adjoint. First derivatives are faster with
    `RecursiveCheckpointAdjoint`, which also takes less memory: here reverse mode stores everything that every step
    computes.

    Parameters
    ----------
    error_control, num_tangents
        The errors that determine the size of a step, those of the `"solution"` or also those of its `"tangents"`, and
        the number of tangents; see `RecursiveCheckpointAdjoint`.

    Raises
    ------
    ValueError
        In a solve with `max_steps=None`.

    Differentiability
    -----------------
    That of `RecursiveCheckpointAdjoint`, without a limit on the order; needs `max_steps`. As everywhere in JAX, a
    cotangent of zero times an infinite derivative of the vector field is NaN.

    Cost
    ----
    Two solves and their derivative. Reverse mode's memory grows with `max_steps` times everything that a step computes.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.DirectAdjoint()
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y,
    ...         rungax.Euler(),
    ...         0.0,
    ...         1.0,
    ...         0.5,
    ...         1.0,
    ...         rate,
    ...         adjoint=adjoint,
    ...         max_steps=2,
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.50
    """

    error_control: str = "solution"
    num_tangents: int = 2

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with the derivatives of its accepted steps in scans of bounded length."""

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            solve = restore(leaves)
            return rebuild_outcome(solve, solve.captured.within(_played)(solve))

        if plan.max_steps is None:
            raise InvalidValueError(
                "`DirectAdjoint` differentiates a loop of known length.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`, or use `RecursiveCheckpointAdjoint`, whose first derivatives do without."
            )
        plan, state = self.with_error_control(plan, state)
        return differentiated_as(replayed, Solve(plan, state))


def _played(solve: Solve) -> TapedResult:
    """The result of the taped solve, made again in operations that JAX differentiates."""
    plan, state = solve.plan, solve.state
    size = TapeSize.of(plan, 2)  # only the times are of use
    result = run_with_tape(without_derivatives(solve), size)
    replay = Replay(plan, result.tape, result.saved_parts, Captured.none())
    stretches = Stretches(Solve(plan, state), size, result.tape, result.end)
    start = plan.start(state.y, state.solver_state, state.user_state)
    end, values = play_all_bounded(stretches, replay, start)
    outputs = jax.tree.map(with_derivatives_of, (result.end, result.values), (end, values))
    missing = missing_values(plan, result, outputs)
    end, values = jax.tree.map(lambda x, where: nan_derivative_where(where, x, x), outputs, missing)
    return TapedResult(end, values, result.tape, result.saved, result.outcome)
