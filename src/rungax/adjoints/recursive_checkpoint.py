"""The default adjoint: the solve leaves a tape, and every derivative replays it.

Three layers. `solve` is the whole solve; evaluated, it leaves no tape. Differentiated, it is replaced by `rebuild` of
what `taped` kept. The derivative of `taped` is the linear map from the movements of its inputs to the movements of what
it kept: the `sweep`, which runs forwards or backwards over the tape.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ..jaxkit import LinearPrograms, jvp_of_moving, known_zero, scaled, sweep, zero_tangent
from ..loop import run
from ..results import is_okay
from ..saving import NEVER, Emission, Tape, TapeRecorder
from ..step import Outcome, Plan, State
from .base import AbstractAdjoint
from .pullback import Cotangents, Pullback, pull_back
from .replay import Replay, Start, play, play_closed

DEFAULT_BUDGET = 16 * 2**20
"""Bytes that the tape of one solve may take for states, if not told otherwise."""

UNBOUNDED_STEPS = 2**17
"""How many steps' times the tape has room for if `max_steps=None`."""


class RecursiveCheckpointAdjoint(AbstractAdjoint):
    """Derivatives of the solve as it was made, in every mode and to any order: the default.

    The solve leaves a tape of the steps it kept. Forward mode replays it forwards, reverse mode backwards, one
    Jacobian product a step on the grid of times that the solve chose; rejected attempts cost nothing, and neither the
    step size control nor the saving is differentiated. `jvp`, `vjp`, `jacfwd`, `jacrev`, `hessian` and their
    combinations work, inside `jit`, `vmap` and `shard_map`, with respect to the initial state, `args`, parameters inside
    the terms, `t0`, `t1` and `SaveAt(ts=...)`.

    Parameters
    ----------
    checkpoints
        How many states the tape may hold. Where a solve takes more steps, the tape keeps every k-th state, k doubling
        as needed, and reverse mode makes the steps in between again: time doubles, memory stays. By default as many as
        `budget` allows, and never more than `max_steps`.
    budget
        Bytes that the states on the tape may take, for each solve of a `vmap`; by default 16 MiB.

    Raises
    ------
    ValueError
        If `checkpoints` is less than two, or a single state is larger than `budget`.

    Differentiability
    -----------------
    First derivatives need no bound on the number of steps; second ones need `max_steps`. The derivatives of a solve
    that failed are NaN. Times between `t0` and `t1` move in proportion when those do.

    Cost
    ----
    Reverse mode: the solve, and for each kept step one evaluation of the step and one of its vector–Jacobian product,
    together 2 to 4 times the solve. Memory: `checkpoints` states, and three numbers for each of `max_steps`.
    """

    checkpoints: int | None = None
    budget: int | None = None

    def __check_init__(self) -> None:
        if self.checkpoints is not None and self.checkpoints < 2:
            raise ValueError(
                "`RecursiveCheckpointAdjoint(checkpoints=...)` is how many states the tape may hold.\n"
                f"Expected: at least 2\nFound:    {self.checkpoints}\nLeave it out to let the tape fill its budget."
            )

    def integrate(self, plan: Plan, state: State) -> Outcome:
        """The solve, with derivatives from its tape."""
        arrays, static = eqx.partition((plan, state), eqx.is_array)
        leaves, tree = jax.tree.flatten(arrays)

        def restore(leaves: Sequence[jax.Array]) -> tuple[Plan, State]:
            return eqx.combine(jax.tree.unflatten(tree, leaves), static)

        @jax.custom_jvp
        def solve(*leaves: jax.Array) -> Outcome:
            return run(*restore(leaves))

        def solve_jvp(primals: Any, tangents: Any) -> Any:
            layout = _Layout(restore, self._slots(plan, state), _max_steps(plan), plan.max_steps is not None)
            return jvp_of_moving(lambda *leaves: _rebuilt(layout, leaves), primals, tangents)

        solve.defjvp(solve_jvp, symbolic_zeros=True)
        return solve(*leaves)

    def _slots(self, plan: Plan, state: State) -> int:
        """How many starts the tape holds: even, for thinning halves them, unless there are as many as steps."""
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(plan.start(state.y, state.solver_state)))
        slots = self.checkpoints
        if slots is None:
            slots = (self.budget or DEFAULT_BUDGET) // max(size, 1)
            if self.budget is not None and slots < 2:
                raise ValueError(
                    "`RecursiveCheckpointAdjoint(budget=...)` must have room for two states.\n"
                    f"Expected: at least {2 * size} bytes\nFound:    {self.budget}\nGive it more."
                )
        return min(max(slots - slots % 2, 2), _max_steps(plan))


