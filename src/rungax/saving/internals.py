"""Sums of a solve's own estimates of its difficulty, for training fields that are easy to solve."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from ..jaxkit import BoolScalar, FlatSpace, IntScalar, RealScalar, Time, Y, nan_derivative_where
from ..plan import AbstractRecorder, Plan
from ..results import is_okay
from ..step import Start, State, Step
from .savers import AbstractSaver, SavedParts, StepsSaver


class SolverInternals(eqx.Module):
    r"""Sums over the accepted steps that measure how hard a solve was, with derivatives.

    If one of them is added to a training loss, the trained neural differential equation is cheaper to solve.

    Attributes
    ----------
    error_estimate
        $\sum_j |h_j|\, \lVert \mathrm{err}_j \rVert_2$, the local error estimates times the step sizes.
    stiffness_estimate
        $\sum_j \lVert f(Y_s) - f(Y_{s-1}) \rVert_2 / \lVert Y_s - Y_{s-1} \rVert_2$, over the last two stages.

    Raises
    ------
    ValueError
        In a solve with `SaveAt(internals=True)`, if the solver does not estimate both its error and the stiffness, as
        explicit Runge–Kutta methods with an embedded error estimate do; or if `max_steps=None`.

    Differentiability
    -----------------
    With respect to everything that the solution depends on.

    Cost
    ----
    Two norms a step; no evaluation of the vector field.

    References
    ----------
    A. Pal, Y. Ma, V. Shah, C. Rackauckas, Opening the blackbox: accelerating neural differential equations by
    regularizing internal solver heuristics, ICML 2021, equations 9 and 11.

    See Also
    --------
    SaveAt : `SaveAt(internals=True)` asks for them, `Solution.internals` holds them.

    Examples
    --------
    >>> import rungax
    >>> saveat = rungax.SaveAt(t1=True, internals=True)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, saveat=saveat
    ... )
    >>> print(f"{solution.internals.stiffness_estimate:.0f}")
    10
    """

    error_estimate: RealScalar
    stiffness_estimate: RealScalar


class InternalsRecorder(AbstractRecorder):
    """The recorder of the sums of the accepted steps' error and stiffness estimates."""

    def init(self, plan: Plan, state: State) -> SolverInternals:
        """Sums of nothing."""
        return SolverInternals(jnp.zeros_like(state.t), jnp.zeros_like(state.t))

    def record(
        self, plan: Plan, record: SolverInternals, step: Step, accepted: BoolScalar, index: IntScalar
    ) -> SolverInternals:
        """The sums with one more step, if it is accepted."""
        del index
        parts = internals_of(plan, step, (step.t1, step.y1))
        return jax.tree.map(lambda total, x: total + jnp.where(accepted, x, 0.0), record, parts)

    def finish(self, plan: Plan, record: SolverInternals, state: State) -> SolverInternals:
        """The sums."""
        return _finished(record, state)

    def savers(self) -> Mapping[str, AbstractSaver]:
        """A saver of every step's estimates."""
        return {"steps": StepsSaver(internals_of)}

    def rebuild(self, plan: Plan, saved: Mapping[str, SavedParts], state: State, end: Start) -> SolverInternals:
        """The sums, from the saved steps."""
        del end
        steps = saved["steps"]
        return _finished(jax.tree.map(lambda x: jnp.sum(jnp.where(steps.used, x, 0.0)), steps.value), state)


def _finished(sums: SolverInternals, state: State) -> SolverInternals:
    """The sums, whose derivatives are NaN if the solve failed: a part of a sum would mislead."""
    return nan_derivative_where(jnp.logical_not(is_okay(state.result)), sums, state.y)


def internals_of(plan: Plan, step: Step, end: tuple[Time, Y]) -> SolverInternals:
    """The step's error estimate times its size, and its stiffness estimate."""
    del end
    stiffness = plan.solver.stiffness(step)
    if step.y_error is None or stiffness is None:
        raise ValueError(
            "`SaveAt(internals=True)` needs a solver that estimates its error and the stiffness.\n"
            "Expected: an explicit Runge–Kutta method with an embedded estimate\n"
            f"Found:    {type(plan.solver).__name__}\nUse `Tsit5`, for example."
        )
    size = jnp.abs(step.t1 - step.t0)
    error = jnp.asarray(optx.two_norm(FlatSpace(step.y_error).ravel(step.y_error))).astype(size.dtype)
    return SolverInternals(size * error, jnp.asarray(stiffness).astype(size.dtype))
