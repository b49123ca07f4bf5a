"""The replay: the accepted steps of a solve made again from its tape, forwards, in a loop or in scans.

The chain of accepted steps is a function of the plan's arrays and of the first start; `Replay` holds what else that
function needs. Acceptance is not decided again, and rejected attempts never appear.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import BoolScalar, Captured, IntScalar, Time, Y, any_element, constant_where, match_varying, select
from ..plan import AbstractRecorder, Plan
from ..saving import AbstractSaver, SavedParts, Slots, Tape, visit_due
from ..saving.savers import Part
from ..saving.slots import where_used
from ..step import Start, Step

type Parts = Mapping[str, PyTree[Array]]
"""The part of one step by `Replay.sources`, or the parts of all steps, stacked along a first axis, by saver."""


def savers_of(plan: Plan) -> Mapping[str, AbstractRecorder]:
    """The savers of all recorders, by names that are unique in the plan."""
    return {
        f"{name}/{saver}": value
        for name, recorder in plan.recorders.items()
        for saver, value in recorder.savers().items()
    }


class Replay(eqx.Module):
    """The accepted steps of one solve.

    Parameters
    ----------
    plan
        The solve.
    tape
        Its accepted steps.
    saved
        The saved parts of them, by saver; their values are not read.
    captured
        The traced values that functions of the plan have captured.
    """

    plan: Plan
    tape: Tape
    saved: Mapping[str, SavedParts]
    captured: Captured

    @property
    def sources(self) -> Mapping[str, str]:
        """For each saver, the first saver of the same part, whose part of a step stands for that of all of them."""
        first: dict[Part, str] = {}
        return {name: first.setdefault(self._saver(name).part, name) for name in self.saved}

    def step(self, index: IntScalar, start: Start) -> Step:
        """The accepted step `index`, made again from `start`."""
        problem = self.plan.problem
        t0, t1 = self.plan.differentiable_step_times(*self.tape.ends(index), index)
        solver_state = self.plan.solver.restore(problem.terms, t0, start.y, problem.args, start.solver_checkpoint)
        choices = self.tape.choices(index)
        solver_state = solver_state if choices is None else self.plan.solver.with_choices(solver_state, choices)
        return self.plan.attempt_from(t0, t1, start.y, (), solver_state, self.tape.made_jump(index), start.user_state)

    def step_with_parts(self, index: IntScalar, start: Start) -> tuple[Start, Parts]:
        """The start of the step after step `index`, and the parts of step `index` that are saved."""
        return self.captured.within(Replay._step_with_parts)(self, index, start)

    def _step_with_parts(self, index: IntScalar, start: Start) -> tuple[Start, Parts]:
        step = self.step(index, start)
        end, following = self._end(index, step)
        parts = {name: self._saver(name).part(self.plan, step, end) for name in dict.fromkeys(self.sources.values())}
        user_state = self.plan.updated_user_state(step.t1, following, start.user_state)
        return self.plan.start(following, step.solver_state, user_state), parts

    def _saver(self, name: str) -> AbstractSaver:
        saver = savers_of(self.plan)[name]
        assert isinstance(saver, AbstractSaver), "others have no saved parts"
        return saver

    def _end(self, index: IntScalar, step: Step) -> tuple[tuple[Time, Y], Y]:
        """The end of `step`, with the derivatives of an event there, and the state that the next step starts from."""
        active, detector = self.tape.active_events(index), self.plan.detector
        end = (step.t1, step.y1)
        if active is None or detector is None:
            return end, step.y1
        num_effects = self.tape.num_effects(index)

        def applied() -> tuple[Time, Y, Y]:
            return detector.event_map.apply_effects(self.plan, active, num_effects, *end)[:3]

        t1, y1, after = lax.cond(any_element(jnp.any(active)), applied, lambda: (*end, step.y1))
        return (t1, y1), after


type Filled = Mapping[str, tuple[IntScalar, PyTree[Array]]]
"""For each saver, the number of its entries that are filled, and their values."""


def play(replay: Replay, start: Start) -> tuple[Start, Parts]:
    """The start that follows the last accepted step, and the saved values: as fast as the solve itself was."""
    start, filled = play_on(replay, start, nothing_filled(replay.saved))
    return start, {name: values for name, (_, values) in filled.items()}


def nothing_filled(saved: Mapping[str, SavedParts]) -> Filled:
    """Room for the values of all savers."""
    zero = jnp.asarray(0, jnp.int32)
    return {name: (zero, jax.tree.map(jnp.zeros_like, parts.value)) for name, parts in saved.items()}


def play_on(replay: Replay, start: Start, filled: Filled) -> tuple[Start, Filled]:
    """The start that follows the last step on the tape, and the values saved up to there; `filled` are those before."""
    num_accepted, sources = replay.tape.num_accepted, replay.sources

    def body(carry: Any) -> Any:
        index, start, filled = carry
        active = index < num_accepted
        following, parts = replay.step_with_parts(index, start)
        filled = {
            name: _fill(saved, parts[sources[name]], active, index, *filled[name])
            for name, saved in replay.saved.items()
        }
        return index + 1, select(active, following, start), filled

    carry = match_varying((replay.tape.first, start, dict(filled)), (replay, start))
    _, start, filled = lax.while_loop(lambda carry: any_element(carry[0] < num_accepted), body, carry)
    return start, filled


def _fill(
    saved: SavedParts,
    part: PyTree[Array],
    active: BoolScalar,
    index: IntScalar,
    cursor: IntScalar,
    values: PyTree[Array],
) -> tuple[IntScalar, PyTree[Array]]:
    """`values` with `part` in the entries of step `index`, which start at `cursor`; and the cursor after them."""
    if saved.index.size == 0:
        return cursor, values
    owners = jnp.append(saved.index, jnp.iinfo(jnp.int32).max)
    return visit_due(
        lambda cursor: active & (owners[cursor] == index),
        lambda cursor, due, values: Slots(values).write(cursor, part, due).entries,
        cursor,
        values,
    )


_BLOCK = 64
"""The number of steps that a bounded replay skips at once after the last accepted step."""


def play_bounded(replay: Replay, start: Start, max_steps: int) -> tuple[Start, Parts]:
    """The result of `play` by scans of bounded length, which JAX differentiates in every mode.

    `max_steps` is the number of steps that the tape has room for; the values of steps that are not on it are zero.
    """
    first, num_accepted, block = replay.tape.first, replay.tape.num_accepted, min(_BLOCK, max_steps)
    num_blocks = -(-max_steps // block)

    def one(start: Start, index: IntScalar) -> tuple[Start, Parts]:
        active = index < num_accepted
        known, begin = constant_where(jnp.logical_not(active), (replay, start))
        following, parts = known.step_with_parts(jnp.where(active, index, first), begin)
        return select(active, following, start), parts

    def skip(start: Start, indices: jax.Array) -> tuple[Start, Parts]:
        shapes = jax.eval_shape(lambda: replay.step_with_parts(indices[0], start)[1])
        return start, Slots.zeros(block, shapes).entries

    def steps(start: Start, indices: jax.Array) -> tuple[Start, Parts]:
        anyone = any_element(indices[0] < num_accepted)
        return lax.cond(
            anyone, lambda: lax.scan(one, start, indices), lambda: match_varying(skip(start, indices), (replay, start))
        )

    indices = first + jnp.arange(num_blocks * block, dtype=jnp.int32).reshape(num_blocks, block)
    start, parts = lax.scan(steps, match_varying(start, (replay, start)), indices)
    parts = jax.tree.map(lambda x: x.reshape(num_blocks * block, *x.shape[2:]), parts)

    def gather(saved: SavedParts, part: PyTree[Array]) -> PyTree[Array]:
        on_tape = (saved.index >= first) & (saved.index < num_accepted)
        at = jnp.where(on_tape, saved.index - first, 0)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), part)
        return where_used(on_tape, jax.tree.map(lambda x: x[at], part), zero)

    return start, {name: gather(saved, parts[replay.sources[name]]) for name, saved in replay.saved.items()}
