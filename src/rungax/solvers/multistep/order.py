"""The choice of the order and of the size of the next step."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ...jaxkit import (
    BoolScalar,
    Time,
    any_element,
    match_varying,
    resolution,
    scaled,
    single_power,
    with_derivatives_of,
)
from ...nonlinear import Vector
from .coefficients import ERROR
from .history import Differences, Order

SAFETY = 0.75
"""Multiplies the size that the error estimate allows, so that few steps are rejected."""

MAX_FACTOR = 10.0
"""The largest factor between the sizes of two steps."""

MAX_RATIO_ORDER_2 = 2.0
"""The largest ratio of two steps up to which a step longer than the method has chosen may be of order 2."""


class Sizes(NamedTuple):
    """The size of a step beside those before it.

    Parameters
    ----------
    ratio
        The size divided by that of the history, exactly one if they differ by the rounding of times only.
    is_longer, is_shorter
        Whether the step is longer or shorter than the method has chosen, because others choose the times of steps.
    """

    ratio: Time
    is_longer: Array
    is_shorter: Array

    @classmethod
    def of(cls, t0: Time, t1: Time, before: Time, chosen: Time) -> "Sizes":
        """Those of the step from `t0` to `t1` after steps of the size `before`; `chosen` is zero if none was chosen."""
        size, rounding = t1 - t0, 4 * resolution(jnp.maximum(jnp.abs(t0), jnp.abs(t1)))
        exact = size / jnp.where(before == 0, 1.0, before)
        ratio = with_derivatives_of(jnp.where(jnp.abs(size - before) <= rounding, 1.0, exact), exact)
        chosen = jnp.where(chosen == 0, size, chosen)
        slack = rounding + 1e-3 * chosen
        return cls(ratio, size > chosen + slack, size < chosen - slack)


def order_of_step(order: Order, sizes: Sizes) -> Order:
    """The order of a step: the chosen one, or a lower one in a step longer than the method has chosen.

    Differences of high order, extended far, would enlarge the errors of the last steps without bound.
    """
    highest = jnp.where(sizes.ratio > MAX_RATIO_ORDER_2, 1, 2)
    return jnp.where(sizes.is_longer, jnp.minimum(order, highest), order).astype(order.dtype)


class Choice(NamedTuple):
    """The order of the next attempt, and its size divided by that of this one."""

    order: Order
    factor: Array


def by_errors(
    size_of: Callable[[Vector], Array],
    before: Differences,
    after: Differences,
    correction: Vector,
    order: Order,
    num_equal: Array,
    is_shorter: BoolScalar,
) -> Choice:
    """The order among three neighbours with which the next step can be longest.

    It is chosen after as many steps of one size as the order needs, after a step that others have made shorter, and
    after a step whose error is too large; then the order is not raised.

    Parameters
    ----------
    size_of
        The norm of errors relative to the tolerances.
    before, after
        The differences before the step, and those after it.
    correction, order
        The correction of the predicted state, and the order of the step.
    num_equal
        The number of steps of the same size, with this one.
    is_shorter
        Whether the step was shorter than chosen.
    """
    constants = jnp.asarray(ERROR, jnp.finfo(after.dtype).dtype)
    size = size_of(scaled(constants[order - 1], correction))
    is_too_large = size > 1
    is_settled = num_equal > order
    decides = is_settled | is_shorter | is_too_large

    def chosen() -> Choice:
        # The differences of the next lower and the next higher order.
        lower, higher = after[order - 1], correction - before[jnp.minimum(order, before.shape[0] - 1)]
        lower, higher = (
            size_of(scaled(constants[jnp.clip(row, 0, ERROR.size - 1)], difference))
            for row, difference in ((order - 2, lower), (order, higher))
        )
        may_rise = is_settled & ~is_too_large & (order < after.shape[0])
        errors = jnp.stack([jnp.where(order > 1, lower, jnp.inf), size, jnp.where(may_rise, higher, jnp.inf)])
        factors = single_power(errors, -1 / (order + jnp.arange(3, dtype=order.dtype)).astype(jnp.float32))
        best = jnp.argmax(factors).astype(order.dtype)
        factor = jnp.minimum(SAFETY * factors[best], MAX_FACTOR)
        return Choice(jnp.where(decides, order + best - 1, order), jnp.where(decides, factor, 1.0))

    like = (before, after, correction, order, num_equal, is_shorter)
    return lax.cond(
        any_element(decides),
        lambda: match_varying(chosen(), like),
        lambda: match_varying(Choice(order, jnp.ones((), jnp.float32)), like),
    )


def by_number(order: Order, num_equal: Array, max_order: int) -> Choice:
    """The next higher order after as many steps of one size as it needs, for steps without error control."""
    rises = (num_equal > order) & (order < max_order)
    return Choice(order + jnp.asarray(rises).astype(order.dtype), jnp.ones((), jnp.float32))
