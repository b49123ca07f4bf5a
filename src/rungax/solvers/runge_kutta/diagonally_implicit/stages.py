"""The stages of one step of a diagonally implicit method, one after another."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ....jaxkit import Time, match_varying
from ....nonlinear import AbstractStageSolver, Stage, StepStart, Vector, solve_stage
from ....results import RESULTS, Result, first_failure
from ...common.flat_field import FlatField
from ...common.stage_loop import stage_time
from ...common.stage_vectors import StageVectors, combine, put, square
from ...tableaus.types.butcher import ButcherTableau
from ..base import CalculateJacobian

type StageWeights = tuple[np.ndarray | None, np.ndarray]
"""Weights of the explicit increments, if there is an explicit term, and of the implicit ones."""


class Coefficients(NamedTuple):
    """The coefficients of a method, as the stages use them.

    Parameters
    ----------
    explicit, implicit
        The tableaus of the explicit term, if there is one, and of the implicit one.
    calculate_jacobian
        The stages that need a new matrix.
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
        """The diagonal of the implicit tableau."""
        assert self.implicit.a_diagonal is not None, "checked on construction"
        return self.implicit.a_diagonal

    @property
    def shared_diagonal(self) -> float | None:
        """The diagonal coefficient of all implicit stages, if they share their linear systems."""
        return None if self.calculate_jacobian == CalculateJacobian.every_stage else self.implicit.constant_diagonal

    @property
    def starts_explicitly(self) -> bool:
        """True if the first stage is the vector field at the start of the step."""
        return self.implicit.c1 == 0 and self.diagonal[0] == 0

    @property
    def ssal(self) -> bool:
        """True if the last stage is evaluated at the solution."""
        return self.implicit.ssal and (self.explicit is None or self.explicit.ssal)

    @property
    def fsal(self) -> bool:
        """True if the last stage is the next step's first."""
        return self.implicit.fsal and (self.explicit is None or self.explicit.fsal)

    @property
    def b(self) -> StageWeights:
        """Weights of the solution."""
        return None if self.explicit is None else self.explicit.b_sol, self.implicit.b_sol

    @property
    def b_error(self) -> StageWeights | None:
        """Weights of the error estimate, if there is one."""
        if self.implicit.b_error is None:
            return None
        return None if self.explicit is None else self.explicit.b_error, self.implicit.b_error

    def row(self, stage: int) -> StageWeights:
        """Weights of the increments in the displacement of a stage."""
        explicit, implicit = (
            None if part is None else np.pad(([], *part.a_lower)[stage], (0, self.num_stages - stage))
            for part in (self.explicit, self.implicit)
        )
        assert implicit is not None, "there is an implicit part"
        implicit[stage] = self.diagonal[stage]
        return explicit, implicit

    def runs(self, first: int) -> Iterator[tuple[bool, range]]:
        """The stages from `first` on, in runs of stages that are all implicit (true) or all explicit."""
        for is_implicit, run in groupby(range(first, self.num_stages), lambda stage: bool(self.diagonal[stage] != 0)):
            stages = list(run)
            yield is_implicit, range(stages[0], stages[-1] + 1)


class StageValues(eqx.Module):
    """The stages computed so far; vectors of later stages are zero.

    Parameters
    ----------
    explicit, implicit
        The increments of both terms.
    displacements
        The states of the stages minus the state at the start of the step.
    result
        Successful, or the reason why a stage equation was not solved.
    convergence
        Convergence information of the last stage.
    """

    explicit: StageVectors | None
    implicit: StageVectors
    displacements: StageVectors
    result: Result
    convergence: PyTree[Any]

    def weighted_sum(self, weights: Any) -> Vector:
        """The weighted sum of the increments."""
        explicit, implicit = weights
        total = combine(implicit, self.implicit)
        return total if self.explicit is None else total + combine(explicit, self.explicit)


class _Row(eqx.Module):
    """The coefficients of one stage; the explicit term's node if it has another one."""

    index: Array
    node: Array
    explicit_node: Array | None
    diagonal: Array
    lower: Any
    predictor: Array


