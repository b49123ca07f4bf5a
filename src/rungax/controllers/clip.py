"""Steps that end at chosen times, whatever the error control would like."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree, Real

from ..jaxkit import Args, BoolScalar, RealScalar, Time, Y, clip_to_end, is_traced
from ..results import RESULTS, Result, choose, first_failure
from .base import AbstractAdaptiveStepSizeController, AbstractStepSizeController

STORED_REJECTIONS = 100
"""How many rejected steps in a row the solve of an equation with noise may have, if not told otherwise."""


class ClipState(eqx.Module):
    """The memory of a `ClipStepSizeController`.

    Attributes
    ----------
    step_info, jump_info
        Nothing: the next of the times is found from time itself.
    reject_info
        The ends of rejected steps that are still to be revisited, the last one rejected first, padded with infinity.
    inner_state
        The memory of the controller inside.
    """

    step_info: None
    jump_info: None
    reject_info: Float[Array, " stored"] | None
    inner_state: PyTree[Any]


class ClipStepSizeController(AbstractAdaptiveStepSizeController[ClipState]):
    """Shortens the steps of another controller so that they end at chosen times.

    Parameters
    ----------
    controller
        Chooses the steps that are shortened; it must control an error, as `PIDController` and this one do.
    step_ts
        Times at which a step shall end exactly, shape `(n,)`, in any order. Use them where the vector field has a kink:
        where a derivative of it jumps.
    jump_ts
        Times at which the vector field itself jumps, shape `(n,)`, floating, in any order. A step ends on the
        floating-point number before such a time and the next one starts on the number after it (around zero, on the
        smallest normal numbers), so that each side is evaluated with its own values; what the solver remembers of the
        vector field is discarded. Such a time less than a few roundings from `t1` is merely the end of the solve.
    store_rejected_steps
        How many ends of rejected steps to store. Each is then revisited: a later step ends on it exactly. Adaptive
        steps of a stochastic equation need this, because the path is known there already and must not be forgotten.
        With more rejections in a row the solve ends with `RESULTS.max_steps_rejected`. `None` stores nothing; the solve
        of an equation with noise then stores 100 by itself.

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
    A step that ends on one of `step_ts` or `jump_ts` moves with it; the steps between keep their places. No gradient
    flows through the choice of step sizes.

    Cost
    ----
    A binary search in each array a step. `store_rejected_steps` moves a buffer of that size in each step.

    Examples
    --------
    >>> import rungax
    >>> pid = rungax.PIDController(rtol=1e-6, atol=1e-9)
    >>> switched = rungax.ClipStepSizeController(pid, jump_ts=[1.0, 2.5])
    """

    controller: AbstractAdaptiveStepSizeController[Any]
    step_ts: Real[Array | np.ndarray, " steps"] | None
    jump_ts: Float[Array | np.ndarray, " jumps"] | None
    store_rejected_steps: int | None

    def __init__(
        self,
        controller: AbstractAdaptiveStepSizeController[Any],
        step_ts: Any = None,
        jump_ts: Any = None,
        store_rejected_steps: int | None = None,
    ):
        if not isinstance(controller, AbstractAdaptiveStepSizeController):
            raise ValueError(
                "`ClipStepSizeController(controller, ...)` shortens steps, which only error control makes up for.\n"
                "Expected: an adaptive controller, such as PIDController\n"
                f"Found:    {type(controller).__name__}\nTo end steps at times you know, use `StepTo(ts)`."
            )
        n = store_rejected_steps
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n <= 0):
            raise ValueError(
                "`store_rejected_steps` is how many rejected steps can be stored.\n"
                f"Expected: a positive integer or None\nFound:    {n!r}\nUse `None` to store none; 100 is plenty."
            )
        self.controller = controller
        self.step_ts = _times("step_ts", step_ts, jnp.integer, jnp.floating)
        self.jump_ts = _times("jump_ts", jump_ts, jnp.floating)
        self.store_rejected_steps = n

    @property
    def rtol(self) -> PyTree[Any]:
        """The relative tolerance of the controller inside."""
        return self.controller.rtol

    @property
    def atol(self) -> PyTree[Any]:
        """The absolute tolerance of the controller inside."""
        return self.controller.atol

    @property
    def norm(self) -> Callable[[PyTree[Any]], RealScalar]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The norm of the controller inside."""
        return self.controller.norm

    @property
    def can_jump(self) -> bool:
        """Whether there are `jump_ts`, here or inside."""
        return self.jump_ts is not None or self.controller.can_jump

    @property
    def retries_rejected_times(self) -> bool:
        """Whether it stores rejected steps, here or inside."""
        return self.store_rejected_steps is not None or self.controller.retries_rejected_times

    def times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """Whether the times are numbers; they may be anywhere."""
        fit = self.controller.times_fit(t0, t1)
        for ts in (self.step_ts, self.jump_ts):
            if ts is not None:
                fit = fit & (ts == ts).all()
        return fit

    def wrap(self, direction: Time) -> Self:
        """The same in the direction of travel, with the times in order."""
        return type(self)(
            self.controller.wrap(direction),
            _in_order(self.step_ts, direction),
            _in_order(self.jump_ts, direction),
            self.store_rejected_steps,
        )

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
    ) -> tuple[Time, ClipState]:
        """The first step of the controller inside, or the first of the times if that comes earlier."""
        t_next, inner_state = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        n = self.store_rejected_steps
        rejected = None if n is None else jnp.full(n, jnp.inf, t0.dtype)
        return self._clip(True, t0, t_next, rejected), ClipState(None, None, rejected, inner_state)

    def first_end(self, t0: Time, t1: Time, controller_state: ClipState) -> Time:
        """The first of the times, among them those that an earlier solve has still to revisit."""
        t1 = self.controller.first_end(t0, t1, controller_state.inner_state)
        return self._clip(False, t0, t1, controller_state.reject_info)

    def fixed_points(self, t0: Time, t1: Time, start: Time, end: Time) -> tuple[Time, Time]:
        """Those of the controller inside, or nearer ones among the times."""
        low, high = self.controller.fixed_points(t0, t1, start, end)
        for ts in (self.step_ts, self.jump_ts):
            if ts is not None:
                before = jnp.searchsorted(ts, t0, side="right") - 1
                low = jnp.where(before >= 0, jnp.maximum(low, jnp.asarray(ts)[jnp.maximum(before, 0)]), low)
                after = jnp.searchsorted(ts, t1, side="left")
                high = jnp.minimum(high, jnp.asarray(ts)[jnp.minimum(after, ts.size - 1)])
        return low, high

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
        """What the controller inside says, with the next step moved past a jump and shortened to the next time."""
        t0, t1, rejected = jnp.asarray(t0), jnp.asarray(t1), controller_state.reject_info
        keep, next_t0, next_t1, made_jump, inner_state, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state.inner_state
        )
        if self.jump_ts is not None:
            jump = _next_jump(self.jump_ts, t0)
            jumped = keep & (t1 >= just_before(jump))
            made_jump = made_jump | jumped
            # The end of the solve may be nearer to the jump than this leaves room for; then there is nothing to pass.
            passed = jumped & (t1 < jump)
            restart = jnp.maximum(next_t0, just_after(jump))
            next_t1 = jnp.where(passed, restart + (next_t1 - next_t0), next_t1)
            next_t0 = jnp.where(passed, restart, next_t0)
        if rejected is not None:
            rejected, overflow = _remember(rejected, jnp.asarray(keep), t0, t1)
            result = first_failure(result, choose(overflow, RESULTS.max_steps_rejected, result))
        next_t1 = self._clip(keep, jnp.asarray(next_t0), jnp.asarray(next_t1), rejected)
        return keep, next_t0, next_t1, made_jump, ClipState(None, None, rejected, inner_state), result

    def _clip(self, kept: BoolScalar, t: Time, t_next: Time, rejected: Array | None) -> Time:
        """The end of a step from `t`: the first of the times if that is before `t_next`."""
        stops: list[Time] = []
        if self.step_ts is not None:
            stops.append(_first_after(self.step_ts, t))
        if self.jump_ts is not None:
            stops.append(just_before(_next_jump(self.jump_ts, t)))
        if rejected is not None:
            stops.append(_next_rejected(rejected, t))
        if not stops:
            return t_next
        stop = jnp.min(jnp.stack(stops))
        # Landing may lengthen a step by some roundings; a rejected one must become shorter, or it is made for ever.
        return jnp.where(kept, clip_to_end(stop, t_next), jnp.minimum(stop, t_next))


