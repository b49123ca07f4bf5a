"""Traced values that Python functions have captured, as operands of a derivative's rule.

A function may close over a traced value, wherever it hangs: on a solver, a path, a norm. A rule runs when the trace in
which the value was made is over, so it must not use the value itself. Tracing shows which values a program captured;
`Captured.within` replaces them, by identity, by the rule's operands.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import equinox as eqx
import jax
import jax.core

from .traced_function import TracedFunction, trace_once


class _Originals:
    """The captured values as the functions hold them, compared by identity."""

    def __init__(self, values: Sequence[Any]):
        self.values = tuple(values)


class Captured(eqx.Module):
    """The traced values that functions have captured, and the arrays that stand for them.

    Parameters
    ----------
    values
        The arrays that stand for the captured values.
    """

    values: list[Any]
    _originals: _Originals = eqx.field(static=True)

    @classmethod
    def by(cls, program: TracedFunction) -> Self:
        """The traced values that `program` has captured, each standing for itself."""
        found = [x for x in program.captured if isinstance(x, jax.core.Tracer)]
        return cls(found, _Originals(found))

    @classmethod
    def none(cls) -> Self:
        """No values."""
        return cls([], _Originals([]))

    def standing_in(self, values: Sequence[Any]) -> Self:
        """The same captured values, with other `values` that stand for them."""
        return type(self)(list(values), self._originals)

    def within[R](self, function: Callable[..., R]) -> Callable[..., R]:
        """`function`, computed with the values that stand for the captured ones; its arguments are positional."""
        if not self.values:
            return function

        def replaced(*args: Any) -> Any:
            arrays, others = eqx.partition(args, eqx.is_array)
            program = trace_once(lambda arrays: function(*eqx.combine(arrays, others)), arrays)
            return self.replaced_in(program)(arrays)

        return replaced

    def replaced_in(self, program: TracedFunction) -> TracedFunction:
        """`program` with the values that stand for the captured ones."""
        stand_ins = {id(x): value for x, value in zip(self._originals.values, self.values, strict=True)}
        captured = [stand_ins.get(id(x), x) for x in program.captured]
        return eqx.tree_at(lambda f: f.captured, program, captured)
