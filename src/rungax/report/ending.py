"""The end of a solve, which every program returns."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from jaxtyping import Array

from ..jaxkit import Time, Y
from ..plan import Plan
from ..step import Counts, State


class LastEvents(NamedTuple):
    """The events at the end of a solve: how often each changed the state, which were the last, and what is sought."""

    num_effects: Any
    active: Any
    is_searching: Any


class Ending(NamedTuple):
    """The end of a solve, in true time.

    Parameters
    ----------
    times
        The values of `t`, `t_next` and, if there is one, `failed_at`, along the last axis: one array, because each that
        a program returns costs time.
    y
        The state.
    counts
        The numbers of attempts by their outcome, of which `Solution.stats` is made: one array too.
    events
        The events; `None` in a solve without.
    """

    times: Array
    y: Y
    counts: Counts
    events: LastEvents | None

    @classmethod
    def of(cls, plan: Plan, state: State) -> Self:
        """The ending of a solve whose last state is `state`."""
        failed_at, direction, events = plan.controller.failed_at(state.controller_state), plan.problem.direction, None
        if state.events is not None:
            events = LastEvents(state.events.num_effects, state.events.active, state.events.bracket.is_open)
        times = [state.t, state.t_next] if failed_at is None else [state.t, state.t_next, failed_at]
        return cls(jnp.stack(times) * direction, state.y, state.counts, events)

    @property
    def t(self) -> Time:
        """The time."""
        return self.times[..., 0]

    @property
    def t_next(self) -> Time:
        """The end of the next attempt."""
        return self.times[..., 1]

    @property
    def failed_at(self) -> Time | None:
        """For controllers that go on after the state has stopped being finite: the last time at which it was."""
        return self.times[..., 2] if self.times.shape[-1] > 2 else None
