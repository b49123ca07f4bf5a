"""The pattern of a Jacobian, found from derivatives at several points.

A derivative in the direction of a group of columns shows the rows in which one of them has an entry. The groups are
halved again and again until each is one column. Groups that have no row in common share a derivative, as the columns of
one colour do. Therefore a pattern with few entries in each row is found by few derivatives, whose number grows like the
logarithm of the size. A dense pattern takes about two for each column.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Inexact, Int

from .colouring import colouring_of, natural
from .directions import random_direction

type Point = tuple[Inexact[Array, ""], Inexact[Array, " n"]]
type Field = Callable[[Inexact[Array, ""], Inexact[Array, " n"]], Inexact[Array, " n"]]
"""A vector field of time and state, on vectors."""

_AT_ONCE = 2**20
"""Numbers in the directions whose derivatives are computed at once."""

_MOST_AT_ONCE = 16
"""Directions whose derivatives are computed at once, at most: early groups are few."""


class Entries(NamedTuple):
    """Rows and columns of entries, or of entries in groups of columns."""

    rows: Int[np.ndarray, " entries"]
    columns: Int[np.ndarray, " entries"]


def finite_points(field: Field, points: Point) -> Bool[np.ndarray, " points"]:
    """For each point whether the field and its derivatives are finite there.

    Parameters
    ----------
    field
        The vector field.
    points
        Times and states, with an axis for the points in front.
    """
    direction = jnp.asarray(random_direction(points[1].shape[1]), points[1].dtype)

    def is_finite(point: Point) -> Array:
        t, y = point
        value, derivative = jax.jvp(lambda y: field(t, y), (y,), (direction,))
        return jnp.all(jnp.isfinite(value) & jnp.isfinite(derivative))

    return np.asarray(jax.jit(lambda points: lax.map(is_finite, points))(points))


def entries_at(field: Field, points: Point) -> Entries:
    """The entries of the Jacobian that are not zero at one of several points.

    Parameters
    ----------
    field
        The vector field; it and its derivatives are finite at each point.
    points
        Times and states, with an axis for the points in front.
    """
    size = points[1].shape[1]
    weights = random_direction(size).astype(points[1].dtype)

    def by_columns(point: Point, direction: Array) -> Array:
        return jax.jvp(lambda y: field(point[0], y), (point[1],), (direction,))[1]

    def by_rows(point: Point, cotangent: Array) -> Array:
        return jax.vjp(lambda y: field(point[0], y), point[1])[1](cotangent)[0]

    most_dense_rows = size if _can_be_traced(by_rows, points) else 0
    # At first all columns are one group.
    found, dense_rows = Entries(np.arange(size), np.zeros(size, int)), np.zeros(0, int)
    test = _nonzeros(by_columns, points)
    for level in reversed(range(max(size - 1, 0).bit_length() + 1)):
        group = np.arange(size) >> level
        found = _halved(found, int(group.max(initial=-1)) + 1)
        colouring = colouring_of((size, size), *found, (natural,), most_dense_rows=most_dense_rows)
        found, dense_rows = _tested(test, found, colouring.colours, group, weights), colouring.dense_rows
    # In a row that the last colours do not separate, too many entries remain: those of all columns of a colour.
    if dense_rows.size == 0:
        return found
    exact = _entries_of_rows(_nonzeros(by_rows, points), dense_rows, weights)
    others = ~np.isin(found.rows, dense_rows)
    return Entries(*(np.concatenate([x[others], y]) for x, y in zip(found, exact, strict=True)))


type _Test = Callable[[np.ndarray], Bool[np.ndarray, "vectors n"]]
"""For each of several vectors, the entries of its product with the Jacobian that are not zero at some point."""


def _nonzeros(product: Callable[[Point, Array], Array], points: Point) -> _Test:
    """The test by products with the Jacobian or its transpose."""

    @jax.jit
    def nonzeros(vectors: Array) -> Array:
        at_point = lambda vector: lambda point: product(point, vector) != 0
        return jax.vmap(lambda vector: jnp.any(lax.map(at_point(vector), points), axis=0))(vectors)

    return lambda vectors: np.asarray(nonzeros(jnp.asarray(vectors)))


def _can_be_traced(product: Callable[[Point, Array], Array], points: Point) -> bool:
    """True if there is such a product: a field need not have derivatives in reverse mode."""
    point = jax.tree.map(lambda x: x[0], points)
    try:
        jax.eval_shape(product, point, point[1])
    except Exception:
        # JAX has no class of its own for a loop or a custom rule that it cannot transpose.
        return False
    return True


def _halved(found: Entries, num_groups: int) -> Entries:
    """The entries that groups of half the size may have."""
    columns = np.concatenate([2 * found.columns, 2 * found.columns + 1])
    is_inside = columns < num_groups
    return Entries(np.tile(found.rows, 2)[is_inside], columns[is_inside])


def _tested(test: _Test, found: Entries, colours: np.ndarray, group: np.ndarray, weights: np.ndarray) -> Entries:
    """The entries in rows in which the groups of their colour have one.

    Parameters
    ----------
    test
        The rows that have an entry in a set of columns.
    found
        Entries of groups.
    colours
        The colour of each group.
    group
        The group of each column.
    weights
        Numbers that are not zero, for each column, so that the products of entries do not cancel.
    """
    colour = colours[found.columns]
    order = np.argsort(colour, kind="stable")
    is_entry = np.zeros(colour.size, bool)
    for block in _blocks(np.arange(int(colour.max(initial=-1)) + 1), weights.size):
        nonzeros = test((colours[group] == block[:, None]) * weights)
        start, end = np.searchsorted(colour, [block[0], block[-1] + 1], sorter=order)
        places = order[start:end]
        is_entry[places] = nonzeros[colour[places] - block[0], found.rows[places]]
    return Entries(found.rows[is_entry], found.columns[is_entry])


def _entries_of_rows(test: _Test, rows: np.ndarray, weights: np.ndarray) -> Entries:
    """All entries of some rows."""
    entries: list[np.ndarray] = []
    for block in _blocks(rows, weights.size):
        nonzeros = test((np.arange(weights.size) == block[:, None]).astype(weights.dtype))
        places, columns = np.nonzero(nonzeros)
        entries.append(np.unique(np.stack([block[places], columns]), axis=1))
    return Entries(*np.concatenate(entries, axis=1))


def _blocks(numbers: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The numbers in blocks of one length, so that the test is compiled once; the last one is filled up by its end."""
    length = min(max(_AT_ONCE // max(size, 1), 1), _MOST_AT_ONCE)
    for start in range(0, numbers.size, length):
        yield np.pad(numbers[start : start + length], (0, max(start + length - numbers.size, 0)), mode="edge")
