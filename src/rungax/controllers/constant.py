"""Steps of constant size."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, IntScalar, RealScalar, Time, Y, as_times, grid_time, is_in_grid_step
from .fixed import AbstractFixedTimes, AbstractFixedTimesState, first_index, never


class GridState(AbstractFixedTimesState):
    """The state of a `ConstantStepSize`: the grid of the solve, and the number of steps on it."""

    index: IntScalar
    failed_at: Time
    t0: Time
    t1: Time
    dt: RealScalar


class ConstantStepSize(AbstractFixedTimes[GridState, RealScalar]):
    """Steps of the size `dt0`; the last one is shortened to end on `t1`.

    Step i ends at `t0 + i dt0`, computed as such, so no rounding accumulates: a step of 0.3 on [0, 1] visits 0.3, 0.6,
    0.9 and 1. Once the state is not finite the result is `RESULTS.nonfinite`. The steps continue, with the values that
    the vector field gives for such a state, so that under `vmap` all batch elements share their times.

    Raises
    ------
    ValueError
        In a solve with `dt0=None`.

    Differentiability
    -----------------
    The ends of steps depend differentiably on `t0` and `dt0`, that of the last one on `t1`.

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
    ) -> tuple[Time, GridState]:
        """The end of the first step, and the grid."""
        del terms, y0, args, func, error_order
        if dt0 is None:
            raise ValueError(
                "`dt0=None` asks for a first step chosen by error control, which a fixed step size does not have.\n"
                "Expected: a step size `dt0`\nFound:    None\n"
                "Give `dt0`, or use `stepsize_controller=PIDController(rtol=..., atol=...)`."
            )
        t0, t1 = as_times(t0, t1)
        return grid_time(t0, t1, dt0, 1), GridState(first_index(), never(t0), t0, t1, dt0)

    def resume(self, t0: Time, t1: Time, dt0: RealScalar | None, earlier: GridState) -> GridState:
        """The grid of the earlier solve if `t0` is on it; else one from `t0`, of the size `dt0` or as before."""
        if dt0 is not None:
            return GridState(first_index(), never(t0), t0, t1, dt0)
        goes_on = is_in_grid_step(earlier.t0, earlier.dt, earlier.index, t0)
        index, origin = jnp.where(goes_on, earlier.index, first_index()), jnp.where(goes_on, earlier.t0, t0)
        return GridState(index, earlier.failed_at, origin, t1, earlier.dt)

    def time(self, index: IntScalar, controller_state: GridState) -> Time:
        """The time of the grid."""
        return grid_time(controller_state.t0, controller_state.t1, controller_state.dt, index)
