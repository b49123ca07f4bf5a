"""The relations of products that sum over axes: of matrices, and convolutions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .relation import Relation, TooManyPairs, union
from .value import Value, everything


def contracted(equation: Any, operands: Sequence[Value]) -> Relation | None:
    """The relation of `dot_general`: of a known operand the entries that are zero do not count."""
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    shapes = [variable.aval.shape for variable in equation.invars]
    numbers = [_numbers_by_axes(shapes[0], left_batch, left), _numbers_by_axes(shapes[1], right_batch, right)]
    # Of the value: batch, then the free axes of the left, then those of the right operand.
    batch, rows, columns = numbers[0].shape[0], numbers[0].shape[1], numbers[1].shape[1]
    of_value = np.arange(batch * rows * columns).reshape(batch, rows, columns)
    sides = ((0, 1, of_value), (1, 0, of_value.transpose(0, 2, 1)))
    return union(
        [
            _product(relation, numbers[side], numbers[other], operands[other].number(), targets)
            for side, other, targets in sides
            if (relation := operands[side].relation) is not None
        ]
    )


def _numbers_by_axes(shape: tuple[int, ...], batch: Sequence[int], summed: Sequence[int]) -> np.ndarray:
    """The numbers of an operand's entries by batch, free axes and summed axes."""
    free = [axis for axis in range(len(shape)) if axis not in (*batch, *summed)]
    sizes = [math.prod(shape[axis] for axis in axes) for axes in (batch, free, summed)]
    return np.arange(math.prod(shape)).reshape(shape).transpose([*batch, *free, *summed]).reshape(sizes)


def _product(
    relation: Relation, numbers: np.ndarray, of_other: np.ndarray, other: np.ndarray | None, targets: np.ndarray
) -> Relation:
    """The relation of the product with another operand.

    `targets` are the numbers of the value's entries by batch, own free axes and free axes of the other operand.
    """
    batch, own, _ = numbers.shape
    if other is None:
        groups = np.zeros(relation.num_rows, int)
        groups[numbers] = np.arange(batch * own).reshape(batch, own, 1)
        sources = np.empty(targets.size, int)
        sources[targets] = np.arange(batch * own).reshape(batch, own, 1)
        return relation.grouped(groups, batch * own).at(sources)
    of_batch, of_free, of_sum = np.nonzero(other.reshape(-1)[of_other])
    if of_batch.size * own > relation.most:
        raise TooManyPairs
    rows, sources = targets[of_batch, :, of_free], numbers[of_batch, :, of_sum]
    return relation.mapped(targets.size, rows, sources)


def convolved(equation: Any, operands: Sequence[Value]) -> Relation | None:
    """The relation of a convolution: of a known kernel the places that are zero do not count."""
    params, (signal, kernel) = equation.params, operands
    if signal.relation is None or kernel.relation is not None or params["batch_group_count"] != 1:
        return everything(equation, operands)[0]
    of_signal, of_kernel, of_value = params["dimension_numbers"]
    shapes = [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]
    inputs, weights, outputs = (
        np.arange(math.prod(shape)).reshape(shape).transpose(axes)
        for shape, axes in zip(shapes, (of_signal, of_kernel, of_value), strict=True)
    )
    numbers = kernel.number()
    is_used = np.ones(weights.shape, bool) if numbers is None else (numbers != 0).reshape(-1)[weights]
    groups = params["feature_group_count"]
    inputs = inputs.reshape(inputs.shape[0], groups, -1, *inputs.shape[2:])
    outputs = outputs.reshape(outputs.shape[0], groups, -1, *outputs.shape[2:])
    is_used = is_used.reshape(groups, -1, *is_used.shape[1:])
    rows, sources = [], []
    for place in np.ndindex(*is_used.shape[3:]):
        into, taken = _places(place, inputs.shape[3:], outputs.shape[3:], params)
        for group, feature, channel in np.argwhere(is_used[(..., *place)]):
            rows.append(outputs[:, group, feature][:, *np.ix_(*into)].reshape(-1))
            sources.append(inputs[:, group, channel][:, *np.ix_(*taken)].reshape(-1))
    if not rows:
        return None
    return signal.relation.mapped(outputs.size, np.concatenate(rows), np.concatenate(sources))


def _places(
    place: tuple[int, ...], lengths: tuple[int, ...], sizes: tuple[int, ...], params: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each axis, the entries of the value that use a place of the kernel, and the entries of the signal there."""
    into: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    each = zip(
        place,
        lengths,
        sizes,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    for offset, length, size, stride, (low, _), spread, dilation in each:
        position = np.arange(size) * stride + offset * dilation - low
        is_inside = (position >= 0) & (position % spread == 0) & (position // spread < length)
        into.append(np.flatnonzero(is_inside))
        taken.append(position[is_inside] // spread)
    return into, taken
