"""Values of a program: the entries on which they depend, and their numbers if these are known."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import core

from .relation import Relation, union


class Value(NamedTuple):
    """A value of a program.

    Parameters
    ----------
    relation
        The entries of the argument on which each entry depends; `None` if none depends on any.
    evaluate
        A function that returns the array of the numbers, if they are known when the program is traced.
    depth
        The number of operations, one after another, by which `evaluate` computes them.
    """

    relation: Relation | None
    evaluate: Callable[[], Any] | None = None
    depth: int = 0

    @classmethod
    def known(cls, x: Any) -> "Value":
        """The value of a constant; its numbers are known unless it is traced."""
        return cls(None, None if isinstance(x, core.Tracer) else lambda: x)

    def number(self) -> np.ndarray | None:
        """The numbers, if they are known."""
        return None if self.evaluate is None else np.asarray(self.evaluate())


INDEPENDENT = Value(None)
"""A value that does not depend on the argument, and whose numbers are not known."""


def everything(equation: Any, operands: Sequence[Value]) -> list[Relation | None]:
    """The relations of the values of an equation if each entry depends on all that an operand depends on."""
    relations = [x.relation.grouped(np.zeros(x.relation.num_rows, int), 1) for x in operands if x.relation is not None]
    one = union(relations)
    if one is None:
        return [None] * len(equation.outvars)
    return [one.at(np.zeros(variable.aval.shape, int)) for variable in equation.outvars]
