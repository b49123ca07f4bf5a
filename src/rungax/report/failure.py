"""The contents of a report: arrays that a program computes, and facts that are known when it is built."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from ..call import Call
from ..jaxkit import checked_objects
from ..nonlinear import improvement
from ..results import code_of
from ..solution import Solution
from ..solvers import AbstractSolver
from ..terms import is_stochastic
from .ending import Ending
from .examination import Examination
from .explanations import Explanations


class Failure(NamedTuple):
    """The arrays that a report is made of. With axes of a batch in front, until one element is chosen.

    Parameters
    ----------
    code
        The number of the explanation.
    result
        The number of the result.
    ending
        The end of the solve.
    t0, t1
        The interval that was asked for.
    y0
        The initial state.
    rtol
        The smallest relative tolerance; `None` without error control.
    found
        The examination, `None` if there is none.
    """

    code: Any
    result: Any
    ending: Ending
    t0: Any
    t1: Any
    y0: Any
    rtol: Any
    found: Examination | None

    @classmethod
    def of(
        cls, call: Call, explanations: Explanations, solution: Solution, ending: Ending, found: Examination | None
    ) -> Self:
        """The failure of a solve."""
        tolerances, rtol = call.controller.tolerances(), None
        if tolerances is not None:
            rtol = jnp.min(jnp.stack([jnp.min(jnp.asarray(x)) for x in jax.tree.leaves(tolerances.rtol)]))
        code = explanations.number(solution.result)
        return cls(code, code_of(solution.result), ending, solution.t0, solution.t1, call.y0, rtol, found)

    def element(self, index: tuple[int, ...]) -> Self:
        """The failure of one element of a batch."""
        return jax.tree.map(lambda x: np.asarray(x)[index], self)


class Subject(NamedTuple):
    """The facts about a solve that are known when its program is built. None of them is an array.

    Parameters
    ----------
    messages
        The explanations by their numbers.
    events
        The names of the events; empty without.
    max_steps
        The bound on attempts.
    is_explicit
        Whether the solver is explicit, and the equation has no noise.
    may_reject
        Whether steps are made again if their errors are too large.
    has_dtmin
        Whether a part of the controller has a smallest step.
    linear_solver
        The improvement of an iterative linear solver that may help; `None` if there is none.
    """

    messages: tuple[str, ...]
    events: tuple[str, ...]
    max_steps: int | None
    is_explicit: bool
    may_reject: bool
    has_dtmin: bool
    linear_solver: str | None

    @classmethod
    def of(cls, call: Call, explanations: Explanations) -> Self:
        """The facts about a call."""
        return cls(
            messages=explanations.messages,
            events=() if call.event is None else tuple(call.event.names),
            max_steps=call.max_steps,
            is_explicit=not call.solver.facts.uses_jacobian and not is_stochastic(call.terms),
            may_reject=call.controller.may_reject,
            has_dtmin=any(getattr(part, "dtmin", None) is not None for part in checked_objects([call.controller])),
            linear_solver=_improvement(call.solver),
        )


def _improvement(solver: AbstractSolver[Any]) -> str | None:
    """The improvement of the first iterative linear solver inside a solver, if there is one."""
    is_linear_solver = lambda x: isinstance(x, lx.AbstractLinearSolver)
    parts = jax.tree.leaves(solver, is_leaf=is_linear_solver)
    return next((text for x in parts if is_linear_solver(x) and (text := improvement(x)) is not None), None)
