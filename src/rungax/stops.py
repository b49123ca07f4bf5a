"""The stop queue: the times at which steps must end, whatever size error control proposes.

Controllers and terms put times into it, each with an order: at a time of order k the k-th derivative of the solution
jumps. Where the vector field jumps (k = 1) or the state does (k = 0), a step ends on the floating-point number before
the time and the next one starts on the number after it, so that each side is evaluated with its own values and the
solver restarts. At times of higher order steps merely end.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .jaxkit import BoolScalar, Time, clip_next_end, just_after, just_before


class Stops(NamedTuple):
    """Times for the stop queue.

    Parameters
    ----------
    times
        The times, in any order: true times from a term, in the direction of travel from a directed term and from a
        controller after `wrap`.
    order
        The lowest derivative of the solution that jumps there.
    """

    times: Any
    order: int

    @property
    def jumps(self) -> bool:
        """True if the vector field, or the state, jumps there."""
        return self.order < 2


class StopQueue(eqx.Module):
    """The times at which steps must end, in the direction of travel and in order.

    Parameters
    ----------
    ends
        The ends of the steps that stop, padded with infinity.
    restarts
        The starts of the steps that follow: later than `ends` where the equation jumps. `None` if it jumps nowhere.
    """

    ends: Float[Array, " stops"]
    restarts: Float[Array, " stops"] | None

    @classmethod
    def of(cls, stops: Sequence[Stops], dtype: DTypeLike) -> Self | None:
        """The queue of all `stops`, which are in the direction of travel, or `None`; `dtype` is that of time."""
        pairs = [(stop, jnp.asarray(stop.times).astype(dtype)) for stop in stops if np.size(stop.times) > 0]
        if not pairs:
            return None
        ends = jnp.concatenate([just_before(t) if stop.jumps else t for stop, t in pairs])
        if not any(stop.jumps for stop, _ in pairs):
            return cls(_padded(jnp.sort(ends)), None)
        restarts = jnp.concatenate([just_after(t) if stop.jumps else t for stop, t in pairs])
        return cls(*_in_order(ends, restarts))

    @property
    def can_jump(self) -> bool:
        """True if the equation jumps at one of the times."""
        return self.restarts is not None

    def backwards(self) -> "StopQueue":
        """The queue for the same equation solved the other way."""
        ends = -self.ends[:-1]
        if self.restarts is None:
            return StopQueue(_padded(jnp.sort(ends)), None)
        return StopQueue(*_in_order(-self.restarts[:-1], ends))

    def pass_jump(
        self, accepted: BoolScalar, t0: Time, t1: Time, next_t0: Time, next_t1: Time
    ) -> tuple[Time, Time, BoolScalar]:
        """Start and end of the attempt after a step, moved past a jump at its end; and whether there is one."""
        if self.restarts is None:
            return next_t0, next_t1, False
        stop = self._next(t0)
        end, restart = self.ends[stop], self.restarts[stop]
        jumped = accepted & (t1 >= end) & (restart > end)
        # The end of the solve may be nearer to the jump than this leaves room for; then there is nothing to pass.
        passed = jumped & (t1 <= end)
        restart = jnp.maximum(next_t0, restart)
        return (
            jnp.where(passed, restart, next_t0),
            jnp.where(passed, restart + (next_t1 - next_t0), next_t1),
            jumped,
        )

    def after_jump(self, t: Time) -> Time:
        """The start of a step from `t`: after the jump, if `t` is the end of a step that stops at one."""
        if self.restarts is None:
            return t
        stop = jnp.searchsorted(self.ends, t, side="left", method="scan_unrolled")
        stop = jnp.minimum(stop, self.ends.size - 1)
        return jnp.where(t == self.ends[stop], self.restarts[stop], t)

    def next_jump(self, t: Time) -> Time:
        """The end of the steps before the first jump after `t`; infinity if there is none."""
        if self.restarts is None:
            return jnp.full_like(t, jnp.inf)
        return jnp.min(jnp.where((self.ends > t) & (self.restarts > self.ends), self.ends, jnp.inf))

    def clip(self, accepted: BoolScalar, t: Time, t_next: Time) -> Time:
        """The end of an attempt from `t`: `t_next`, or the first stop if that is earlier."""
        return clip_next_end(accepted, self.ends[self._next(t)], t_next)

    def around(self, t0: Time, t1: Time, start: Time, end: Time) -> tuple[Time, Time]:
        """The last stop up to `t0` and the first one from `t1` on, or the nearer ones `start` and `end`."""
        starts = self.ends if self.restarts is None else self.restarts
        before = jnp.searchsorted(starts, t0, side="right") - 1
        low = jnp.where(before >= 0, jnp.maximum(start, starts[jnp.maximum(before, 0)]), start)
        after = jnp.searchsorted(self.ends, t1, side="left")
        return low, jnp.minimum(end, self.ends[jnp.minimum(after, self.ends.size - 1)])

    def _next(self, t: Time) -> Array:
        """The index of the first stop after `t`."""
        index = jnp.searchsorted(self.ends, t, side="right", method="scan_unrolled")
        return jnp.minimum(index, self.ends.size - 1)


def _in_order(ends: Array, restarts: Array) -> tuple[Array, Array]:
    """Stops in the order of their ends. Of those with the same end only the first is seen, so a jump goes first."""
    order = jnp.lexsort((-restarts, ends))
    return _padded(ends[order]), _padded(restarts[order])


def _padded(times: Array) -> Array:
    return jnp.append(times, jnp.inf)
