"""A root of a real function in an interval in which it changes sign, by Chandrupatla's method.

Each iteration takes the inverse quadratic through the last three points where that can be trusted, and else the middle
of the interval. Smooth functions take six to nine evaluations. Late iterations take the middle every second time, so
that no function takes more than twice as many as bisection and `PATIENCE`. Reference: T. R. Chandrupatla, A new hybrid
quadratic/bisection algorithm for finding the zero of a nonlinear function without using derivatives, Adv. Eng. Softw.
28 (1997) 145-149.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import IntScalar, Time, match_varying, optimization_barrier

PATIENCE = 12
"""The number of iterations before every second one takes the middle."""

FARTHEST = 0.99
"""The largest part of the interval that the first iteration leaves on the side of the upper end."""


class _Points(NamedTuple):
    """The last point `a`, the one `b` on the other side of the root, the one `c` before them, and the values there."""

    a: Time
    b: Time
    c: Time
    at_a: Array
    at_b: Array
    at_c: Array
    part: Array
    num_iterations: IntScalar


def bracketed_root(
    function: Callable[[Time], Array],
    interval: tuple[Time, Time],
    at_ends: tuple[Array, Array],
    slope: Array,
    width: Time,
    like: Any,
) -> Time:
    """A time at most `width` from a sign change of `function`, from positive to negative, in an interval.

    The values at the ends are not trusted: `function` counts as positive at the lower end and as negative at the upper
    one, whatever rounding says. What is not a number counts as positive. `slope` is that at the upper end, NaN where it
    is not known; only the first iteration depends on it. `like` are the arrays that `function` depends on.
    """
    lower, upper = interval
    tiny, largest = float(jnp.finfo(lower.dtype).tiny), float(jnp.finfo(lower.dtype).max) ** 0.25

    def bounded(found: Array) -> Array:
        return jnp.where(jnp.isnan(found), tiny, jnp.clip(found, -largest, largest))

    def refine(p: _Points) -> _Points:
        t = p.a + p.part * (p.b - p.a)
        # Without the barrier XLA evaluates the function anew for each use of its value.
        at_t = optimization_barrier(bounded(function(t)))
        same = jnp.sign(at_t) == jnp.sign(p.at_a)
        c, at_c = jnp.where(same, p.a, p.b), jnp.where(same, p.at_a, p.at_b)
        b, at_b = jnp.where(same, p.b, p.a), jnp.where(same, p.at_b, p.at_a)
        least = jnp.minimum(0.5 * width / jnp.abs(b - t), 0.5)
        halves = (p.num_iterations >= PATIENCE) & (p.num_iterations & 1 == 0)
        part = jnp.where(halves, 0.5, jnp.clip(_part(t, b, c, at_t, at_b, at_c), least, 1 - least))
        return _Points(t, b, c, at_t, at_b, at_c, part, p.num_iterations + 1)

    above, below = jnp.abs(bounded(at_ends[0])) + tiny, -jnp.abs(bounded(at_ends[1])) - tiny
    part = _first_part(above, below, slope * (lower - upper))
    start = _Points(upper, lower, lower, below, above, above, part, jnp.asarray(0, jnp.int32))
    go_on = lambda p: (jnp.abs(p.b - p.a) > width) & (p.at_a != 0) & (p.num_iterations < 256)
    end = lax.while_loop(go_on, refine, match_varying(start, like))
    return jnp.where(end.at_a == 0, end.a, 0.5 * (end.a + end.b))


def _first_part(above: Array, below: Array, rise: Array) -> Array:
    """The part of the way from the upper end to the lower one at which a parabola through both values is zero.

    Its slope at the upper end is `rise`. The lower end may itself be a root, as after a bounce, and is not meant.
    Without a slope, the middle.
    """
    square = rise**2 - 4 * below * (above - below - rise)
    part = -2 * below / (rise + jnp.sqrt(square))
    return jnp.where(part > 0, jnp.minimum(part, FARTHEST), 0.5)


def _part(a: Time, b: Time, c: Time, at_a: Array, at_b: Array, at_c: Array) -> Array:
    """The part of the way from `a` to `b` at which the inverse quadratic is zero, or the middle."""
    place, rise = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
    quadratic = (at_a / (at_b - at_a)) * (at_c / (at_b - at_c))
    quadratic = quadratic + (c - a) / (b - a) * (at_a / (at_c - at_a)) * (at_b / (at_c - at_b))
    is_good = (rise**2 < place) & ((1 - rise) ** 2 < 1 - place) & jnp.isfinite(quadratic)
    return jnp.where(is_good, quadratic, 0.5)
