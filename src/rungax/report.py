"""The report of a failed solve: its reason, where it happened, and what is not finite there.

The loop carries nothing for it. What is not finite is found by one more evaluation after it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import checks
from .call import Call
from .jaxkit import Time, Y, compiled, resolution, scaled, strong
from .plan import Plan
from .resolve import context_of_conditions
from .results import RESULTS, Result, code_and_messages, name_of
from .solution import Solution
from .step import State
from .terms import leaf_terms

_UNSOLVED = (RESULTS.nonlinear_max_steps_reached, RESULTS.nonlinear_divergence)

_MOST = 4
"""The number of entries that are listed one by one."""


class _Events(NamedTuple):
    """The events at the end of a solve: how often each changed the state, which were the last, and what is sought."""

    num_effects: Any
    active: Any
    is_searching: Any


class Ending(NamedTuple):
    """The end of a solve, in true time.

    Parameters
    ----------
    times
        The values of `t`, `t_next` and, if there is one, `failed_at`, along the last axis: one array, because each that
        a program returns costs time.
    y
        The state.
    events
        The events; `None` in a solve without.
    """

    times: Array
    y: Y
    events: _Events | None

    @classmethod
    def of(cls, plan: Plan, state: State) -> Self:
        """The ending of a solve whose last state is `state`."""
        failed_at, direction, events = plan.controller.failed_at(state.controller_state), plan.problem.direction, None
        if state.events is not None:
            events = _Events(state.events.num_effects, state.events.active, state.events.bracket.is_open)
        times = [state.t, state.t_next] if failed_at is None else [state.t, state.t_next, failed_at]
        return cls(jnp.stack(times) * direction, state.y, events)

    @property
    def t(self) -> Time:
        """The time."""
        return self.times[..., 0]

    @property
    def t_next(self) -> Time:
        """The end of the next attempt."""
        return self.times[..., 1]

    @property
    def failed_at(self) -> Time | None:
        """For controllers that go on after the state has stopped being finite: the last time at which it was."""
        return self.times[..., 2] if self.times.shape[-1] > 2 else None


class _Values(NamedTuple):
    """The vector field at one time and state, its Jacobian there, the field a step ahead, and conditions of events."""

    field: Any
    jacobian: Any
    ahead: Any
    conditions: list[Any]


def report(call: Call, solution: Solution, ending: Ending) -> str:
    """The report of a failed solve, from values that are known."""
    stats = solution.stats
    causes = {
        "their error": stats["num_rejected_by_error"],
        "unsolved stages": stats["num_rejected_by_nonlinear_solve"],
        "events": stats["num_rejected_by_event"],
    }
    rejected = ", ".join(f"{number} for {cause}" for cause, number in causes.items() if number > 0)
    lines = [
        f"The solve failed, `RESULTS.{name_of(solution.result)}`: {RESULTS[solution.result]}",
        *_reasons(call, solution.result, ending),
        f"It had come to t = {ending.t}, the next step being {ending.t_next - ending.t}, after {solution.num_steps}"
        f" attempted steps of which {solution.num_accepted_steps} were accepted"
        f"{f' and rejected: {rejected}' if rejected else ''}.",
    ]
    bad = _not_finite("y", ending.y)
    lines += [f"Not finite there: {bad}." if bad else f"The state there: {ending.y}."]
    lines += ["With `throw=False` the solution so far is returned and `Solution.result` says how it ended."]
    return "\n".join(lines)


def explanations(call: Call, result: Result, ending: Ending, wrong: str | None) -> tuple[jax.Array, list[str]]:
    """The number of a result, and for each number what a compiled program says.

    It knows dtypes but no values, apart from those known when it was traced: `wrong` is the message about one of them.
    """
    code, messages = explanations_of_input(call, result, wrong)
    dt_min, _ = code_and_messages(RESULTS.dt_min_reached)
    if _is_narrow(ending.t.dtype):
        messages[int(dt_min)] += f" Times are {ending.t.dtype}. {_USE_FLOAT64}"
    return code, messages


def explanations_of_input(call: Call, result: Result, wrong: str | None) -> tuple[jax.Array, list[str]]:
    """The number of a result and for each number its explanation, with one for each condition on traced values."""
    code, messages = code_and_messages(result, wrong)
    unknown = checks.traced_conditions(call)
    if wrong is not None or not unknown:
        return code, messages
    invalid_input, _ = code_and_messages(RESULTS.invalid_input)
    is_invalid = code == invalid_input
    # From the last to the first, so that the first that does not hold is the one that stays.
    for number, condition in reversed(list(enumerate(unknown, start=len(messages)))):
        code = jnp.where(is_invalid & ~jnp.asarray(condition.holds()), jnp.asarray(number, code.dtype), code)
    return code, [*messages, *(f"{messages[int(invalid_input)]} {condition.claim}" for condition in unknown)]


# -------------------------------------------------------------------------------------------------------------- reasons


def _reasons(call: Call, result: Result, ending: Ending) -> Iterator[str]:
    """Sentences about the reason of a failure."""
    if result == RESULTS.invalid_input:
        return
    has_failed_at = ending.failed_at is not None and bool(jnp.isfinite(ending.failed_at))
    if has_failed_at:
        yield f"The state was finite up to t = {ending.failed_at}, and not after that step."
    # With constant steps the last finite state is known at the start only.
    at_start = has_failed_at and bool(ending.failed_at == call.t0)
    t, y = (ending.failed_at, call.y0) if at_start else (ending.t, ending.y)
    found = list(_what_is_not_finite(call, t, ending.t_next - ending.t, y)) if _is_finite(y) else []
    yield from found
    yield from _about_events(call, ending)
    if not found and _is_finite(ending.y):
        if any(bool(result == x) for x in _UNSOLVED):
            yield "An implicit stage was not solved: control the error, shorten `dt0`, or raise `root_find_max_steps`."
        yield from _about_precision(call, result, ending)


def _what_is_not_finite(call: Call, t: Any, step: Any, y: Y) -> Iterator[str]:
    """Which of vector field, Jacobian and conditions are not finite at a finite state."""
    try:
        values = _evaluated(call, t, step, y)
    except Exception:
        # A solver's `func` is for controllers and events: one of a user's own may be left out.
        return
    where = f"at the state that the solve had reached at t = {t}"
    if bad := _not_finite("", values.field):
        yield f"The vector field is not finite {where}: {bad}."
    elif bad := _not_finite("", values.jacobian):
        yield f"The Jacobian of the vector field is not finite {where}, in these entries or rows: {bad}."
    elif bad := _not_finite("", values.ahead):
        yield f"The vector field is finite there, and not at the end of a step of Euler's method from there: {bad}."
    if call.event is not None:
        for name, value in zip(call.event.names, values.conditions, strict=True):
            if jnp.isnan(value):
                yield f"The condition of the event `{name}` is not a number {where}."


@compiled
def _evaluated(call: Call, t: Any, step: Any, y: Y) -> _Values:
    """The values at one time and state, and at the end of a step of Euler's method."""
    terms, args = checks.as_terms(call.terms), call.args
    field = lambda t, y: call.solver.func(terms, t, y, args)
    y = jax.tree.map(lambda x: strong(x, t.dtype), y)
    slope, jacobian, ahead, conditions = field(t, y), None, None, []
    if call.solver.facts.uses_jacobian:
        given = [term.jacobian_at(t, y, args) for term in leaf_terms(terms)]
        # Its product with a vector of ones is not finite in every row in which an entry is not.
        product = lambda: jax.jvp(lambda y: field(t, y), (y,), (jax.tree.map(jnp.ones_like, y),))[1]
        given = [x for x in given if x is not None]
        jacobian = (given[0] if len(given) == 1 else given) if given else product()
    if jax.tree.structure(slope) == jax.tree.structure(y):
        direction = jnp.where(jnp.asarray(call.t1 >= call.t0), 1, -1).astype(t.dtype)
        step = direction * jnp.maximum(jnp.nan_to_num(jnp.abs(step)), 4 * resolution(t))
        ahead = field(t + step, jax.tree.map(lambda y, slope: y + scaled(step, slope), y, slope))
    if call.event is not None:
        context = context_of_conditions(call)
        conditions = [jnp.asarray(c(t, y, args, **context)).astype(t.dtype) for c in call.event.conditions]
    return _Values(slope, jacobian, ahead, conditions)


