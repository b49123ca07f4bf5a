"""The taped solve, whose derivative is a sweep over the tape.

Three layers:

1. The solve, evaluated, is the plain loop and leaves no tape (`operands.differentiated_as`).
2. Differentiated, it is replaced by `rebuild_outcome(taped(...))`: the loop runs with the tape and the savers as its
   recorders, and the outputs are computed from their results in operations that JAX differentiates.
3. The derivative of `taped` is the sweep: the linear map from the tangents of its inputs to those of its results. It
   runs forwards (`replay`) or in reverse (`reverse`) over the tape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..jaxkit import (
    BoolScalar,
    InvalidValueError,
    LinearPrograms,
    Program,
    finite_or_one,
    just_before,
    known_zero,
    scaled_tangent,
    select,
    sweep,
    trace_once,
    with_derivatives_of,
    zero_tangent,
)
from ..loop import run
from ..plan import Plan
from ..results import is_event
from ..saving import SavedParts, Tape, TapeRecorder, TapeSize
from ..step import Outcome, Start, State
from .operands import Restore, Solve
from .replay import Parts, Replay, play, play_bounded, savers_of
from .reverse import Cotangents, ReverseReplay
from .stretches import Stretches, play_stretches, play_stretches_bounded, reverse_stretches


class TapedResult(eqx.Module):
    """The result of a taped solve.

    Parameters
    ----------
    end
        The start of the step that would follow. It and `values` are differentiable, the rest is static.
    values
        The values of the saved parts, by saver.
    tape, saved, outcome
        The tape, the outputs of the savers, and the outcome without outputs.
    """

    end: Start
    values: Parts
    tape: Tape
    saved: Mapping[str, PyTree[Array]]
    outcome: Outcome

    @property
    def saved_parts(self) -> Mapping[str, SavedParts]:
        """The outputs of the savers that are saved parts."""
        return {name: saved for name, saved in self.saved.items() if isinstance(saved, SavedParts)}


def run_with_tape(solve: Solve, size: TapeSize) -> TapedResult:
    """The solve, leaving its tape."""
    plan = solve.plan
    recorders = {"tape": TapeRecorder(size), **savers_of(plan)}
    outcome = run(eqx.tree_at(lambda p: p.recorders, plan, recorders), solve.state)
    saved = dict(outcome.outputs)
    tape = saved.pop("tape")
    values = {name: parts.value for name, parts in saved.items() if isinstance(parts, SavedParts)}
    end = plan.start(outcome.state.y, outcome.state.solver_state, outcome.state.user_state)
    return TapedResult(end, values, tape, saved, Outcome(outcome.state, outcome.result, {}))


def rebuild_outcome(solve: Solve, result: TapedResult) -> Outcome:
    """The solve's outcome as a differentiable function of the result of its taped version."""
    return solve.captured.within(_rebuilt)(solve.plan, result)


def _rebuilt(plan: Plan, result: TapedResult) -> Outcome:
    state = _differentiable_state(plan, result)
    parts = {
        name: eqx.tree_at(lambda p: p.value, saved, result.values[name]) for name, saved in result.saved_parts.items()
    }
    saved = {**result.saved, **parts}
    outputs = {
        name: recorder.rebuild(plan, {key: saved[f"{name}/{key}"] for key in recorder.savers()}, state, result.end)
        for name, recorder in plan.recorders.items()
    }
    return Outcome(state, result.outcome.result, outputs)


def _differentiable_state(plan: Plan, result: TapedResult) -> State:
    """The final state, with the derivatives of its time and state."""
    state, tape = result.outcome.state, result.tape
    last = jnp.maximum(state.num_accepted - 1, 0)
    # The tape of a long solve has the times of its first steps only.
    is_on_tape, before_end = last < tape.times.t1.size, (just_before(state.t), state.t)
    t0, t1 = select(is_on_tape, tape.ends(last), before_end)
    reached = plan.differentiable_step_times(t0, t1, last)[1]
    t = with_derivatives_of(state.t, jnp.where(state.num_accepted > 0, reached, plan.problem.t0))
    y = result.end.y
    if plan.detector is not None:
        assert state.events is not None, "the loop of a solve with events carries their state"
        at_event = is_event(state.result)
        active = plan.detector.ended_by(state.events) & at_event
        # Elsewhere the conditions are evaluated at the initial state: that of a failed solve may not be finite.
        event_time, event_y = plan.detector.event_map.at_event_time(
            plan, active, t, select(at_event, y, finite_or_one(plan.problem.y0))
        )
        t, y = select(at_event, (event_time, event_y), (t, y))
    # The next attempt moves with its start; its size has no derivative.
    proposed_end = None if state.proposed_end is None else with_derivatives_of(state.proposed_end, t)
    return replace(state, t=t, y=y, user_state=result.end.user_state, proposed_end=proposed_end)