def _max_steps(plan: Plan) -> int:
    return UNBOUNDED_STEPS if plan.max_steps is None else plan.max_steps


class _Layout(NamedTuple):
    """How the flat arrays of a solve are put together again, and the size of its tape."""

    restore: Callable[[Sequence[jax.Array]], tuple[Plan, State]]
    slots: int
    max_steps: int
    bounded: bool


class _Kept(eqx.Module):
    """What a taped solve leaves.

    Parameters
    ----------
    end
        What a further step would start from.
    values
        The values of the emissions, in their order.
    tape, parts, outcome
        The tape, what the emitters hand out, and how the solve ended; none of it moves.
    """

    end: Start
    values: list[PyTree[Any]]
    tape: Tape
    parts: tuple[Any, ...]
    outcome: Outcome

    @property
    def emissions(self) -> tuple[Emission, ...]:
        """Those of the parts that are emissions, without their values."""
        return tuple(part for part in self.parts if isinstance(part, Emission))


def _rebuilt(layout: _Layout, leaves: Sequence[jax.Array]) -> Outcome:
    """The solve's outcome as a differentiable function of what its taped version kept."""
    plan, _ = layout.restore(leaves)
    kept = _taped(layout, leaves)
    state = _moving_state(plan, kept)
    values = iter(kept.values)
    parts = iter(
        eqx.tree_at(lambda p: p.value, part, next(values)) if isinstance(part, Emission) else part
        for part in kept.parts
    )
    outputs = tuple(
        recorder.rebuild(plan, tuple(next(parts) for _ in recorder.emitters()), state) for recorder in plan.recorders
    )
    return Outcome(state, kept.outcome.result, outputs)


def _moving_state(plan: Plan, kept: _Kept) -> State:
    """The final state, with the derivatives that it has."""
    state, tape = kept.outcome.state, kept.tape
    last = jnp.maximum(state.num_accepted - 1, 0)
    reached = plan.retime(tape.t0[last], tape.t1[last], last)[1]
    reached = jnp.where(state.num_accepted > 0, reached, plan.problem.t0)
    t = lax.stop_gradient(state.t) + (reached - lax.stop_gradient(reached))
    y, memory = kept.end
    # A memory that is all there is to remember moves; one that the next solve makes again from `y` need not.
    remembered = jax.tree.structure(memory) == jax.tree.structure(state.solver_state)
    solver_state = memory if remembered else state.solver_state
    return eqx.tree_at(lambda s: (s.t, s.y, s.solver_state), state, (t, y, solver_state), is_leaf=lambda x: x is None)


def _taped(layout: _Layout, leaves: Sequence[jax.Array]) -> _Kept:
    """The solve, leaving its tape; its derivative is the sweep over the tape."""

    @jax.custom_jvp
    def taped(*leaves: jax.Array) -> _Kept:
        plan, state = layout.restore(leaves)
        emitters = [emitter for recorder in plan.recorders for emitter in recorder.emitters()]
        recorders = (TapeRecorder(layout.slots, layout.max_steps), *emitters)
        outcome = run(eqx.tree_at(lambda p: p.recorders, plan, recorders), state)
        tape, *parts = outcome.outputs
        outcome = Outcome(outcome.state, outcome.result, ())
        end = plan.start(outcome.state.y, outcome.state.solver_state)
        values = [part.value for part in parts if isinstance(part, Emission)]
        return _Kept(end, values, tape, tuple(parts), outcome)

    def taped_jvp(primals: Any, tangents: Any) -> tuple[_Kept, _Kept]:
        kept = taped(*primals)
        moving = [i for i, tangent in enumerate(tangents) if not known_zero(tangent)]
        moved = _sweep(layout, primals, moving, [tangents[i] for i in moving], kept)
        still = jax.tree.map(zero_tangent, kept)
        return kept, eqx.tree_at(lambda k: (k.end, k.values), still, moved)

    taped.defjvp(taped_jvp, symbolic_zeros=True)
    return taped(*leaves)


