"""Derivatives by forward mode alone."""

from dataclasses import replace

import equinox as eqx
import jax

from ..jaxkit import forward_only, nan_derivative_where, without_captures
from ..loop import run
from ..plan import Plan
from ..step import Outcome, State
from .error_control import AbstractErrorControllingAdjoint


class ForwardMode(AbstractErrorControllingAdjoint):
    """Derivatives by forward mode only, carried along with the solve itself.

    Use it where only `jax.jvp` or `jax.jacfwd` is needed and memory matters: there is no tape, so the memory does not
    grow with the number of steps, and that number needs no bound. `RecursiveCheckpointAdjoint` supports forward mode as
    well.

    Parameters
    ----------
    error_control, num_tangents
        The errors that determine the size of a step, those of the `"solution"` or also those of its `"tangents"`, and
        the number of tangents; see `RecursiveCheckpointAdjoint`.

    Raises
    ------
    ValueError
        If differentiated in reverse mode.

    Differentiability
    -----------------
    Forward mode of any order, with respect to the same inputs as `RecursiveCheckpointAdjoint`. The ends of steps have
    no derivatives with respect to times, except the last, which ends on `t1`.

    Cost
    ----
    The solve and, for each attempted step, its Jacobian–vector product.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> adjoint = rungax.ForwardMode()
    >>> def end(rate):
    ...     solution = rungax.diffeqsolve(
    ...         lambda t, y, rate: -rate * y,
    ...         rungax.Euler(),
    ...         0.0,
    ...         1.0,
    ...         0.1,
    ...         1.0,
    ...         rate,
    ...         adjoint=adjoint,
    ...     )
    ...     return solution.ys[-1]
    >>> print(f"{jax.jacfwd(end)(1.0):.2f}")
    -0.39
    """

    error_control: str = "solution"
    num_tangents: int = 2

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with an outcome that refuses reverse mode."""
        # The rules of the stages' equations live longer than the traces of what a field has captured.
        outcome = run(*without_captures(self.with_error_control(plan, state)))
        failed = outcome.state.lacks_end
        outcome = replace(outcome, state=nan_derivative_where(failed, outcome.state, outcome.state.y))
        return jax.tree.map(lambda x: forward_only(x, _REFUSAL) if eqx.is_inexact_array(x) else x, outcome)


_REFUSAL = (
    "`ForwardMode` has no reverse mode.\nExpected: `jax.jvp`, `jax.jacfwd` or `jax.linearize`\n"
    "Found:    `jax.grad`, `jax.vjp` or `jax.jacrev`\n"
    "Use `RecursiveCheckpointAdjoint`, the default, which has both."
)
