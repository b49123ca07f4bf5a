"""The protocol of a step size controller."""

import abc
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import Args, BoolScalar, IntScalar, RealScalar, Time, Y, with_derivatives_of
from ..nonlinear import Tolerances
from ..results import Result
from ..stops import Stops


class AbstractStepSizeController[ControllerState, Dt0](eqx.Module):
    """A step size controller: it chooses the length of each step, and accepts or rejects it.

    Subclass it for a rule of your own. Inside a solve time always increases: a solve backwards runs in `-t`. `wrap` is
    called once before `init` with the direction, for controllers that hold times. The type parameters are the type of
    the controller's state and that of the `dt0` that it accepts.

    See Also
    --------
    PIDController, ConstantStepSize, StepTo, ClipStepSizeController : the controllers of this library.

    Examples
    --------
    Steps that grow by a tenth each:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> class Growing(rungax.AbstractStepSizeController):
    ...     def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
    ...         return t0 + dt0, None
    ...
    ...     def adapt_step_size(
    ...         self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ...     ):
    ...         keep, next_t1 = jnp.array(True), t1 + 1.1 * (t1 - t0)
    ...         return keep, t1, next_t1, jnp.array(False), None, rungax.RESULTS.successful
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y,
    ...     rungax.Heun(),
    ...     0.0,
    ...     1.0,
    ...     0.1,
    ...     1.0,
    ...     stepsize_controller=Growing(),
    ... )
    >>> int(solution.stats["num_steps"])
    8
    """

    @property
    def can_jump(self) -> bool:
        """True if `adapt_step_size` may return a true `made_jump`."""
        return True

    @property
    def may_reject(self) -> bool:
        """True if a step may be rejected and made again, shorter."""
        return True

    @property
    def retries_rejected_times(self) -> bool:
        """True if later steps end at the times of rejected ones, as noise needs it, or if no step is ever rejected."""
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
        """The tolerances of the error control, `None` if there is none."""

    def bounding_also(self, error: RealScalar) -> Self:
        """This controller with one more scaled error to keep below one; without error control there is none to keep."""
        del error
        return self

    def with_coefficients(self, recommended: tuple[float, float, float]) -> Self:
        """This controller with the PID coefficients that a solver recommends; by default itself.

        Parameters
        ----------
        recommended
            The `pid_coefficients` of the solver.
        """
        del recommended
        return self

    def times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """True if the times that this controller holds, if any, suit a solve from `t0` to `t1`."""
        del t0, t1
        return True

    def continued_times_fit(self, t0: RealScalar, t1: RealScalar) -> BoolScalar:
        """True if these times suit a solve from `t0` to `t1` that continues another one; by default, always."""
        return self.times_fit(t0, t1)

    @abc.abstractmethod
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
    ) -> tuple[Time, ControllerState]:
        """The end of the first step, and the controller's first state.

        Parameters
        ----------
        terms, args
            The terms of the equation and their arguments.
        t0, t1
            Ends of the whole interval, or of its part up to the first time at which a step must end.
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
            The end of the first step, later than `t0`; and the controller's state, a pytree that keeps its structure,
            shapes and dtypes.
        """

    def stops(self) -> tuple[Stops, ...]:
        """The times at which steps must end, whatever size error control proposes; after `wrap`.

        A solve puts them into its stop queue, and uses the controller `without_stops()`.
        """
        return ()

    def without_stops(self) -> Self:
        """This controller without the times of `stops`."""
        return self

    def next_end_for_factor(
        self,
        factor: RealScalar,
        accepted: BoolScalar,
        dt: Time,
        next_t0: Time,
        next_t1: Time,
        controller_state: ControllerState,
    ) -> Time:
        """The end of the next attempt where the solver proposes its size; by default the controller's own, `next_t1`.

        Parameters
        ----------
        factor
            The proposed size, divided by that of the attempt just made.
        accepted, dt
            Whether that attempt was accepted, and its size.
        next_t0, next_t1, controller_state
            What `adapt_step_size` returned.
        """
        del factor, accepted, dt, next_t0, controller_state
        return next_t1

    def differentiable_step_times(
        self,
        t0: Time,
        t1: Time,
        index: IntScalar,
        start: Time,
        end: Time,
        controller_state: ControllerState,
    ) -> tuple[Time, Time]:
        """The ends `t0`, `t1` of an accepted step, unchanged in value, as functions of the times that decide them.

        Reverse mode differentiates times through this. By default the ends are rescaled with the two `fixed_points`
        around them: error control chose them, and the choice has no derivative.

        Parameters
        ----------
        t0, t1
            Ends of the step.
        index
            The number of steps accepted before it.
        start, end
            The interval of the solve, or the stops around the step if they are nearer.
        controller_state
            The state that `init` returned.
        """
        del index, controller_state
        low, high = self.fixed_points(t0, t1, start, end)
        return rescale(t0, low, high), rescale(t1, low, high)

    def fixed_points(self, t0: Time, t1: Time, start: Time, end: Time) -> tuple[Time, Time]:
        """The nearest times around a step that error control did not choose: by default the ends of the interval."""
        del t0, t1
        return start, end

    def resume(self, t0: Time, t1: Time, dt0: RealScalar | None, earlier: ControllerState) -> ControllerState:
        """The first state of a solve that continues another one; by default the state `earlier` of that one.

        Parameters
        ----------
        t0, t1
            Ends of the whole interval of this solve.
        dt0
            The first step asked for, `None` for that of the earlier solve.
        earlier
            The state that `final_state` returned at the end of the earlier solve.
        """
        del t0, t1, dt0
        return earlier

    def first_end(self, t0: Time, t1: Time, controller_state: ControllerState) -> Time:
        """The end of a first step from `t0`, proposed to end at `t1`, with the state that `resume` returned."""
        del t0, controller_state
        return t1

    def final_state(self, initial: ControllerState, final: ControllerState) -> ControllerState:
        """The state from which another solve can continue, made of the first and the last one; by default the last.

        Derivatives of `initial`, and of the times that this controller holds, are right; those of `final` may be zero.
        """
        del initial
        return final

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
            The states at `t0` and at the end of the step.
        args
            The arguments of the terms.
        y_error
            The solver's estimate of the local error, like `y0`; `None` if it has none.
        error_order
            Order of the estimate in the step size, `None` if not known.
        controller_state
            The state that `init` or the last attempt, accepted or not, returned.

        Returns
        -------
        keep_step, next_t0, next_t1, made_jump, controller_state, result
            Whether to accept it; start (`t1` if accepted, up to a jump, else `t0`) and end of the next attempt, which
            the loop clips to the end of the interval, NaN if no step is possible; whether the equation jumps between
            `t1` and `next_t0`; the controller's state; and `RESULTS.successful` or the reason why the solve must end.
        """

    def failed_at(self, controller_state: ControllerState) -> Time | None:
        """The time at which the state stopped being finite, for a controller that continues nevertheless.

        Infinity if it has not; `None`, the default, for controllers whose verdicts end a solve that fails.
        """
        del controller_state


def rescale(t: Time, start: Time, end: Time) -> Time:
    """`t`, with the derivative that it has at a fixed fraction of the way from `start` to `end`."""
    length = lax.stop_gradient(end - start)
    fraction = (t - lax.stop_gradient(start)) / jnp.where(length == 0, 1.0, length)
    # The times of an interval without end have the derivative of its start.
    fraction = lax.stop_gradient(jnp.where(jnp.isfinite(length), fraction, 0.0))
    return with_derivatives_of(t, start + fraction * jnp.where(jnp.isfinite(length), end - start, 0.0))


class AbstractAdaptiveStepSizeController[ControllerState, Dt0](AbstractStepSizeController[ControllerState, Dt0]):
    """A controller that compares an error estimate with tolerances.

    Attributes
    ----------
    rtol, atol
        Relative and absolute tolerance: scalars, arrays, or pytrees like the state.
    norm
        Reduces a pytree of scaled errors to one number.

    See Also
    --------
    PIDController, ClipStepSizeController : the adaptive controllers of this library.

    AbstractStepSizeController : the methods of a subclass.
    """

    rtol: eqx.AbstractVar[PyTree[Any]]
    atol: eqx.AbstractVar[PyTree[Any]]
    norm: eqx.AbstractVar[Callable[[PyTree[Any]], RealScalar]]

    def tolerances(self) -> Tolerances:
        """The three attributes as one record."""
        return Tolerances(self.rtol, self.atol, self.norm)

    def bounding_also(self, error: RealScalar) -> Self:
        """This controller with a norm that is at least `error`."""
        norm = self.norm

        def of_both(x: PyTree[Any]) -> RealScalar:
            of_state = jnp.asarray(norm(x))
            return jnp.maximum(of_state, jnp.asarray(error).astype(of_state.dtype))

        return eqx.tree_at(lambda controller: controller.norm, self, of_both)
