"""The relation of a primitive's value, from those of its operands.

A primitive that moves entries is applied to an array of the numbers of entries: its value then holds, for each entry,
the number of the one that is moved there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .contraction import contracted, convolved
from .relation import Relation, stacked, union
from .value import Value, everything

type Operands = Sequence[Value]
type Found = list[Relation | None] | Relation | None
"""The relation of a primitive's value, or those of several values."""


def _elementwise(equation: Any, operands: Operands) -> Found:
    """The relation of an elementwise operation; axes of length one count for all places along them."""
    return _of_places(equation.outvars[0], equation.invars, operands)


def _of_places(value: Any, variables: Sequence[Any], operands: Operands) -> Relation | None:
    """The relation of a value each of whose entries depends on the entries of operands at its place."""
    shape = _shape(value)
    pairs = zip(variables, operands, strict=True)
    return union([x.relation.at(np.broadcast_to(_numbers(v), shape)) for v, x in pairs if x.relation is not None])


def _each(equation: Any, operands: Operands) -> Found:
    """The relations of the operands, one for each value."""
    del equation
    return [x.relation for x in operands]


def _selected(equation: Any, operands: Operands) -> Found:
    """The relation of `select_n`: each entry is that of any case, or of one where the condition is known."""
    condition, *cases = operands
    which = condition.number()
    if which is None or which.shape != _shape(equation.outvars[0]):
        return _of_places(equation.outvars[0], equation.invars[1:], cases)
    size = which.size
    # Each case is a part of the stack.
    return _moved_of(equation.invars[1:], cases, which.astype(int).reshape(-1) * size + np.arange(size))


# ----------------------------------------------------------------------------------------------------- moves of entries


def _moves(move: Callable[[np.ndarray, Any], np.ndarray]) -> Callable[[Any, Operands], Found]:
    """The rule of a primitive that moves the entries of its first operand."""

    def rule(equation: Any, operands: Operands) -> Found:
        relation = operands[0].relation
        assert relation is not None, "the only operand"
        return relation.at(move(_numbers(equation.invars[0]), equation))

    return rule


def _padded(equation: Any, operands: Operands) -> Found:
    """The operand with copies of the padding between and around its entries."""
    numbers = _numbers(equation.invars[0])
    padded = np.full(_shape(equation.outvars[0]), numbers.size)
    into, taken = [], []
    for length, size, (low, _, between) in zip(
        numbers.shape, padded.shape, equation.params["padding_config"], strict=True
    ):
        places = low + (between + 1) * np.arange(length)
        is_inside = (places >= 0) & (places < size)
        into.append(places[is_inside])
        taken.append(np.flatnonzero(is_inside))
    padded[np.ix_(*into)] = numbers[np.ix_(*taken)]
    return _moved_of(equation.invars, operands, padded)


def _split(equation: Any, operands: Operands) -> Found:
    """The parts of the operand along an axis."""
    ends = np.cumsum(equation.params["sizes"])[:-1]
    return _parts(operands[0], np.split(_numbers(equation.invars[0]), ends, axis=equation.params["axis"]))


def _unstacked(equation: Any, operands: Operands) -> Found:
    """The parts of the operand at each place along an axis."""
    return _parts(operands[0], list(np.moveaxis(_numbers(equation.invars[0]), equation.params["axis"], 0)))


def _parts(operand: Value, numbers: Sequence[np.ndarray]) -> Found:
    assert operand.relation is not None, "the only operand"
    return [operand.relation.at(part) for part in numbers]


def _stacked(equation: Any, operands: Operands) -> Found:
    numbers = np.stack(_numbers_of_all(equation.invars), axis=equation.params["axis"])
    return _moved_of(equation.invars, operands, numbers)


def _concatenated(equation: Any, operands: Operands) -> Found:
    numbers = np.concatenate(_numbers_of_all(equation.invars), axis=equation.params["dimension"])
    return _moved_of(equation.invars, operands, numbers)


