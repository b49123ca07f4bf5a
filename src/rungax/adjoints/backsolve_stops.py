"""The stops of the backward solve: the start, the saved times and the end of the solve, with what is known there."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from ..jaxkit import BoolScalar, Time, Y
from ..plan import Plan
from ..results import is_okay
from ..saving import OutputRecorder
from ..saving.saveat import sub_name
from ..step import Outcome, State

SAVED = sub_name(0)
"""The name of the recorder whose output has derivatives: there is one at most."""


def saved_states(outcome: Outcome) -> Y | None:
    """The saved states, if any were saved."""
    output = outcome.outputs.get(SAVED)
    return None if output is None else output[1]


class Stop(NamedTuple):
    """A time at which the backward solve stops.

    Parameters
    ----------
    t, previous
        The time, and that of the stop before.
    y, cotangent
        The state there, and its cotangent.
    reached
        True if the solve came there before it failed.
    """

    t: Time
    previous: Time
    y: Y
    cotangent: Y
    reached: BoolScalar

    def shortened(self, is_needed: BoolScalar, y0: Y) -> Self:
        """The stop, moved to the one before unless the way between them `is_needed`: its state may not be finite."""
        t = jnp.where(is_needed, self.t, self.previous)
        y = jax.tree.map(lambda y, safe: jnp.where(is_needed, y, safe), self.y, y0)
        return self._replace(t=t, y=y)


def stops_of(plan: Plan, state: State, outcome: Outcome, cotangents: Y) -> Stop:
    """The start, the saved times, and the end, stacked; states that were not saved have a cotangent of zero."""
    end = jax.tree.map(lambda x: x[None], outcome.state.y)
    start = jax.tree.map(lambda x: x[None], plan.problem.y0)
    zero = jax.tree.map(jnp.zeros_like, end)
    recorder = plan.recorders[SAVED]
    assert isinstance(recorder, OutputRecorder), "its name says so"
    first = int(recorder.t0)
    last = first + recorder.ts.size
    t = jnp.concatenate([state.t[None], recorder.ts, outcome.state.t[None]])
    ys = start, _rows(saved_states(outcome), first, last), end
    given = (
        _rows(cotangents, 0, 1) if recorder.t0 else zero,
        _rows(cotangents, first, last),
        _rows(cotangents, last, last + 1) if recorder.t1 else zero,
    )
    y, cotangent = (jax.tree.map(lambda *x: jnp.concatenate(x), *parts) for parts in (ys, given))
    reached = jnp.append(t[:-1] <= _reached_time(plan, outcome), jnp.logical_not(outcome.state.lacks_end))
    reached = reached | is_okay(outcome.result)
    return Stop(t, jnp.concatenate([t[:1], t[:-1]]), y, cotangent, reached)


def _reached_time(plan: Plan, outcome: Outcome) -> Time:
    """The time up to which the state is known."""
    failed_at = plan.controller.failed_at(outcome.state.controller_state)
    return outcome.state.t if failed_at is None else jnp.minimum(outcome.state.t, failed_at)


def _rows(y: Y, first: int, last: int) -> Y:
    return jax.tree.map(lambda x: x[first:last], y)
