"""The times of stages; for explicit steps, the inputs of all stages and whether their loop is unrolled."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from ...jaxkit import Args, RealScalar, Y
from ...terms import AbstractTerm

MAX_UNROLLED_EQUATIONS = 28
"""Largest number of operations in the vector fields for which the stages are unrolled.

Unrolled stages run faster where the fields are small and compile slowly where they are large; a scan over the stages
holds each field once. The number is not a measured crossover: it lies between two benchmark fields, Pleiades (25,
faster unrolled) and an MLP of ten layers (29, faster in a scan).
"""


class StepInputs(NamedTuple):
    """The inputs that all stages of a step share.

    Parameters
    ----------
    terms
        The term, or the terms.
    t0, t1
        Ends of the step.
    y0
        The state at `t0`.
    args
        Arguments of the terms.
    control
        The increment of the term's driver over the step, or those of the terms' drivers.
    """

    terms: Any
    t0: RealScalar
    t1: RealScalar
    y0: Y
    args: Args
    control: Any

    def time(self, node: Any) -> RealScalar:
        """Time of the stage with a node."""
        return stage_time(self.t0, self.t1, node)


def stage_time(t0: RealScalar, t1: RealScalar, node: Any) -> Any:
    """The time `t0 + node * (t1 - t0)`, for one node or an array of them; exactly `t1` where it is 1.

    The vector field may jump just after `t1`, so a stage at the end of the step must not be a rounding later.
    """
    if isinstance(node, float) and node in (0.0, 1.0):
        return t1 if node else t0
    between = t0 + node * (t1 - t0)
    return between if isinstance(node, float) else jnp.where(node == 1, t1, between)


def are_unrolled(*terms: AbstractTerm[Any, Any]) -> bool:
    """True if the stages of a method that evaluates these terms are unrolled."""
    return sum(term.num_equations() for term in terms) <= MAX_UNROLLED_EQUATIONS
