"""Steps that end at given times, whatever size error control proposes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree, Real

from ..jaxkit import (
    AbstractChecked,
    Args,
    BoolScalar,
    Condition,
    RealScalar,
    Time,
    Y,
    as_array,
    as_times,
    call_user,
    clip_next_end,
    kind_of,
    operand,
    shown,
    time_dtype,
    with_fields,
)
from ..results import RESULTS, Result, choose, first_failure
from ..stops import StopQueue, Stops
from .base import AbstractAdaptiveStepSizeController, AbstractStepSizeController

STORED_REJECTIONS = 100
"""The default of `store_rejected_steps` in the solve of an equation with noise."""


class ClipState(eqx.Module):
    """The state of a `ClipStepSizeController`.

    Attributes
    ----------
    step_info, jump_info
        `None`: the next of the times follows from the time alone.
    reject_info
        The ends of rejected steps that are still to be retried, the last one rejected first, padded with infinity.
    inner_state
        The state of the controller inside.
    """

    step_info: None
    jump_info: None
    reject_info: Float[Array, " stored"] | None
    inner_state: PyTree[Any]


class ClipStepSizeController[ControllerState, Dt0](AbstractAdaptiveStepSizeController[ClipState, Dt0], AbstractChecked):
    """Shortens the steps of another controller so that they end at given times.

    Parameters
    ----------
    controller
        Chooses the steps that are shortened; it must control an error, as `PIDController` and this one do.
    step_ts
        Times at which a step must end exactly, shape `(n,)`, in any order. Use them where the vector field has a kink:
        where a derivative of it jumps.
    jump_ts
        Times at which the vector field itself jumps, shape `(n,)`, floating, in any order. A step ends on the
        floating-point number before such a time and the next one starts on the number after it (around zero, on the
        smallest normal numbers), so that each side is evaluated with its own values; the solver discards its
        evaluations of the vector field. If such a time is within a few roundings of `t1`, the solve ends there without
        a jump.
    store_rejected_steps
        The number of rejected ends to store. Each is then retried: a later step ends on it exactly. Adaptive steps of a
        stochastic equation need this: the path is known at these ends, and steps that skip them would favour paths on
        which the error happens to be small. With more rejections in a row the solve ends with
        `RESULTS.max_steps_rejected`. `None` stores nothing, except in the solve of an equation with noise, which then
        stores 100.

    Raises
    ------
    ValueError
        If `controller` has no error control, `step_ts` or `jump_ts` is not a one-dimensional array of real numbers,
        `jump_ts` is not floating, or `store_rejected_steps` is not positive.

    Notes
    -----
    Times outside the interval of the solve, and `t0` itself, are ignored. Both arrays may be traced. `rtol`, `atol` and
    `norm` are those of `controller`. Controllers of this kind may be nested.

    Differentiability
    -----------------
    The end of a step on one of `step_ts` or `jump_ts` has the derivative of that time; the steps in between are
    rescaled with the times around them. No gradient flows through the choice of step sizes.

    Cost
    ----
    A binary search in each array a step. `store_rejected_steps` moves a buffer of that size in each step.

    Examples
    --------
    >>> import rungax
    >>> pid = rungax.PIDController(rtol=1e-6, atol=1e-9)
    >>> switched = rungax.ClipStepSizeController(pid, jump_ts=[1.0, 2.5])
    """

    controller: AbstractAdaptiveStepSizeController[ControllerState, Dt0]
    step_ts: Real[Array | np.ndarray, " steps"] | None
    jump_ts: Float[Array | np.ndarray, " jumps"] | None
    store_rejected_steps: int | None

    def __init__(
        self,
        controller: AbstractAdaptiveStepSizeController[ControllerState, Dt0],
        step_ts: Any = None,
        jump_ts: Any = None,
        store_rejected_steps: int | None = None,
    ):
        if not isinstance(controller, AbstractAdaptiveStepSizeController):
            raise ValueError(
                "`ClipStepSizeController(controller, ...)` shortens steps, which only error control can compensate.\n"
                "Expected: an adaptive controller, such as PIDController\n"
                f"Found:    {kind_of(controller)}\nTo end steps at times you know, use `StepTo(ts)`."
            )
        n = store_rejected_steps
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n <= 0):
            raise ValueError(
                "`store_rejected_steps` is how many rejected steps can be stored.\n"
                f"Expected: a positive integer or None\nFound:    {shown(n)}\n"
                "Use `None` to store none; 100 is nearly always enough."
            )
        self.controller = controller
        self.step_ts = _times("step_ts", step_ts, jnp.integer, jnp.floating)
        self.jump_ts = _times("jump_ts", jump_ts, jnp.floating)
        self.store_rejected_steps = n

    def value_conditions(self) -> Iterator[Condition]:
        """`step_ts` and `jump_ts` are numbers."""
        for name, ts in (("step_ts", self.step_ts), ("jump_ts", self.jump_ts)):
            if ts is not None:
                yield _are_numbers(name, ts)

    @property
    def rtol(self) -> PyTree[Any]:
        """The relative tolerance of the controller inside."""
        return self.controller.rtol

    @property
    def atol(self) -> PyTree[Any]:
        """The absolute tolerance of the controller inside."""
        return self.controller.atol

    # A method for type checkers, because the base declares a callable attribute.
    @property
    def norm(self) -> Callable[[PyTree[Any]], RealScalar]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The norm of the controller inside."""
        return self.controller.norm

    @property
    def can_jump(self) -> bool:
        """True if there are `jump_ts`, here or inside."""
        return self.jump_ts is not None or self.controller.can_jump

    @property
    def retries_rejected_times(self) -> bool:
        """True if rejected steps are stored, here or inside."""
        return self.store_rejected_steps is not None or self.controller.retries_rejected_times

    def bounding_also(self, error: RealScalar) -> Self:
        """This controller with one more scaled error for the controller inside to keep below one."""
        return eqx.tree_at(lambda clip: clip.controller, self, self.controller.bounding_also(error))

    def times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """True if the times are numbers; they may lie anywhere."""
        fit = self.controller.times_fit(t0, t1)
        for condition in self.value_conditions():
            fit = fit & condition.holds()
        return fit

    def wrap(self, direction: Time) -> Self:
        """This controller with times in the direction of travel."""

        def directed(ts: Any) -> Array | None:
            return None if ts is None else jnp.asarray(ts).astype(time_dtype(direction)) * direction

        controller = self.controller.wrap(direction)
        step_ts, jump_ts = directed(self.step_ts), directed(self.jump_ts)
        return with_fields(self, controller=controller, step_ts=step_ts, jump_ts=jump_ts)

    def with_coefficients(self, recommended: tuple[float, float, float]) -> Self:
        """This controller with the coefficients in the controller inside, if it was given none."""
        return with_fields(self, controller=self.controller.with_coefficients(recommended))

    def stops(self) -> tuple[Stops, ...]:
        """`step_ts` and `jump_ts`, and those of the controller inside."""
        return (*self._own_stops(), *self.controller.stops())

    def without_stops(self) -> Self:
        """This controller without `step_ts` and `jump_ts`, here and inside."""
        return with_fields(self, controller=self.controller.without_stops(), step_ts=None, jump_ts=None)

    def init(
        self,
        terms: PyTree[Any],
        t0: Time,
        t1: Time,
        y0: Y,
        dt0: Dt0,
        args: Args,
        func: Callable[..., Any],
        error_order: RealScalar | None,
    ) -> tuple[Time, ClipState]:
        """The first step of the controller inside, or the first of the times if that comes earlier."""
        t0, t1 = as_times(t0, t1)
        queue = self._queue(t0.dtype)
        t1 = t1 if queue is None else queue.clip(False, t0, t1)
        init = self.controller.init
        t_next, inner_state = call_user("the controller", init, terms, t0, t1, y0, dt0, args, func, error_order)
        n = self.store_rejected_steps
        rejected = None if n is None else jnp.full(n, jnp.inf, t0.dtype)
        return self._clip(True, t0, t_next, rejected), ClipState(None, None, rejected, inner_state)

    def resume(self, t0: Time, t1: Time, dt0: RealScalar | None, earlier: ClipState) -> ClipState:
        """The earlier state, with which the controller inside continues from its own."""
        return replace(earlier, inner_state=self.controller.resume(t0, t1, dt0, earlier.inner_state))

    def final_state(self, initial: ClipState, final: ClipState) -> ClipState:
        """The last state, with the final state of the controller inside."""
        return replace(final, inner_state=self.controller.final_state(initial.inner_state, final.inner_state))

    def first_end(self, t0: Time, t1: Time, controller_state: ClipState) -> Time:
        """The first of the times, among them the rejected ones that an earlier solve has left to retry."""
        t1 = self.controller.first_end(t0, t1, controller_state.inner_state)
        return self._clip(False, t0, t1, controller_state.reject_info)

    def fixed_points(self, t0: Time, t1: Time, start: Time, end: Time) -> tuple[Time, Time]:
        """The fixed points of the controller inside, or nearer ones among the times."""
        low, high = self.controller.fixed_points(t0, t1, start, end)
        queue = self._queue(t0.dtype)
        return (low, high) if queue is None else queue.around(t0, t1, low, high)

    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: ClipState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, ClipState, Result]:
        """The inner controller's answer, with the next step moved past a jump and shortened to the next time."""
        (t0, t1), rejected = as_times(t0, t1), controller_state.reject_info
        keep, next_t0, next_t1, made_jump, inner_state, result = call_user(
            "the controller",
            self.controller.adapt_step_size,
            t0,
            t1,
            y0,
            y1_candidate,
            args,
            y_error,
            error_order,
            controller_state.inner_state,
        )
        next_t0, next_t1, queue = jnp.asarray(next_t0), jnp.asarray(next_t1), self._queue(t0.dtype)
        if queue is not None and queue.can_jump:
            next_t0, next_t1, jumped = queue.pass_jump(keep, t0, t1, next_t0, next_t1)
            made_jump = made_jump | jumped
        if rejected is not None:
            rejected, overflow = _push(rejected, jnp.asarray(keep), t0, t1)
            result = first_failure(result, choose(overflow, RESULTS.max_steps_rejected, result))
        next_t1 = self._clip(keep, next_t0, next_t1, rejected)
        return keep, next_t0, next_t1, made_jump, ClipState(None, None, rejected, inner_state), result

    def next_end_for_factor(
        self,
        factor: RealScalar,
        accepted: BoolScalar,
        dt: Time,
        next_t0: Time,
        next_t1: Time,
        controller_state: ClipState,
    ) -> Time:
        """The inner controller's answer, shortened to the next of the times."""
        inner_state, rejected = controller_state.inner_state, controller_state.reject_info
        next_t1 = self.controller.next_end_for_factor(factor, accepted, dt, next_t0, next_t1, inner_state)
        return self._clip(accepted, next_t0, next_t1, rejected)

    def _own_stops(self) -> tuple[Stops, ...]:
        """`step_ts`, where the vector field has a kink, and `jump_ts`, where it jumps."""
        ordered = ((self.step_ts, 2), (self.jump_ts, 1))
        return tuple(Stops(ts, order) for ts, order in ordered if ts is not None)

    def _queue(self, dtype: DTypeLike) -> StopQueue | None:
        return StopQueue.of(self._own_stops(), dtype)

    def _clip(self, accepted: BoolScalar, t: Time, t_next: Time, rejected: Array | None) -> Time:
        """The end of a step from `t`: `t_next`, or the first of the times if that is earlier."""
        queue = self._queue(t.dtype)
        if queue is not None:
            t_next = queue.clip(accepted, t, t_next)
        if rejected is None:
            return t_next
        return clip_next_end(accepted, _next_rejected(rejected, t), t_next)


