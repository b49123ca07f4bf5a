"""The front door: `diffeqsolve`."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from . import checks
from .adjoints import AbstractAdjoint, RecursiveCheckpointAdjoint
from .controllers import AbstractStepSizeController, ConstantStepSize
from .events import Event
from .jaxkit import Args, BoolScalar, RealScalar, Time, Y, compiled, match_varying
from .progress import AbstractProgressMeter, NoProgressMeter
from .resolve import Call, resolve
from .results import RESULTS, is_event, is_okay, known_failure, name_of
from .saving import SaveAt
from .saving.saveat import is_sub
from .solution import Solution
from .solvers import AbstractSolver, Auto
from .step import Outcome, Plan
from .terms import AbstractTerm


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
    stepsize_controller: AbstractStepSizeController[Any] = ConstantStepSize(),
    adjoint: AbstractAdjoint = RecursiveCheckpointAdjoint(),
    event: Event | None = None,
    max_steps: int | None = 4096,
    throw: bool = True,
    progress_meter: AbstractProgressMeter[Any] = NoProgressMeter(),
    solver_state: PyTree[Any] = None,
    controller_state: PyTree[Any] = None,
    made_jump: BoolScalar | None = None,
) -> Solution:
    r"""Solve a differential equation from `t0` to `t1`, forwards or backwards.

    $$\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}t, \qquad y(t_0) = y_0$$

    Parameters
    ----------
    terms
        What is solved: a term, a pytree of terms as the solver asks, or a function `f(t, y, args)`, short for
        `ODETerm(f)`.
    solver
        How one step is made. `Tsit5()` is a good first choice for problems that are not stiff, `Rodas5P()` for those
        that are; `None` is short for `Auto()`, which switches between the two as the problem asks.
    t0, t1
        Ends of the interval, in the same units as everything else; `t1 < t0` solves backwards.
    dt0
        The first step, or the size of all with `ConstantStepSize`; of the sign of `t1 - t0`. `None` lets an adaptive
        controller choose it, for two evaluations.
    y0
        The initial state: any pytree of real or complex floating-point arrays and of numbers. Each array keeps its
        dtype; numbers take the width of the times.
    args
        Handed on to the vector field; anything, by default nothing. Arrays and floats in it may change without
        recompilation.
    saveat
        What is kept of the solution; by default the state at `t1`, which takes least memory.
    stepsize_controller
        How long a step is and whether it is kept; by default all of size `dt0`, for error control needs tolerances,
        and none suit every problem.
    adjoint
        How derivatives are computed; the default serves every mode.
    event
        What ends the solve early, or changes its state on the way.
    max_steps
        The solve fails when so many steps have been attempted. It sizes the buffers of `SaveAt(steps=..., dense=True)`
        and the tape of reverse mode. The default, 4096, is enough for most solves and ends one that has gone astray.
        `None` for no bound.
    throw
        Whether a failed solve raises; otherwise `Solution.result` says how it ended, and the compiled program holds no
        host callback, so that it can be exported and cached on disk.
    progress_meter
        Shows how far the solve has come.
    solver_state, controller_state, made_jump
        What an earlier solve handed out (see `SaveAt`), to go on from where it ended.

    Returns
    -------
    Solution
        Saved times and values, statistics, the result.

    Raises
    ------
    ValueError
        If an argument is wrong in a way that is known when the call is made.
    RuntimeError
        With `throw=True`, if the solve fails, also inside `jit`, and if any element of a `vmap` does. If the controller
        needs an error estimate and the solver has none.

    Warns
    -----
    UserWarning
        For equations with noise: if the solver may converge to something else when steps are chosen by their error, or
        is meant for equations without noise, or if constant steps are shorter than the Brownian path is exact.

    Differentiability
    -----------------
    In every mode with respect to `y0`, `args`, parameters inside `terms`, `t0`, `t1` and `SaveAt(ts=...)`; also `dt0`
    with constant steps. Not through the choice of step sizes.

    Cost
    ----
    The solver's evaluations for each attempted step. The first call compiles; later ones with the same functions,
    shapes and dtypes do not. Memory: a few states, and what is kept; for derivatives see the adjoint.

    See Also
    --------
    Solution : what is returned, and how to read it.

    SaveAt, PIDController, Event, RecursiveCheckpointAdjoint : what the options may be.

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
    t0, t1 = (float(t) if type(t) is int else t for t in (t0, t1))
    dt0 = float(dt0) if type(dt0) is int else dt0
    if solver is None:
        checks.check_no_noise(terms)
        solver = Auto()
    checks.check_kinds(solver=solver, saveat=saveat, stepsize_controller=stepsize_controller, adjoint=adjoint)
    if event is not None:
        checks.check_kinds(event=event)
    checks.check_saving(saveat, max_steps)
    checks.warn_of_coarse_paths(terms, dt0, stepsize_controller)
    resumed = (solver_state, controller_state, made_jump)
    call = Call(
        terms, solver, t0, t1, dt0, y0, args, saveat, stepsize_controller, adjoint, resumed, max_steps, progress_meter,
        event,
    )  # fmt: skip
    if not throw:
        checks.check_known_values((terms, solver, y0), t0, t1, dt0, saveat, stepsize_controller)
        return _say_if_no_jump(saveat, _run(call)[0])
    solution, ending = _run(call)
    solution = _say_if_no_jump(saveat, solution)
    failed = known_failure(solution.result)
    if failed is not False:
        # Only now, for checking values on the host takes longer than a short solve, and the program checks them too.
        checks.check_known_values((terms, solver, y0), t0, t1, dt0, saveat, stepsize_controller)
    if failed is None:
        return solution.result.error_if(solution, jnp.logical_not(is_okay(solution.result)))
    if failed:
        raise eqx.EquinoxRuntimeError(_report(solution, ending))
    return solution


