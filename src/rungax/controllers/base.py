"""The protocol of a step size controller."""

import abc
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import Args, BoolScalar, IntScalar, RealScalar, Time, Y
from ..nonlinear import Tolerances
from ..results import Result


class AbstractStepSizeController[ControllerState](eqx.Module):
    """How long a step is, and whether it is kept.

    Subclass it for a rule of your own. Inside a solve time always increases: a solve backwards runs in `-t`, of which
    `wrap` tells once before `init`, for controllers that hold times.

    See Also
    --------
    PIDController, ConstantStepSize, StepTo, ClipStepSizeController : those there are.

    Examples
    --------
    Steps that grow by a tenth each:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> class Growing(rungax.AbstractStepSizeController):
    ...     def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
    ...         return t0 + dt0, None
    ...
    ...     def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
    ...         keep, next_t1 = jnp.array(True), t1 + 1.1 * (t1 - t0)
    ...         return keep, t1, next_t1, jnp.array(False), None, rungax.RESULTS.successful
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, stepsize_controller=Growing()
    ... )
    >>> int(solution.stats["num_steps"])
    8
    """

    @property
    def can_jump(self) -> bool:
        """Whether `adapt_step_size` may ever return a true `made_jump`."""
        return True

    @property
    def may_reject(self) -> bool:
        """Whether a step may be made again, shorter."""
        return True

    @property
    def retries_rejected_times(self) -> bool:
        """Whether later steps end where rejected ones did, as noise needs it; so if steps are never rejected."""
        return not self.may_reject

    def wrap(self, direction: Time) -> Self:
        """This controller for times multiplied by `direction`, which is 1 or -1.

        Parameters
        ----------
        direction
            1 for a solve forwards, -1 for one backwards, which runs in `-t`.
        """
        del direction
        return self

    def tolerances(self) -> Tolerances | None:
        """What errors are held against, `None` if none are estimated."""

    def times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """Whether times that this controller holds, if any, suit a solve from `t0` to `t1`."""
        del t0, t1
        return True

    @abc.abstractmethod
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
    ) -> tuple[Time, ControllerState]:
        """Where the first step ends, and the controller's memory.

        Parameters
        ----------
        terms, args
            The terms of the equation and their arguments.
        t0, t1
            Ends of the whole interval.
        y0
            The initial state.
        dt0
            The first step asked for, positive, or `None` to choose it.
        func
            The solver's `func(terms, t0, y0, args)`.
        error_order
            Order of the solver's error estimate in the step size, `None` if not known.

        Returns
        -------
        t1, controller_state
            Where the first step ends, later than `t0`; and the memory, a pytree that keeps its structure, shapes and
            dtypes.
        """

    def differentiable_step_times(
        self,
        t0: Time,
        t1: Time,
        index: IntScalar,
        start: Time,
        end: Time,
        controller_state: ControllerState,
    ) -> tuple[Time, Time]:
        """The ends `t0`, `t1` of a kept step, unchanged in value, as functions of what decides them.

        Reverse mode differentiates times through this. By default steps keep their places relative to the two
        `fixed_points` around them: error control chose them, and the choice has no derivative.

        Parameters
        ----------
        t0, t1
            Ends of the step.
        index
            How many steps were kept before it.
        start, end
            The interval of the solve.
        controller_state
            What `init` returned.
        """
        del index, controller_state
        low, high = self.fixed_points(t0, t1, start, end)
        return rescale(t0, low, high), rescale(t1, low, high)

    def fixed_points(self, t0: Time, t1: Time, start: Time, end: Time) -> tuple[Time, Time]:
        """The nearest times before and after a step that error control did not choose: by default the interval's."""
        del t0, t1
        return start, end

    def resume(self, fresh: ControllerState, earlier: ControllerState) -> ControllerState:
        """The memory to start with: `fresh` from `init`, or by default what an `earlier` solve handed out."""
        del fresh
        return earlier

    def first_end(self, t0: Time, t1: Time, controller_state: ControllerState) -> Time:
        """Where a first step from `t0`, chosen to end at `t1`, ends with the memory of an earlier solve."""
        del t0, controller_state
        return t1

    @abc.abstractmethod
    def adapt_step_size(
        self,
        t0: RealScalar,
        t1: RealScalar,
        y0: Y,
        y1_candidate: Y,
        args: Args,
        y_error: Y | None,
        error_order: RealScalar | None,
        controller_state: ControllerState,
    ) -> tuple[BoolScalar, RealScalar, RealScalar, BoolScalar, ControllerState, Result]:
        """Judge the attempt from `t0`, `y0` to `t1`, `y1_candidate`.

        Parameters
        ----------
        t0, t1
            Ends of the attempted step, `t0 < t1`.
        y0, y1_candidate
            The state at `t0`, and the one that the step has led to.
        args
            The arguments of the terms.
        y_error
            The solver's estimate of the local error, like `y0`; `None` if it has none.
        error_order
            Order of the estimate in the step size, `None` if not known.
        controller_state
            What `init` or the last attempt, kept or not, returned.

        Returns
        -------
        keep_step, next_t0, next_t1, made_jump, controller_state, result
            Whether to keep it; where the next attempt starts (`t1` if kept, up to a jump, else `t0`) and ends, clipped
            to the end of the interval by the loop, NaN for no way on; whether the equation jumps between `t1` and
            `next_t0`; the memory; and `RESULTS.successful` or why the solve must end.
        """

    def failed_at(self, controller_state: ControllerState) -> Time | None:
        """When the state of the solve stopped being finite, for a controller that goes on nevertheless.

        Infinity if it has not; `None`, the default, for controllers whose verdicts say how a solve fails.
        """
        del controller_state


def rescale(t: Time, start: Time, end: Time) -> Time:
    """`t`, moving with `start` and `end` so that it keeps its place between them."""
    length = lax.stop_gradient(end - start)
    place = (t - lax.stop_gradient(start)) / jnp.where(length == 0, 1.0, length)
    # An interval without end moves with its start.
    place = jnp.where(jnp.isfinite(length), place, 0.0)
    return with_derivative_of(t, start + lax.stop_gradient(place) * jnp.where(jnp.isfinite(length), end - start, 0.0))


def with_derivative_of(t: Time, formula: Time) -> Time:
    """`t`, with the derivative of `formula`."""
    return lax.stop_gradient(t) + (formula - lax.stop_gradient(formula))


class AbstractAdaptiveStepSizeController[ControllerState](AbstractStepSizeController[ControllerState]):
    """A controller that holds an error estimate against tolerances.

    Attributes
    ----------
    rtol, atol
        Relative and absolute tolerance: scalars, arrays, or pytrees like the state.
    norm
        Reduces a pytree of scaled errors to one number.

    See Also
    --------
    PIDController, ClipStepSizeController : those there are.

    AbstractStepSizeController : what a subclass gives besides the attributes.
    """

    rtol: eqx.AbstractVar[PyTree[Any]]
    atol: eqx.AbstractVar[PyTree[Any]]
    norm: eqx.AbstractVar[Callable[[PyTree[Any]], RealScalar]]

    def tolerances(self) -> Tolerances:
        """The three attributes."""
        return Tolerances(self.rtol, self.atol, self.norm)
