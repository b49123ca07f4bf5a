"""The front door: `diffeqsolve`."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .adjoints import AbstractAdjoint, RecursiveCheckpointAdjoint
from .controllers import AbstractStepSizeController, ConstantStepSize
from .jaxkit import Args, BoolScalar, RealScalar, Time, Y, close, compiled, land_on, match_varying, strong, time_dtype
from .progress import AbstractProgressMeter, NoProgressMeter, progress_recorders
from .results import RESULTS, is_okay, known_failure
from .saving import DenseRecorder, InternalsRecorder, OutputRecorder, SaveAt
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
    adjoint: AbstractAdjoint = RecursiveCheckpointAdjoint(),
    max_steps: int | None = 4096,
    throw: bool = True,
    progress_meter: AbstractProgressMeter[Any] = NoProgressMeter(),
    solver_state: PyTree[Any] = None,
    controller_state: PyTree[Any] = None,
    made_jump: BoolScalar | None = None,
) -> Solution:
    t0, t1, dt0 = (float(t) if type(t) is int else t for t in (t0, t1, dt0))
    checks.check_saving(saveat, max_steps)
    resumed = (solver_state, controller_state, made_jump)
    call = _Call(
        terms, solver, t0, t1, dt0, y0, args, saveat, stepsize_controller, adjoint, resumed, max_steps, progress_meter
    )
    if not throw:
        checks.check_known_values(t0, t1, dt0, saveat, stepsize_controller)
        return _say_if_no_jump(saveat, _run(call)[0])
    solution, ending = _run(call)
    solution = _say_if_no_jump(saveat, solution)
    failed = known_failure(solution.result)
    if failed is not False:
        # Only now, for checking values on the host takes longer than a short solve, and the program checks them too.
        checks.check_known_values(t0, t1, dt0, saveat, stepsize_controller)
    if failed is None:
        return solution.result.error_if(solution, jnp.logical_not(is_okay(solution.result)))
    if failed:
        raise RuntimeError(_report(solution, ending))
    return solution


class _Call(NamedTuple):
    """The arguments of `diffeqsolve`."""

    terms: PyTree[Any]
    solver: AbstractSolver[Any]
    t0: RealScalar
    t1: RealScalar
    dt0: RealScalar | None
    y0: Y
    args: Args
    saveat: SaveAt
    controller: AbstractStepSizeController[Any]
    adjoint: AbstractAdjoint
    resumed: tuple[PyTree[Any], PyTree[Any], BoolScalar | None]
    max_steps: int | None
    progress_meter: AbstractProgressMeter[Any]


class _Ending(NamedTuple):
    """Where a solve ended, for the report if it failed."""

    t: Time
    t_next: Time
    direction: Time
    y: Y


@compiled
def _run(call: _Call) -> tuple[Solution, _Ending]:
    """The whole solve, as one program."""
    # Before anything is traced: what is traced with a value that does not vary cannot be called with one that does.
    call = match_varying(call, call)
    checks.check_times(call.t0, call.t1, call.dt0)
    checks.check_state(call.y0)
    call.adjoint.check(call.saveat)
    subs, subs_tree = jax.tree.flatten(call.saveat.subs, is_leaf=is_sub)
    plan, state = _prepare(call, subs)
    outcome = call.adjoint.integrate(plan, state)
    state, saveat = outcome.state, call.saveat
    remaining = iter(outcome.outputs)
    outputs = [next(remaining) for _ in subs]
    solution = Solution(
        t0=call.t0,
        t1=call.t1,
        ts=jax.tree.unflatten(subs_tree, [ts for ts, _ in outputs]),
        ys=jax.tree.unflatten(subs_tree, [ys for _, ys in outputs]),
        interpolation=next(remaining) if saveat.dense else None,
        internals=next(remaining) if saveat.internals else None,
        result=outcome.result,
        solver_state=state.solver_state if saveat.solver_state else None,
        controller_state=state.controller_state if saveat.controller_state else None,
        made_jump=state.made_jump if saveat.made_jump else None,
        num_steps=state.num_steps,
        num_accepted_steps=state.num_accepted,
        max_steps=call.max_steps,
    )
    return solution, _Ending(state.t, state.t_next, plan.problem.direction, state.y)


def _prepare(call: _Call, subs: list[SubSaveAt]) -> tuple[Plan, State]:
    """Everything the loop needs, in the direction of travel."""
    times = [sub.ts for sub in subs if sub.ts is not None]
    dtype = time_dtype(call.t0, call.t1, *([] if call.dt0 is None else [call.dt0]), *times)
    t0, t1 = jnp.asarray(call.t0, dtype), jnp.asarray(call.t1, dtype)
    dt0 = None if call.dt0 is None else jnp.asarray(call.dt0, dtype)
    y0 = jax.tree.map(lambda x: strong(x, dtype), call.y0)
    args = call.args
    valid = checks.values_are_valid(t0, t1, dt0, times, call.controller)

    terms = jax.tree.map(_as_term, call.terms, is_leaf=is_term)
    checks.check_terms(terms, call.solver)
    terms = jax.tree.map(lambda term: term.close(t0, y0, args), terms, is_leaf=is_term)
    error_order = call.solver.error_order(terms)

    direction = jnp.where(t1 >= t0, jnp.ones((), dtype), -jnp.ones((), dtype))
    terms, controller = direct(terms, direction), call.controller.wrap(direction)
    t0, t1, dt0 = t0 * direction, t1 * direction, None if dt0 is None else dt0 * direction
    t_next, controller_state = controller.init(terms, t0, t1, y0, dt0, args, call.solver.func, error_order)
    t_next = land_on(t1, t_next)
    solver_state, resumed_controller_state, resumed_jump = call.resumed
    if resumed_controller_state is not None:
        controller_state = controller.resume(controller_state, resumed_controller_state)
    if solver_state is None:
        solver_state = call.solver.init(terms, t0, t_next, y0, args)

    made_jump = None
    if controller.can_jump or not (resumed_jump is None or resumed_jump is False):
        made_jump = jnp.asarray(False if resumed_jump is None else resumed_jump)
    plan = Plan(
        problem=Problem(terms, args, t0, t1, direction, y0),
        solver=call.solver,
        controller=controller,
        controller_state=controller_state,
        error_order=error_order,
        max_steps=call.max_steps,
        recorders=_recorders(call, subs, direction, t0, y0),
    )
    zero = jnp.asarray(0, jnp.int32)
    result = RESULTS.where(valid, RESULTS.successful, RESULTS.invalid_input)
    y0 = jax.tree.map(lambda y: jnp.where(valid, y, jnp.asarray(jnp.nan, y.dtype)), y0)
    state = State(t0, t_next, y0, solver_state, controller_state, made_jump, zero, zero, result, ())
    return plan, state


def _as_term(term: Any) -> AbstractTerm[Any, Any]:
    return ODETerm(term) if callable(term) and not is_term(term) else term


def _recorders(call: _Call, subs: list[SubSaveAt], direction: Time, t0: Time, y0: Y) -> tuple[AbstractRecorder, ...]:
    """Whatever keeps an account of the solve, in the order in which `_run` takes their outcomes."""
    recorders = [_output_recorder(sub, direction, t0, y0, call.args) for sub in subs]
    dense = [DenseRecorder()] if call.saveat.dense else []
    internals = [InternalsRecorder()] if call.saveat.internals else []
    return (*recorders, *dense, *internals, *progress_recorders(call.progress_meter))


def _output_recorder(sub: SubSaveAt, direction: Time, t0: Time, y0: Y, args: Args) -> AbstractRecorder:
    ts = jnp.zeros(0, t0.dtype) if sub.ts is None else jnp.asarray(sub.ts).astype(t0.dtype) * direction
    fn = close(lambda t, y, args: jax.tree.map(jnp.asarray, sub.fn(t, y, args)), t0, y0, args)
    return OutputRecorder(ts, fn, sub.t0, sub.t1, sub.stride)


def _say_if_no_jump(saveat: SaveAt, solution: Solution) -> Solution:
    """`made_jump=False`, if asked for, where nothing can jump; a program can hand out no Python value itself."""
    if not saveat.made_jump or solution.made_jump is not None:
        return solution
    return eqx.tree_at(lambda s: s.made_jump, solution, False, is_leaf=lambda x: x is None)


def _report(solution: Solution, ending: _Ending) -> str:
    """Why and where a solve failed, from values that are known."""
    t, dt = ending.t * ending.direction, (ending.t_next - ending.t) * ending.direction
    bad = [
        f"y{jax.tree_util.keystr(path)}"
        for path, leaf in jax.tree.leaves_with_path(ending.y)
        if not jnp.isfinite(leaf).all()
    ]
    lines = [
        f"The solve failed: {solution.result}",
        f"It had come to t = {t}, the next step being {dt}, after {solution.num_steps} attempted steps"
        f" of which {solution.num_accepted_steps} were kept.",
        f"Not finite there: {', '.join(bad)}." if bad else f"The state there: {ending.y}.",
        "With `throw=False` the solution so far is returned and `Solution.result` says how it ended.",
    ]
    return "\n".join(lines)
