"""What the tests of the loop have in common: tiny problems, named so that they share compiled programs."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from rungax import ODETerm, PIDController, SaveAt, Solution


def _decay(t: Any, y: Any, args: Any) -> Any:
    return -y


def _growth_of_time(t: Any, y: Any, args: Any) -> Any:
    return jnp.broadcast_to(2 * t, jnp.shape(y)).astype(jnp.result_type(y))


DECAY = ODETerm(_decay)
"""y' = -y"""

SQUARE = ODETerm(_growth_of_time)
"""y' = 2 t, with solution t² + constant"""

ONE = jnp.asarray(1.0)
PID = PIDController(rtol=1e-6, atol=1e-9)
STEPS = SaveAt(t1=True, steps=True)


def finite(ts: Array) -> list[float]:
    """The used slots of `Solution.ts`."""
    return [float(t) for t in ts if jnp.isfinite(t)]


def counts(solution: Solution) -> tuple[int, int, int]:
    stats = solution.stats
    return int(stats["num_steps"]), int(stats["num_accepted_steps"]), int(stats["num_rejected_steps"])
