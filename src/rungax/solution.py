"""`Solution`: the result of a solve."""

from typing import Any

from jaxtyping import Array, Float, PyTree

from .interpolation import DenseInterpolation
from .jaxkit import IntScalar, RealScalar
from .paths import AbstractPath
from .results import Result
from .saving import SolverInternals


class Solution(AbstractPath[Any]):
    """The outcome of `diffeqsolve`; with `SaveAt(dense=True)` also a path, which may drive another equation.

    Attributes
    ----------
    t0, t1
        The requested interval, in the dtype of the times.
    ts, ys
        Saved times, shape `(slots,)`, and values, each leaf of shape `(slots, ...)`, in the structure of `SaveAt.subs`.
        Unused slots hold infinity, the smallest integer, or `True`, depending on the dtype. `None` if nothing was to be
        saved.
    interpolation
        The solution as a function of time, with `SaveAt(dense=True)`.
    stats
        Counts by name. `num_steps`, `num_accepted_steps` and `num_rejected_steps`: attempts, and how they ended.
        `num_rejected_by_error`, `num_rejected_by_nonlinear_solve` and `num_rejected_by_event`: the rejected attempts by
        cause, because the error was too large or not finite, because the equations of an implicit stage were not
        solved, and because an event lies inside the step, in the search for its time. `max_steps`: the bound on
        attempts.
    result
        The result: success, the end by an event, or the reason of a failure.
    solver_state, controller_state, made_jump
        The states from which another solve can continue, if requested. `controller_state` holds the next attempt, which
        this solve did not make, and the controller's own state as `controller_state.controller_state`.
    internals
        Differentiable measures of how hard the solve was, if requested.
    event_mask
        The condition that ended the solve: a pytree like `Event.cond_fn`, `True` for one; `None` without events.
    num_steps, num_accepted_steps
        The numbers of attempted and of accepted steps, as in `stats`.

    Differentiability
    -----------------
    Saved times, values and `interpolation` have the derivatives that the adjoint gives them; `stats` and `result` have
    none.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> saveat = rungax.SaveAt(ts=jnp.array([0.0, 0.5, 1.0]), dense=True)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, saveat=saveat
    ... )
    >>> print(solution.ys.round(2))
    [1.   0.61 0.37]
    >>> print(f"{solution.evaluate(0.25):.2f}")
    0.78
    >>> int(solution.stats["num_accepted_steps"])
    10
    >>> bool(solution.result == rungax.RESULTS.successful)
    True
    """

    t0: RealScalar
    t1: RealScalar
    ts: PyTree[Float[Array, " slots"]] | None
    ys: PyTree[Any] | None
    interpolation: DenseInterpolation | None
    stats: dict[str, Any]
    result: Result
    solver_state: PyTree[Any]
    controller_state: PyTree[Any]
    made_jump: PyTree[Any]
    event_mask: PyTree[Any]
    internals: SolverInternals | None = None

    @property
    def num_steps(self) -> IntScalar:
        """The number of attempted steps."""
        return self.stats["num_steps"]

    @property
    def num_accepted_steps(self) -> IntScalar:
        """The number of accepted steps."""
        return self.stats["num_accepted_steps"]

    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The solution at `t0`, or with `t1` its increment from `t0` to `t1`; NaN outside the interval solved.

        Parameters
        ----------
        t0, t1
            Times: scalars, or arrays, whose axes come first in each leaf of the result.
        left
            Where two steps meet, whether to use the earlier one.

        Returns
        -------
        PyTree
            Like the state; NaN outside the interval solved.

        Raises
        ------
        ValueError
            If the solve was not made with `SaveAt(dense=True)`.
        """
        return self._dense("evaluate").evaluate(t0, t1, left)

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative of the solution's interpolation with respect to time at `t`.

        Parameters
        ----------
        t
            A time, or an array of times.
        left
            Where two steps meet, whether to use the earlier one.

        Returns
        -------
        PyTree
            Like the state; NaN outside the interval solved.

        Raises
        ------
        ValueError
            If the solve was not made with `SaveAt(dense=True)`.
        """
        return self._dense("derivative").derivative(t, left)

    def _dense(self, method: str) -> DenseInterpolation:
        if self.interpolation is None:
            raise ValueError(
                f"`Solution.{method}` needs the solution at all times.\nExpected: a solve with SaveAt(dense=True)\n"
                "Found:    one without\nAdd `dense=True` to `saveat`, or save at the times you need with `ts`."
            )
        return self.interpolation