class _Ending(NamedTuple):
    """Where a solve ended, for the report if it failed."""

    t: Time
    t_next: Time
    direction: Time
    y: Y
    failed_at: Time | None


@compiled
def _run(call: Call) -> tuple[Solution, _Ending]:
    """The whole solve, as one program."""
    # Before anything is traced: what is traced with a value that does not vary cannot be called with one that does.
    call = match_varying(call, call)
    checks.check_times(call.t0, call.t1, call.dt0)
    checks.check_state(call.y0)
    call.adjoint.check(call.saveat)
    if call.event is not None:
        call.adjoint.check_event(call.event)
    subs, subs_tree = jax.tree.flatten(call.saveat.subs, is_leaf=is_sub)
    plan, state = resolve(call, subs)
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
        event_mask=_event_mask(call, plan, outcome),
        num_steps=state.num_steps,
        num_accepted_steps=state.num_accepted,
        max_steps=call.max_steps,
    )
    failed_at = plan.controller.failed_at(state.controller_state)
    return solution, _Ending(state.t, state.t_next, plan.problem.direction, state.y, failed_at)


def _event_mask(call: Call, plan: Plan, outcome: Outcome) -> PyTree[BoolScalar] | None:
    """Which condition ended the solve, in the structure of the event's conditions."""
    if call.event is None or plan.detector is None:
        return None
    return call.event.mask(plan.detector.ended_by(outcome.state.events) & is_event(outcome.result))


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
        f"The solve failed, `RESULTS.{name_of(solution.result)}`: {RESULTS[solution.result]}",
        f"It had come to t = {t}, the next step being {dt}, after {solution.num_steps} attempted steps"
        f" of which {solution.num_accepted_steps} were kept.",
        f"Not finite there: {', '.join(bad)}." if bad else f"The state there: {ending.y}.",
        "With `throw=False` the solution so far is returned and `Solution.result` says how it ended.",
    ]
    if ending.failed_at is not None and jnp.isfinite(ending.failed_at):
        lines.insert(
            1, f"The state was finite up to t = {ending.failed_at * ending.direction}, and not after that step."
        )
    if solution.result == RESULTS.nonlinear_max_steps_reached or solution.result == RESULTS.nonlinear_divergence:
        lines.insert(
            1, "An implicit stage was not solved: control the error, shorten `dt0`, or raise `root_find_max_steps`."
        )
    return "\n".join(lines)
