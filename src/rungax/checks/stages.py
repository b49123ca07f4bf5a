"""Validation of a call, in two places: before tracing and inside the trace.

Constructors check their own arguments; here are the checks that need the whole call. `before_tracing` checks what is
known when `diffeqsolve` is called; `known_values` the values of times, if they are known: at once with `throw=False`,
otherwise after the solve has failed. Inside the trace, `argument_types` checks shapes and dtypes of times and state,
and what the adjoint can do; `inside_trace` traces the terms and checks that solver, controller and noise suit them;
`values_are_valid` checks the values that only the running program knows.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..call import Call
from ..jaxkit import InvalidValueError, RealScalar, Time, Y, is_traced
from ..terms import ODETerm, Terms, is_term
from .arguments import check_kinds, check_made_jump, check_next_attempt, check_saving, check_state, check_times
from .equation import check_no_noise, check_noise, check_terms, warn_of_coarse_paths
from .values import conditions, ends_of_paths, saved_times

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


def known_values(call: Call) -> None:
    """Raise a `ValueError` for wrong values, if all are known now; if not, the program checks (`values_are_valid`)."""
    if not is_traced(call.terms, call.solver, call.y0):
        call.solver.check_values(call.terms, call.y0)
    ends, times = ends_of_paths(call.terms), saved_times(call)
    t0, t1, dt0 = call.t0, call.t1, call.dt0
    if is_traced(t0, t1, dt0, times, call.controller, ends):
        return
    check_times(t0, t1, dt0)
    # In whatever dtype they are given, float64 holds them exactly.
    t0, t1, dt0 = (None if t is None else np.float64(t) for t in (t0, t1, dt0))
    times = [np.asarray(ts).astype(np.float64) for ts in times]
    ends = [(np.float64(a), np.float64(b)) for a, b in ends]
    # The times of a controller may be arrays of JAX, on which operations are traced inside `jit`, though known.
    with jax.ensure_compile_time_eval():
        for ok, message in conditions(np, t0, t1, dt0, times, call, ends):
            if not ok:
                raise InvalidValueError(message())


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
    check_noise(terms, call.solver, call.controller, t0, y0, call.args)
    return terms


def values_are_valid(call: Call, t0: Time, t1: Time, dt0: RealScalar | None) -> jax.Array:
    """True if the values that only the running program knows are right."""
    times = [jnp.asarray(ts).astype(t0.dtype) for ts in saved_times(call)]
    ends = [(jnp.asarray(a).astype(t0.dtype), jnp.asarray(b).astype(t0.dtype)) for a, b in ends_of_paths(call.terms)]
    found = conditions(jnp, t0, t1, dt0, times, call, ends)
    return jnp.all(jnp.stack([jnp.asarray(ok) for ok, _ in found]))


def as_terms(terms: PyTree[Any]) -> Terms:
    """`terms` with plain functions made `ODETerm`s."""
    return jax.tree.map(lambda x: x if is_term(x) or not callable(x) else ODETerm(x), terms, is_leaf=is_term)