def retrying_rejected_times(controller: AbstractStepSizeController[Any]) -> AbstractStepSizeController[Any]:
    """`controller`, with rejected steps revisited if it has error control and does not do so itself.

    For equations with noise: what the path did up to a rejected end is known when the step is judged. To step
    past that end as if it were not would prefer paths on which the error happened to be small.
    """
    if controller.retries_rejected_times or not isinstance(controller, AbstractAdaptiveStepSizeController):
        return controller
    return ClipStepSizeController(controller, store_rejected_steps=STORED_REJECTIONS)


def just_before(t: Time) -> Time:
    """The floating-point number before `t`; around zero, where processors drop smaller ones, a normal number."""
    return _neighbour(t, -1.0)


def just_after(t: Time) -> Time:
    """The floating-point number after `t`; around zero, where processors drop smaller ones, a normal number."""
    return _neighbour(t, 1.0)


def _neighbour(t: Time, side: float) -> Time:
    tiny = float(jnp.finfo(t.dtype).tiny)
    neighbour = jnp.nextafter(t, jnp.full_like(t, side * jnp.inf))
    neighbour = jnp.where(jnp.abs(neighbour) < tiny, side * tiny, neighbour)
    # Written so that its derivative is one. The difference is exact, as is the sum; infinity has no neighbour.
    offset = lax.stop_gradient(jnp.where(jnp.isfinite(t), neighbour - t, 0.0))
    return t + offset


