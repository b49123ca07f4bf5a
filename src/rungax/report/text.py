"""The text of a report."""

from collections.abc import Iterator

import numpy as np

from ..jaxkit import is_finite, not_finite
from ..results import SolveError
from .failure import Failure, Subject
from .hints import Case, hint
from .leaves import chosen_entries, largest_entries, shown_leaves

_FIRST = 5
"""The number of batch elements whose indices are listed."""


def solve_error(subject: Subject, failed: np.ndarray, failure: Failure) -> SolveError:
    """The error of a failed solve, or of a batch of them with the axes of the batch in front."""
    if failed.ndim == 0:
        return SolveError("\n".join(_lines("The solve failed", subject, failure.element(()))))
    indices = [tuple(map(int, index)) for index in np.argwhere(failed)]
    shown = [str(index[0]) if len(index) == 1 else str(index) for index in indices[:_FIRST]]
    more = f" and {len(indices) - _FIRST} more" if len(indices) > _FIRST else ""
    first = f"{len(indices)} of {failed.size} batch elements failed: {', '.join(shown)}{more}.\nElement {shown[0]}"
    return SolveError("\n".join(_lines(first, subject, failure.element(indices[0]))))


def _lines(who: str, subject: Subject, failure: Failure) -> Iterator[str]:
    """The lines of the report of one solve."""
    case = Case(subject, failure)
    if case.result == "invalid_input":
        yield f"{who}: `RESULTS.invalid_input`: {subject.messages[int(failure.code)]}"
        return
    yield f"{who}: `RESULTS.{case.result}`: {_explanation(case)}"
    yield from _reasons(case)
    yield (
        f"It had come to t = {case.t}, the next step being {case.t_next - case.t}, after {case.number('steps')} "
        f"attempted steps of which {case.number('accepted_steps')} were accepted{_rejected(case)}."
    )
    bad = not_finite("y", case.y)
    yield f"Not finite there: {bad}." if bad else f"The state there: {shown_leaves('y', case.y)}."
    advice = hint(case)
    if advice is not None:
        yield advice
    yield "With `throw=False` the solution so far is returned and `Solution.result` says how it ended."


def _explanation(case: Case) -> str:
    """The explanation of the result; that of Optimistix gives advice that is wrong for most causes."""
    if case.result == "max_steps_reached":
        return f"The maximum number of solver steps was reached, max_steps={case.subject.max_steps}."
    return case.subject.messages[int(case.failure.code)]


def _rejected(case: Case) -> str:
    causes = {
        "their error": "rejected_by_error",
        "unsolved stages": "rejected_by_nonlinear_solve",
        "events": "rejected_by_event",
    }
    rejected = [f"{case.number(name)} for {cause}" for cause, name in causes.items() if case.number(name) > 0]
    return f" and rejected: {', '.join(rejected)}" if rejected else ""


def _reasons(case: Case) -> Iterator[str]:
    """Sentences about the reason of a failure."""
    failed_at = case.failure.ending.failed_at
    if failed_at is not None and np.isfinite(failed_at):
        yield f"The state was finite up to t = {failed_at}, and not after that step."
    yield from _what_is_not_finite(case)
    if case.result == "inconsistent_initial_values" and case.failure.found is not None:
        worst = largest_entries("y", case.failure.found.residuals)
        yield f"The algebraic equations with the largest residuals there, by their places: {worst}."
    yield from _about_events(case)


def _what_is_not_finite(case: Case) -> Iterator[str]:
    """Which of vector field, Jacobian and conditions are not finite at a finite state."""
    found = case.failure.found
    if found is None or not is_finite(found.y):
        return
    where = f"at the state that the solve had reached at t = {found.t}"
    if bad := not_finite("", found.field.slope):
        yield f"The vector field is not finite {where}: {bad}."
    elif bad := not_finite("", found.field.jacobian):
        yield f"The Jacobian of the vector field is not finite {where}, in these entries or rows: {bad}."
    elif rows := _wrong_rows(case):
        yield f"Rows of the Jacobian that are not those of the vector field {where}: those of {rows}."
    elif bad := not_finite("", found.field.ahead):
        yield f"The vector field is finite there, and not at the end of a step of Euler's method from there: {bad}."
    if found.conditions is not None:
        for name, value in zip(case.subject.events, found.conditions, strict=True):
            if np.isnan(value):
                yield f"The condition of the event `{name}` is not a number {where}."


def _wrong_rows(case: Case) -> str:
    """The entries of the state whose rows of the Jacobian are wrong, if that is why the solve failed."""
    found = case.failure.found
    if found is None or case.result not in ("jacobian_pattern_wrong", "jacobian_wrong"):
        return ""
    return chosen_entries("y", found.field.wrong_rows)


def _about_events(case: Case) -> Iterator[str]:
    """The events that have to do with a failure: one that is sought, or whose effect made the last state."""
    events, names = case.failure.ending.events, case.subject.events
    if events is None:
        return
    last = ", ".join(f"`{name}`" for name, is_active in zip(names, events.active, strict=True) if is_active)
    if events.is_searching:
        yield f"This was in the search for the time of the event {last or ', '.join(f'`{name}`' for name in names)}."
    if np.any(events.num_effects):
        numbers = zip(names, events.num_effects, strict=True)
        counted = ", ".join(f"`{name}` {number}" for name, number in numbers if number > 0)
        yield f"Events that changed the state, and how often: {counted}."
        # A step that ends in such a state is rejected.
        if not events.is_searching and case.subject.may_reject and not case.is_finite:
            yield f"The effect of the event {last} returned the last state."
