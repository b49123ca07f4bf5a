"""`derivative_error`: the derivatives of a solve with an estimate of their error."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from . import checks
from .adjoints.derivative_error import derivatives_with_errors
from .adjoints.tangents import check_no_noise, given_directions, random_directions
from .call import Call
from .deprecated import event_of
from .jaxkit import compiled, in_wrapper, known, match_varying, shown
from .report import Explanations
from .resolve import resolve
from .results import Result, is_okay, raise_unless_okay
from .saving.saveat import in_structure_of, sub_name, subs_of
from .solve import diffeqsolve
from .solvers import Auto


class DerivativeError(NamedTuple):
    """Derivatives of the saved values of a solve, and estimates of their errors.

    Attributes
    ----------
    derivative
        The derivatives of `Solution.ys`, stacked along a first axis by direction: `(directions, slots, ...)`.
    error
        The estimated size of the error of each entry of `derivative`.

    See Also
    --------
    derivative_error : the function that returns it.

    Examples
    --------
    >>> import rungax
    >>> found = rungax.derivative_error(
    ...     lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.1, 1.0, directions=1
    ... )
    >>> found.derivative.shape, found.error.shape
    ((1, 1), (1, 1))
    """

    derivative: PyTree[Array]
    error: PyTree[Array]


@in_wrapper
def derivative_error(*arguments: Any, directions: Any = None, **options: Any) -> DerivativeError:
    r"""Estimate the error of the derivatives of a solve.

    The steps of a solve are chosen for the solution, and its derivatives are those of these steps. Where long steps are
    enough for the solution and not for its derivative, the derivative may be wrong at any tolerance. Each step's error
    estimate $e_n(y_n, \theta)$ has a derivative too, which is the estimate of the error that the step adds to the
    derivative of the solution. With the steps $\Psi_n$, a direction $\vartheta$ and a factor $s$ of the estimates, the
    error is

    $$\varepsilon = \frac{\mathrm{d}}{\mathrm{d}\vartheta} \frac{\mathrm{d}}{\mathrm{d}s}\, y_N \Big|_{s=0}, \qquad
    y_{n+1} = \Psi_n(y_n, \theta) + s\, e_n(y_n, \theta).$$

    So each step's error is carried to where the solution is saved, through all steps in between.

    Parameters
    ----------
    *arguments
        The arguments of `diffeqsolve`, in its order.
    directions
        A tuple `(of_y0, of_args)` of tangents like `y0` and `args`, each array with a first axis of the same length; or
        the number of random directions through `y0`, `args` and all values that the terms hold, which are the same in
        every call. The default is two of these.
    **options
        The arguments of `diffeqsolve` by their names.

    Returns
    -------
    DerivativeError
        The derivative of `ys` in each direction, and the estimated size of its error. A derivative can be trusted if
        its error is at most a hundred times the tolerance, relative to the derivative.

    Raises
    ------
    ValueError
        If `directions` do not suit the call, the solver does not estimate its error, or the equation has noise.
    NotImplementedError
        If `adjoint` differentiates something other than accepted steps, as `BacksolveAdjoint` does.
    RuntimeError
        If the solve fails, unless `throw=False`: then the derivatives are NaN.

    Differentiability
    -----------------
    In forward mode.

    Cost
    ----
    The solve, and for each accepted step about two steps and two more for each direction. Memory: a few states, and one
    number for each of `max_steps`, up to 2²⁰.

    Notes
    -----
    The estimate covers the error of the steps, not that of Newton's iterations in them. In chaotic equations both
    numbers grow without bound, as the derivatives do.

    Examples
    --------
    Where the solution is zero, its steps become too long for its derivatives:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> problem = lambda t, y, args: -y, rungax.Tsit5(), 0.0, 10.0, None, jnp.array(0.0)
    >>> controller = rungax.PIDController(rtol=1e-6, atol=1e-6)
    >>> one = (jnp.array([1.0]), None)
    >>> found = rungax.derivative_error(
    ...     *problem, stepsize_controller=controller, directions=one
    ... )
    >>> bool(found.error[0, -1] > 1)
    True
    >>> adjoint = rungax.RecursiveCheckpointAdjoint(error_control="tangents")
    >>> found = rungax.derivative_error(
    ...     *problem, stepsize_controller=controller, directions=one, adjoint=adjoint
    ... )
    >>> bool(found.error[0, -1] < 1e-6)
    True
    """
    bound = inspect.signature(diffeqsolve).bind(*arguments, **options)
    bound.apply_defaults()
    given: dict[str, Any] = dict(bound.arguments)
    if directions is not None and not isinstance(directions, tuple):
        _check_number(directions)
    throw, chose_solver = known(given.pop("throw"), "`throw`"), given["solver"] is None
    if chose_solver:
        given["solver"] = Auto()
    given["event"] = event_of(given["event"], given.pop("discrete_terminating_event"))
    call = Call.of(**given)
    checks.before_tracing(call, chose_solver=chose_solver)
    checks.known_values(call)
    call, wrong = checks.values_of_parts(call)
    found, result = _estimated(call, directions)
    if not throw:
        return found
    explanations = Explanations.of(call, wrong)
    return raise_unless_okay(found, result, explanations.number(result), explanations.messages)


def _check_number(directions: Any) -> None:
    """Raise a `ValueError` unless `directions` is a number of directions."""
    if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
        raise ValueError(
            "`derivative_error(directions=...)` are directions, or the number of random ones.\n"
            f"Expected: a tuple `(of_y0, of_args)`, or an integer of at least 1\nFound:    {shown(directions)}\n"
            "Leave it out for two random directions."
        )


@compiled
def _estimated(call: Call, directions: Any) -> tuple[DerivativeError, Result]:
    """The whole estimate, as one program."""
    call, directions = match_varying((call, directions), (call, directions))
    checks.argument_types(call)
    plan, state = resolve(call)
    check_no_noise("derivative_error", plan)
    plan, state = call.adjoint.with_error_control(plan, state)
    if directions is None or isinstance(directions, int):
        inputs = random_directions(plan, state.y, 2 if directions is None else directions)
    else:
        inputs = given_directions(plan, state.y, directions)
    outcome, found = derivatives_with_errors(plan, state, inputs)
    okay = is_okay(outcome.result)

    def of_ys(outputs: PyTree[Array]) -> PyTree[Array]:
        names = [sub_name(i) for i in range(len(subs_of(call.saveat)))]
        return in_structure_of(call.saveat, [outputs[name][1] for name in names])

    def unless_failed(x: Array) -> Array:
        return jnp.where(okay, x, jnp.asarray(jnp.nan, x.dtype))

    derivative = jax.tree.map(unless_failed, of_ys(found.derivative))
    error = jax.tree.map(lambda x: unless_failed(jnp.abs(x)), of_ys(found.error))
    return DerivativeError(derivative, error), outcome.result
