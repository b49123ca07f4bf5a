"""The front door: `diffeqsolve`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .controllers import AbstractStepSizeController, ConstantStepSize
from .jaxkit import Args, BoolScalar, RealScalar, Time, Y, compiled, land_on, select, strong, time_dtype
from .loop import final_result, integrate
from .results import RESULTS, is_okay, known_failure
from .saving import DenseRecorder, OutputRecorder, SaveAt
from .saving.saveat import SubSaveAt, is_sub
from .solution import Solution
from .solvers import AbstractSolver
from .step import AbstractRecorder, Plan, Problem, State
from .terms import AbstractTerm, ODETerm, direct, is_term


def diffeqsolve(
    terms: PyTree[AbstractTerm[Any, Any]],
    solver: AbstractSolver[Any],
    t0: RealScalar,
    t1: RealScalar,
    dt0: RealScalar | None,
    y0: Y,
    args: Args = None,
    *,
    saveat: SaveAt = SaveAt(t1=True),
    stepsize_controller: AbstractStepSizeController[Any] = ConstantStepSize(),
    max_steps: int | None = 4096,
    throw: bool = True,
    solver_state: PyTree[Any] = None,
    controller_state: PyTree[Any] = None,
    made_jump: BoolScalar | None = None,
) -> Solution:
    t0, t1, dt0 = (float(t) if isinstance(t, int) and not isinstance(t, bool) else t for t in (t0, t1, dt0))
    checks.check_times(t0, t1, dt0)
    valid = checks.check_known_values(t0, t1, dt0, saveat, stepsize_controller)
    resumed = _Resumed(solver_state, controller_state, made_jump)
    call = _Call(terms, solver, t0, t1, dt0, y0, args, saveat, stepsize_controller, resumed, max_steps, valid)
    outcome = _run(call)
    if throw:
        outcome = _raise_on_failure(outcome)
    return outcome.solution(call)


class _Resumed(eqx.Module):
    """What an earlier solve left, to go on from."""

    solver_state: PyTree[Any]
    controller_state: PyTree[Any]
    made_jump: BoolScalar | None


class _Call(eqx.Module):
    """The arguments of `diffeqsolve`; `valid` says that their values have been checked already."""

    terms: PyTree[Any]
    solver: AbstractSolver[Any]
    t0: RealScalar
    t1: RealScalar
    dt0: RealScalar | None
    y0: Y
    args: Args
    saveat: SaveAt
    controller: AbstractStepSizeController[Any]
    resumed: _Resumed
    max_steps: int | None
    valid: bool


class _Outcome(eqx.Module):
    """What the compiled program returns."""

    state: State
    ts: PyTree[Any]
    ys: PyTree[Any]
    interpolation: Any

    def solution(self, call: _Call) -> Solution:
        state, saveat = self.state, call.saveat
        stats = {
            "num_steps": state.num_steps,
            "num_accepted_steps": state.num_accepted,
            "num_rejected_steps": state.num_steps - state.num_accepted,
            "max_steps": call.max_steps,
        }
        return Solution(
            t0=call.t0,
            t1=call.t1,
            ts=self.ts,
            ys=self.ys,
            interpolation=self.interpolation,
            stats=stats,
            result=state.result,
            solver_state=state.solver_state if saveat.solver_state else None,
            controller_state=state.controller_state if saveat.controller_state else None,
            made_jump=state.made_jump if saveat.made_jump else None,
        )


@compiled
def _run(call: _Call) -> _Outcome:
    """The whole solve, as one program."""
    checks.check_state(call.y0)
    checks.check_saving(call.saveat, call.max_steps)
    subs, subs_tree = jax.tree.flatten(call.saveat.subs, is_leaf=is_sub)
    plan, state, valid = _prepare(call, subs)
    state = integrate(plan, state)
    state = eqx.tree_at(lambda s: s.result, state, final_result(plan, state))
    finished = [r.finish(plan, record, state) for r, record in zip(plan.recorders, state.records, strict=True)]
    state = eqx.tree_at(lambda s: s.records, state, ())
    outputs = finished[: len(subs)]
    if not call.valid:
        outputs = select(valid, outputs, jax.tree.map(_nan_like, outputs))
    ts, ys = ([output[i] for output in outputs] for i in (0, 1))
    interpolation = finished[len(subs)] if call.saveat.dense else None
    return _Outcome(state, jax.tree.unflatten(subs_tree, ts), jax.tree.unflatten(subs_tree, ys), interpolation)


def _prepare(call: _Call, subs: list[SubSaveAt]) -> tuple[Plan, State, BoolScalar]:
    """Everything the loop needs, in the direction of travel."""
    times = [sub.ts for sub in subs if sub.ts is not None]
    dtype = time_dtype(call.t0, call.t1, *([] if call.dt0 is None else [call.dt0]), *times)
    t0, t1 = jnp.asarray(call.t0, dtype), jnp.asarray(call.t1, dtype)
    dt0 = None if call.dt0 is None else jnp.asarray(call.dt0, dtype)
    y0 = jax.tree.map(lambda x: strong(x, dtype), call.y0)
    args = call.args
    valid = True if call.valid else checks.values_are_valid(t0, t1, dt0, times, call.controller)

    terms = jax.tree.map(_as_term, call.terms, is_leaf=is_term)
    checks.check_terms(terms, call.solver)
    terms = jax.tree.map(lambda term: term.close(t0, y0, args), terms, is_leaf=is_term)
    error_order = call.solver.error_order(terms)

    direction = jnp.where(t1 >= t0, jnp.ones((), dtype), -jnp.ones((), dtype))
    terms, controller = direct(terms, direction), call.controller.wrap(direction)
    t0, t1, dt0 = t0 * direction, t1 * direction, None if dt0 is None else dt0 * direction
    t_next, controller_state = controller.init(terms, t0, t1, y0, dt0, args, call.solver.func, error_order)
    t_next = land_on(t1, t_next)
    resumed = call.resumed
    if resumed.controller_state is not None:
        controller_state = resumed.controller_state
    solver_state = resumed.solver_state
    if solver_state is None:
        solver_state = call.solver.init(terms, t0, t_next, y0, args)

    made_jump = None
    if controller.can_jump or resumed.made_jump not in (None, False):
        made_jump = jnp.asarray(bool(resumed.made_jump) if resumed.made_jump is None else resumed.made_jump)
    recorders = [_output_recorder(sub, t0, direction) for sub in subs]
    plan = Plan(
        problem=Problem(terms, args, t0, t1, direction, y0),
        solver=call.solver,
        controller=controller,
        error_order=error_order,
        max_steps=call.max_steps,
        recorders=(*recorders, *([DenseRecorder()] if call.saveat.dense else [])),
    )
    zero = jnp.asarray(0, jnp.int32)
    result = RESULTS.where(valid, RESULTS.successful, RESULTS.invalid_input)
    state = State(t0, t_next, y0, solver_state, controller_state, made_jump, zero, zero, result, ())
    records = tuple(recorder.init(plan, state) for recorder in plan.recorders)
    return plan, eqx.tree_at(lambda s: s.records, state, records), valid


def _as_term(term: Any) -> AbstractTerm[Any, Any]:
    return ODETerm(term) if callable(term) and not is_term(term) else term


def _output_recorder(sub: SubSaveAt, t0: Time, direction: Time) -> AbstractRecorder:
    ts = jnp.zeros(0, t0.dtype) if sub.ts is None else jnp.asarray(sub.ts).astype(t0.dtype) * direction
    return OutputRecorder(ts, sub.fn, sub.t0, sub.t1, sub.stride)


def _nan_like(x: jax.Array) -> jax.Array:
    return jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _raise_on_failure(outcome: _Outcome) -> _Outcome:
    """Raise for a solve that failed: now if that is known, otherwise when the program runs."""
    result = outcome.state.result
    failed = known_failure(result)
    if failed is None:
        return result.error_if(outcome, ~is_okay(result))
    if failed:
        raise RuntimeError(_report(outcome))
    return outcome


def _report(outcome: _Outcome) -> str:
    """Why and where a solve failed, for a solve that ran to its end on this machine."""
    state = outcome.state
    return f"{RESULTS[state.result]} t={state.t}, dt={state.t_next - state.t}, y={state.y}"
