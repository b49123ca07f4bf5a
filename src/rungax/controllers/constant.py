"""Steps of constant size."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, BoolScalar, IntScalar, RealScalar, Time, Y, all_finite, grid_time
from ..results import RESULTS, Result
from .base import AbstractStepSizeController, moving_with


class _GridState(eqx.Module):
    t0: Time
    t1: Time
    dt: RealScalar
    index: IntScalar


class ConstantStepSize(AbstractStepSizeController[_GridState]):
    """Steps of the size `dt0`; the last one is shortened to end on `t1`.

    Step i ends at `t0 + i dt0`, computed as such, so no rounding accumulates: a step of 0.3 on [0, 1] visits
    0.3, 0.6, 0.9 and 1. A step whose state is not finite ends the solve with `RESULTS.nonfinite`.
    """

    @property
    def can_jump(self) -> bool:
        """Never."""
        return False

    @property
    def may_reject(self) -> bool:
        """Never."""
        return False

    def init(
        self,
        terms: PyTree[Any],
        t0: Time,
        t1: Time,
        y0: Y,
        dt0: RealScalar | None,
        args: Args,
        func: Callable[..., Any],
        error_order: RealScalar | None,
    ) -> tuple[Time, _GridState]:
        """The end of the first step, and the grid."""
        del terms, y0, args, func, error_order
        if dt0 is None:
            raise ValueError(
                "`dt0=None` asks for a first step chosen by error control, which a fixed step size has not.\n"
                "Expected: a step size `dt0`\nFound:    None\n"
                "Give `dt0`, or use `stepsize_controller=PIDController(rtol=..., atol=...)`."
            )
        return grid_time(t0, t1, dt0, 1), _GridState(t0, t1, dt0, jnp.asarray(1, jnp.int32))

    def resume(self, fresh: _GridState, earlier: _GridState) -> _GridState:
        """The grid of this solve: an earlier one's says nothing of it."""
        del earlier
        return fresh

    def retime(
        self, t0: Time, t1: Time, index: IntScalar, start: Time, end: Time, controller_state: _GridState
    ) -> tuple[Time, Time]:
        """Times of the grid: they move with `t0`, `dt0`, and the last one with `t1`."""
        del start, end
        grid, i = controller_state, controller_state.index + index
        return moving_with(t0, grid_time(grid.t0, grid.t1, grid.dt, i - 1)), moving_with(
            t1, grid_time(grid.t0, grid.t1, grid.dt, i)
        )

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: _GridState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, _GridState, Result]:
        """Keep the step unless it is not finite; go on to the next time of the grid."""
        del t0, y0, args, y_error, error_order
        grid = controller_state
        state = _GridState(grid.t0, grid.t1, grid.dt, grid.index + 1)
        keep, next_t1 = if_finite(y1_candidate, grid_time(grid.t0, grid.t1, grid.dt, state.index))
        return keep, t1, next_t1, False, state, RESULTS.successful


def if_finite(y: Y, next_t1: RealScalar) -> tuple[BoolScalar, RealScalar]:
    """Whether a step that nobody can shorten is kept, and when the next one ends: at no time at all if it is not."""
    finite = all_finite(y)
    return finite, jnp.where(finite, next_t1, jnp.nan)