class ReverseSweep(Protocol):
    """A way back over all accepted steps, the last of which led to `end`."""

    def __call__(self, reverse: ReverseReplay, carry: Cotangents, end: Start, size: TapeSize) -> Cotangents: ...


def taped(restore: Restore, leaves: Sequence[jax.Array], size: TapeSize, reverse_sweep: ReverseSweep) -> TapedResult:
    """The solve, leaving its tape; reverse mode goes back over it by `reverse_sweep`."""

    @jax.custom_jvp
    def solve(*leaves: jax.Array) -> TapedResult:
        solve = restore(leaves)
        return solve.captured.within(lambda solve: run_with_tape(solve, size))(solve)

    def jvp(primals: Any, tangents: Any) -> tuple[TapedResult, TapedResult]:
        result = solve(*primals)
        differentiable = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
        chain = _Chain(restore, differentiable, size, reverse_sweep)
        output_tangents = _swept(chain, primals, [tangents[i] for i in differentiable], result)
        static = jax.tree.map(zero_tangent, result)
        return result, eqx.tree_at(lambda k: (k.end, k.values), static, output_tangents)

    solve.defjvp(jvp, symbolic_zeros=True)
    return solve(*leaves)


class _Residuals(eqx.Module):
    """The arrays on which the sweep depends: those of the solve, and those that its taped version leaves."""

    leaves: list[jax.Array]
    tape: Tape
    saved: Mapping[str, SavedParts]
    end: Start
    failed: BoolScalar


def _swept(
    chain: "_Chain", leaves: Sequence[jax.Array], tangents: list[jax.Array], result: TapedResult
) -> tuple[Start, Parts]:
    """The tangents of the end and of the saved values."""
    failed = result.outcome.state.lacks_end
    residual_leaves, residual_tree = jax.tree.flatten(
        _Residuals(list(leaves), result.tape, result.saved_parts, result.end, failed)
    )
    outputs, static = eqx.partition((result.end, result.values), eqx.is_inexact_array)
    output_leaves, output_tree = jax.tree.flatten(outputs)

    count = len(residual_leaves)  # the programs live longer than the residuals and must not hold them

    def unpacked(args: Sequence[jax.Array]) -> tuple[_Residuals, Sequence[jax.Array]]:
        return jax.tree.unflatten(residual_tree, args[:count]), args[count:]

    def played(player: Player, args: Sequence[jax.Array]) -> list[jax.Array]:
        residuals, tangents = unpacked(args)
        stretches = chain.stretches(residuals)

        def outputs(*parameters: jax.Array) -> list[jax.Array]:
            replay, start = chain.replay(residuals, parameters)
            return jax.tree.leaves(eqx.filter(player(stretches, replay, start), eqx.is_inexact_array))

        return jax.jvp(outputs, chain.parameters(residuals), list(tangents))[1]

    def bounded(*args: jax.Array) -> list[jax.Array]:
        if chain.size.bound is None:
            raise InvalidValueError(
                "A second derivative of a solve needs a bound on its number of steps.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`; first derivatives do without."
            )
        return played(play_all_bounded, args)

    def backward(*args: jax.Array) -> list[jax.Array]:
        residuals, cotangents = unpacked(args)
        end, saved = jax.tree.unflatten(output_tree, cotangents)
        return chain.cotangents_of_parameters(residuals, end, saved)

    programs = LinearPrograms(lambda *args: played(play_all, args), backward, bounded)
    if chain.restore(leaves).captured.values:
        programs = _traced_now(programs, [*residual_leaves], tangents, output_leaves, chain.size.bound is not None)
    output_tangents = sweep(programs, residual_leaves, tangents, output_leaves)
    missing = jax.tree.leaves(missing_values(chain.restore(leaves).plan, result, outputs))
    output_tangents = [_nan_where(where, t) for where, t in zip(missing, output_tangents, strict=True)]
    return eqx.combine(jax.tree.unflatten(output_tree, output_tangents), jax.tree.map(zero_tangent, static))


type Player = Callable[[Stretches, Replay, Start], tuple[Start, Parts]]
"""The start after all accepted steps, and the saved values, from the first start."""


def play_all(stretches: Stretches, replay: Replay, start: Start) -> tuple[Start, Parts]:
    """The result of `play` or `play_stretches`: whichever the tape has room for."""
    return play(replay, start) if stretches.size.is_whole else play_stretches(stretches, replay, start)


def play_all_bounded(stretches: Stretches, replay: Replay, start: Start) -> tuple[Start, Parts]:
    """The result of `play_bounded` or `play_stretches_bounded`: whichever the tape has room for."""
    if stretches.size.is_whole:
        return play_bounded(replay, start, stretches.size.max_steps)
    return play_stretches_bounded(stretches, replay, start)


