"""Vector fields: some with closed forms in their parameters, and nonlinear ones for every kind of state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def decay(t: Any, y: Any, rate: Any) -> Any:
    """Solution y0 exp(-rate t)."""
    return -rate * y


def unit_decay(t: Any, y: Any, args: Any) -> Any:
    """Solution y0 exp(-t)."""
    return -y


def growth_of_time(t: Any, y: Any, args: Any) -> Any:
    """Solution y0 + t² - t0²."""
    return jnp.broadcast_to(2 * t, jnp.shape(y)).astype(jnp.result_type(y))


def logistic(t: Any, y: Any, rate: Any) -> Any:
    return rate * y * (1 - y)


def logistic_solution(y0: Any, rate: Any, t: Any) -> Any:
    return y0 / (y0 + (1 - y0) * jnp.exp(-rate * t))


def oscillator(t: Any, y: Any, frequency: Any) -> Any:
    return jnp.stack([y[1], -(frequency**2) * y[0]])


def oscillator_solution(y0: Any, frequency: Any, t: Any) -> Any:
    c, s = jnp.cos(frequency * t), jnp.sin(frequency * t)
    return jnp.stack([y0[0] * c + y0[1] * s / frequency, -y0[0] * frequency * s + y0[1] * c])


def damped_pendulum(t: Any, y: Any, damping: Any) -> Any:
    angle, speed = y
    return jnp.stack([speed, -jnp.sin(angle) - damping * speed])


def pendulum(t: Any, y: Any, args: Any) -> Any:
    """A damped pendulum that is pushed: nonlinear, not autonomous. `args` are stiffness, damping and push."""
    stiffness, damping, push = (args[name].astype(y.dtype) for name in ("stiffness", "damping", "push"))
    force = push * jnp.cos(jnp.asarray(t)).astype(y.dtype)
    return jnp.stack([y[1], force - stiffness * jnp.sin(y[0]) - damping * y[1]])


def pendulum_in_a_tree(t: Any, y: Any, args: Any) -> Any:
    angle, (speed,) = y["angle"], y["speed"]
    rate = pendulum(t, jnp.stack([angle, speed]), args)
    return {"angle": rate[0], "speed": (rate[1],)}


def rotor(t: Any, z: Any, args: Any) -> Any:
    """A complex field that is not holomorphic."""
    turn = jnp.asarray(1j, z.dtype) * args["stiffness"].astype(z.dtype) * z
    size = (z.real**2 + z.imag**2).astype(z.dtype)
    push = (args["push"] * jnp.cos(jnp.asarray(t))).astype(z.dtype)
    return turn - args["damping"].astype(z.dtype) * size * z + push * jnp.conj(z)


ARGS: dict[str, Any] = {"stiffness": np.asarray(2.0), "damping": np.asarray(0.3), "push": np.asarray(0.7)}

STATES: dict[str, tuple[Any, Any]] = {
    "array": (pendulum, np.asarray([1.0, 0.5])),
    "pytree": (pendulum_in_a_tree, {"angle": np.asarray(1.0), "speed": (np.asarray(0.5),)}),
    "complex": (rotor, np.asarray([0.8 + 0.3j, -0.2 + 0.6j])),
    "float32": (pendulum, np.asarray([1.0, 0.5], np.float32)),
}
"""Fields of the arguments `ARGS`, and states to start from."""


def in_double(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.promote_types(x.dtype, np.float64)), tree)