def _about_events(call: Call, ending: Ending) -> Iterator[str]:
    """The events that have to do with a failure: one that is sought, or whose effect made the last state."""
    if call.event is None or ending.events is None:
        return
    names, (num_effects, active, is_searching) = call.event.names, (np.asarray(x) for x in ending.events)
    last = ", ".join(f"`{name}`" for name, is_active in zip(names, active, strict=True) if is_active)
    if is_searching:
        yield f"This was in the search for the time of the event {last or ', '.join(f'`{name}`' for name in names)}."
    if num_effects.any():
        counted = ", ".join(f"`{name}` {number}" for name, number in zip(names, num_effects, strict=True) if number > 0)
        yield f"Events that changed the state, and how often: {counted}."
        # A step that ends in such a state is rejected.
        if not is_searching and call.controller.may_reject and not _is_finite(ending.y):
            yield f"The effect of the event {last} returned the last state."


# ------------------------------------------------------------------------------------------------------------ precision

_USE_FLOAT64 = (
    'Use float64: `jax.config.update("jax_enable_x64", True)`, and `y0` and times in float64; or looser tolerances.'
)


def _about_precision(call: Call, result: Result, ending: Ending) -> Iterator[str]:
    """Sentences about the part of single precision in a failure."""
    t, step = ending.t, abs(ending.t_next - ending.t)
    cannot_shorten = call.controller.may_reject and any(bool(result == x) for x in (RESULTS.dt_min_reached, *_UNSOLVED))
    found: list[str] = []
    if _is_narrow(t.dtype) and (cannot_shorten or bool(step < 100 * resolution(t))):
        found.append(f"Times are {t.dtype}, which near t = {t} resolves steps of {float(resolution(t)):.1e} only.")
    tolerances = call.controller.tolerances()
    narrow = {str(x.dtype): float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(ending.y) if _is_narrow(x.dtype)}
    if tolerances is not None and narrow:
        rtol = min(float(jnp.min(jnp.asarray(x))) for x in jax.tree.leaves(tolerances.rtol))
        name, eps = max(narrow.items(), key=lambda item: item[1])
        if rtol < 100 * eps:
            found.append(f"The state is {name}, whose rounding, {eps:.1e}, is not small beside `rtol={rtol:.1e}`.")
    if found:
        yield " ".join([*found, _USE_FLOAT64])


def _is_narrow(dtype: Any) -> bool:
    """True if a dtype is less precise than float64."""
    return bool(jnp.finfo(dtype).eps > np.finfo(np.float64).eps)


# -------------------------------------------------------------------------------------------------------------- entries


def _is_finite(tree: Any) -> bool:
    return not _not_finite("", tree)


def _not_finite(name: str, tree: Any) -> str:
    """The first entries that are not finite, each with its leaf, its index and its value; empty if all are finite."""
    found: list[str] = []
    number = 0
    for path, leaf in jax.tree.leaves_with_path(tree):
        values = np.asarray(leaf)
        bad = np.argwhere(~np.asarray(jnp.isfinite(values)))
        number += len(bad)
        for index in bad[: _MOST - len(found)]:
            entry = f"[{', '.join(map(str, index))}]" if len(index) else ""
            label = f"{name}{jax.tree_util.keystr(path)}{entry}"
            value = values[tuple(index)]
            found.append(f"{label} = {value}" if label else f"{value}")
    return ", ".join(found) + (f" and {number - len(found)} more" if number > len(found) else "")
