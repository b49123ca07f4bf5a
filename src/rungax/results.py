"""Results of a solve: success, an event, or the reason of a failure."""

import warnings
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from .jaxkit import BoolScalar, raise_where

type Result = Any
"""An item of `RESULTS`. (An Equinox enumeration replaces its members by items, which type checkers cannot see.)"""


with warnings.catch_warnings():
    # Three items have texts of their own: Optimistix's are empty, or give advice that is wrong for most causes.
    warnings.filterwarnings("ignore", "Enumeration has duplicate incompatible values")

    # Equinox enumerations may be extended; type checkers take them for Python's, which may not.
    class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
        """The result of a solve: an enumeration whose items carry an explanation.

        `RESULTS[item]` is the explanation of an item, which printing it shows. Failures of nonlinear and linear
        solvers are members as well: `RESULTS.promote(optimistix_result)` converts a result of Optimistix.
        `RESULTS.where(pred, a, b)` selects between two items.

        Attributes
        ----------
        successful
            The solve reached the end of its interval.
        event_occurred
            An event ended the solve.
        max_steps_reached
            The solve made `max_steps` attempts without reaching the end.
        dt_min_reached
            The step size fell below its minimum, or below what the floating-point type of time resolves.
        max_steps_rejected
            More steps in a row were rejected than `ClipStepSizeController(store_rejected_steps=...)` stores.
        max_effects_reached
            Events would have changed the state more often than `Event(max_effects=...)` allows.
        nonfinite
            The state, or the vector field, became infinite or not a number.
        nonfinite_jacobian
            The derivative of the vector field, which implicit and Rosenbrock methods need, became infinite or not a
            number.
        jacobian_pattern_wrong
            The Jacobian of the vector field has entries that its pattern lacks, that of `ODETerm(sparsity=...)`.
        jacobian_wrong
            The value of `ODETerm(jacobian=...)` is not the derivative of the vector field; compared in debug mode only.
        invalid_input
            A value was invalid: one that is known only at run time, or one in a program (`jit`, `lax.cond`,
            `lax.scan`).
        nonlinear_max_steps_reached, nonlinear_divergence
            The equations of an implicit stage were not solved.
        stagnation
            An iterative linear solver did not solve a system of an implicit step, and the step could not be shortened.
        inconsistent_initial_values
            No state that fulfils the algebraic equations was found near the initial values, or near those after an
            effect or a jump.
        index_above_one
            The algebraic equations do not determine the algebraic part of the state: the index is higher than one.
        singular_mass
            The mass matrix is singular, and the solver needs a regular one.
        internal_error, nonfinite_input, singular, breakdown, conlim
            Failures of root finders of Optimistix and of linear solvers of Lineax.

        Raises
        ------
        ValueError
            If an item is compared with an item of another enumeration; use `promote` first.

        Examples
        --------
        >>> import optimistix
        >>> import rungax
        >>> rungax.RESULTS[rungax.RESULTS.event_occurred]
        'The solve was ended by an event before it reached the end of its interval.'
        >>> bool(rungax.RESULTS.promote(optimistix.RESULTS.successful) == rungax.RESULTS.successful)
        True
        """

        successful = "The solve reached the end of its interval."
        max_steps_reached = "The maximum number of solver steps was reached."
        dt_min_reached = "The step size fell below its minimum, or below what the floating-point type of time resolves."
        event_occurred = "The solve was ended by an event before it reached the end of its interval."
        max_steps_rejected = "Too many steps in a row were rejected for their times to be stored and retried."
        max_effects_reached = "Events would have changed the state more often than `Event(max_effects=...)` allows."
        nonfinite_jacobian = (
            "The Jacobian of the vector field became infinite or not a number where the field itself is finite, as "
            "that of sqrt(y) at 0. (For Rosenbrock methods this may be the derivative by time.) Write the field so "
            "that its derivative is finite, give `ODETerm(jacobian=...)`, or use an explicit solver."
        )
        jacobian_pattern_wrong = (
            "The Jacobian of the vector field has entries that its pattern lacks, that of `ODETerm(sparsity=...)`: the "
            "derivative in a random direction is not the product of the computed Jacobian with it. (If `Auto` has "
            "found the pattern, please report it; `Auto(stiff=rungax.Rodas5P())` looks for none.)"
        )
        jacobian_wrong = (
            "The value of `ODETerm(jacobian=...)` is not the Jacobian of the vector field: the derivative in a random "
            "direction is not the product of the given Jacobian with it."
        )
        stagnation = (
            "An iterative linear solver did not solve a system of an implicit step: its residual stagnated. Without a "
            "preconditioner this is common for stiff systems."
        )
        inconsistent_initial_values = (
            "The initial values, or those after an effect or a jump, do not fulfil the algebraic equations, and no "
            'state near them that does was found. (With `ODETerm(consistency="check")` none is sought.)'
        )
        index_above_one = (
            "The algebraic equations do not determine the algebraic part of the state: the index is higher than one. "
            "Differentiate them by hand until they do."
        )
        singular_mass = "The mass matrix is singular, and the solver needs a regular one."
        internal_error = "Something that should not happen in Rungax has happened; please report it."
        invalid_input = "A value given to the solve was invalid, for example times that are NaN or not sorted."


