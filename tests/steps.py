"""Single steps, made without a solve."""

from typing import Any

from rungax.step import Step


def make_step(
    solver: Any,
    terms: Any,
    t0: Any,
    t1: Any,
    y0: Any,
    args: Any = None,
    solver_state: Any = None,
    made_jump: Any = False,
) -> Step:
    """The record of one step of `solver` as a solve makes it, by default from its initial state."""
    state = solver.init(terms, t0, t1, y0, args) if solver_state is None else solver_state
    made = solver.attempt(terms, t0, t1, y0, args, state, made_jump)
    return Step(terms, args, (), t0, t1, y0, state, made_jump, *made)