def _sweep(
    layout: _Layout, leaves: Sequence[jax.Array], moving: list[int], tangents: list[jax.Array], kept: _Kept
) -> tuple[Start, list[PyTree[Any]]]:
    """How the end and the emitted values move when the `moving` leaves do."""
    emissions = kept.emissions
    kept_arrays, kept_tree = jax.tree.flatten((kept.tape, emissions))
    outputs, still = eqx.partition((kept.end, kept.values), eqx.is_inexact_array)
    output_leaves, output_tree = jax.tree.flatten(outputs)
    split = len(leaves), len(leaves) + len(kept_arrays)

    def unpack(args: Sequence[jax.Array]) -> tuple[_Chain, Sequence[jax.Array]]:
        tape, emissions = jax.tree.unflatten(kept_tree, args[split[0] : split[1]])
        return _Chain(layout, args[: split[0]], moving, tape, emissions), args[split[1] :]

    def played(player: Callable[..., Any], args: Sequence[jax.Array]) -> list[jax.Array]:
        chain, tangents = unpack(args)

        def outputs(*parameters: jax.Array) -> list[jax.Array]:
            replay = chain.replay_with(parameters)
            return jax.tree.leaves(eqx.filter(player(replay, chain.first(parameters)), eqx.is_inexact_array))

        return jax.jvp(outputs, chain.parameters, list(tangents))[1]

    def forward(*args: jax.Array) -> list[jax.Array]:
        return played(play, args)

    def closed(*args: jax.Array) -> list[jax.Array]:
        if not layout.bounded:
            raise ValueError(
                "A second derivative of a solve needs a bound on its number of steps.\n"
                "Expected: `max_steps` to be an integer\nFound:    max_steps=None\n"
                "Give `max_steps`; first derivatives do without."
            )
        return played(partial(play_closed, max_steps=layout.max_steps), args)

    def backward(*args: jax.Array) -> list[jax.Array]:
        chain, cotangents = unpack(args)
        end, emitted = jax.tree.unflatten(output_tree, cotangents)
        return chain.pull_back(end, emitted)

    programs = LinearPrograms(forward, backward, closed)
    moved = sweep(programs, [*leaves, *kept_arrays], tangents, output_leaves)
    # The derivative of a solve that failed is no number, rather than the number of a part of it.
    complete = is_okay(kept.outcome.result) & (kept.tape.num_steps <= layout.max_steps)
    one = jnp.where(complete, 1.0, jnp.nan)
    moved = [scaled(one, x) for x in moved]
    return eqx.combine(jax.tree.unflatten(output_tree, moved), jax.tree.map(zero_tangent, still))


class _Chain(NamedTuple):
    """The chain of kept steps as a function of the leaves that move, the `parameters`."""

    layout: _Layout
    leaves: Sequence[jax.Array]
    moving: list[int]
    tape: Tape
    emissions: tuple[Emission, ...]

    @property
    def parameters(self) -> list[jax.Array]:
        """The values of the leaves that move."""
        return [self.leaves[i] for i in self.moving]

    def replay_with(self, parameters: Sequence[jax.Array]) -> Replay:
        """The chain for other values of them."""
        return Replay(self._restore(parameters)[0], self.tape, self.emissions)

    def first(self, parameters: Sequence[jax.Array]) -> Start:
        """Where the first step starts."""
        plan, state = self._restore(parameters)
        return plan.start(state.y, state.solver_state)

    def pull_back(self, end: PyTree[Any], emitted: list[PyTree[Any]]) -> list[jax.Array]:
        """Cotangents of the parameters from those of the end and of the emitted values."""
        cursors = [jnp.sum(e.index != NEVER).astype(jnp.int32) - 1 for e in self.emissions]
        parameters = self.parameters
        pullback = Pullback(self.replay_with, parameters, emitted)
        carry = Cotangents(end, [jnp.zeros_like(x) for x in parameters], cursors)
        carry = pull_back(pullback, carry, self.layout.slots, self.layout.max_steps)

        def first(*parameters: jax.Array) -> PyTree[Any]:
            return eqx.filter(self.first(parameters), eqx.is_inexact_array)

        direct = jax.vjp(first, *parameters)[1](carry.start)
        return [a + b for a, b in zip(carry.parameters, direct, strict=True)]

    def _restore(self, parameters: Sequence[jax.Array]) -> tuple[Plan, State]:
        leaves = list(self.leaves)
        for i, value in zip(self.moving, parameters, strict=True):
            leaves[i] = value
        return self.layout.restore(leaves)
