"""How a solve ended."""

from typing import Any

import jax
import numpy as np
import optimistix as optx

from .jaxkit import BoolScalar, is_traced

type Result = Any
"""An item of `RESULTS`. (Enumeration replaces its members by items, which no type checker can see.)"""


# Equinox enumerations are made to be extended; type checkers take them for Python's, which are not.
class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a solve ended: an enumeration whose members carry their explanation.

    `RESULTS[item]` is the text of an item; `successful` has none. The nonlinear and linear solvers' failures are
    members too: `RESULTS.promote(optimistix_result)` turns theirs into ours. `RESULTS.where(pred, a, b)` selects.

    Attributes
    ----------
    successful
        The solve reached the end of its interval.
    event_occurred
        An event ended it.
    max_steps_reached
        It took `max_steps` attempts.
    dt_min_reached
        The step size fell below its minimum, or below what the floating-point type of time resolves.
    max_steps_rejected
        More steps in a row were rejected than `ClipStepSizeController(store_rejected_steps=...)` stores.
    max_effects_reached
        Events would have changed the state more often than `Event(max_effects=...)` allows.
    nonfinite
        The state became infinite or not a number.
    invalid_input
        A value known only at run time was wrong.
    nonlinear_max_steps_reached, nonlinear_divergence
        The equations of an implicit stage were not solved.
    internal_error, nonfinite_input, singular, breakdown, stagnation, conlim
        Of Optimistix and Lineax, for root finders and linear solvers of theirs.

    Raises
    ------
    ValueError
        If an item is compared with one of another enumeration; promote that first.

    Examples
    --------
    >>> import optimistix
    >>> import rungax
    >>> rungax.RESULTS[rungax.RESULTS.event_occurred]
    'The solve was ended by an event before it reached the end of its interval.'
    >>> bool(rungax.RESULTS.promote(optimistix.RESULTS.successful) == rungax.RESULTS.successful)
    True
    """

    dt_min_reached = "The step size fell below its minimum, or below what the floating-point type of time resolves."
    event_occurred = "The solve was ended by an event before it reached the end of its interval."
    max_steps_rejected = "Too many steps in a row were rejected for their times to be stored and revisited."
    max_effects_reached = "Events would have changed the state more often than `Event(max_effects=...)` allows."
    internal_error = "Something that should not happen in Rungax has happened; please report it."
    invalid_input = "A value given to the solve was invalid, for example times that are NaN or not sorted."


_NAMES = (
    "successful", "event_occurred", "max_steps_reached", "dt_min_reached", "max_steps_rejected", "max_effects_reached",
    "nonfinite", "invalid_input", "nonlinear_max_steps_reached", "nonlinear_divergence", "internal_error",
    "nonfinite_input", "singular", "breakdown", "stagnation", "conlim",
)  # fmt: skip


def name_of(result: Result) -> str:
    """The name of an item of `RESULTS` that is known; the item itself prints as its explanation."""
    return next(name for name in _NAMES if bool(result == getattr(RESULTS, name)))


def is_okay(result: Result) -> bool:
    """Whether the solve succeeded or was ended by an event.

    Parameters
    ----------
    result
        `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = rungax.RESULTS.successful, rungax.RESULTS.event_occurred, rungax.RESULTS.max_steps_reached
    >>> [bool(rungax.is_okay(result)) for result in results]
    [True, True, False]
    """
    return is_successful(result) | is_event(result)


def is_successful(result: Result) -> bool:
    """Whether the solve reached the end of its interval.

    Parameters
    ----------
    result
        `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = rungax.RESULTS.successful, rungax.RESULTS.event_occurred, rungax.RESULTS.max_steps_reached
    >>> [bool(rungax.is_successful(result)) for result in results]
    [True, False, False]
    """
    return result == RESULTS.successful


def is_event(result: Result) -> bool:
    """Whether the solve was ended by an event.

    Parameters
    ----------
    result
        `Solution.result`, or any item of `RESULTS`.

    Returns
    -------
    BoolScalar
        A boolean, or an array of them for a batch.

    Examples
    --------
    >>> import rungax
    >>> results = rungax.RESULTS.successful, rungax.RESULTS.event_occurred, rungax.RESULTS.max_steps_reached
    >>> [bool(rungax.is_event(result)) for result in results]
    [False, True, False]
    """
    return result == RESULTS.event_occurred


def choose(pred: BoolScalar, on_true: Result, on_false: Result) -> Result:
    """`RESULTS.where`, for type checkers: `on_true` where `pred` holds, else `on_false`."""
    return RESULTS.where(pred, on_true, on_false)


def traced(result: Result) -> Result:
    """`result`, where a program must carry it whether or not it is known."""
    return RESULTS.where(np.True_, result, result)


def first_failure(earlier: Result, later: Result) -> Result:
    """`earlier` unless it is a success, else `later`: of several failures the first is kept."""
    if earlier is RESULTS.successful or later is RESULTS.successful:
        return later if earlier is RESULTS.successful else earlier
    return choose(earlier == RESULTS.successful, later, earlier)


def known_failure(result: Result) -> bool | None:
    """Whether `result` is a failure, read on the host; `None` while it is only known to a traced program."""
    (code,) = jax.tree.leaves(result)
    if is_traced(code):
        return None
    codes = np.asarray(code)
    return bool(((codes != _SUCCESSFUL) & (codes != _EVENT_OCCURRED)).any())


_SUCCESSFUL, _EVENT_OCCURRED = (int(jax.tree.leaves(item)[0]) for item in (RESULTS.successful, RESULTS.event_occurred))