def retrying_rejected_times(controller: AbstractStepSizeController[Any, Any]) -> AbstractStepSizeController[Any, Any]:
    """`controller`, wrapped so that it retries rejected times, if it has error control and does not do so itself.

    Equations with noise need this: when a step is rejected, the path up to its end is known. Stepping past that end as
    if it were not known would prefer paths on which the error happened to be small.
    """
    if controller.retries_rejected_times or not isinstance(controller, AbstractAdaptiveStepSizeController):
        return controller
    return ClipStepSizeController(controller, store_rejected_steps=STORED_REJECTIONS)


def _next_rejected(rejected: Array, t: Time) -> Time:
    return jnp.min(jnp.where(rejected > t, rejected, jnp.inf))


def _push(rejected: Array, keep: Array, t0: Time, t1: Time) -> tuple[Array, Array]:
    """The stack of rejected ends after an attempt, and whether there was no room for one more.

    Each rejected end is earlier than those still on the stack, so the top of the stack is the next to retry. The top is
    the first entry: under `vmap`, shifting the others costs less than indexing.
    """
    is_new = ~keep & (t1 < _next_rejected(rejected, t0))
    is_retried = keep & (rejected[0] <= t1)
    pushed = jnp.concatenate([t1[None], rejected[:-1]])
    popped = jnp.concatenate([rejected[1:], jnp.full_like(t1[None], jnp.inf)])
    stack = jnp.where(is_new, pushed, jnp.where(is_retried, popped, rejected))
    return stack, is_new & jnp.isfinite(rejected[-1])


def _times(name: str, ts: Any, *kinds: Any) -> Any:
    """`ts` as an array, checked; none at all count as `None`."""
    if ts is None:
        return None
    ts = as_array(ts, f"`{name}`", "a one-dimensional array of times")
    if ts.ndim != 1:
        raise ValueError(
            f"`{name}` is a list of times.\nExpected: a one-dimensional array\nFound:    shape {ts.shape}\n"
            f"For a single time t write `{name}=[t]`."
        )
    if ts.size == 0:
        return None
    if not any(jnp.issubdtype(ts.dtype, kind) for kind in kinds):
        raise ValueError(
            f"`{name}` must be floating-point times.\nExpected: a float dtype\nFound:    {ts.dtype}\n"
            "Write 1.0 instead of 1, or convert with `.astype(float)`."
        )
    return ts


def _are_numbers(name: str, ts: Any) -> Condition:
    return Condition(
        ts,
        lambda: (operand(ts) == operand(ts)).all(),
        f"`{name}` must be numbers.",
        lambda: f"\nExpected: times\nFound:    {ts}\nLeave the NaNs out.",
    )
