r"""The error of the derivatives of a solve, estimated from the error estimates of its steps.

Adding $s$ times each step's error estimate $e$ to its end, $y_{n+1} = \Psi(y_n) + s\, e(y_n)$, changes the saved values
by $s$ times the sum of all estimates, each carried on to the saved time. The derivative of that sum in a direction is
the error of the derivative in that direction. It contains the errors of the steps for the linearised equation, and the
effect of the solution's error on it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..interpolation.base import AbstractLocalInterpolation, fraction
from ..jaxkit import Args, BoolScalar, Captured, DenseInfo, RealScalar, Time, Y, add, scaled, without_derivatives
from ..plan import Plan, Solver
from ..results import Result
from ..saving import TapeSize
from ..step import Outcome, Proposal, SolverState, State, Step
from ..terms import Terms
from .operands import Solve
from .replay import Replay
from .stretches import Stretches
from .tangents import Inputs, derivatives_along, first_start
from .taped_solve import TapedResult, play_all, rebuild_outcome, run_with_tape


class WithError(NamedTuple):
    """Derivatives of the outputs of a solve, and their estimated errors, stacked by direction."""

    derivative: PyTree[Array]
    error: PyTree[Array]


def derivatives_with_errors(plan: Plan, state: State, directions: Inputs) -> tuple[Outcome, WithError]:
    """The outcome of a solve, and the derivatives of its outputs in the `directions` with their estimated errors."""
    share = jnp.zeros_like(state.t)
    plan = eqx.tree_at(lambda plan: plan.solver, plan, _ErrorAddingSolver(plan.solver, share))
    solve = without_derivatives(Solve(plan, state))
    result = run_with_tape(solve, TapeSize.of(plan, 2))  # of the tape only the times are of use

    def outputs_and_errors(inputs: Inputs) -> tuple[PyTree[Array], PyTree[Array]]:
        outputs = lambda share: eqx.filter(_replayed(solve, result, inputs, share).outputs, eqx.is_inexact_array)
        return jax.jvp(outputs, (share,), (jnp.ones_like(share),))

    _, tangents = derivatives_along(outputs_and_errors, Inputs.of(plan, state.y), directions)
    return rebuild_outcome(solve, result), WithError(*tangents)


def _replayed(solve: Solve, result: TapedResult, inputs: Inputs, share: RealScalar) -> Outcome:
    """The outcome of the accepted steps made again from other inputs, with a share of the error estimates added."""
    plan, state = inputs.in_plan(solve.plan), solve.state
    plan = eqx.tree_at(lambda plan: (plan.problem.y0, plan.solver.share), plan, (inputs.y, share))
    replay = Replay(plan, result.tape, result.saved_parts, Captured.none())
    stretches = Stretches(solve, TapeSize.of(plan, 2), result.tape, result.end)
    end, values = play_all(stretches, replay, first_start(inputs, solve.plan, state))
    return rebuild_outcome(Solve(plan, state), TapedResult(end, values, result.tape, result.saved, result.outcome))


class _ErrorAddingSolver(eqx.Module):
    """A solver whose steps end in the state of the given solver's, plus a share of its error estimate.

    The dense output takes up the error in proportion to the time since the start of the step.
    """

    solver: Solver
    share: RealScalar

    @property
    def evaluates_past_steps(self) -> bool:
        """True if the given solver's steps evaluate the vector field past their end."""
        return self.solver.evaluates_past_steps

    def interpolation_for(self, terms: Terms, args: Args) -> "_Interpolations":
        """The maker of the interpolations over steps."""
        return _Interpolations(self.solver.interpolation_for(terms, args))

    def attempt(
        self,
        terms: Terms,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        args: Args,
        solver_state: SolverState,
        made_jump: BoolScalar,
    ) -> tuple[Y, Y | None, DenseInfo, SolverState, Result]:
        """The given solver's step, with the share of the error added to its end."""
        y1, y_error, dense_info, *others = self.solver.attempt(terms, t0, t1, y0, args, solver_state, made_jump)
        if y_error is None:
            raise ValueError(
                "`derivative_error` needs a solver that estimates the error of its steps.\n"
                f"Expected: a solver such as Tsit5 or Kvaerno5\nFound:    {type(self.solver).__name__}\n"
                "Use one, or wrap this one in `HalfSolver`."
            )
        # The error of a step whose stages were not solved is infinite; the step is rejected.
        added = jax.tree.map(lambda e: scaled(self.share, jnp.where(jnp.isfinite(e), e, 0)), y_error)
        return add(y1, added), y_error, {"of_solver": dense_info, "added": added}, *others

    def densify(self, step: Step) -> DenseInfo:
        """The given solver's dense information, and the error that the step has added."""
        return {"of_solver": self.solver.densify(_of_solver(step)), "added": step.dense_info["added"]}

    def after_rejection(self, before: SolverState, after: SolverState) -> SolverState:
        """The given solver's state after a rejected attempt."""
        return self.solver.after_rejection(before, after)

    def improves_when_repeated(self, step: Step) -> BoolScalar | None:
        """The given solver's answer."""
        return self.solver.improves_when_repeated(_of_solver(step))

    def failure_at_start(
        self, terms: Terms, t0: RealScalar, t1: RealScalar, y0: Y, args: Args, solver_state: SolverState
    ) -> Result:
        """The given solver's failure."""
        return self.solver.failure_at_start(terms, t0, t1, y0, args, solver_state)

    def checkpoint_state(self, solver_state: SolverState) -> PyTree[Array]:
        """The given solver's checkpoint."""
        return self.solver.checkpoint_state(solver_state)

    def restore(self, terms: Terms, t0: RealScalar, y0: Y, args: Args, checkpoint: PyTree[Array]) -> SolverState:
        """The given solver's state, computed again."""
        return self.solver.restore(terms, t0, y0, args, checkpoint)

    def choices(self, solver_state: SolverState) -> PyTree[Array]:
        """The given solver's choices."""
        return self.solver.choices(solver_state)

    def with_choices(self, solver_state: SolverState, choices: PyTree[Array]) -> SolverState:
        """The given solver's state with its choices."""
        return self.solver.with_choices(solver_state, choices)

    def init(self, terms: Terms, t0: Time, t1: Time, y0: Y, args: Args) -> SolverState:
        """The given solver's first state."""
        return self.solver.init(terms, t0, t1, y0, args)

    def stiffness(self, step: Step) -> RealScalar | None:
        """The given solver's estimate of the stiffness."""
        return self.solver.stiffness(_of_solver(step))

    def proposal(self, step: Step) -> Proposal | None:
        """The given solver's proposal."""
        return self.solver.proposal(_of_solver(step))


def _of_solver(step: Step) -> Step:
    """The step as the given solver has made it."""
    y1 = jax.tree.map(jnp.subtract, step.y1, step.dense_info["added"])
    return replace(step, y1=y1, dense_info=step.dense_info["of_solver"])


class _Interpolations(eqx.Module):
    """A maker of interpolations over steps of an `_ErrorAddingSolver`.

    Parameters
    ----------
    of_solver
        The maker of the given solver's interpolations.
    """

    of_solver: Callable[..., AbstractLocalInterpolation]

    def __call__(self, *, t0: RealScalar, t1: RealScalar, of_solver: DenseInfo, added: Y) -> "_Interpolation":
        """The interpolation over a step."""
        return _Interpolation(t0, t1, self.of_solver(t0=t0, t1=t1, **of_solver), added)


class _Interpolation(AbstractLocalInterpolation):
    """The interpolation over a step of an `_ErrorAddingSolver`."""

    t0: RealScalar
    t1: RealScalar
    of_solver: AbstractLocalInterpolation
    added: Y

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the given solver's interpolation, and a part of the added error."""
        part = fraction(t, self.t0, self.t1)
        return jax.tree.map(lambda y, added: y + scaled(part, added), self.of_solver.evaluate(t), self.added)