class Stages(eqx.Module):
    """The equations of one step's stages, and their solver.

    Parameters
    ----------
    method
        The coefficients.
    field, explicit
        The implicit and, if there is one, the explicit vector field.
    t0, t1, y0
        Start and end of the step, and the state at its start.
    start, solver, prepared
        The solver of the stage equations, and its data for this step.
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

    def solve(self, first: Vector | None, convergence: PyTree[Any]) -> StageValues:
        """The values of all stages; `first` is the increment of the first one if it is explicit."""
        zeros = (jnp.zeros_like(self.y0),) * self.method.num_stages
        explicit = None if self.explicit is None else zeros
        values = StageValues(explicit, zeros, zeros, RESULTS.successful, convergence)
        if first is None:
            return self._with_stages_from(0, values)
        return self._with_stages_from(1, self._with_stage(values, 0, self.t0, zeros[0], first))

    def solve_after(
        self, explicit: StageVectors | None, implicit: StageVectors, convergence: PyTree[Any]
    ) -> StageValues:
        """The values of all stages, given the increments of the first ones."""
        num_known = len(implicit)
        zeros = (jnp.zeros_like(self.y0),) * (self.method.num_stages - num_known)
        explicit = None if explicit is None else (*explicit, *zeros)
        values = StageValues(explicit, (*implicit, *zeros), (), RESULTS.successful, convergence)
        displacements = tuple(values.weighted_sum(self.method.row(stage)) for stage in range(num_known))
        return self._with_stages_from(num_known, eqx.tree_at(_displacements, values, (*displacements, *zeros)))

    def _with_stages_from(self, num_known: int, values: StageValues) -> StageValues:
        """The values with those of all stages after the first `num_known`."""
        values = match_varying(values, (self, values))
        for is_implicit, stages in self.method.runs(num_known):
            rows = _rows(self.method, stages, self.y0.dtype, self.t0.dtype)
            following = self._with_implicit_stage if is_implicit else self._with_explicit_stage
            values, _ = lax.scan(lambda values, row, following=following: (following(values, row), None), values, rows)
        return values

    def _with_implicit_stage(self, values: StageValues, row: _Row) -> StageValues:
        """The values with one more stage, whose equation is solved."""
        t, known = self._time(row.node), values.weighted_sum(row.lower)
        stage = Stage(self.field, t, self.y0, known, row.diagonal, self.t1 - self.t0)
        # The weights sum to one: extrapolated displacements are those of the extrapolated states.
        guess = combine(row.predictor, values.displacements)
        solution = solve_stage(self.solver, stage, guess, self.start, self.prepared, values.convergence)
        increment = stage.increment(solution.displacement)
        values = self._with_stage(values, row.index, self._explicit_time(row, t), solution.displacement, increment)
        result = first_failure(values.result, solution.result)
        return StageValues(values.explicit, values.implicit, values.displacements, result, solution.convergence)

    def _with_explicit_stage(self, values: StageValues, row: _Row) -> StageValues:
        """The values with one more stage, whose diagonal coefficient is zero: its state is known from earlier ones."""
        assert self.field.term.mass_kind == "identity", "the state's derivative would be the solution of a system"
        t, displacement = self._time(row.node), values.weighted_sum(row.lower)
        increment = self.field.increment(t, self.y0 + displacement)
        return self._with_stage(values, row.index, self._explicit_time(row, t), displacement, increment)

    def _with_stage(
        self, values: StageValues, index: Any, t: Time, displacement: Vector, increment: Vector
    ) -> StageValues:
        """The values with one more stage, whose explicit increment is evaluated here, at `t`."""
        explicit = values.explicit
        if explicit is not None and self.explicit is not None:
            explicit = put(explicit, index, self.explicit.increment(t, self.y0 + displacement))
        implicit, displacements = put(values.implicit, index, increment), put(values.displacements, index, displacement)
        return StageValues(explicit, implicit, displacements, values.result, values.convergence)

    def _time(self, node: Array) -> Time:
        return stage_time(self.t0, self.t1, node)

    def _explicit_time(self, row: _Row, t: Time) -> Time:
        """The time of the explicit term in a stage whose implicit term is evaluated at `t`."""
        return t if row.explicit_node is None else self._time(row.explicit_node)


def _displacements(values: StageValues) -> StageVectors:
    return values.displacements


def _rows(method: Coefficients, stages: range, dtype: Any, time_dtype: Any) -> _Row:
    """The rows of these stages, stacked."""
    implicit, explicit, rows = method.implicit, method.explicit, slice(stages.start, stages.stop)
    predictor = square(implicit.a_predictor or (), dtype)
    nodes, others = (np.append(part.c1, part.c)[rows] for part in (implicit, explicit or implicit))
    return _Row(
        index=jnp.arange(stages.start, stages.stop),
        node=jnp.asarray(nodes, time_dtype),
        explicit_node=None if np.array_equal(nodes, others) else jnp.asarray(others, time_dtype),
        diagonal=jnp.asarray(method.diagonal[rows], time_dtype),
        lower=tuple(None if part is None else square(part.a_lower, dtype)[rows] for part in (explicit, implicit)),
        predictor=predictor[rows],
    )