def _dynamic_slice(equation: Any, operands: Operands) -> Found:
    starts = _known_of(operands[1:])
    if starts is None:
        return everything(equation, operands[:1])
    sizes = equation.params["slice_sizes"]
    numbers = _numbers(equation.invars[0])
    starts = [int(np.clip(s, 0, n - k)) for s, n, k in zip(starts, numbers.shape, sizes, strict=True)]
    taken = numbers[tuple(slice(s, s + k) for s, k in zip(starts, sizes, strict=True))]
    return _moved_of(equation.invars[:1], operands[:1], taken)


def _dynamic_update_slice(equation: Any, operands: Operands) -> Found:
    starts = _known_of(operands[2:])
    if starts is None:
        return _scattered_anywhere(equation, operands[0], operands[1])
    numbers, update = _numbers_of_all(equation.invars[:2])
    sizes = zip(starts, numbers.shape, update.shape, strict=True)
    starts = [int(np.clip(s, 0, n - k)) for s, n, k in sizes]
    numbers = numbers.copy()
    numbers[tuple(slice(s, s + k) for s, k in zip(starts, update.shape, strict=True))] = update
    return _moved_of(equation.invars[:2], operands[:2], numbers)


def _gathered(equation: Any, operands: Operands) -> Found:
    indices = operands[1].number()
    if indices is None:
        return everything(equation, operands[:1])
    options = {name: equation.params[name] for name in ("dimension_numbers", "slice_sizes", "mode")}
    with jax.ensure_compile_time_eval():
        numbers = jnp.asarray(_numbers(equation.invars[0]), jnp.int32)
        found = np.asarray(lax.gather(numbers, jnp.asarray(indices), **options, fill_value=-1))
    return _moved_of(equation.invars[:1], operands[:1], found)


def _scattered(equation: Any, operands: Operands) -> Found:
    """The operand with the updates in place of some entries, or added to them."""
    operand, indices, updates = operands
    known = indices.number()
    if known is None:
        return _scattered_anywhere(equation, operand, updates)
    params = equation.params
    options = {name: params[name] for name in ("indices_are_sorted", "unique_indices", "mode")}
    numbers, of_updates = _numbers_of_all([equation.invars[0], equation.invars[2]])
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        where = jnp.asarray(known)
        if equation.primitive.name == "scatter":
            found = lax.scatter(
                jnp.asarray(numbers), where, jnp.asarray(of_updates), params["dimension_numbers"], **options
            )
            return _moved_of([equation.invars[0], equation.invars[2]], [operand, updates], np.asarray(found))
        # The transpose of adding gives each update the number of the entry to which it is added, zero for none.
        add = lambda x: lax.scatter_add(jnp.zeros(numbers.shape), where, x, params["dimension_numbers"], **options)
        transposed = jax.linear_transpose(add, jnp.zeros(of_updates.shape))
        targets = np.asarray(transposed(jnp.asarray(numbers + 1.0))[0]).astype(int) - 1
    relations = [] if operand.relation is None else [operand.relation]
    if updates.relation is not None:
        is_used = targets.reshape(-1) >= 0
        rows, sources = targets.reshape(-1)[is_used], np.flatnonzero(is_used)
        relations.append(updates.relation.mapped(numbers.size, rows, sources))
    return union(relations)


def _scattered_anywhere(equation: Any, operand: Value, updates: Value) -> Found:
    """The operand, where each entry may be changed by every update."""
    relations = [] if operand.relation is None else [operand.relation]
    if updates.relation is not None:
        relations += [x for x in everything(equation, [updates]) if x is not None]
    return union(relations)


# --------------------------------------------------------------------------------------------------------- along axes


def _reduced(equation: Any, operands: Operands) -> Found:
    """Each entry depends on those along the axes that are summed."""
    groups, count = _groups(equation.invars[0], equation.params["axes"])
    relation = operands[0].relation
    assert relation is not None, "the only operand"
    return relation.grouped(groups, count)


