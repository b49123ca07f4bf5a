"""Interpolation by the method itself: the step is repeated up to the requested time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...interpolation import AbstractLocalInterpolation
from ...jaxkit import Args, RealScalar, Y, with_derivatives_of
from ..base import AbstractSolver


class StepAgain(AbstractLocalInterpolation):
    """The step repeated from its start to the time of evaluation, for one-step methods without a checkpoint.

    As exact as the step itself, whatever its order. Each value costs a step, and the evaluations of `restore`.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends.
    solver, terms, args
        The method and the equation.
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y
    solver: AbstractSolver[Any]
    terms: PyTree[Any]
    args: Args

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The end of the step from `t0` to `t`; exactly `y1` at `t1`."""
        t0, t = jnp.asarray(self.t0), jnp.asarray(t, jnp.result_type(self.t0))
        state = self.solver.restore(self.terms, t0, self.y0, self.args, None)
        again = self.solver.attempt(self.terms, t0, t, self.y0, self.args, state, False)[0]
        # Made again, a step may be rounded differently; its derivatives are the same.
        return jax.tree.map(lambda y, y1: with_derivatives_of(jnp.where(t == self.t1, y1, y), y), again, self.y1)


class StepsAgain(eqx.Module):
    """A maker of the interpolations over the steps of an equation, which repeat the steps.

    Parameters
    ----------
    solver, terms, args
        The method and the equation.
    """

    solver: AbstractSolver[Any]
    terms: PyTree[Any]
    args: Args

    def __call__(self, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y) -> StepAgain:
        """The interpolation over a step."""
        return StepAgain(t0=t0, t1=t1, y0=y0, y1=y1, solver=self.solver, terms=self.terms, args=self.args)
