"""Steps to given times."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..jaxkit import (
    Args,
    BoolScalar,
    IntScalar,
    RealScalar,
    Time,
    Y,
    as_array,
    as_times,
    shown,
    time_dtype,
    with_fields,
)
from .fixed import AbstractFixedTimes, AbstractFixedTimesState, first_index, never


class StepToState(AbstractFixedTimesState):
    """The state of a `StepTo`."""

    index: IntScalar
    failed_at: Time


class StepTo(AbstractFixedTimes[StepToState, None]):
    """Steps that end at given times; a state that is not finite is treated as by `ConstantStepSize`.

    Parameters
    ----------
    ts
        The times, shape `(n,)` with n at least 2, from the `t0` to the `t1` of the solve, strictly monotone in the
        direction of travel. `dt0` must be `None`. A solve that continues from the `controller_state` of another one may
        start at any of them, or between two.

    Raises
    ------
    ValueError
        If `ts` is not one-dimensional or has fewer than two entries; in a solve with a `dt0`, or where `ts` does not
        lead from `t0` to `t1`, strictly monotone. Inside `jax.jit` and the like, such times make the solve end in
        `RESULTS.invalid_input`.

    Differentiability
    -----------------
    The ends of steps are `ts`, with their derivatives; the first step starts at `t0`, with that of `t0`.

    Cost
    ----
    One attempt for each step: none is rejected.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> ts = jnp.array([0.0, 0.1, 0.3, 1.0])
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y,
    ...     rungax.Heun(),
    ...     0.0,
    ...     1.0,
    ...     None,
    ...     1.0,
    ...     stepsize_controller=rungax.StepTo(ts),
    ... )
    >>> int(solution.stats["num_steps"])
    3
    """

    ts: Float[Array | np.ndarray, " times"] = eqx.field(
        converter=lambda ts: as_array(ts, "`StepTo(ts)`", "a one-dimensional array of times")
    )

    def __check_init__(self) -> None:
        shape = jnp.shape(self.ts)
        if len(shape) != 1 or shape[0] < 2:
            raise ValueError(
                "`StepTo(ts)` steps from each time to the next.\n"
                "Expected: a one-dimensional array of at least 2 times\n"
                f"Found:    shape {shape}\nGive the times from `t0` to `t1`, for example jnp.linspace(t0, t1, 100)."
            )

    def times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """True if the times go from `t0` to `t1`, strictly monotone."""
        ts = self.ts
        forwards, backwards = (ts[1:] > ts[:-1]).all(), (ts[1:] < ts[:-1]).all()
        is_monotone = ((t1 > t0) & forwards) | ((t1 < t0) & backwards)
        return (ts[0] == t0) & (ts[-1] == t1) & is_monotone

    def continued_times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """True if the times end at `t1`, strictly monotone, and `t0` is one of them or between two."""
        first = self.ts[0]
        return self.times_fit(first, t1) & ((t0 - first) * (t1 - first) >= 0) & ((t1 - t0) * (t1 - first) >= 0)

    def wrap(self, direction: Time) -> Self:
        """This controller with its times in the direction of travel."""
        return with_fields(self, ts=jnp.asarray(self.ts).astype(time_dtype(direction)) * direction)

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
    ) -> tuple[Time, StepToState]:
        """The second of the times."""
        del terms, y0, args, func, error_order
        if dt0 is not None:
            raise ValueError(
                "`StepTo(ts)` says where each step ends, so there is no first step size to give.\n"
                f"Expected: dt0=None\nFound:    dt0={shown(dt0)}\nPass `dt0=None`."
            )
        t0, _ = as_times(t0, t1)
        return jnp.asarray(self.ts)[1], StepToState(first_index(), never(t0))

    def resume(self, t0: Time, t1: Time, dt0: RealScalar | None, earlier: StepToState) -> StepToState:
        """The state in which the first of the times after `t0` is the next."""
        del t1, dt0
        index = jnp.searchsorted(jnp.asarray(self.ts), t0, side="right").astype(jnp.int32)
        return StepToState(index, earlier.failed_at)

    def time(self, index: IntScalar, controller_state: StepToState) -> Time:
        """The given time; the last one for indices past the end."""
        del controller_state
        times = jnp.asarray(self.ts)
        return times[jnp.minimum(index, times.size - 1)]
