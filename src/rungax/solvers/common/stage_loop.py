"""The loop over the stages of an explicit step: its inputs, and whether it is unrolled."""

from typing import Any, NamedTuple

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
        """Time of the stage with a node, which is a number or an array; exactly `t1` for the number 1."""
        if isinstance(node, float) and node == 1:
            return self.t1
        return self.t0 + node * (self.t1 - self.t0)


def are_unrolled(*terms: AbstractTerm[Any, Any]) -> bool:
    """True if the stages of a method that evaluates these terms are unrolled."""
    return sum(term.num_equations() for term in terms) <= MAX_UNROLLED_EQUATIONS
