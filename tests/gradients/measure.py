"""Derivatives to compare with: difference quotients along a direction, and solves on a grid that is known."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rungax


@partial(jax.jit, inline=True)  # called eagerly, it is one program and not one for each operation
def weigh(tree: Any) -> jax.Array:
    """A curved real function of a pytree that no symmetry makes blind; entries that are not finite do not count."""
    total = jnp.zeros(())
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        x = jnp.asarray(leaf)
        if jnp.iscomplexobj(x):
            x = jnp.concatenate([x.real.ravel(), x.imag.ravel()])
        if not jnp.issubdtype(x.dtype, jnp.floating):
            continue
        x = x.ravel().astype(float)
        weights = jnp.cos(1.0 + number + 0.7 * jnp.arange(float(x.size))) + 0.3
        x = jnp.where(jnp.isfinite(x), x, 0.0)
        total = total + jnp.sum(weights * (x + 0.2 * x**2))
    return total


def direction_like(tree: Any, seed: int = 0) -> Any:
    """A direction to move the floating leaves of `tree` in; the others have none."""
    generator = np.random.default_rng(seed)

    def draw(x: Any) -> Any:
        shape, dtype = jnp.shape(x), jnp.result_type(x)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return (generator.uniform(-1, 1, shape) + 1j * generator.uniform(-1, 1, shape)).astype(dtype)
        return generator.uniform(-1, 1, shape).astype(dtype)

    return jax.tree.map(draw, tree)


def along(gradient: Any, direction: Any) -> float:
    """The derivative in that direction, from a gradient as `jax.grad` defines it for complex numbers too."""
    products = jax.tree.map(lambda g, d: np.sum(np.real(np.asarray(g) * d)), gradient, direction)
    return float(sum(jax.tree.leaves(products)))


def moved(x: Any, direction: Any, h: float) -> Any:
    return jax.tree.map(lambda a, d: np.asarray(a + h * d, dtype=jnp.result_type(a)), x, direction)


def difference_quotient(function: Callable[[Any], Any], x: Any, direction: Any, h: float = 1e-3) -> Any:
    """The derivative of `function` at `x` in that direction by central differences of order four."""
    near, far = ([function(moved(x, direction, sign * k * h)) for sign in (1, -1)] for k in (1, 2))
    return jax.tree.map(
        lambda a, b, c, d: (8 * (np.asarray(a) - np.asarray(b)) - (np.asarray(c) - np.asarray(d))) / (12 * h),
        *near,
        *far,
    )


def assert_derivative(
    function: Callable[[Any], Any],
    x: Any,
    reference: Callable[[Any], Any] | None = None,
    rtol: float = 1e-7,
    h: float = 1e-3,
) -> Any:
    """The gradient of a real function at `x`, once reverse mode, forward mode and difference quotients of it agree.

    The quotients are those of `reference`, which is `function` on fixed steps; by default they are those of the value
    that reverse mode computes. A `reference` has the same value at `x`.
    """
    direction = direction_like(x)

    @jax.jit
    def derivatives(x: Any) -> tuple[jax.Array, Any, jax.Array]:
        return *jax.value_and_grad(function)(x), jax.jvp(function, (x,), (direction,))[1]

    value_by_reverse, gradient, by_forward = derivatives(x)
    by_reverse = along(gradient, direction)
    value = (lambda x: derivatives(x)[0]) if reference is None else jax.jit(reference)
    if reference is not None:
        np.testing.assert_allclose(value_by_reverse, value(x), rtol=1e-9)
    assert_agree(by_reverse, by_forward, difference_quotient(value, x, direction, h), rtol)
    return gradient


def assert_agree(by_reverse: Any, by_forward: Any, quotient: Any, rtol: float = 1e-7) -> None:
    """Assert that a derivative along a direction is the same in both modes and by a difference quotient."""
    assert np.isfinite(by_reverse)
    assert abs(by_reverse) > 1e-3, "a derivative of zero shows nothing"
    np.testing.assert_allclose(by_forward, by_reverse, rtol=min(rtol, 1e-9))
    np.testing.assert_allclose(by_reverse, quotient, rtol=rtol)


def accepted_times(solution: rungax.Solution) -> np.ndarray:
    """The times of a solve with `SaveAt(t0=True, steps=True)`, without the empty slots."""
    assert eqx.is_array(solution.ts)
    times = np.asarray(solution.ts)
    return times[np.isfinite(times)]


def stretched(grid: np.ndarray, t0: Any, t1: Any) -> jax.Array:
    """`grid` with its ends moved to `t0` and `t1` and its places between them kept."""
    places = jnp.asarray((grid - grid[0]) / (grid[-1] - grid[0]))
    inner = t0 + places[1:-1] * (t1 - t0)
    return jnp.concatenate([jnp.asarray(t0)[None], inner, jnp.asarray(t1)[None]])
