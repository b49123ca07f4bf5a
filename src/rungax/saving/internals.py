"""What a solve can say of its own difficulty, for training fields that are easy to solve."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..jaxkit import BoolScalar, IntScalar, RealScalar
from ..step import AbstractRecorder, Plan, State, Step
from .tape import NEVER, StepsSaver, internals_of


class SolverInternals(eqx.Module):
    r"""Sums over the kept steps that measure how hard a solve was, with derivatives.

    Added to a training loss they make a neural differential equation cheaper to solve.

    Attributes
    ----------
    error_estimate
        $\sum_j |h_j|\, \lVert \mathrm{err}_j \rVert_2$, the local error estimates times the step sizes.
    stiffness_estimate
        $\sum_j \lVert f(Y_s) - f(Y_{s-1}) \rVert_2 / \lVert Y_s - Y_{s-1} \rVert_2$, over the last two stages.

    Raises
    ------
    ValueError
        In a solve with `SaveAt(internals=True)`, if the solver has no error estimate or sees no stiffness, as explicit
        Runge–Kutta methods with an embedded estimate do; or if `max_steps=None`.

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
    >>> solution = rungax.diffeqsolve(lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, saveat=saveat)
    >>> print(f"{solution.internals.stiffness_estimate:.0f}")
    10
    """

    error_estimate: RealScalar
    stiffness_estimate: RealScalar


class InternalsRecorder(AbstractRecorder):
    """Sums the error and stiffness estimates of the kept steps."""

    def init(self, plan: Plan, state: State) -> SolverInternals:
        """Nothing yet."""
        return SolverInternals(jnp.zeros_like(state.t), jnp.zeros_like(state.t))

    def record(
        self, plan: Plan, record: SolverInternals, step: Step, kept: BoolScalar, index: IntScalar
    ) -> SolverInternals:
        """With one more step, where kept."""
        del index
        parts = SolverInternals(*internals_of(plan, step))
        return jax.tree.map(lambda total, x: total + jnp.where(kept, x, 0.0), record, parts)

    def finish(self, plan: Plan, record: SolverInternals, state: State) -> SolverInternals:
        """The sums."""
        return record

    def savers(self) -> tuple[AbstractRecorder, ...]:
        """One for every step."""
        return (StepsSaver(1, "internals"),)

    def rebuild(self, plan: Plan, parts: tuple[Any, ...], state: State) -> SolverInternals:
        """The sums again."""
        (saved_parts,) = parts
        used = saved_parts.index != NEVER
        return SolverInternals(*(jnp.sum(jnp.where(used, x, 0.0)) for x in saved_parts.value))
