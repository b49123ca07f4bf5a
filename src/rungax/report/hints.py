"""Hints: what to do about a failed solve, chosen by its cause, from what the program knows at its end."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..jaxkit import is_finite
from ..results import name_of_code
from .failure import Failure, Subject
from .leaves import leaf_name

MANY_ROUNDINGS = 10
"""A tolerance below so many times the rounding of the state cannot be met."""

TINY_STEPS = 100
"""Steps of which the rest of the interval holds more than so many are short."""

FASTER = 10.0
"""A component that decays so many times faster than the solution changes makes an equation stiff."""

STABLE = 1.0
"""Steps of explicit methods that are longer than this, in units of the fastest decay, are limited by stability."""

GREW = 1e5
"""A state that is so many times larger than at the start, or than 1, grows without bound."""

_USE_FLOAT64 = (
    'Use float64: `jax.config.update("jax_enable_x64", True)`, and `y0` and times in float64; or looser tolerances.'
)


class Case:
    """A failed solve of one batch element, in values of NumPy.

    Parameters
    ----------
    subject
        What is known of the solve before it runs.
    failure
        What it returned.
    """

    def __init__(self, subject: Subject, failure: Failure):
        self.subject, self.failure = subject, failure
        self.result = name_of_code(int(failure.result))
        self.t, self.t_next = float(failure.ending.t), float(failure.ending.t_next)
        self.t0, self.t1 = float(failure.t0), float(failure.t1)
        self.y = failure.ending.y

    @cached_property
    def step(self) -> float:
        """The length of the next step."""
        return abs(self.t_next - self.t)

    @cached_property
    def rest(self) -> float:
        """The length of the interval that is left."""
        return abs(self.t1 - self.t)

    @cached_property
    def mean_step(self) -> float:
        """The mean length of accepted steps."""
        return abs(self.t - self.t0) / max(self.number("accepted_steps"), 1)

    @cached_property
    def resolution(self) -> float:
        """The distance between numbers next to the time reached."""
        dtype = np.asarray(self.failure.ending.t).dtype
        return float(jnp.finfo(dtype).eps) * max(abs(self.t), float(jnp.finfo(dtype).tiny))

    @cached_property
    def is_finite(self) -> bool:
        """True if the state is finite."""
        return is_finite(self.y)

    @cached_property
    def sizes(self) -> "list[_Size]":
        """For each leaf of the state, its sizes; empty if the field is not like the state or not finite."""
        found = self.failure.found
        if found is None or found.field.ahead is None or not is_finite((found.y, found.field.slope)):
            return []
        leaves = jax.tree.leaves_with_path(found.y)
        others = zip(jax.tree.leaves(found.field.slope), jax.tree.leaves(self.failure.y0), strict=True)
        return [_Size.of(leaf_name("y", path), y, f, y0) for (path, y), (f, y0) in zip(leaves, others, strict=True)]

    def number(self, name: str) -> int:
        """A number of attempts by its name in `Solution.stats`."""
        return int(self.failure.ending.counts.by_name()[f"num_{name}"])


class _Size(NamedTuple):
    """The sizes of a leaf of the state, at the end and at the start, and of its slope, and whether it is growing."""

    name: str
    end: float
    start: float
    slope: float
    is_growing: bool

    @classmethod
    def of(cls, name: str, y: Any, slope: Any, y0: Any) -> "_Size":
        y, slope, y0 = (np.asarray(x) for x in (y, slope, y0))
        largest = lambda x: float(np.max(np.abs(x), initial=0.0))
        # Scaled, because the product of large numbers overflows.
        directions = [np.conj(x) / (largest(x) or 1.0) for x in (y, np.conj(slope))]
        is_growing = bool(np.sum((directions[0] * directions[1]).real) > 0)
        return cls(name, largest(y), largest(y0), largest(slope), is_growing)


def hint(case: Case) -> str | None:
    """The hint of the first cause that fits, if one does."""
    with np.errstate(all="ignore"):
        return next((text for cause in _CAUSES if (text := cause(case)) is not None), None)


# -------------------------------------------------------------------------------------------------------------- causes


def _field_not_finite(case: Case) -> str | None:
    found = case.failure.found
    if case.result != "nonfinite" or found is None or not is_finite(found.y):
        return None
    if is_finite((found.field.slope, found.field.ahead)):
        return None
    return (
        "Square roots and logarithms of negative numbers, divisions by zero and exponentials of large numbers do this: "
        "evaluate the vector field at this time and state."
    )


def _overflow(case: Case) -> str | None:
    if case.result != "nonfinite" or case.is_finite or case.subject.may_reject:
        return None
    return (
        "Steps of constant size say nothing about their error: either they are too long for the method to be stable, "
        "or the solution grows without bound. Control the error, `stepsize_controller=PIDController(rtol=..., "
        "atol=...)`, or shorten `dt0`."
    )


def _events_pile_up(case: Case) -> str | None:
    events = case.failure.ending.events
    if events is None or case.result not in ("max_steps_reached", "dt_min_reached", "max_effects_reached"):
        return None
    searches, effects = case.number("rejected_by_event"), int(np.sum(events.num_effects))
    if case.result != "max_effects_reached" and 2 * (searches + effects) < case.number("steps"):
        return None
    return (
        f"Events take {searches} of {case.number('steps')} attempts: they pile up, as those of a ball that comes to "
        "rest do. End the solve, or let the effect set a flag in the state that stops the motion, before they are too "
        "close together."
    )


def _endless(case: Case) -> str | None:
    if not np.isinf(case.t1) or case.result != "max_steps_reached" or case.subject.events:
        return None
    return (
        f"`t1={case.t1}` is never reached, and there is no event that ends the solve: give "
        "`event=Event(steady_state_event())` or another condition, or a finite `t1`."
    )


def _too_narrow(case: Case) -> str | None:
    found = [text for text in (_narrow_times(case), _narrow_state(case)) if text is not None]
    if not found:
        return None
    is_double = jnp.finfo(np.asarray(case.failure.ending.t).dtype).eps <= jnp.finfo(np.float64).eps
    return " ".join([*found, "Use larger tolerances." if is_double else _USE_FLOAT64])


def _narrow_times(case: Case) -> str | None:
    dtype = np.asarray(case.failure.ending.t).dtype
    if jnp.finfo(dtype).eps <= jnp.finfo(np.float64).eps or not case.is_finite:
        return None
    cannot_shorten = case.subject.may_reject and case.result in ("dt_min_reached", *_UNSOLVED)
    if not cannot_shorten and case.step >= TINY_STEPS * case.resolution:
        return None
    return f"Times are {dtype}, which near t = {case.t:.8g} resolves steps of {case.resolution:.1e} only."


def _narrow_state(case: Case) -> str | None:
    if case.failure.rtol is None or case.result not in ("max_steps_reached", "dt_min_reached", *_UNSOLVED):
        return None
    dtype = max((np.asarray(x).dtype for x in jax.tree.leaves(case.y)), key=lambda dtype: jnp.finfo(dtype).eps)
    rounding, rtol = float(jnp.finfo(dtype).eps), float(case.failure.rtol)
    if rtol >= MANY_ROUNDINGS * rounding:
        return None
    return f"The state is {dtype}, whose rounding, {rounding:.1e}, is not small beside `rtol={rtol:.1e}`."


def _grows_without_bound(case: Case) -> str | None:
    if case.result not in ("max_steps_reached", "dt_min_reached", "nonfinite") or not case.sizes:
        return None
    size = max(case.sizes, key=lambda size: size.end / (1.0 + size.start))
    grew = size.end > GREW * (1.0 + size.start)
    # Near a time at which it becomes infinite, a solution would grow many times in the rest of the interval.
    explodes = size.is_growing and size.end > 2 * size.start and size.slope * case.rest > 1e6 * size.end
    if not grew and not (explodes and case.result == "dt_min_reached"):
        return None
    return (
        f"`{size.name}` grows without bound: it is {size.end:.1e} at t = {case.t}, from {size.start:.1e} at the start, "
        f"and its slope is {size.slope:.1e}. If the solution does, check the sign of the term that makes it grow, or "
        "end the solve before by an event. If it does not, steps that may not be shorter (`dtmin`) are unstable."
    )


def _stage_unsolved(case: Case) -> str | None:
    if case.result not in _UNSOLVED or not case.is_finite:
        return None
    return "An implicit stage was not solved: control the error, shorten `dt0`, or raise `root_find_max_steps`."


def _linear_system_unsolved(case: Case) -> str | None:
    many_failed = 4 * case.number("rejected_by_nonlinear_solve") > case.number("steps")
    cannot_advance = case.result in ("max_steps_reached", "dt_min_reached") and many_failed
    return case.subject.linear_solver if case.result == "stagnation" or cannot_advance else None


def _is_stiff(case: Case) -> str | None:
    found = case.failure.found
    if case.result not in ("max_steps_reached", "dt_min_reached") or not case.subject.is_explicit or found is None:
        return None
    if found.field.fastest_rate is None or not case.sizes or not case.subject.may_reject:
        return None
    rate, size = float(found.field.fastest_rate), max(size.end for size in case.sizes)
    change = max(size.slope for size in case.sizes) / max(size, jnp.finfo(float).tiny)
    is_short = case.rest > TINY_STEPS * case.mean_step
    few_rejected = 2 * case.number("rejected_by_error") < case.number("steps")
    limited = rate * max(case.mean_step, case.step) > STABLE and rate > FASTER * change
    if not (is_short and few_rejected and limited):
        return None
    return (
        f"The equation is stiff there: something decays at a rate of {rate:.1e} and keeps the steps of an explicit "
        f"method at {case.mean_step:.1e}, while the solution changes at a rate of {change:.1e}. Use a method for "
        "stiff equations: `solver=None`, which chooses, or `Rodas5P()`."
    )


def _smallest_step(case: Case) -> str | None:
    if case.result != "dt_min_reached":
        return None
    if case.subject.has_dtmin:
        return (
            "The tolerances ask for a step below the smallest one allowed. Lower `dtmin`, loosen `rtol` and `atol`, or "
            "accept errors above them by `force_dtmin=True`."
        )
    return (
        f"The solution changes within less than times resolve near t = {case.t}. At a jump of the vector field give "
        "`ClipStepSizeController(jump_ts=...)`; before a singularity end the solve by an event."
    )


def _more_steps(case: Case) -> str | None:
    advance, most = abs(case.t - case.t0), case.subject.max_steps
    if case.result != "max_steps_reached" or most is None or advance == 0 or not np.isfinite(case.rest):
        return None
    more = case.number("steps") * case.rest / advance
    return (
        f"At this pace the rest of the interval takes about {_rounded(more)} more attempts: give "
        f"`max_steps={_rounded(1.5 * (most + more))}`, or look for what makes the steps short."
    )


def _rounded(number: float) -> int:
    """A number of steps to two digits, upwards."""
    unit = 10 ** max(int(np.floor(np.log10(max(number, 1.0)))) - 1, 0)
    return int(np.ceil(number / unit)) * unit


_UNSOLVED = ("nonlinear_max_steps_reached", "nonlinear_divergence")

_CAUSES: tuple[Callable[[Case], str | None], ...] = (
    _grows_without_bound,
    _field_not_finite,
    _overflow,
    _events_pile_up,
    _endless,
    _too_narrow,
    _stage_unsolved,
    _linear_system_unsolved,
    _is_stiff,
    _smallest_step,
    _more_steps,
)
"""The causes, those that are surest first."""
