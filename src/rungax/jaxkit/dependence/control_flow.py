"""The relations of calls, branches and loops, from those of the programs inside them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .relation import Relation, TooManyPairs, stacked, union
from .value import INDEPENDENT, Value

type Values = Sequence[Value]
type Run = Callable[[Any, Values, Values], list[Value]]
"""The values of a jaxpr, for those of its constants and its arguments."""


_MOST_PASSES = 50
"""Number of passes through the body of a loop after which the search is given up, because each takes its time."""


def _called(run: Run, equation: Any, operands: Values) -> list[Value]:
    """The values of the program that is called."""
    params = equation.params
    inner = next(params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in params)
    return _of_closed(run, inner, operands)


def _branches(run: Run, equation: Any, operands: Values) -> list[Value]:
    """The values of all branches; the index has no derivative."""
    found = [_of_closed(run, branch, operands[1:]) for branch in equation.params["branches"]]
    return [_together(*values) for values in zip(*found, strict=True)]


def _while_loop(run: Run, equation: Any, operands: Values) -> list[Value]:
    """The values after any number of iterations; the condition has no derivative."""
    params = equation.params
    start = params["cond_nconsts"]
    end = start + params["body_nconsts"]
    constants, first = operands[start:end], operands[end:]
    return _closure(lambda carry: _of_closed(run, params["body_jaxpr"], [*constants, *carry]), first)


def _scan(run: Run, equation: Any, operands: Values) -> list[Value]:
    """The carry after any number of iterations, and what each iteration returns beside it.

    An output of an iteration depends on the inputs of the same iteration, and on all on which a carry may depend.
    """
    body, length = equation.params["jaxpr"], equation.params["length"]
    num_constants, num_carry, _ = _numbers_of_operands(equation)
    constants, others = operands[:num_constants], operands[num_constants:]
    first, scanned = others[:num_carry], others[num_carry:]
    of_any = [_of_any_iteration(x, length) for x in scanned]
    carry = _closure(lambda carry: _of_closed(run, body, [*constants, *carry, *of_any])[:num_carry], first)
    unknown = [INDEPENDENT] * len(scanned)
    shared = _of_closed(run, body, [*[_unknown(x) for x in constants], *carry, *unknown])[num_carry:]
    own = _of_own_iteration(run, equation, scanned)
    outputs = zip(shared, own, equation.outvars[num_carry:], strict=True)
    return [*carry, *(_together(_repeated(x, variable), y) for x, y, variable in outputs)]


CONTROL_FLOW: dict[str, Callable[[Run, Any, Values], list[Value]]] = {
    **dict.fromkeys(
        (
            "jit",
            "pjit",
            "closed_call",
            "core_call",
            "remat",
            "remat2",
            "checkpoint",
            "custom_jvp_call",
            "custom_vjp_call",
        ),
        _called,
    ),
    "cond": _branches,
    "while": _while_loop,
    "scan": _scan,
}
"""The rules, by the names of the primitives."""


def _numbers_of_operands(equation: Any) -> tuple[int, int, int]:
    """The numbers of a scan's constants, of the entries of its carry, and of its inputs that have an iteration each.

    They are counted by numbers of axes, because versions of JAX differ in where they write them.
    """
    body = equation.params["jaxpr"]
    body = getattr(body, "jaxpr", body)
    num_more_axes = lambda outside, inside: sum(x.aval.ndim > y.aval.ndim for x, y in zip(outside, inside, strict=True))
    num_scanned = num_more_axes(equation.invars, body.invars)
    num_carry = len(equation.outvars) - num_more_axes(equation.outvars, body.outvars)
    return len(equation.invars) - num_carry - num_scanned, num_carry, num_scanned


def _of_closed(run: Run, closed: Any, arguments: Values) -> list[Value]:
    """The values of a program inside another, which may hold constants."""
    constants = [Value.known(x) for x in getattr(closed, "consts", ())]
    return run(getattr(closed, "jaxpr", closed), constants, arguments)


def _unknown(value: Value) -> Value:
    return Value(value.relation)


def _together(*values: Value) -> Value:
    """A value that may be any of several."""
    return Value(union([x.relation for x in values if x.relation is not None]))


def _closure(body: Callable[[Values], Values], first: Values) -> list[Value]:
    """The carry of a loop after any number of iterations: relations that one more iteration does not change."""
    carry = [_unknown(x) for x in first]
    for _ in range(_MOST_PASSES):
        after = [_together(x, y) for x, y in zip(carry, body(carry), strict=True)]
        if all(_num_pairs(x) == _num_pairs(y) for x, y in zip(carry, after, strict=True)):
            return after
        carry = after
    raise TooManyPairs


def _num_pairs(value: Value) -> int:
    return 0 if value.relation is None else value.relation.keys.size


def _of_any_iteration(value: Value, length: int) -> Value:
    """The input of any iteration of a scan, from those of all."""
    relation = value.relation
    if relation is None or length == 0:
        return INDEPENDENT
    size = relation.num_rows // length
    return Value(relation.grouped(np.tile(np.arange(size), length), size))


def _repeated(value: Value, variable: Any) -> Value:
    """The outputs of all iterations of a scan, from one that holds for each."""
    relation, size = value.relation, int(np.prod(variable.aval.shape))
    if relation is None or relation.num_rows == 0:
        return INDEPENDENT
    return Value(relation.at(np.tile(np.arange(relation.num_rows), size // relation.num_rows)))


def _of_own_iteration(run: Run, equation: Any, scanned: Values) -> list[Value]:
    """The outputs of all iterations as far as they depend on the inputs of their own iteration."""
    length, body = equation.params["length"], equation.params["jaxpr"]
    num_constants, num_carry, _ = _numbers_of_operands(equation)
    sizes = [0 if x.relation is None else x.relation.num_rows // max(length, 1) for x in scanned]
    whole = stacked([x.relation for x in scanned], [size * length for size in sizes])
    outputs = equation.outvars[num_carry:]
    if whole is None:
        return [INDEPENDENT] * len(outputs)
    starts = np.cumsum([0, *sizes])
    local = [
        Value(Relation.identity(size, int(starts[-1]), int(start), whole.most)) if size > 0 else INDEPENDENT
        for size, start in zip(sizes, starts, strict=False)
    ]
    found = _of_closed(run, body, [*[INDEPENDENT] * (num_constants + num_carry), *local])[num_carry:]
    # The number, in the stack of all inputs, of each input of the first iteration, and its distance to the next one.
    first = np.concatenate([start * length + np.arange(size) for start, size in zip(starts, sizes, strict=False)])
    distance = np.repeat(sizes, sizes)
    return [_lifted(x, whole, first, distance, variable, length) for x, variable in zip(found, outputs, strict=True)]


def _lifted(
    value: Value, whole: Relation, first: np.ndarray, distance: np.ndarray, variable: Any, length: int
) -> Value:
    """The outputs of all iterations, from the relation of one to its own inputs."""
    if value.relation is None:
        return INDEPENDENT
    rows, columns = value.relation.pairs
    iterations = np.arange(length)[:, None]
    size = value.relation.num_rows
    sources = first[columns] + distance[columns] * iterations
    return Value(whole.mapped(int(np.prod(variable.aval.shape)), rows + size * iterations, sources))
