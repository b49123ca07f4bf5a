"""Steps of solvers on `problems.GRADED`, in one program for each solver that all tests of orders share."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import name, slow_unless, solved_exactly, terms_for
from ..problems.ordinary import GRADED
from ..steps import make_step

OFTEN = (
    *("Euler", "Heun", "Midpoint", "Ralston", "RK4", "Bosh3", "Tsit5", "Dopri5", "Dopri8"),
    *("ImplicitEuler", "Kvaerno3", "KenCarp3", "Rodas5P"),
)
"""Small methods, and one of every kind of step; `tableaus/` has the order conditions of the coefficients of all."""


def each(solvers: tuple[rungax.AbstractSolver[Any], ...]) -> list[Any]:
    """The solvers as parameters; those that are not in `OFTEN` are slow."""
    return [pytest.param(solver, id=name(solver), marks=slow_unless(name(solver) in OFTEN)) for solver in solvers]


THETAS = np.linspace(0, 1, 12)[1:]
"""Where in a step its dense output is evaluated: never at 1/2, where some interpolants are better than elsewhere."""


class GradedStep(NamedTuple):
    """What a step hands out, its dense output evaluated at `THETAS`."""

    y1: Any
    y_error: Any
    inside: Any
    solver_state: Any


@cache
def programs(solver: rungax.AbstractSolver[Any], explicit: float | None) -> tuple[Callable[..., Any], ...]:
    """The initial state at `(t0, h, y0)`, and the step from `(t0, h, y0, state)`. Stages are solved to rounding.

    `explicit` is for `terms_for`.
    """
    terms, method = terms_for(solver, GRADED.field, explicit), solved_exactly(solver)

    @jax.jit
    def begin(t0: jax.Array, h: jax.Array, y0: jax.Array) -> Any:
        return method.init(terms, t0, t0 + h, y0, None)

    @jax.jit
    def advance(t0: jax.Array, h: jax.Array, y0: jax.Array, solver_state: Any) -> GradedStep:
        step = make_step(method, terms, t0, t0 + h, y0, solver_state=solver_state)
        interpolation = method.interpolation_cls(t0=t0, t1=t0 + h, **method.densify(step))
        inside = jax.vmap(interpolation.evaluate)(t0 + h * jnp.asarray(THETAS))
        return GradedStep(step.y1, step.y_error, inside, step.solver_state)

    return begin, advance


def one_step(solver: rungax.AbstractSolver[Any], t0: float, h: float, y0: np.ndarray) -> GradedStep:
    begin, advance = programs(solver, None)
    numbers = jnp.asarray(t0, float), jnp.asarray(h, float), jnp.asarray(y0)
    return advance(*numbers, begin(*numbers))


def after_steps(solver: rungax.AbstractSolver[Any], num_steps: int, explicit: float | None = None) -> np.ndarray:
    """The state at the end, after that many steps of one length."""
    begin, advance = programs(solver, explicit)
    times = np.linspace(GRADED.t0, GRADED.t1, num_steps + 1)
    h, y = jnp.asarray(times[1] - times[0], float), jnp.asarray(GRADED.y0)
    state = begin(jnp.asarray(times[0], float), h, y)
    for t in times[:-1]:
        step = advance(jnp.asarray(t, float), h, y, state)
        y, state = step.y1, step.solver_state
    return np.asarray(y)
