"""`diffeqsolve`: the entry point."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .adjoints import AbstractAdjoint, RecursiveCheckpointAdjoint
from .call import Call
from .controllers import AbstractStepSizeController, ConstantStepSize
from .deprecated import event_of
from .events import Event
from .jaxkit import (
    Args,
    BoolScalar,
    RealScalar,
    Y,
    call_user,
    compiled,
    in_wrapper,
    is_staging,
    is_transforming,
    known,
    match_varying,
    raise_where,
)
from .plan import Plan
from .progress import AbstractProgressMeter, NoProgressMeter
from .report import Ending, Examination, Explanations, Failure, Subject, examine, examine_if, solve_error
from .resolve import resolve
from .results import is_event, is_failure, is_okay
from .saving import SOLVER_STATE, SaveAt
from .saving.saveat import in_structure_of, sub_name, subs_of
from .solution import Solution
from .solvers import AbstractSolver, Auto
from .step import NextAttempt, Outcome
from .terms import AbstractTerm


@in_wrapper
@checks.explaining_arguments
def diffeqsolve(
    terms: PyTree[AbstractTerm[Any, Any]],
    solver: AbstractSolver[Any] | None,
    t0: RealScalar,
    t1: RealScalar,
    dt0: RealScalar | None,
    y0: Y,
    args: Args = None,
    *,
    saveat: SaveAt = SaveAt(t1=True),
    stepsize_controller: AbstractStepSizeController[Any, Any] = ConstantStepSize(),
    adjoint: AbstractAdjoint = RecursiveCheckpointAdjoint(),
    event: Event | None = None,
    max_steps: int | None = 4096,
    throw: bool = True,
    progress_meter: AbstractProgressMeter[Any] = NoProgressMeter(),
    solver_state: PyTree[Any] = None,
    controller_state: PyTree[Any] = None,
    made_jump: BoolScalar | None = None,
    discrete_terminating_event: Callable[..., BoolScalar] | None = None,
) -> Solution:
    r"""Solve a differential equation from `t0` to `t1`, forwards or backwards.

    $$\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}t, \qquad y(t_0) = y_0$$

    Parameters
    ----------
    terms
        The equation: a term, a pytree of terms in the structure that the solver asks for, or a function `f(t, y,
        args)`, short for `ODETerm(f)`.
    solver
        The method that makes one step. `Tsit5()` is a good first choice for problems that are not stiff, `Rodas5P()`
        for stiff ones; `None` is short for `Auto()`, which switches between the two as the problem requires, and uses
        `BDF` for large stiff ones.
    t0, t1
        Ends of the interval, in the same units as everything else; `t1 < t0` solves backwards.
    dt0
        The first step, or the size of all steps with `ConstantStepSize`; of the sign of `t1 - t0`. `None` lets an
        adaptive controller choose it, which costs two evaluations.
    y0
        The initial state: any pytree of arrays and of numbers. Each real or complex floating-point array keeps its
        dtype; numbers take the width of the times, and arrays of integers or booleans become floats of that width.
    args
        The third argument of the vector field: anything, by default nothing. Arrays and floats in it may change without
        recompilation.
    saveat
        The outputs to save; by default the state at `t1`, which takes the least memory.
    stepsize_controller
        The choice of the length of each step, and of whether it is accepted. By default all steps have the size `dt0`:
        error control needs tolerances, and none suit every problem.
    adjoint
        The way in which derivatives are computed; the default serves every mode.
    event
        Conditions that end the solve early, or change its state.
    max_steps
        The bound on the number of attempted steps, at which the solve fails. It sizes the buffers of
        `SaveAt(steps=..., dense=True)` and the tape of reverse mode. The default, 4096, is enough for most solves.
        `None` for no bound; a bound is at most 2³¹ - 1.
    throw
        Whether a failed solve raises an error; otherwise `Solution.result` says how it ended, and the compiled program
        holds no host callback, so that it can be exported and cached on disk.
    progress_meter
        A display of the progress of the solve.
    solver_state, controller_state, made_jump
        The outputs of an earlier solve (see `SaveAt`), from whose end this one continues. With a `controller_state`,
        `dt0=None` means the step that the earlier solve would have made next: if that one ended by `max_steps`, the two
        make the same attempts as one solve.
    discrete_terminating_event
        Deprecated: write `event`.

    Returns
    -------
    Solution
        Saved times and values, statistics, the result.

    Raises
    ------
    ValueError
        If an argument is wrong in a way that is known when the call is made. Inside `jax.jit`, `lax.cond` and the like
        this holds for structure, shapes, dtypes and static arguments. A value that is wrong, among them those of parts
        such as controllers and paths, is the result `RESULTS.invalid_input` there: a branch may never be taken. An
        error about the values of times, or a `y0` that is not finite, is a `RuntimeError` too, which it is when only
        the compiled program knows them.
    SolveError
        With `throw=True`, if the solve or any batch element of it fails; also a `RuntimeError`. A program that was
        compiled with `jax.jit` raises an error of JAX's whose message ends with the same report.
    RuntimeError
        If the controller needs an error estimate and the solver has none.

    Warns
    -----
    DeprecationWarning
        For `discrete_terminating_event`.
    UserWarning
        If a relative tolerance that is known is smaller than the rounding of the state. For equations with noise: if
        the solver may converge to another limit when steps are chosen by their error, or is meant for equations
        without noise, or if constant steps are shorter than the resolution of the Brownian path.

    Differentiability
    -----------------
    In every mode with respect to `y0`, `args`, parameters inside `terms`, `t0`, `t1` and `SaveAt(ts=...)`; also `dt0`
    with constant steps. Not through the choice of step sizes.

    Cost
    ----
    The solver's evaluations for each attempted step. The first call compiles; later ones with the same functions,
    shapes and dtypes do not. Memory: a few states, and the saved outputs; for derivatives see the adjoint.

    See Also
    --------
    Solution : the result, and how to read it.

    SaveAt, PIDController, Event, RecursiveCheckpointAdjoint : the options.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -args * y,
    ...     rungax.Tsit5(),
    ...     t0=0.0,
    ...     t1=1.0,
    ...     dt0=None,
    ...     y0=jnp.array(1.0),
    ...     args=2.0,
    ...     stepsize_controller=rungax.PIDController(rtol=1e-6, atol=1e-6),
    ... )
    >>> print(f"{solution.ys[-1]:.4f}")
    0.1353
    """
    known(throw, "`throw`")
    call = Call.of(
        terms=terms,
        solver=Auto() if solver is None else solver,
        t0=t0,
        t1=t1,
        dt0=dt0,
        y0=y0,
        args=args,
        saveat=saveat,
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        event=event_of(event, discrete_terminating_event),
        max_steps=max_steps,
        progress_meter=progress_meter,
        solver_state=solver_state,
        controller_state=controller_state,
        made_jump=made_jump,
    )
    checks.before_tracing(call, chose_solver=solver is None)
    call, wrong = checks.values_of_parts(call)
    if not throw:
        checks.known_values(call)
        return _with_known_values(call, _run(call)[0])
    if is_staging():
        solution = _run_and_raise(call, Explanations.of(call, wrong))
        checks.known_values(call)
        return _with_known_values(call, solution)
    if is_transforming():
        solution, ending, found = _run_and_examine(call)
        checks.known_values(call)
        return _with_known_values(call, _raise_if_failed(call, Explanations.of(call, wrong), solution, ending, found))
    solution, ending = _run(call)
    if is_failure(solution.result):
        # Only now: checking values on the host takes longer than a short solve, and the program checks them too.
        checks.known_values(call)
        checks.known_state(call)
        _raise_if_failed(call, Explanations.of(call, wrong), solution, ending, _examine(call, ending))
    return _with_known_values(call, solution)


def _raise_if_failed(
    call: Call,
    explanations: Explanations,
    solution: Solution,
    ending: Ending,
    found: Examination | Callable[[], Examination | None] | None,
) -> Solution:
    """The solution; a solve that has failed raises an error, at once if its result is known.

    `found` is the examination, or a function that makes it in a program.
    """
    failure: Any = partial(Failure.of, call, explanations, solution, ending)
    values = (lambda: failure(found())) if callable(found) else failure(found)
    failed = jnp.logical_not(is_okay(solution.result))
    return raise_where(solution, failed, values, partial(solve_error, Subject.of(call, explanations)))


@compiled
def _run(call: Call) -> tuple[Solution, Ending]:
    """The whole solve, as one program."""
    plan, outcome = _integrated(call)
    return _solution(call, plan, outcome), Ending.of(plan, outcome.state)


@compiled
def _run_and_raise(call: Call, explanations: Explanations) -> Solution:
    """The whole solve, as a part of a program; one that has failed is examined there, and raises an error."""
    plan, outcome = _integrated(call)
    solution, ending = _solution(call, plan, outcome), Ending.of(plan, outcome.state)
    return _raise_if_failed(call, explanations, solution, ending, lambda: examine(call.solver, plan, ending))


@compiled
def _run_and_examine(call: Call) -> tuple[Solution, Ending, Examination | None]:
    """The whole solve, and if it has failed an examination, as one program whose results are known."""
    plan, outcome = _integrated(call)
    ending = Ending.of(plan, outcome.state)
    found = examine_if(jnp.logical_not(is_okay(outcome.result)), call.solver, plan, ending)
    return _solution(call, plan, outcome), ending, found


@compiled
def _examine(call: Call, ending: Ending) -> Examination | None:
    """The examination of a solve that has failed, as a program of its own."""
    plan, _ = resolve(call)
    return examine(call.solver, plan, ending)


def _integrated(call: Call) -> tuple[Plan, Outcome]:
    """The plan of a call and the outcome of its solve."""
    # Before anything is traced: a function traced with a value that does not vary cannot be called with one that does.
    call = match_varying(call, call)
    checks.argument_types(call)
    plan, state = resolve(call)
    return plan, call_user("the adjoint", call.adjoint.integrate, plan, state)


def _solution(call: Call, plan: Plan, outcome: Outcome) -> Solution:
    """The solution, in true time."""
    state, saveat, outputs = outcome.state, call.saveat, outcome.outputs
    saved = [outputs[sub_name(i)] for i in range(len(subs_of(saveat)))]
    direction = plan.problem.direction
    return Solution(
        t0=plan.problem.t0 * direction,
        t1=plan.problem.t1 * direction,
        ts=in_structure_of(saveat, [ts for ts, _ in saved]),
        ys=in_structure_of(saveat, [ys for _, ys in saved]),
        interpolation=outputs.get("dense"),
        stats=state.counts.by_name(),
        result=outcome.result,
        solver_state=outputs.get(SOLVER_STATE),
        controller_state=_next_attempt(plan, outcome) if saveat.controller_state else None,
        made_jump=state.made_jump if saveat.made_jump else None,
        event_mask=_event_mask(call, plan, outcome),
        internals=outputs.get("internals"),
    )


def _next_attempt(plan: Plan, outcome: Outcome) -> NextAttempt:
    """The attempt from which another solve continues, as `Solution.controller_state`."""
    state = outcome.state
    assert state.proposed_end is not None, "the loop of a solve that hands it on carries it"
    is_due = (state.t < plan.problem.t1) & jnp.logical_not(is_event(outcome.result))
    controller_state = plan.controller.final_state(plan.initial_controller_state, state.controller_state)
    return NextAttempt(state.t, state.proposed_end, controller_state, state.events, is_due)


def _event_mask(call: Call, plan: Plan, outcome: Outcome) -> PyTree[BoolScalar] | None:
    """The condition that ended the solve, as flags in the structure of the event's conditions."""
    if call.event is None or plan.detector is None or outcome.state.events is None:
        return None
    return call.event.mask(plan.detector.ended_by(outcome.state.events) & is_event(outcome.result))


def _with_known_values(call: Call, solution: Solution) -> Solution:
    """The solution with values that a program cannot return, because they are known when it is built.

    These are `max_steps`, and `made_jump=False`, if asked for, where nothing can jump.
    """
    solution.stats["max_steps"] = call.max_steps
    if not call.saveat.made_jump or solution.made_jump is not None:
        return solution
    return eqx.tree_at(lambda s: s.made_jump, solution, False, is_leaf=lambda x: x is None)
