"""Steps of constant size."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, BoolScalar, IntScalar, RealScalar, Time, Y, all_finite, grid_time
from ..results import RESULTS, Result
from .base import AbstractStepSizeController, with_derivative_of


class _GridState(eqx.Module):
    t0: Time
    t1: Time
    dt: RealScalar
    index: IntScalar
    failed_at: Time


class ConstantStepSize(AbstractStepSizeController[_GridState]):
    """Steps of the size `dt0`; the last one is shortened to end on `t1`.

    Step i ends at `t0 + i dt0`, computed as such, so no rounding accumulates: a step of 0.3 on [0, 1] visits
    0.3, 0.6, 0.9 and 1. Once the state is not finite the result is `RESULTS.nonfinite`; the steps go on, with whatever
    the vector field makes of such a state, so that under `vmap` all lanes share their times.

    Raises
    ------
    ValueError
        In a solve with `dt0=None`.

    Differentiability
    -----------------
    Steps move with `t0` and `dt0`, the last one with `t1`.

    Cost
    ----
    One attempt for each step: none is rejected.

    Examples
    --------
    >>> import rungax
    >>> saveat = rungax.SaveAt(steps=True)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.3, 1.0, saveat=saveat, max_steps=4
    ... )
    >>> print(solution.ts)
    [0.3 0.6 0.9 1. ]
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
        return grid_time(t0, t1, dt0, 1), _GridState(t0, t1, dt0, jnp.asarray(1, jnp.int32), never(t0))

    def resume(self, fresh: _GridState, earlier: _GridState) -> _GridState:
        """The grid of this solve: an earlier one's says nothing of it."""
        del earlier
        return fresh

    def differentiable_step_times(
        self, t0: Time, t1: Time, index: IntScalar, start: Time, end: Time, controller_state: _GridState
    ) -> tuple[Time, Time]:
        """Times of the grid: they move with `t0`, `dt0`, and the last one with `t1`."""
        del start, end
        grid, i = controller_state, controller_state.index + index
        return with_derivative_of(t0, grid_time(grid.t0, grid.t1, grid.dt, i - 1)), with_derivative_of(
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
        """Keep the step; go on to the next time of the grid."""
        del y0, args, y_error, error_order
        grid, index = controller_state, controller_state.index + 1
        failed_at = earlier_failure(grid.failed_at, t0, y1_candidate)
        state = _GridState(grid.t0, grid.t1, grid.dt, index, failed_at)
        return jnp.asarray(True), t1, grid_time(grid.t0, grid.t1, grid.dt, index), False, state, RESULTS.successful

    def failed_at(self, controller_state: _GridState) -> Time:
        """When the first step started whose state was not finite."""
        return controller_state.failed_at


def never(t: Time) -> Time:
    """The time of a failure that has not happened."""
    return jnp.full_like(t, jnp.inf)


def earlier_failure(failed_at: Time, t0: RealScalar, y: Y) -> Time:
    """When the state stopped being finite, after a step from `t0` to `y`."""
    return jnp.where(all_finite(y), failed_at, jnp.minimum(failed_at, t0))
