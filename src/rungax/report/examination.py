"""The examination of a failed solve: the vector field and what belongs to it, at the state that the solve had reached.

It evaluates the field a few times after the loop, in a program that may raise an error only if a solve has failed.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import (
    BoolScalar,
    RealScalar,
    Time,
    Y,
    any_element,
    match_varying,
    resolution,
    scaled,
    select,
    without_derivatives,
)
from ..plan import Plan
from ..solvers import AbstractSolver
from ..solvers.common.flat_field import FlatField
from ..terms import leaf_terms
from .ending import Ending

type Field = Callable[[Time, Y], Any]

_ITERATIONS = 24
"""Evaluations of the field, all but two for the power method: enough for a rate which need not be exact."""


class Evaluations(NamedTuple):
    """Evaluations of a vector field.

    Parameters
    ----------
    slope
        The field.
    ahead
        The field after a step of Euler's method; `None` if the field is not like the state.
    jacobian
        What shows entries of the Jacobian that are not finite, for solvers that use it.
    wrong_rows
        For each entry of the state, true if its row of the Jacobian is not the field's; `None` if that is not compared.
    fastest_rate
        The largest rate at which two solutions move apart or together, for explicit solvers.
    """

    slope: Any
    ahead: Any
    jacobian: Any
    wrong_rows: Any
    fastest_rate: Array | None


class Examination(NamedTuple):
    """Values at the state that a failed solve had reached.

    Parameters
    ----------
    t, y
        Time and state: those of the end, or of the start if constant steps failed in the first one.
    field
        Evaluations of the vector field.
    conditions
        The values of the conditions of events; `None` without events.
    residuals
        The largest residuals of algebraic equations, and zero in place of others; `None` without such equations.
    """

    t: Time
    y: Y
    field: Evaluations
    conditions: Array | None
    residuals: Y | None


def examine_if(failed: BoolScalar, solver: AbstractSolver[Any], plan: Plan, ending: Ending) -> Examination | None:
    """The examination where `failed` is true for any batch element, else zeros."""
    like = jax.eval_shape(lambda: examine(solver, plan, ending))
    if like is None:
        return None
    varying = (failed, plan.problem, ending)
    return lax.cond(
        any_element(failed),
        lambda: match_varying(examine(solver, plan, ending), varying),
        lambda: match_varying(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), varying),
    )


def examine(solver: AbstractSolver[Any], plan: Plan, ending: Ending) -> Examination | None:
    """The examination of a solve with the given ending; `None` if its field cannot be evaluated on its own."""
    problem, detector, ending = without_derivatives((plan.problem, plan.detector, ending))
    # From here on in the direction of travel, as the terms of a plan are.
    t, y = ending.t, ending.y
    if ending.failed_at is not None:
        # With constant steps the last finite state is known at the start only.
        at_start = ending.failed_at * problem.direction == problem.t0
        t = jnp.where(at_start, ending.failed_at, t)
        y = jax.tree.map(lambda first, last: jnp.where(at_start, first, last), problem.y0, y)
    step = jnp.maximum(jnp.nan_to_num(jnp.abs(ending.t_next - ending.t)), 4 * resolution(t))
    travelled = t * problem.direction
    field: Field = lambda t, y: solver.func(problem.terms, t, y, problem.args)
    try:
        like = jax.eval_shape(field, travelled, y)
    except Exception:
        # A solver's `func` is for controllers and events: one of a user's own may be left out.
        return None
    if not _are_alike(like, y):
        values = Evaluations(field(travelled, y), None, None, None, None)
    elif solver.facts.uses_jacobian:
        values = _with_jacobian(problem.terms, field, travelled, y, problem.args, step)
    else:
        values = _with_fastest_rate(field, travelled, y, step)
    conditions = None if detector is None else detector.values(problem, travelled, y)
    constraints = without_derivatives(plan.constraints)
    residuals = None if constraints is None else constraints.worst_residuals(travelled, y)
    return Examination(t, y, values, conditions, residuals)


def _with_jacobian(terms: Any, field: Field, t: Time, y: Y, args: Any, step: Time) -> Evaluations:
    """The field twice, the Jacobians that the user gives, or the product of JAX's with ones, and what is wrong."""
    given = [term.jacobian_at(t, y, args) for term in leaf_terms(terms)]
    given = [jacobian for jacobian in given if jacobian is not None]
    if given:
        slope, jacobian = field(t, y), given[0] if len(given) == 1 else given
    else:
        # Not finite in every row in which an entry is not.
        slope, jacobian = jax.jvp(lambda y: field(t, y), (y,), (jax.tree.map(jnp.ones_like, y),))
    wrong_rows = _wrong_rows(terms, t, y, args, step)
    return Evaluations(slope, field(t + step, _moved(y, step, slope)), jacobian, wrong_rows, None)


def _wrong_rows(terms: Any, t: Time, y: Y, args: Any, step: Time) -> Any:
    """For each entry of the state, true if a term declares its row of the Jacobian, and not as it is."""
    wrong: list[Any] = []
    for term in leaf_terms(terms):
        if term.jacobian_pattern is None and term.jacobian_at(t, y, args) is None:
            continue
        flat = FlatField.for_step(term, t, t + step, y, args)
        rows = flat.wrong_rows(t, y)
        if rows is not None:
            wrong.append(jax.tree.map(lambda x: x != 0, flat.space.unravel(rows.astype(flat.space.dtype))))
    return functools.reduce(lambda a, b: jax.tree.map(jnp.logical_or, a, b), wrong) if wrong else None


def _with_fastest_rate(field: Field, t: Time, y: Y, step: Time) -> Evaluations:
    """The field twice, and the size of the largest eigenvalue of its Jacobian.

    By the power method on difference quotients, because a field need not have derivatives in forward mode. All
    evaluations are turns of one loop, so that the program holds the field once.
    """
    tiny = jnp.finfo(t.dtype).tiny
    widest = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(y))
    distance = widest**0.5 * (_norm(y, t) + tiny)

    def turn(i: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        point, slope, ahead, _ = carry
        value = field(jnp.where(i == 1, t + step, t), point)
        slope, ahead = select(i == 0, value, slope), select(i == 1, value, ahead)
        # The slope, and after it the difference from the slope, is the direction of the next quotient.
        direction = select(
            i == 1, slope, jax.tree.map(lambda a, b: a - select(i == 0, jnp.zeros_like(b), b), value, slope)
        )
        size = _norm(direction, t)
        point = _moved(y, jnp.where(i == 0, step, distance / (size + tiny)), direction)
        return point, slope, ahead, size / distance

    zeros = jax.tree.map(jnp.zeros_like, y)
    carry = match_varying((y, zeros, zeros, jnp.zeros_like(t)), (y, t, step, jax.eval_shape(field, t, y)))
    _, slope, ahead, rate = lax.fori_loop(0, _ITERATIONS, turn, carry)
    return Evaluations(slope, ahead, None, None, rate)


def _are_alike(a: Any, b: Any) -> bool:
    """True if two pytrees have the same structure, shapes and dtypes."""
    types = [[(x.shape, x.dtype) for x in jax.tree.leaves(tree)] for tree in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and types[0] == types[1]


def _moved(y: Y, by: RealScalar, direction: Y) -> Y:
    """`y + by * direction`."""
    return jax.tree.map(lambda y, d: y + scaled(by, d), y, direction)


def _norm(tree: Any, t: Time) -> RealScalar:
    """The largest entry, in the dtype of time."""
    sizes = [jnp.max(jnp.abs(x), initial=0.0).astype(t.dtype) for x in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(sizes))
