"""The stages of one step of a diagonally implicit method, one after another."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ....jaxkit import Time, match_varying, scaled
from ....nonlinear import AbstractStageSolver, Stage, StepStart, Vector, solve_stage
from ....results import RESULTS, Result, first_failure
from ...common.flat_field import FlatField
from ...common.stage_vectors import Increments, combine, put, square
from ...tableaus.types.butcher import ButcherTableau
from ..base import CalculateJacobian

type Weights = tuple[np.ndarray | None, np.ndarray]
"""Of the explicit increments, if there are any, and of the implicit ones."""


class Coefficients(NamedTuple):
    """Coefficients as the stages use them.

    Parameters
    ----------
    explicit, implicit
        The tableaus of the explicit term, if there is one, and of the implicit one.
    calculate_jacobian
        Whether the implicit stages share their linear systems.
    """

    explicit: ButcherTableau | None
    implicit: ButcherTableau
    calculate_jacobian: CalculateJacobian

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return self.implicit.num_stages

    @property
    def diagonal(self) -> np.ndarray:
        """The implicit diagonal."""
        assert self.implicit.a_diagonal is not None, "checked on construction"
        return self.implicit.a_diagonal

    @property
    def shared_diagonal(self) -> float | None:
        """The coefficient of all implicit stages, if their linear systems are to be the same."""
        return None if self.calculate_jacobian == CalculateJacobian.every_stage else self.implicit.constant_diagonal

    @property
    def starts_explicitly(self) -> bool:
        """Whether the first stage is the vector field at the start."""
        return self.implicit.c1 == 0 and self.diagonal[0] == 0

    @property
    def ssal(self) -> bool:
        """Whether the last stage is made at the solution."""
        return self.implicit.ssal and (self.explicit is None or self.explicit.ssal)

    @property
    def fsal(self) -> bool:
        """Whether the last stage is the next step's first."""
        return self.implicit.fsal and (self.explicit is None or self.explicit.fsal)

    @property
    def b(self) -> Weights:
        """Weights of the solution."""
        return None if self.explicit is None else self.explicit.b_sol, self.implicit.b_sol

    @property
    def b_error(self) -> Weights | None:
        """Weights of the error estimate, if there is one."""
        if self.implicit.b_error is None:
            return None
        return None if self.explicit is None else self.explicit.b_error, self.implicit.b_error


class Done(eqx.Module):
    """Stages made so far.

    Parameters
    ----------
    explicit, implicit
        The increments of both terms, those of stages not made yet being zero.
    states
        The states at the stages.
    result
        Whether all equations were solved.
    convergence
        What the last stage taught.
    """

    explicit: Increments | None
    implicit: Increments
    states: Increments
    result: Result
    convergence: PyTree[Any]

    def weigh(self, weights: Any) -> Vector:
        """The weighted sum of the increments."""
        explicit, implicit = weights
        total = combine(implicit, self.implicit)
        return total if self.explicit is None else total + combine(explicit, self.explicit)


class _Row(eqx.Module):
    """What one stage needs to know of the method."""

    index: Array
    node: Array
    diagonal: Array
    lower: Any
    predictor: Array


class Stages(eqx.Module):
    """How the stages of one step are made.

    Parameters
    ----------
    method
        The coefficients.
    field, explicit
        The implicit and, if there is one, the explicit vector field.
    t0, t1, y0
        The step and its start.
    start, solver, prepared
        What solves the stage equations.
    """

    method: Coefficients = eqx.field(static=True)
    field: FlatField
    explicit: FlatField | None
    t0: Time
    t1: Time
    y0: Vector
    start: StepStart
    solver: AbstractStageSolver
    prepared: PyTree[Any]

    def run(self, first: Vector | None, convergence: PyTree[Any]) -> Done:
        """All stages, of which the first may be known."""
        nothing = (jnp.zeros_like(self.y0),) * self.method.num_stages
        # The first stage, where it is implicit, is guessed from the start alone.
        states = (self.y0,) * self.method.num_stages
        done = Done(None if self.explicit is None else nothing, nothing, states, RESULTS.successful, convergence)
        num_known = 0
        if first is not None:
            done, num_known = self._with(done, 0, self.t0, first, self.y0), 1
        rows = _rows(self.method, num_known, self.y0.dtype, self.t0.dtype)
        done = match_varying(done, (self, done))
        return lax.scan(lambda done, row: (self._next(done, row), None), done, rows)[0]

    def _next(self, done: Done, row: _Row) -> Done:
        """One more stage."""
        t = jnp.where(row.node == 1, self.t1, self.t0 + row.node * (self.t1 - self.t0))
        stage = Stage(self.field, t, self.y0 + done.weigh(row.lower), row.diagonal, self.t1 - self.t0)
        diagonal = jnp.where(row.diagonal == 0, 1.0, row.diagonal)
        guess = scaled(1 / diagonal, combine(row.predictor, done.states) - stage.base)
        solution = solve_stage(self.solver, stage, guess, self.start, self.prepared, done.convergence)
        done = self._with(done, row.index, t, solution.k, stage.state(solution.k))
        result = first_failure(done.result, solution.result)
        return Done(done.explicit, done.implicit, done.states, result, solution.convergence)

    def _with(self, done: Done, index: Any, t: Time, k: Vector, state: Vector) -> Done:
        """With a stage's increments."""
        explicit = done.explicit
        if explicit is not None and self.explicit is not None:
            explicit = put(explicit, index, self.explicit.increment(t, state))
        implicit, states = put(done.implicit, index, k), put(done.states, index, state)
        return Done(explicit, implicit, states, done.result, done.convergence)


def _rows(method: Coefficients, num_known: int, dtype: Any, time_dtype: Any) -> _Row:
    """The rows of all stages but the known ones, stacked."""
    implicit, explicit, num_stages = method.implicit, method.explicit, method.num_stages
    predictor = square(implicit.a_predictor or (), dtype).at[0, 0].set(1)
    return _Row(
        index=jnp.arange(num_known, num_stages),
        node=jnp.asarray(np.append(implicit.c1, implicit.c)[num_known:], time_dtype),
        diagonal=jnp.asarray(method.diagonal[num_known:], time_dtype),
        lower=tuple(None if part is None else square(part.a_lower, dtype)[num_known:] for part in (explicit, implicit)),
        predictor=predictor[num_known:],
    )