def _first_after(ts: Any, t: Time) -> Time:
    """The first of `ts`, which are in order and end with infinity, that is later than `t`."""
    index = jnp.searchsorted(ts, t, side="right", method="scan_unrolled")
    return jnp.asarray(ts).at[index].get(mode="clip")


def _next_jump(jump_ts: Any, t: Time) -> Time:
    """The first jump for which a step can be made from `t` to the number before it."""
    return _first_after(jump_ts, just_after(t))


def _next_rejected(rejected: Array, t: Time) -> Time:
    return jnp.min(jnp.where(rejected > t, rejected, jnp.inf))


def _remember(rejected: Array, keep: Array, t0: Time, t1: Time) -> tuple[Array, Array]:
    """The stack of rejected ends after an attempt, and whether there was no room for one more.

    Each rejected end is earlier than those before it that have not been revisited, so the top of the stack is the next
    to visit. The top is the first entry: to shift the others costs less than to index, in the lanes of a `vmap`.
    """
    is_new = ~keep & (t1 < _next_rejected(rejected, t0))
    is_revisited = keep & (rejected[0] <= t1)
    pushed = jnp.concatenate([t1[None], rejected[:-1]])
    popped = jnp.concatenate([rejected[1:], jnp.full_like(t1[None], jnp.inf)])
    stack = jnp.where(is_new, pushed, jnp.where(is_revisited, popped, rejected))
    return stack, is_new & jnp.isfinite(rejected[-1])


def _in_order(ts: Any, direction: Time) -> Array | None:
    if ts is None:
        return None
    return jnp.append(jnp.sort(jnp.asarray(ts).astype(direction.dtype) * direction), jnp.inf)


def _times(name: str, ts: Any, *kinds: Any) -> Any:
    """`ts` as an array, checked; none at all count as `None`."""
    if ts is None:
        return None
    if not isinstance(ts, jax.Array | np.ndarray):
        ts = jnp.asarray(ts) if is_traced(ts) else np.asarray(ts)
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
    # With NumPy, for inside a compiled function JAX would trace even what is known.
    if not is_traced(ts) and np.isnan(np.asarray(ts).astype(np.float64)).any():
        raise ValueError(f"`{name}` must be numbers.\nExpected: times\nFound:    {ts}\nLeave the NaNs out.")
    return ts
