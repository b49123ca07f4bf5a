"""The votes by which `Auto` switches between its methods: whether stability limits the steps of the explicit one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ...jaxkit import any_element, match_varying, scaled, without_derivatives
from ...nonlinear import ErrorWeights, Tolerances, Vector, default_tolerances
from ...sparsity import random_direction
from ...step import Step
from ..common.flat_field import FlatField
from ..runge_kutta.explicit.step import AbstractERK
from .stiff_method import MANY

VOTES_TO_SWITCH = 10
"""Excess of steps in favour of the other method over steps against it at which the solver switches to it."""

STABILITY_FRACTION = 0.9
"""Fraction of the explicit method's stability limit above which a step counts as limited by stability."""


class AutoState(eqx.Module):
    """The solver state of `Auto`.

    Parameters
    ----------
    is_stiff
        True if the stiff method makes the next step.
    votes
        Excess of recent steps in favour of the other method over those against it, at least zero.
    direction
        The vector of the power iteration for the Jacobian's dominant eigenvector, which runs while the stiff method is
        in use.
    nonstiff, stiff
        The states of both methods.
    """

    is_stiff: Array
    votes: Array
    direction: Vector
    nonstiff: PyTree[Any]
    stiff: PyTree[Any]


def with_vote(nonstiff: AbstractERK, tolerances: Tolerances | None, step: Step, state: AutoState) -> AutoState:
    """The state with the vote of a step.

    `step.dense_info` is that of the explicit method, for its estimate of stiffness.
    """
    step = without_derivatives(step)
    field = FlatField.for_step(step.terms, step.t0, step.t1, step.y1, step.args)
    # Stiff components may be small, therefore sizes are relative to the tolerances.
    tolerances = default_tolerances(step.y0) if tolerances is None else tolerances
    size_of = ErrorWeights(tolerances, field.space).at(field.space.ravel(step.y0))
    seen = nonstiff.stiffness(step, lambda y: size_of(field.space.ravel(y)))
    assert seen is not None, "a method of two or more stages has an estimate"
    turned = where_any(
        state.is_stiff,
        lambda: jax.jvp(lambda y: field.slope(step.t1, y), (field.space.ravel(step.y1),), (state.direction,))[1],
        (step, state),
    )
    length, before = size_of(turned), size_of(state.direction)
    grown = length / jnp.where(before > 0, before, 1.0)
    eigenvalue = jnp.where(state.is_stiff, grown, jnp.asarray(seen).astype(length.dtype))
    size = jnp.asarray(step.t1 - step.t0).astype(length.dtype)
    limited = eigenvalue * size > STABILITY_FRACTION * nonstiff.tableau.real_stability
    vote = jnp.where(limited != state.is_stiff, 1, -1)
    usable = state.is_stiff & (length > 0) & jnp.isfinite(length)
    direction = jnp.where(usable, scaled(1 / jnp.where(usable, length, 1.0), turned), state.direction)
    return AutoState(state.is_stiff, jnp.maximum(state.votes + vote, 0), direction, state.nonstiff, state.stiff)


def first_direction(vector: Vector) -> Vector:
    """The first direction of the power iteration.

    For many unknowns it has random entries: a constant vector is nearly an eigenvector of the smallest eigenvalue of
    diffusion on a grid, and the iteration would take too many steps to leave it.
    """
    if vector.size <= MANY:
        return jnp.ones_like(vector) / max(vector.size, 1) ** 0.5
    entries = random_direction(vector.size)
    return jnp.asarray(entries / np.linalg.norm(entries), vector.dtype)


def where_any[T](pred: Array, make: Callable[[], T], like: Any, otherwise: Callable[[T], T] = lambda zeros: zeros) -> T:
    """The value of `make()` if `pred` holds for any batch element, else a value that is made from zeros like it."""

    def skip() -> T:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(make))
        return match_varying(otherwise(zeros), like)

    return lax.cond(any_element(pred), lambda: match_varying(make(), like), skip)
