"""The root search in an interval: it ends next to a sign change, wherever the first iteration begins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rungax.events.root import bracketed_root

WIDTH = 1e-12
KINDS = {
    "parabola": lambda t, root, bend: (root - t) * (1 + bend * (t - root)),
    "root at the lower end too": lambda t, root, bend: t * (root - t) * (1 + bend * t),
    "flat": lambda t, root, bend: (root - t) ** 3 * (1 + bend),
    "jump": lambda t, root, bend: jnp.where(t < root, 1 + bend, -bend - 1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", ["known", "wrong", "unknown"])
def test_it_ends_next_to_a_sign_change(kind: str, slope: str, key: jax.Array) -> None:
    def found(root: Any, bend: Any, wrong: Any) -> Any:
        function = lambda t: KINDS[kind](t, root, bend)
        lower, upper = jnp.asarray(0.0), jnp.asarray(1.0)
        slopes = {"known": jax.grad(function)(upper), "wrong": wrong, "unknown": jnp.asarray(jnp.nan)}
        ends, like = (function(lower), function(upper)), (root, bend)
        return bracketed_root(function, (lower, upper), ends, slopes[slope], jnp.asarray(WIDTH), like)

    of_root, of_bend, of_slope = jax.random.split(key, 3)
    roots = jax.random.uniform(of_root, (200,), minval=1e-6, maxval=1.0 - 1e-6)
    bends = jax.random.uniform(of_bend, (200,), maxval=0.9)
    slopes = 100 * jax.random.normal(of_slope, (200,))
    np.testing.assert_allclose(jax.jit(jax.vmap(found))(roots, bends, slopes), roots, rtol=0, atol=2 * WIDTH)


def test_no_iteration_is_made_for_a_width_without_end() -> None:
    """The search of an event that has been found wants no root."""

    def never(t: Any) -> Any:
        jax.debug.callback(lambda: calls.append(1))
        return 0.5 - t

    calls: list[int] = []
    ends = jnp.asarray(0.5), jnp.asarray(-0.5)
    interval = jnp.asarray(0.0), jnp.asarray(1.0)
    jax.jit(lambda width: bracketed_root(never, interval, ends, jnp.asarray(-1.0), width, ()))(jnp.asarray(jnp.inf))
    jax.effects_barrier()
    assert calls == []
