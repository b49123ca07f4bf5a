"""Validation of a call, in two places: before tracing and inside the trace.

Constructors check their own arguments; here are the checks that need the whole call. `before_tracing` checks what is
known when `diffeqsolve` is called; `known_values` the values that are known: at once with `throw=False`, otherwise
after the solve has failed. Inside the trace, `argument_types` checks shapes and dtypes of times and state, and what the
adjoint can do; `inside_trace` traces the terms and checks that solver, controller and noise suit them;
`values_are_valid` checks the values that only the running program knows.

Where a program is staged, as inside `jax.jit` and `lax.cond`, no value raises an error, not even one that is known: the
solve may be in a branch that is never taken. Then `values_of_parts` finds the known values that are wrong, those with
which the parts of the call were made among them. The solve ends with `RESULTS.invalid_input`; a program that raises
says what the error would have said.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..call import Call
from ..jaxkit import (
    Condition,
    RealScalar,
    Time,
    Y,
    all_hold,
    checked_objects,
    is_staging,
    is_traced,
    is_transforming,
    require,
    violation,
)
from ..terms import ODETerm, Terms, is_term
from .arguments import check_kinds, check_made_jump, check_next_attempt, check_saving, check_state, check_times
from .equation import check_no_noise, check_noise, check_terms, warn_of_coarse_paths
from .mass import check_mass, regular_mass
from .tolerances import warn_of_fine_tolerances
from .values import conditions, ends_of_paths, finite_state, saved_times

# ------------------------------------------------------------------------------------------------------ before tracing


def before_tracing(call: Call, *, chose_solver: bool) -> None:
    """Raise a `ValueError` unless the arguments are of their kinds, and what is saved has a known size.

    `chose_solver` says whether the solver was left to Rungax to choose.
    """
    if chose_solver:
        check_no_noise(call.terms)
    check_kinds(solver=call.solver, saveat=call.saveat, stepsize_controller=call.controller, adjoint=call.adjoint)
    check_kinds(progress_meter=call.progress_meter)
    if call.event is not None:
        check_kinds(event=call.event)
    call.adjoint.check_controller(call.controller)
    check_saving(call.saveat, call.max_steps)
    warn_of_coarse_paths(call.terms, call.dt0, call.controller)
    warn_of_fine_tolerances(call.controller, call.y0)


def known_values(call: Call) -> None:
    """Raise a `ValueError` for the first value that is known and wrong, unless a program is being staged."""
    require(_conditions_on_known_values(call))


def known_state(call: Call) -> None:
    """Raise a `ValueError` if the initial state is known and not finite, unless a program is being staged.

    Without `throw` the result says so.
    """
    require([finite_state(call.y0)])


def values_of_parts(call: Call) -> tuple[Call, str | None]:
    """The call, which now says whether the values in its parts are valid; and why a known value is not.

    The constructors of the parts have raised an error for known values that are wrong, and `known_values` does for
    those of the call, except in a program that is being staged. The message is for that program.
    """
    if not is_transforming():
        return call, None
    parts, staging = call._replace(t0=None, t1=None, dt0=None, y0=None, resumed=None), is_staging()
    if not staging and not is_traced(parts):
        return call, None
    of_parts = [condition for part in checked_objects(parts) for condition in part.value_conditions()]
    if staging:
        of_adjoint = call.adjoint.conditions_on(call.controller)
        message = violation([*of_parts, *of_adjoint, *_conditions_on_known_values(call)])
        if message is not None:
            return call._replace(parts_are_valid=False), message
    return call._replace(parts_are_valid=all_hold(c for c in of_parts if not c.is_known)), None


def traced_conditions(call: Call) -> list[Condition]:
    """The conditions on traced values, if a program is being staged."""
    if not is_staging():
        return []
    of_parts = [condition for part in checked_objects(call) for condition in part.value_conditions()]
    of_terms = call.solver.conditions_on(call.terms, call.y0)
    pairs = zip(_conditions_on_the_host(call), _conditions_in_a_program(call, *call.times()), strict=True)
    of_times = [in_program for on_host, in_program in pairs if not on_host.is_known]
    return [*(condition for condition in (*of_parts, *of_terms) if not condition.is_known), *of_times]


def _conditions_on_known_values(call: Call) -> Iterator[Condition]:
    """The conditions on values in the call, for those that are known."""
    yield from call.solver.conditions_on(call.terms, call.y0)
    yield from regular_mass(call.terms, call.solver, call.y0)
    check_times(call.t0, call.t1, call.dt0)
    yield from _conditions_on_the_host(call)


def _conditions_on_the_host(call: Call) -> Iterator[Condition]:
    """The conditions on times, in operations on the host."""
    times = [_on_host(ts) for ts in saved_times(call)]
    ends = [(_on_host(begin), _on_host(end)) for begin, end in ends_of_paths(call.terms)]
    t0, t1, dt0 = (_on_host(t) for t in (call.t0, call.t1, call.dt0))
    yield from conditions(np, t0, t1, dt0, times, call, ends)


def _on_host(value: Any) -> Any:
    """A known value in float64, which holds it exactly in whatever dtype it is given; a traced one as it is."""
    return value if value is None or is_traced(value) else np.asarray(value).astype(np.float64)[()]


# ---------------------------------------------------------------------------------------------------- inside the trace


def argument_types(call: Call) -> None:
    """Raise an error unless times and state have usable shapes and dtypes, and the adjoint can do what is asked."""
    check_times(call.t0, call.t1, call.dt0)
    check_state(call.y0)
    check_made_jump(call.resumed.made_jump)
    call.adjoint.check(call.saveat)
    if call.event is not None:
        call.adjoint.check_event(call.event)


def inside_trace(call: Call, t0: Time, y0: Y) -> Terms:
    """The call's terms, traced once; raises a `ValueError` unless solver, controller and noise suit them."""
    check_next_attempt(call.resumed.next_attempt, t0)
    terms = as_terms(call.terms)
    check_terms(terms, call.solver, t0, y0, call.args)
    terms = call.solver.trace_terms(terms, t0, y0, call.args)
    call.adjoint.check_terms(terms)
    check_mass(terms, call.solver, t0, y0, call.args)
    check_noise(terms, call.solver, call.controller, t0, y0, call.args)
    return terms


