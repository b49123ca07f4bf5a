"""A small field that counts how often it is traced, and the ways of solving it that these tests vary."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rungax


class Pendulum:
    """A damped pendulum; `args` is the damping. `traces` counts the calls, of which each is a trace."""

    def __init__(self) -> None:
        self.traces = 0

    def __call__(self, t: Any, y: jax.Array, args: Any) -> jax.Array:
        self.traces += 1
        angle, speed = y
        return jnp.stack([speed, -jnp.sin(angle) - args * speed])


Y0 = np.asarray([1.0, 0.5])
DAMPING = 0.1


def adaptive(tolerance: float = 1e-6) -> dict[str, Any]:
    return {"stepsize_controller": rungax.PIDController(rtol=tolerance, atol=tolerance)}


def solve(field: Any, y0: Any = Y0, args: Any = DAMPING, t1: Any = 1.0, dt0: Any = 0.1, **options: Any) -> Any:
    """By Tsit5 from 0 to 1 with fixed steps of 0.1, unless told otherwise."""
    solver = options.pop("solver", rungax.Tsit5())
    return rungax.diffeqsolve(rungax.ODETerm(field), solver, 0.0, t1, dt0, y0, args, **options)
