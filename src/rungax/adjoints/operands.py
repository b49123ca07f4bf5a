"""The arrays of a solve as operands of its derivative's rules.

A rule runs when the trace in which it was defined is over, so it may capture no array: every array that it uses must
come through its arguments. `flatten` takes a solve apart into arrays, and the `Restore` that it returns puts the solve
together again inside the rule.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..jaxkit import jvp_skipping_zeros, scaled_derivative
from ..loop import run
from ..plan import Plan
from ..results import Result, is_okay
from ..step import Outcome, State
from .base import AbstractAdjoint


class Solve(eqx.Module):
    """A solve: its plan and first state, and the adjoint if its derivatives depend on arrays of that."""

    plan: Plan
    state: State
    adjoint: AbstractAdjoint | None = None


type Restore = Callable[[Sequence[Any]], Solve]
"""Puts a solve together from its arrays, in their order."""


def flatten(solve: Solve) -> tuple[list[jax.Array], Restore]:
    """The arrays of a solve, and the function that puts it together again."""
    arrays, static = eqx.partition(solve, eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)

    def restore(leaves: Sequence[Any]) -> Solve:
        return eqx.combine(jax.tree.unflatten(tree, list(leaves)), static)

    return leaves, restore


def differentiated_as(replayed: Callable[[Restore, Sequence[jax.Array]], Outcome], solve: Solve) -> Outcome:
    """The outcome of a solve, with the derivatives of `replayed(restore, leaves)`.

    Evaluated, it is the plain loop, which leaves no tape.
    """
    leaves, restore = flatten(solve)

    @jax.custom_jvp
    def evaluated(*leaves: jax.Array) -> Outcome:
        solve = restore(leaves)
        return run(solve.plan, solve.state)

    def jvp(primals: Any, tangents: Any) -> Any:
        return jvp_skipping_zeros(lambda *leaves: replayed(restore, leaves), primals, tangents)

    evaluated.defjvp(jvp, symbolic_zeros=True)
    return evaluated(*leaves)


def nan_if_failed[T](tree: T, result: Result) -> T:
    """`tree`, whose derivatives are NaN if the solve failed: those of a part of it would mislead."""
    factor = jnp.where(is_okay(result), 1.0, jnp.nan)
    return jax.tree.map(lambda x: scaled_derivative(x, factor) if eqx.is_inexact_array(x) else x, tree)
