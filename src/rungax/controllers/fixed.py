"""Steps that end at times known beforehand: the part that `ConstantStepSize` and `StepTo` share."""

import abc
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ..jaxkit import Args, BoolScalar, IntScalar, RealScalar, Time, Y, all_finite, with_derivatives_of
from ..results import RESULTS, Result
from .base import AbstractStepSizeController


class AbstractFixedTimesState(eqx.Module):
    """The state of a controller of steps that end at times known beforehand.

    Attributes
    ----------
    index
        The number of the time at which the next step ends.
    failed_at
        The start of the first step whose state was not finite, infinity if there was none.
    """

    index: eqx.AbstractVar[IntScalar]
    failed_at: eqx.AbstractVar[Time]


class AbstractFixedTimes[TimesState: AbstractFixedTimesState, Dt0](AbstractStepSizeController[TimesState, Dt0]):
    """A controller of steps that end at times known beforehand; none is rejected.

    Once the state is not finite the steps continue, so that under `vmap` all batch elements share their times.
    """

    @abc.abstractmethod
    def time(self, index: IntScalar, controller_state: TimesState) -> Time:
        """The end of step `index`, counted from 1; the start of the solve for 0."""

    @property
    def can_jump(self) -> bool:
        """False."""
        return False

    @property
    def may_reject(self) -> bool:
        """False."""
        return False

    @abc.abstractmethod
    def resume(self, t0: Time, t1: Time, dt0: RealScalar | None, earlier: TimesState) -> TimesState:
        """The state in which the first of the times after `t0` is the next."""

    def first_end(self, t0: Time, t1: Time, controller_state: TimesState) -> Time:
        """The next of the times."""
        del t0, t1
        return self.time(controller_state.index, controller_state)

    def final_state(self, initial: TimesState, final: TimesState) -> TimesState:
        """The last state, with the derivatives of the first one."""
        return replace(initial, index=final.index, failed_at=final.failed_at)

    def differentiable_step_times(
        self, t0: Time, t1: Time, index: IntScalar, start: Time, end: Time, controller_state: TimesState
    ) -> tuple[Time, Time]:
        """The ends of the step, with the derivatives of the times themselves; the first step starts with the solve."""
        del end
        i = controller_state.index + index
        first, last = self.time(i - 1, controller_state), self.time(i, controller_state)
        first = jnp.where(index == 0, start, first)
        return with_derivatives_of(t0, first), with_derivatives_of(t1, last)

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: TimesState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, TimesState, Result]:
        """Accept the step; the next one ends at the next of the times."""
        del y0, args, y_error, error_order
        index, failed_at = controller_state.index + 1, controller_state.failed_at
        failed_at = jnp.where(all_finite(y1_candidate), failed_at, jnp.minimum(failed_at, t0))
        state = replace(controller_state, index=index, failed_at=failed_at)
        return jnp.asarray(True), t1, self.time(index, state), False, state, RESULTS.successful

    def failed_at(self, controller_state: TimesState) -> Time:
        """The start of the first step whose state was not finite, infinity if there was none."""
        return controller_state.failed_at


def first_index() -> Any:
    """The index of the first step."""
    return jnp.asarray(1, jnp.int32)


def never(t: Time) -> Time:
    """The time of a failure that has not happened."""
    return jnp.full_like(t, jnp.inf)
