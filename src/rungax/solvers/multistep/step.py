r"""The step of a multistep method of differentiation formulas with quasi-constant step size.

With the differences $\nabla^j y_n$ of a history of order $k$ and step size $h$, the predicted state is
$y^* = y_n + \sum_{j=1}^k \nabla^j y_n$, and the step corrects it by the solution $d$ of

$$M (d + \psi) = \frac{h}{\alpha_k} f(t_{n+1}, y^* + d), \qquad
\psi = \frac{1}{\alpha_k} \sum_{j=1}^k \gamma_j \nabla^j y_n, \qquad y_{n+1} = y^* + d,$$

where $d = \nabla^{k+1} y_{n+1}$. This is the equation of an implicit stage: its coefficient is $1/\alpha_k$. $M$ is the
mass matrix.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ...jaxkit import Time, scaled, without_derivatives
from ...nonlinear import AbstractLinearAlgebra, AbstractStageSolver, Stage, StepStart, Vector, solve_stage
from ...results import Result
from ..common.flat_field import FlatField
from .coefficients import ALPHA, ERROR, GAMMA
from .history import Differences, Order, advanced, used, weighted_sum


class Corrected(NamedTuple):
    """A step from a history.

    Parameters
    ----------
    y1
        The state at the end of the step.
    correction
        The difference to the predicted state.
    error
        The estimate of the local error.
    differences
        The differences at the end of the step.
    cache
        The cache of the stage solver after the step.
    result
        Successful, or the reason why the equation was not solved.
    """

    y1: Vector
    correction: Vector
    error: Vector
    differences: Differences
    cache: PyTree[Array]
    result: Result


def corrected(
    solver: AbstractStageSolver,
    stage: Stage,
    start: StepStart,
    history: tuple[Differences, Order],
    cache: PyTree[Array],
) -> Corrected:
    """The step whose equation is `stage`, from the differences and the order of a history."""
    differences, order = history
    prepared, convergence = solver.prepare(start, cache)
    solution = solve_stage(solver, stage, jnp.zeros_like(stage.y0), start, prepared, convergence)
    correction = solution.displacement
    error = scaled(_at(ERROR, order, correction), correction)
    after = advanced(differences, order, correction)
    cache = solver.update_cache(prepared, solution.convergence)
    return Corrected(stage.state(correction), correction, error, after, cache, solution.result)


def equation(field: FlatField, t0: Time, t1: Time, y0: Vector, history: tuple[Differences, Order]) -> Stage:
    """The equation of the step from `t0` to `t1`, from the differences for its size and their order."""
    differences, order = history
    number = differences.shape[0]
    rows = used(differences, order)
    kept = jnp.where(rows, differences, jnp.zeros((), differences.dtype))
    diagonal = 1 / _at(ALPHA, order, y0)
    psi = scaled(diagonal, weighted_sum(GAMMA[:number], kept))
    predicted = y0 + jnp.sum(kept, axis=0)
    return Stage(field=field, t=t1, y0=predicted, known=-psi, diagonal=diagonal, step_size=t1 - t0)


def start_of(stage: Stage, algebra: AbstractLinearAlgebra, max_steps: int) -> StepStart:
    """The start of the iteration, as a constant to differentiation: the predicted state, at its time.

    By the time a stage solver knows whether a Jacobian was evaluated there: a shorter step predicts another state. The
    matrix is that of a step of the implicit Euler method of another size.
    """
    size = stage.step_size * jnp.asarray(stage.diagonal).astype(stage.step_size.dtype)
    return StepStart(
        field=without_derivatives(stage.field),
        algebra=algebra,
        t0=lax.stop_gradient(stage.t),
        y0=lax.stop_gradient(stage.y0),
        step_size=lax.stop_gradient(size),
        diagonal=1.0,
        max_steps=max_steps,
        rate=lax.stop_gradient(stage.rate(jnp.zeros_like(stage.y0))) if stage.field.needs_rate else None,
    )


def _at(coefficients: np.ndarray, order: Order, like: Vector) -> Array:
    """The coefficient of an order, in the real dtype that goes with a vector."""
    return jnp.asarray(coefficients, jnp.finfo(like.dtype).dtype)[order - 1]