# Equinox's error, so that programs which handle that of another library's solves handle this one.
class SolveError(eqx.EquinoxRuntimeError):
    """The error of a failed solve, also a `RuntimeError`; its message is a report.

    The report says how many batch elements failed and which, and for the first the reason, where it was, and what to do
    about it. A program that was compiled with `jax.jit` raises what JAX makes of an error in a callback, with a message
    that ends with the report: `jax.errors.JaxRuntimeError`, and in a program that is called again `ValueError`.

    Examples
    --------
    >>> import rungax
    >>> try:
    ...     rungax.diffeqsolve(
    ...         lambda t, y, args: -y, rungax.Euler(), 0.0, 1.0, 0.25, 1.0, max_steps=2
    ...     )
    ... except rungax.SolveError as error:
    ...     print("`RESULTS.max_steps_reached`" in str(error))
    True
    """


_NAMES = (
    "successful", "event_occurred", "max_steps_reached", "dt_min_reached", "max_steps_rejected", "max_effects_reached",
    "nonfinite", "nonfinite_jacobian", "jacobian_pattern_wrong", "jacobian_wrong", "invalid_input",
    "nonlinear_max_steps_reached", "nonlinear_divergence", "internal_error", "nonfinite_input", "singular",
    "breakdown", "stagnation", "conlim", "inconsistent_initial_values", "index_above_one", "singular_mass",
)  # fmt: skip


def name_of(result: Result) -> str:
    """The name of an item of `RESULTS` whose value is known; printing the item shows its explanation."""
    return next(name for name in _NAMES if bool(result == getattr(RESULTS, name)))


def name_of_code(code: int) -> str:
    """The name of the item of `RESULTS` with a number."""
    return _NAME_OF_CODE[code]


def is_okay(result: Result) -> bool:
    """True if the solve reached the end of its interval or was ended by an event.

    Parameters
    ----------
    result
        A `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = (
    ...     rungax.RESULTS.successful,
    ...     rungax.RESULTS.event_occurred,
    ...     rungax.RESULTS.max_steps_reached,
    ... )
    >>> [bool(rungax.is_okay(result)) for result in results]
    [True, True, False]
    """
    return is_successful(result) | is_event(result)


def is_successful(result: Result) -> bool:
    """True if the solve reached the end of its interval.

    Parameters
    ----------
    result
        A `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = (
    ...     rungax.RESULTS.successful,
    ...     rungax.RESULTS.event_occurred,
    ...     rungax.RESULTS.max_steps_reached,
    ... )
    >>> [bool(rungax.is_successful(result)) for result in results]
    [True, False, False]
    """
    return result == RESULTS.successful


def is_event(result: Result) -> bool:
    """True if the solve was ended by an event.

    Parameters
    ----------
    result
        A `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = (
    ...     rungax.RESULTS.successful,
    ...     rungax.RESULTS.event_occurred,
    ...     rungax.RESULTS.max_steps_reached,
    ... )
    >>> [bool(rungax.is_event(result)) for result in results]
    [False, True, False]
    """
    return result == RESULTS.event_occurred


def choose(pred: BoolScalar, on_true: Result, on_false: Result) -> Result:
    """`on_true` where `pred` holds, else `on_false`: `RESULTS.where` with types for type checkers."""
    return RESULTS.where(pred, on_true, on_false)


def traced(result: Result) -> Result:
    """`result` as an item that a loop can carry, even if its value is known at trace time."""
    return RESULTS.where(np.True_, result, result)


def first_failure(earlier: Result, later: Result) -> Result:
    """`earlier` unless it is a success, else `later`: the first of several failures."""
    if earlier is RESULTS.successful or later is RESULTS.successful:
        return later if earlier is RESULTS.successful else earlier
    return choose(earlier == RESULTS.successful, later, earlier)


def is_failure(result: Result) -> bool:
    """True if `result`, whose value is known, is a failure; on the host, which takes less time than `is_okay`."""
    return int(code_of(result)) not in (_SUCCESSFUL, _EVENT_OCCURRED)


def code_of(result: Result) -> jax.Array:
    """The number of an item of `RESULTS`."""
    (code,) = jax.tree.leaves(result)
    return code


def messages_by_code(wrong: str | None = None) -> list[str]:
    """The explanations of all items of `RESULTS` by their numbers.

    `wrong` is the message about a value that is wrong, if one is known: the explanation of `invalid_input`.
    """
    messages = {int(code_of(item)): RESULTS[item] for item in (getattr(RESULTS, name) for name in _NAMES)}
    if wrong is not None:
        messages[_INVALID_INPUT] = wrong
    return [messages[number] for number in range(len(messages))]


def raise_unless_okay[T](tree: T, result: Result, code: jax.Array, messages: Sequence[str]) -> T:
    """`tree`; computing it raises a `SolveError` with the message of number `code` if the result is a failure."""
    messages = tuple(messages)

    def make_error(failed: np.ndarray, values: tuple[np.ndarray, np.ndarray]) -> SolveError:
        result, code = (int(x[failed][0]) for x in values)
        return SolveError(f"The solve failed: `RESULTS.{name_of_code(result)}`: {messages[code]}")

    return raise_where(tree, jnp.logical_not(is_okay(result)), (code_of(result), code), make_error)


_SUCCESSFUL, _EVENT_OCCURRED, _INVALID_INPUT = (
    int(code_of(item)) for item in (RESULTS.successful, RESULTS.event_occurred, RESULTS.invalid_input)
)
_NAME_OF_CODE = {int(jax.tree.leaves(getattr(RESULTS, name))[0]): name for name in _NAMES}
