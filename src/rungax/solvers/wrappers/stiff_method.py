"""The choice of a method for stiff equations, by the size and the structure of the equation."""

import logging
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ...jaxkit import Args, FlatSpace, Time, Y, dependence, match_varying, with_fields
from ...nonlinear import (
    Banded,
    Krylov,
    LinearSolver,
    Tolerances,
    declared_band,
    holomorphic_tag,
    is_sparse_lu_available,
)
from ...sparsity import SparsityPattern
from ...terms import with_structure
from ..base import AbstractAdaptiveSolver
from ..common.flat_field import FlatField
from ..multistep.bdf import BDF
from ..rosenbrock.methods import Rodas5P

MANY = 100
"""Number of unknowns above which linear algebra costs more than the rest of a step, so that a step should solve few
systems and keep its Jacobian."""

_MOST_DENSE = 500
"""Number of unknowns up to which a matrix without structure is factorised.

By `Rodas5P`, in each step: a full matrix that is kept is carried through the loop, which slows down a field that is not
stiff. With 1000 unknowns such a solve took three times as long.
"""

_MOST_FACTORISED = 5_000
"""Number of unknowns up to which sparse matrices are factorised: the factors of grids grow faster than their patterns,
in three dimensions most, and an incomplete factorisation costs less."""

_MOST_FOR_PATTERN = 50_000
"""Number of unknowns up to which a pattern is searched for: for more, colouring it takes seconds at trace time."""

_MOST_PAIRS = 4_000_000
"""Number of pairs of an intermediate value from which the search is given up, which bounds its memory."""

_SPARSE = 1 / 8
"""Fraction of the entries that a pattern may have at most."""

_MOST_DIAGONALS = 9
"""Number of diagonals of a band that is solved as one."""

_logger = logging.getLogger("rungax")


def stiff_method(
    terms: PyTree[Any], t0: Time, y0: Y, args: Args, tolerances: Tolerances | None
) -> tuple[AbstractAdaptiveSolver[Any], PyTree[Any]]:
    """A method for a stiff equation, and the terms with the structure that has been found in them.

    - Up to `MANY` unknowns: `Rodas5P`.
    - With a structure that the terms declare, or that the program of the field shows: `BDF`, which solves one system a
      step and keeps its factorisation, with a linear solver for the structure.
    - Without one: `Rodas5P` up to `_MOST_DENSE` unknowns, and `BDF` with GMRES for more.

    Without error control `Rodas5P` takes the place of `BDF`, whose order is low in steps that are given. For mass
    matrices that depend on time or state `BDF` takes the place of `Rodas5P`.
    """
    small = BDF if terms.mass_kind == "variable" else Rodas5P
    size = FlatSpace(y0, holomorphic_tag in terms.jacobian_tags).size
    if size <= MANY:
        return small(), terms
    method = small if tolerances is None else BDF
    field = FlatField.for_step(terms, t0, t0, y0, args)
    if _declares_band_or_jacobian(field, t0, y0):
        # An iterative solver would not use the user's Jacobian.
        return method(), terms
    if field.term.jacobian_pattern is not None:
        return method(linear_solver=_for_declared_pattern(size)), terms
    pattern, band = _structure(field, t0, y0)
    if pattern is not None:
        # Not `SparseLU`: a program that calls SuiteSparse cannot be exported.
        linear_solver = None if band else Krylov(preconditioner="ilu")
        return method(linear_solver=linear_solver), with_structure(terms, pattern, band)
    if size <= _MOST_DENSE:
        return small(), terms
    _logger.debug(
        "The %d equations are solved by `Krylov()` without a preconditioner if they are stiff, because no sparse"
        " pattern of their Jacobian is known. With one, `ODETerm(sparsity=...)`, the linear systems would be"
        " factorised or preconditioned, and stiff steps would cost less.",
        size,
    )
    return method(linear_solver=Krylov()), terms


def _declares_band_or_jacobian(field: FlatField, t: Time, y: Y) -> bool:
    """True if a band or the user's Jacobian decides on the linear solver."""
    given = eqx.filter_eval_shape(field.term.jacobian_at, t, y, field.args)
    return given is not None or declared_band(field.term.jacobian_tags) is not None


def _for_declared_pattern(size: int) -> LinearSolver | None:
    """The linear solver for a pattern: `None`, which means `SparseLU`, or GMRES where that costs less."""
    return None if size <= _MOST_FACTORISED and is_sparse_lu_available() else Krylov(preconditioner="ilu")


def _structure(field: FlatField, t: Time, y: Y) -> tuple[SparsityPattern | None, frozenset[object]]:
    """The pattern of the Jacobian that the field's program shows, if it is sparse, and the tag of a narrow band."""
    space = field.space
    if space.size > _MOST_FOR_PATTERN:
        return None, frozenset()
    like = jax.ShapeDtypeStruct((space.size,), space.dtype)
    # Shapes and dtypes alone, so that the pattern is that for all times, states and steps.
    time, rate = jax.eval_shape(lambda: (jnp.asarray(t), field.rate))

    def derivative(*values: Any) -> Any:
        # Inside `shard_map` the shapes do not know over which devices the values vary.
        direction, state, t, rate = match_varying(values, (field, y))
        return jax.jvp(lambda state: with_fields(field, rate=rate).slope(t, state), (state,), (direction,))[1]

    pairs = dependence(derivative, like, like, time, rate, most=min(space.size**2 // 2, _MOST_PAIRS))
    if pairs is None or pairs.outputs.size > _SPARSE * space.size**2:
        return None, frozenset()
    places = space.places()
    entry_of = np.zeros(space.size, int)
    entry_of[places] = np.arange(len(places))[:, None]
    pattern = SparsityPattern.of_entries(len(places), entry_of[pairs.outputs], entry_of[pairs.inputs])
    return pattern, frozenset() if space.is_split else _narrow_band(pattern)


def _narrow_band(pattern: SparsityPattern) -> frozenset[object]:
    """The tag of a pattern that fills at least half of a band with few diagonals; else no tag."""
    offsets = pattern.columns.astype(int) - pattern.rows
    lower, upper = max(0, -int(offsets.min(initial=0))), max(0, int(offsets.max(initial=0)))
    diagonals = lower + upper + 1
    is_band = diagonals <= _MOST_DIAGONALS and 2 * pattern.num_entries >= diagonals * pattern.size
    return frozenset([Banded(lower, upper)]) if is_band else frozenset()
