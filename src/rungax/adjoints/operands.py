"""The arrays of a solve as operands of its derivative's rules.

A rule runs when the trace in which it was defined is over, so it may capture no array: every array that it uses must
come through its arguments. `flatten` takes a solve apart into arrays, and the `Restore` that it returns puts the solve
together again inside the rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax

from ..jaxkit import Captured, jvp_skipping_zeros, trace_once, without_captures, without_derivatives
from ..loop import run
from ..plan import Plan
from ..step import Outcome, State
from .base import AbstractAdjoint


class Solve(eqx.Module):
    """A solve: its plan and first state, and the adjoint if its derivatives depend on arrays of that.

    `captured` are the traced values that functions of the plan have captured: what calls such a function is computed
    inside `captured.within`.
    """

    plan: Plan
    state: State
    adjoint: AbstractAdjoint | None = None
    captured: Captured = eqx.field(default_factory=Captured.none)

    def run(self) -> Outcome:
        """The plain loop."""
        return self.captured.within(run)(self.plan, self.state)


type Restore = Callable[[Sequence[Any]], Solve]
"""Puts a solve together from its arrays, in their order."""


class Operands(NamedTuple):
    """A solve as a function of its arrays.

    Parameters
    ----------
    leaves
        The arrays of the solve, and after them the traced values that its functions have captured.
    restore
        Puts the solve together again.
    run
        The outcome of the plain loop, as a function of the leaves.
    """

    leaves: list[jax.Array]
    restore: Restore
    run: Callable[[Sequence[jax.Array]], Outcome]


def flatten(solve: Solve) -> Operands:
    """The arrays of a solve, and the functions of them that its rules use."""
    arrays, static = eqx.partition(without_captures(solve), eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    count = len(leaves)

    def of_arrays(leaves: Sequence[Any]) -> Solve:
        return eqx.combine(jax.tree.unflatten(tree, list(leaves)), static)

    program = trace_once(lambda *leaves: of_arrays(leaves).run(), *leaves)
    captured = Captured.by(program)

    def restore(leaves: Sequence[Any]) -> Solve:
        return replace(of_arrays(leaves[:count]), captured=captured.standing_in(leaves[count:]))

    def outcome(leaves: Sequence[jax.Array]) -> Outcome:
        return captured.standing_in(leaves[count:]).replaced_in(program)(*leaves[:count])

    return Operands([*leaves, *captured.values], restore, outcome)


def replayed_part(plan: Plan, state: State) -> State:
    """The first state of a solve, with derivatives in the parts that its replay starts from, and in no others.

    The cotangents of the others are zero, and zero times the derivative by which such a part was made may be NaN: that
    of the slope at a state that is not finite, for example.
    """
    given = [id(x) for x in jax.tree.leaves(state.solver_state)]
    checkpoint = [id(x) for x in jax.tree.leaves(plan.solver.checkpoint_state(state.solver_state))]
    is_part = set(checkpoint) <= set(given)
    solver_state = jax.tree.map(
        lambda x: x if id(x) in checkpoint or not is_part else without_derivatives(x), state.solver_state
    )
    return replace(without_derivatives(state), y=state.y, solver_state=solver_state, user_state=state.user_state)


def differentiated_as(replayed: Callable[[Restore, Sequence[jax.Array]], Outcome], solve: Solve) -> Outcome:
    """The outcome of a solve, with the derivatives of `replayed(restore, leaves)`.

    Evaluated, it is the plain loop, which leaves no tape.
    """
    operands = flatten(replace(solve, state=replayed_part(solve.plan, solve.state)))

    run, restore = operands.run, operands.restore  # the rule lives longer than the leaves and must not hold them

    @jax.custom_jvp
    def evaluated(*leaves: jax.Array) -> Outcome:
        return run(leaves)

    def jvp(primals: Any, tangents: Any) -> Any:
        return jvp_skipping_zeros(lambda *leaves: replayed(restore, leaves), primals, tangents)

    evaluated.defjvp(jvp, symbolic_zeros=True)
    return evaluated(*operands.leaves)
