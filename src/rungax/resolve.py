"""The meaning of a call: dtypes, traced terms, the direction of travel; and from these the plan and the first state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .call import Call
from .events import ConditionDetector
from .jaxkit import (
    Args,
    BoolScalar,
    Time,
    Y,
    call_user,
    check_parameters,
    layout,
    standing_for,
    strong,
    trace_once,
    with_derivatives_of,
)
from .plan import AbstractRecorder, Plan
from .progress import ProgressRecorder
from .results import RESULTS, choose
from .saving import SOLVER_STATE, DenseRecorder, InternalsRecorder, OutputRecorder, SolverStateRecorder
from .saving.saveat import SubSaveAt, sub_name, subs_of
from .setup import Stepping, set_up
from .step import Problem, State
from .terms import in_direction_of_travel


def resolve(call: Call) -> tuple[Plan, State]:
    """The plan of a call and its first state, in the direction of travel."""
    t0, t1, dt0 = call.times()
    dtype = t0.dtype
    valid = checks.values_are_valid(call, t0, t1, dt0)
    y0 = jax.tree.map(lambda x: _nan_unless(valid, strong(x, dtype)), call.y0)
    terms = checks.inside_trace(call, t0, y0)

    direction = jnp.where(t1 >= t0, jnp.ones((), dtype), -jnp.ones((), dtype))
    problem = Problem(
        in_direction_of_travel(terms, direction), call.args, t0 * direction, t1 * direction, direction, y0
    )
    stepping = Stepping(call.solver, call.controller, None if dt0 is None else dt0 * direction, call.max_steps)
    return set_up(
        problem,
        stepping,
        _recorders(call, problem),
        detector=_detector(call, t0, y0),
        resumed=call.resumed,
        result=choose(valid, RESULTS.successful, RESULTS.invalid_input),
        hands_on=call.saveat.controller_state,
    )


def _nan_unless(valid: BoolScalar, y: jax.Array) -> jax.Array:
    """`y`, or NaN if the input is not valid; with the derivative of `y`, so that cotangents of NaN reach it."""
    return with_derivatives_of(jnp.where(valid, y, jnp.asarray(jnp.nan, y.dtype)), y)


def _detector(call: Call, t0: Time, y0: Y) -> ConditionDetector | None:
    """The event detector; its conditions receive the call as it was made."""
    if call.event is None:
        return None
    return ConditionDetector.of(call.event, context_of_conditions(call), t0, y0, call.args)


def context_of_conditions(call: Call) -> dict[str, Any]:
    """The call as it was made, which conditions of events receive by name."""
    return {
        "terms": checks.as_terms(call.terms),
        "solver": call.solver,
        "t0": call.t0,
        "t1": call.t1,
        "dt0": call.dt0,
        "saveat": call.saveat,
        "stepsize_controller": call.controller,
        "max_steps": call.max_steps,
    }


def _recorders(call: Call, problem: Problem) -> dict[str, AbstractRecorder]:
    """The recorders of what the call asks for, by name."""
    recorders: dict[str, AbstractRecorder] = {
        sub_name(i): _output_recorder(call, sub, problem) for i, sub in enumerate(subs_of(call.saveat))
    }
    if call.saveat.dense:
        recorders["dense"] = DenseRecorder()
    if call.saveat.internals:
        recorders["internals"] = InternalsRecorder()
    if call.saveat.solver_state:
        recorders[SOLVER_STATE] = SolverStateRecorder()
    if call.progress_meter.is_shown:
        recorders["progress"] = ProgressRecorder(call.progress_meter)
    return recorders


def _output_recorder(call: Call, sub: SubSaveAt, problem: Problem) -> OutputRecorder:
    t0, t1 = problem.t0, problem.t1
    ts = jnp.zeros(0, t0.dtype) if sub.ts is None else jnp.asarray(sub.ts).astype(t0.dtype) * problem.direction
    # Times may lie outside by a few roundings. Not by `jnp.clip`, which shares the derivative where they are equal.
    ts = jnp.where(ts > t1, t1, jnp.where(ts < t0, t0, ts))
    check_parameters(sub.fn, "`SaveAt(fn=...)`", "fn(t, y, args)", ("time", "state", "`args`"))

    @standing_for(sub.fn)
    def save(t: Time, y: Y, args: Args) -> PyTree[Any]:
        value = call_user("the function `SaveAt(fn=...)`", sub.fn, t, y, args)
        if not all(map(eqx.is_array_like, jax.tree.leaves(value))):
            raise ValueError(
                "`SaveAt(fn=...)` must return arrays or numbers, or a pytree of them.\n"
                f"Expected: such as float64[2]\nFound:    {layout(value)}"
            )
        return jax.tree.map(jnp.asarray, value)

    fn = trace_once(save, t0, problem.y0, call.args)
    return OutputRecorder(ts, fn, sub.t0, sub.t1, sub.stride)
