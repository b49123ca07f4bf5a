"""All that a solve can be asked for, as one pytree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import rungax


class Outcome(NamedTuple):
    ts: Any
    ys: Any
    counts: dict[str, Any]
    okay: Any
    dense: Any
    dense_slope: Any


FRACTIONS = (0.0, 0.13, 0.5, 0.77, 1.0)
"""Where in its interval the dense output of a solve is asked."""


def everything(ts: Any) -> rungax.SaveAt:
    """Ends, times, steps and dense output."""
    subs = {
        "ends": rungax.SubSaveAt(t0=True, t1=True),
        "times": rungax.SubSaveAt(ts=ts),
        "steps": rungax.SubSaveAt(steps=True),
        "some steps": rungax.SubSaveAt(steps=3, fn=lambda t, y, args: {"t": t, "sum": jax.tree.map(jnp.sum, y)}),
    }
    return rungax.SaveAt(subs=subs, dense=True)


def outcome(solution: rungax.Solution) -> Outcome:
    t0, t1 = jnp.asarray(solution.t0), jnp.asarray(solution.t1)
    times = t0 + (t1 - t0) * jnp.asarray(FRACTIONS, t0.dtype)
    counts = {key: count for key, count in solution.stats.items() if key != "max_steps"}
    okay = rungax.is_okay(solution.result)
    dense, slope = (jax.vmap(ask)(times) for ask in (solution.evaluate, solution.derivative))
    return Outcome(solution.ts, solution.ys, counts, okay, dense, slope)
