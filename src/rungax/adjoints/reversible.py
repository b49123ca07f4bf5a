r"""Derivatives by undoing the steps of the solve, without a tape of states.

Any one-step method, $y_{n+1} = y_n + \Psi_h(t_n, y_n)$, becomes one that can be undone exactly with a companion $z$ of
the solution:

$$y_{n+1} = \lambda y_n + (1 - \lambda) z_n + \Psi_h(t_n, z_n), \qquad z_{n+1} = z_n - \Psi_{-h}(t_{n+1}, y_{n+1}).$$
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..events import Event
from ..interpolation import AbstractLocalInterpolation, ThirdOrderHermitePolynomialInterpolation
from ..jaxkit import Args, BoolScalar, DenseInfo, IntScalar, RealScalar, Y, any_element, match_varying, select
from ..plan import Plan, Solver
from ..results import Result, first_failure
from ..saving import SaveAt, TapeSize
from ..step import Outcome, SolverState, Start, State, Step
from ..terms import Terms
from .base import AbstractAdjoint
from .operands import Restore, Solve, differentiated_as
from .reverse import Cotangents, ReverseReplay
from .taped_solve import rebuild_outcome, taped


class ReversibleAdjoint(AbstractAdjoint):
    r"""Derivatives of a solve that is made reversible, with memory for one state and the times of the steps.

    The solve itself changes: each step of the given solver becomes a step of the reversible method made of it
    (McCallum and Foster), of the same order, for twice the evaluations. Reverse mode then undoes the steps, so that the
    derivative is that of the solve as it was made, up to rounding.

    Use it where states are so large that no tape of them fits, and recomputing from few checkpoints is too slow.

    Parameters
    ----------
    coupling
        $\lambda$ in (0, 1]. Undoing a step multiplies rounding by $1/\lambda$, so that it grows like $\lambda^{-n}$
        over n steps; forwards, a smaller $\lambda$ is more stable. The default 0.99 is good for a thousand steps or so;
        take 0.999 for more.

    Raises
    ------
    ValueError
        If `coupling` is not in (0, 1], or the solution depends on more of the solver state than the solver can restore,
        as with multistep methods.

    Differentiability
    -----------------
    That of `RecursiveCheckpointAdjoint`, with its bound on second derivatives. Rounding grows in long solves as said
    above, and in solves that contract strongly, whose backward direction is unstable: use another adjoint there.

    Cost
    ----
    The solve: two steps of the solver for each. Reverse mode: four more, and the vector–Jacobian product of two.
    Memory: a few states, and one number for each of `max_steps`.

    References
    ----------
    S. McCallum, J. Foster, Efficient, accurate and stable gradients for neural ODEs, arXiv:2410.11648 (2024),
    equations 5 and 6.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.ReversibleAdjoint()
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, rate, adjoint=adjoint
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.grad(end)(1.0):.2f}")
    -0.37
    """

    coupling: RealScalar = 0.99

    def __check_init__(self) -> None:
        if isinstance(self.coupling, int | float) and not 0 < self.coupling <= 1:
            raise ValueError(
                "`ReversibleAdjoint(coupling=...)` weighs the state against its companion.\n"
                f"Expected: a number above 0 and at most 1\nFound:    {self.coupling}\nThe default is 0.99."
            )

    def check(self, saveat: SaveAt) -> None:
        """Raise a `ValueError` if the solver's own estimates are asked for: its steps are not those of the solve."""
        if saveat.internals:
            raise ValueError(
                "`ReversibleAdjoint` makes a method of its own, which has no stiffness estimate.\n"
                "Expected: SaveAt(internals=False)\nFound:    SaveAt(internals=True)\n"
                "Use `RecursiveCheckpointAdjoint` with `internals`."
            )

    def check_event(self, event: Event) -> None:
        """Raise a `NotImplementedError` if an event changes the state."""
        if any(effect is not None for effect in event.leaves_of("effect")):
            raise NotImplementedError(
                "`ReversibleAdjoint` cannot undo what the effect of an event did.\nExpected: effect=None\n"
                "Found:    an Event with an effect\nUse `RecursiveCheckpointAdjoint`, the default."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The reversible solve, with derivatives by going back."""
        if jax.tree.leaves(plan.solver.checkpoint_state(state.solver_state)):
            raise ValueError(
                "`ReversibleAdjoint` needs a solver whose step depends on nothing but the state.\n"
                f"Expected: a one-step method\nFound:    {type(plan.solver).__name__}, whose state holds more\n"
                "Use `RecursiveCheckpointAdjoint`."
            )
        plan = eqx.tree_at(lambda p: p.solver, plan, _ReversibleSolver(plan.solver, self.coupling))
        state = eqx.tree_at(lambda s: s.solver_state, state, state.y, is_leaf=lambda x: x is None)
        size = TapeSize.of(plan, 2)

        def replayed(restore: Restore, leaves: Sequence[jax.Array]) -> Outcome:
            return rebuild_outcome(restore(leaves), taped(restore, leaves, size, _undo_steps))

        return differentiated_as(replayed, Solve(plan, state))


class _ReversibleSolver(eqx.Module):
    """A one-step method made reversible; its solver state is the companion."""

    solver: Solver
    coupling: RealScalar

    def step(
        self,
        terms: Terms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: Y,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, Y, Result]:
        """One step of the reversible method; costs two of the given one."""
        del made_jump
        companion = solver_state
        increment, error, result = self._increment(terms, t0, t1, companion, args)
        y1 = jax.tree.map(self._mix, y0, companion, increment)
        decrement, _, back = self._increment(terms, t1, t0, y1, args)
        companion = jax.tree.map(jnp.subtract, companion, decrement)
        return y1, error, {}, companion, first_failure(result, back)

    def undo(self, terms: Terms, t0: RealScalar, t1: RealScalar, end: Start, args: Args) -> Start:
        """The start of the step from `t0` to `t1`, given the start of the step that follows it."""
        decrement = self._increment(terms, t1, t0, end.y, args)[0]
        companion = jax.tree.map(jnp.add, end.solver_checkpoint, decrement)
        increment = self._increment(terms, t0, t1, companion, args)[0]
        return Start(jax.tree.map(self._unmix, end.y, companion, increment), companion)

    def interpolation_for(self, terms: Terms, args: Args) -> Callable[..., AbstractLocalInterpolation]:
        """The cubic through both ends."""
        del terms, args
        return ThirdOrderHermitePolynomialInterpolation

    def stiffness(self, step: Step) -> None:
        """`None`: the given solver's stages are not stored."""
        del step

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The state before the attempt."""
        del after
        return before

    def improves_when_repeated(self, step: Step) -> None:
        """`None`: nothing of the given solver is carried from attempt to attempt."""
        del step

    def failure_at_start(
        self, terms: Terms, t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: Y
    ) -> Result:
        """The given solver's failure."""
        own = self.solver.restore(terms, t0, y0, args, None)
        return self.solver.failure_at_start(terms, t0, t1, y0, args, own)

    def checkpoint_state(self, solver_state: Y) -> Y:
        """The companion."""
        return solver_state

    def restore(self, terms: Terms, t0: RealScalar, y0: Y, args: Args, checkpoint: Y) -> Y:
        """The companion."""
        del terms, t0, y0, args
        return checkpoint

    def proposal(self, step: Step) -> None:
        """`None`: the reversible method has no order or step size of its own."""
        del step

    def densify(self, step: Step) -> DenseInfo:
        """The slopes at both ends; costs two evaluations."""
        control = step.terms.contr(step.t0, step.t1)
        ends = ((step.t0, step.y0), (step.t1, step.y1))
        k0, k1 = (step.terms.vf_prod(t, y, step.args, control) for t, y in ends)
        return {"y0": step.y0, "y1": step.y1, "k0": k0, "k1": k1}

    def _increment(
        self, terms: PyTree[Any], t0: RealScalar, t1: RealScalar, y: Y, args: Args
    ) -> tuple[Y, Y | None, Result]:
        solver_state = self.solver.restore(terms, t0, y, args, None)
        y1, error, _, _, result = self.solver.step(terms, t0, t1, y, args, solver_state, False)
        return jax.tree.map(jnp.subtract, y1, y), error, result

    def _mix(self, y: jax.Array, z: jax.Array, increment: jax.Array) -> jax.Array:
        weight = jnp.asarray(self.coupling).astype(y.dtype)
        return weight * y + (1 - weight) * z + increment

    def _unmix(self, y: jax.Array, z: jax.Array, increment: jax.Array) -> jax.Array:
        weight = jnp.asarray(self.coupling).astype(y.dtype)
        return (y - (1 - weight) * z - increment) / weight


def _undo_steps(reverse: ReverseReplay, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents:
    """The cotangents before all accepted steps, undone one after another."""
    del size
    replay = reverse.replay
    plan, tape = replay.plan, replay.tape
    solver = plan.solver
    assert isinstance(solver, _ReversibleSolver), "put in place by `integrate`"
    undo = replay.captured.within(solver.undo)

    def body(state: tuple[IntScalar, Start, Cotangents]) -> tuple[IntScalar, Start, Cotangents]:
        count, following, carry = state
        active = count > 0
        index = jnp.maximum(count - 1, 0)
        t0, t1 = tape.ends(index)
        start = select(active, undo(plan.problem.terms, t0, t1, following, plan.problem.args), following)
        return count - 1, start, reverse.step(index, start, carry, active)

    init = match_varying((tape.num_accepted, end, carry), (reverse, end, carry))
    return lax.while_loop(lambda state: any_element(state[0] > 0), body, init)[2]