def _nan_where(where: BoolScalar | bool, t: jax.Array) -> jax.Array:
    return t if where is False else scaled_tangent(jnp.where(where, jnp.nan, jnp.ones(t.shape)), t)


def missing_values(plan: Plan, result: TapedResult, outputs: tuple[Start, Parts]) -> tuple[PyTree[Any], PyTree[Any]]:
    """For each leaf of `outputs`, where a solve that failed did not reach the end or the saved values.

    `False` for saved values if only finite steps are accepted.
    """
    end, values = outputs
    failed = result.outcome.state.lacks_end
    if plan.controller.failed_at(result.outcome.state.controller_state) is None:
        return jax.tree.map(lambda _: failed, end), jax.tree.map(lambda _: False, values)
    missing = {name: failed & (parts.index >= result.tape.num_accepted) for name, parts in result.saved_parts.items()}
    of_values = {
        name: jax.tree.map(lambda x, flags=missing[name]: flags.reshape(-1, *[1] * (x.ndim - 1)), value)
        for name, value in values.items()
    }
    return jax.tree.map(lambda _: failed, end), of_values


def _traced_now(
    programs: LinearPrograms,
    residuals: list[jax.Array],
    tangents: list[jax.Array],
    outputs: list[jax.Array],
    has_bounded: bool,
) -> LinearPrograms:
    """The programs as traced functions: when they run, the trace of the values that they capture may be over."""

    def traced(program: Program, inputs: list[jax.Array]) -> Program:
        known = trace_once(program, *residuals, *inputs)
        return lambda *args: known(*args)

    return LinearPrograms(
        forward=traced(programs.forward, tangents),
        backward=traced(programs.backward, outputs),
        bounded=traced(programs.bounded, tangents) if has_bounded else programs.bounded,
    )


class _Chain(NamedTuple):
    """The chain of accepted steps as a function of the differentiable leaves of the solve, its `parameters`."""

    restore: Restore
    differentiable: list[int]
    size: TapeSize
    reverse_sweep: ReverseSweep

    def parameters(self, residuals: _Residuals) -> list[jax.Array]:
        """The values of the differentiable leaves."""
        return [residuals.leaves[i] for i in self.differentiable]

    def replay(self, residuals: _Residuals, parameters: Sequence[jax.Array]) -> tuple[Replay, Start]:
        """The chain for other values of them, and the start of its first step."""
        leaves = list(residuals.leaves)
        for i, value in zip(self.differentiable, parameters, strict=True):
            leaves[i] = value
        solve = self.restore(leaves)
        start = solve.captured.within(Plan.start)
        first = start(solve.plan, solve.state.y, solve.state.solver_state, solve.state.user_state)
        return Replay(solve.plan, residuals.tape, residuals.saved, solve.captured), first

    def stretches(self, residuals: _Residuals) -> Stretches:
        """The accepted steps in stretches, in case the tape has no room for all."""
        return Stretches(self.restore(residuals.leaves), self.size, residuals.tape, residuals.end)

    def cotangents_of_parameters(self, residuals: _Residuals, end: PyTree[Array], saved: Parts) -> list[jax.Array]:
        """Cotangents of the parameters from those of the end and of the saved values."""
        parameters = self.parameters(residuals)

        def reverse(tape: Tape, carry: Cotangents, end: Start) -> Cotangents:
            replay_with = lambda parameters: replace(self.replay(residuals, parameters)[0], tape=tape)
            way_back = ReverseReplay(replay_with, parameters, saved, residuals.failed)
            last = {name: jnp.sum(parts.index < tape.num_accepted) - 1 for name, parts in residuals.saved.items()}
            cursors = {name: cursor.astype(jnp.int32) for name, cursor in last.items()}
            return self.reverse_sweep(way_back, replace(carry, cursors=cursors), end, self.size)

        cursors = {name: jnp.asarray(-1, jnp.int32) for name in residuals.saved}
        carry = Cotangents(end, [jnp.zeros_like(x) for x in parameters], cursors)
        if self.size.is_whole:
            carry = reverse(residuals.tape, carry, residuals.end)
        else:
            carry = reverse_stretches(self.stretches(residuals), reverse, carry)

        def first(*parameters: jax.Array) -> PyTree[Array]:
            return eqx.filter(self.replay(residuals, parameters)[1], eqx.is_inexact_array)

        direct = jax.vjp(first, *parameters)[1](carry.start)
        # The cotangents of what a failed solve did not reach are zero or NaN, and nothing need lie between it and them.
        spoilt = residuals.failed & has_nan((end, saved))
        return [jnp.where(spoilt, jnp.nan, a + b) for a, b in zip(carry.parameters, direct, strict=True)]


def has_nan(tree: PyTree[Array]) -> BoolScalar:
    """True if any entry of any inexact leaf is NaN."""
    flags = [jnp.any(jnp.isnan(x)) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]
    return jnp.any(jnp.stack(flags)) if flags else jnp.asarray(False)
