"""The relation between the value and the argument of a linear function, from its jaxpr alone.

Each primitive has a rule that maps the relations of its operands to that of its value. No number is evaluated, except
indices, masks and matrices that are known when the program is traced. So a relation holds for all arguments. It may
have more pairs than necessary, never fewer: a primitive without a rule makes each entry of its value depend on every
entry of its operands.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from .control_flow import CONTROL_FLOW
from .relation import Relation, Rows, TooManyPairs
from .rules import RULES
from .value import INDEPENDENT, Value, everything

_DEEPEST = 100
"""The number of operations on known values, one after another, beyond which their results count as not known: they are
evaluated recursively."""


class Pairs(NamedTuple):
    """The entries of the value and those of the argument on which they depend, sorted by both."""

    outputs: Rows
    inputs: Rows


def dependence(function: Callable[..., Any], like: jax.ShapeDtypeStruct, *others: Any, most: int) -> Pairs | None:
    """The pairs of entries of a linear function's value and of its argument of which one may depend on the other.

    Parameters
    ----------
    function
        A function whose value is one array, which is linear in its first argument. It is traced once, and may hold
        traced values.
    like
        Shape and dtype of the first argument.
    *others
        The other arguments: pytrees of shapes and dtypes.
    most
        The number of pairs, of the value or of one inside the program, from which the search is given up.

    Returns
    -------
    Pairs or None
        The pairs; `None` if there are too many.
    """
    closed = jax.make_jaxpr(function)(like, *others)
    constants = [Value.known(x) for x in closed.consts]
    argument = Value(Relation.identity(like.size, like.size, 0, most))
    try:
        (value,) = run(closed.jaxpr, constants, [argument, *[INDEPENDENT] * len(jax.tree.leaves(others))])
    except TooManyPairs:
        return None
    return Pairs(*value.relation.pairs) if value.relation is not None else Pairs(np.zeros(0, int), np.zeros(0, int))


def run(jaxpr: Any, constants: Sequence[Value], arguments: Sequence[Value]) -> list[Value]:
    """The values of a jaxpr, for those of its constants and its arguments."""
    values: dict[Any, Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(variable: Any) -> Value:
        return Value.known(variable.val) if isinstance(variable, core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        values.update(zip(equation.outvars, _values(equation, operands), strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _values(equation: Any, operands: Sequence[Value]) -> list[Value]:
    """The values of one equation."""
    if any(_is_reference(variable) for variable in (*equation.invars, *equation.outvars)):
        # Other equations may change what a reference holds.
        raise TooManyPairs
    if all(operand.relation is None for operand in operands):
        return _independent(equation, operands)
    name = equation.primitive.name
    if name in CONTROL_FLOW:
        return CONTROL_FLOW[name](run, equation, operands)
    found = RULES.get(name, everything)(equation, operands)
    return [Value(relation) for relation in (found if isinstance(found, list) else [found])]


def _is_reference(variable: Any) -> bool:
    return hasattr(variable.aval, "inner_aval")


def _independent(equation: Any, operands: Sequence[Value]) -> list[Value]:
    """The values of an equation whose operands do not depend on the argument: evaluated if a rule asks for them."""
    depth = 1 + max((operand.depth for operand in operands), default=0)
    if equation.effects or depth > _DEEPEST or any(operand.evaluate is None for operand in operands):
        return [INDEPENDENT] * len(equation.outvars)

    @cache
    def evaluated() -> list[Any]:
        parameters = equation.primitive.get_bind_params(equation.params)
        with jax.ensure_compile_time_eval():
            arrays = [jax.numpy.asarray(operand.evaluate()) for operand in operands if operand.evaluate is not None]
            found = equation.primitive.bind(*arrays, **parameters)
        return list(found) if equation.primitive.multiple_results else [found]

    return [Value(None, lambda place=place: evaluated()[place], depth) for place in range(len(equation.outvars))]