def values_are_valid(call: Call, t0: Time, t1: Time, dt0: RealScalar | None) -> jax.Array:
    """True if the values that only the running program knows are right."""
    found = [condition.holds() for condition in _conditions_in_a_program(call, t0, t1, dt0)]
    if call.parts_are_valid is not True:
        found.append(call.parts_are_valid)
    return jnp.all(jnp.stack([jnp.asarray(holds) for holds in found]))


def _conditions_in_a_program(call: Call, t0: Time, t1: Time, dt0: RealScalar | None) -> Iterator[Condition]:
    """The conditions on times, in operations of JAX."""
    times = [jnp.asarray(ts).astype(t0.dtype) for ts in saved_times(call)]
    ends = [(jnp.asarray(a).astype(t0.dtype), jnp.asarray(b).astype(t0.dtype)) for a, b in ends_of_paths(call.terms)]
    return conditions(jnp, t0, t1, dt0, times, call, ends)


def as_terms(terms: PyTree[Any]) -> Terms:
    """`terms` with functions, and other callable objects that hold no terms, made `ODETerm`s."""
    is_leaf = lambda x: is_term(x) or _is_field(x)
    return jax.tree.map(lambda x: ODETerm(x) if _is_field(x) else x, terms, is_leaf=is_leaf)


def _is_field(x: Any) -> bool:
    """True if `x` is callable and no term, nor a pytree of terms, such as a function or a module of Equinox."""
    return callable(x) and not is_term(x) and not any(map(is_term, jax.tree.leaves(x, is_leaf=is_term)))