def _accumulated(equation: Any, operands: Operands) -> Found:
    """Each entry depends on those along the axis, also on later ones."""
    groups, count = _groups(equation.invars[0], (equation.params["axis"],))
    relation = operands[0].relation
    assert relation is not None, "the only operand"
    return relation.grouped(groups, count).at(groups)


def _groups(variable: Any, axes: Sequence[int]) -> tuple[np.ndarray, int]:
    """For each entry of a value the number of its place along the other axes, and how many such places there are."""
    shape = _shape(variable)
    others = [1 if axis in axes else length for axis, length in enumerate(shape)]
    count = int(np.prod(others))
    return np.broadcast_to(np.arange(count).reshape(others), shape), count


# ------------------------------------------------------------------------------------------------------------- helpers


def _known_of(values: Operands) -> list[np.ndarray] | None:
    """The numbers of values, if all of them are known."""
    numbers = [number for value in values if (number := value.number()) is not None]
    return numbers if len(numbers) == len(values) else None


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _size(variable: Any) -> int:
    return int(np.prod(_shape(variable)))


def _numbers(variable: Any) -> np.ndarray:
    """The numbers of the entries of a value, in its shape."""
    return np.arange(_size(variable)).reshape(_shape(variable))


def _numbers_of_all(variables: Sequence[Any]) -> list[np.ndarray]:
    """The numbers of the entries of several values, counted through all of them."""
    starts = np.cumsum([0, *map(_size, variables)])
    return [_numbers(variable) + start for variable, start in zip(variables, starts, strict=False)]


def _moved_of(variables: Sequence[Any], operands: Operands, numbers: np.ndarray) -> Relation | None:
    """The relation of a value whose entries are those of several operands, by the numbers through all of them."""
    relation = stacked([x.relation for x in operands], list(map(_size, variables)))
    return None if relation is None else relation.at(numbers)


def _broadcast(numbers: np.ndarray, equation: Any) -> np.ndarray:
    shape, dimensions = _shape(equation.outvars[0]), equation.params["broadcast_dimensions"]
    lengths = [1] * len(shape)
    for axis, length in zip(dimensions, numbers.shape, strict=True):
        lengths[axis] = length
    return np.broadcast_to(numbers.reshape(lengths), shape)


def _strided(numbers: np.ndarray, equation: Any) -> np.ndarray:
    starts, limits, strides = (equation.params[name] for name in ("start_indices", "limit_indices", "strides"))
    return numbers[tuple(map(slice, starts, limits, strides or [1] * len(starts)))]


_reshaped = _moves(lambda numbers, equation: numbers)

_ELEMENTWISE = (
    "add add_any sub mul div neg max min rem pow integer_pow exp exp2 log log1p expm1 tanh sin cos tan asin acos atan"
    " sinh cosh asinh acosh atanh atan2 sqrt rsqrt cbrt logistic erf erfc erf_inv lgamma digamma polygamma abs square"
    " sign floor ceil round convert_element_type real imag complex conj clamp copy copy_p reduce_precision"
    " stop_gradient nextafter log2 one_minus_square name sharding_constraint layout_constraint reshard"
)

RULES: dict[str, Callable[[Any, Operands], Found]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(("optimization_barrier", "device_put", "pvary"), _each),
    "select_n": _selected,
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshaped),
    "transpose": _moves(lambda numbers, equation: numbers.transpose(equation.params["permutation"])),
    "tile": _moves(lambda numbers, equation: np.tile(numbers, equation.params["reps"])),
    "rev": _moves(lambda numbers, equation: np.flip(numbers, equation.params["dimensions"])),
    "slice": _moves(_strided),
    "broadcast_in_dim": _moves(_broadcast),
    "concatenate": _concatenated,
    "stack": _stacked,
    "unstack": _unstacked,
    "split": _split,
    "pad": _padded,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gathered,
    **dict.fromkeys(("scatter", "scatter-add", "scatter-sub", "scatter-mul"), _scattered),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _reduced),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _accumulated),
    "dot_general": contracted,
    "conv_general_dilated": convolved,
}
"""The rules, by the names of the primitives."""
