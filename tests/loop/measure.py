"""Tiny problems for the tests of the loop, named so that they share compiled programs, and the counts of a solve."""

import jax.numpy as jnp
from jaxtyping import Array

from rungax import ODETerm, PIDController, SaveAt, Solution

from ..problems.fields import growth_of_time, unit_decay

DECAY = ODETerm(unit_decay)
SQUARE = ODETerm(growth_of_time)
ONE = jnp.asarray(1.0)
PID = PIDController(rtol=1e-6, atol=1e-9)
STEPS = SaveAt(t1=True, steps=True)


def finite(ts: Array) -> list[float]:
    """The used slots of `Solution.ts`."""
    return [float(t) for t in ts if jnp.isfinite(t)]


def counts(solution: Solution) -> tuple[int, int, int]:
    stats = solution.stats
    return int(stats["num_steps"]), int(stats["num_accepted_steps"]), int(stats["num_rejected_steps"])
