r"""A root of a real function in an interval in which it changes sign, by the ITP method.

Each iteration takes a point between that of the false position and the middle of the interval, never further from the
middle than lets bisection end in time. So it needs at most one iteration more than bisection, and on smooth functions
converges superlinearly. Reference: I. F. D. Oliveira, R. H. C. Takahashi, An enhancement of the bisection method average
performance preserving minmax optimality, ACM Trans. Math. Softw. 47 (2020) 5, algorithm 1 with
$\kappa_1 = 0.2/(b - a)$, $\kappa_2 = 2$, $n_0 = 1$.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import Time, match_varying


def bracketed_root(function: Callable[[Time], Array], lower: Time, upper: Time, width: Time, like: Any) -> Time:
    """A time at most `width` from a sign change of `function`, which is positive at `lower` and negative at `upper`.

    The values at the ends are not trusted: `function` counts as positive at `lower` and as negative at `upper`,
    whatever rounding says. What is no number counts as positive. `like` are the arrays that `function` depends on.
    """
    tiny, largest = float(jnp.finfo(lower.dtype).tiny), float(jnp.finfo(lower.dtype).max) ** 0.5

    def value(t: Time) -> Array:
        found = function(t)
        return jnp.where(jnp.isnan(found), tiny, jnp.clip(found, -largest, largest))

    length = upper - lower
    iterations = jnp.ceil(jnp.log2(jnp.maximum(length / width, 1.0))) + 1.0

    def refine(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        a, b, at_a, at_b, left = carry
        middle, false_position = 0.5 * (a + b), a + (b - a) * (at_a / (at_a - at_b))
        towards = jnp.sign(middle - false_position)
        truncation = 0.2 / length * (b - a) ** 2
        t = jnp.where(truncation <= jnp.abs(middle - false_position), false_position + towards * truncation, middle)
        reach = jnp.maximum(0.5 * width * 2.0**left - 0.5 * (b - a), 0.0)
        t = jnp.where(jnp.abs(t - middle) <= reach, t, middle - towards * reach)
        at_t = value(t)
        is_before, is_after = at_t >= 0, at_t <= 0
        a, at_a = jnp.where(is_before, t, a), jnp.where(is_before, at_t, at_a)
        b, at_b = jnp.where(is_after, t, b), jnp.where(is_after, at_t, at_b)
        return a, b, at_a, at_b, left - 1.0

    start = (lower, upper, jnp.abs(value(lower)) + tiny, -jnp.abs(value(upper)) - tiny, iterations)
    go_on = lambda carry: (carry[1] - carry[0] > width) & (carry[4] >= 0)
    a, b, *_ = lax.while_loop(go_on, refine, match_varying(start, like))
    return 0.5 * (a + b)
