r"""Restarted GMRES for $A x = b$, in a weighted norm and preconditioned from the right.

With the weights $W$, a diagonal matrix, and the preconditioner $P \approx A^{-1}$, the iteration minimises
$\lVert W (b - A x) \rVert_2$ over corrections $x = Z y$ with $Z = P W^{-1} V$, where the orthonormal columns of $V$
span the Krylov space of $W A P W^{-1}$. The preconditioner changes the speed of convergence and not the residual that
is measured. The columns of $Z$ are stored, because another application of $P$ may cost as much as an iteration.

The vectors of a cycle have a place in one array of fixed size. They are orthogonalised against blocks of earlier ones,
twice, which takes few operations for many vectors and is as accurate as rounding allows. Rotations reduce the projected
matrix to triangular form $R$, one column in each iteration; their product and $R^{-1}$ are kept as matrices, so that an
iteration consists of products with small matrices and contains neither an inner loop over scalars nor a library call.

Under `vmap` all batch elements iterate together until the last has ended. The iteration's number is common to them;
elements that have ended add zero vectors.

References
----------
Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems, SIAM J.
Sci. Stat. Comput. 7 (1986), 856–869.

L. Giraud, J. Langou, M. Rozložník, J. van den Eshof, Rounding error analysis of the classical Gram–Schmidt
orthogonalization process, Numer. Math. 101 (2005), 87–100, for the second orthogonalisation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from ...jaxkit import any_element, match_varying, scaled, select
from ..tolerances import Accuracy

type Vector = Inexact[Array, " n"]
type LinearMap = Callable[[Vector], Vector]

RUNNING, CONVERGED, STAGNATED, NOT_FINITE = 0, 1, 2, 3

MAX_CYCLES = 20
"""Number of cycles, each of `restart` iterations, after which a system counts as not solved."""

SLOW_CYCLE = 0.9
"""The reduction of the residual by a whole cycle above which the iteration stagnates."""

ROUNDING = 8.0
"""A residual is a rounding error if it is below so many roundings of the terms whose difference it is."""

BLOCK = 2
"""Number of vectors against which one is orthogonalised at once."""


class Goal(NamedTuple):
    """The residual at which a system is solved.

    Parameters
    ----------
    weights
        The weights of the norm that is minimised, real and positive.
    size
        The norm of a residual that decides; without the weights, which it applies itself.
    tolerance
        The largest size of the residual of a solution.
    is_euclidean
        True if `size` is a multiple of the Euclidean norm with the weights, which the iteration knows by itself.
    """

    weights: Array
    size: Callable[[Vector], Array]
    tolerance: Array
    is_euclidean: bool

    @classmethod
    def relative(cls, b: Vector, tolerance: float) -> "Goal":
        """A residual that is small relative to the right-hand side in the Euclidean norm."""
        return cls(jnp.ones(b.shape, b.real.dtype), _norm, tolerance * _norm(b), True)

    @classmethod
    def of(cls, accuracy: Accuracy) -> "Goal":
        """The accuracy of an implicit step: a norm with weights, and a tolerance."""
        weights, y = accuracy.weights, accuracy.y
        return cls(
            weights.vector_at(y), weights.at(y), jnp.asarray(accuracy.tolerance, y.real.dtype), weights.are_euclidean
        )


class Outcome(NamedTuple):
    """The end of an iteration.

    Parameters
    ----------
    solution
        The last approximation.
    status
        `CONVERGED`, `STAGNATED` or `NOT_FINITE`.
    iterations
        Number of vectors that were made: products with the matrix, without those for the residuals of whole cycles.
    """

    solution: Vector
    status: Array
    iterations: Array


class _Cycles(NamedTuple):
    """The iteration after a whole number of cycles."""

    number: Array
    solution: Vector
    residual: Vector
    size: Array
    matrix_size: Array
    status: Array
    iterations: Array


class _Cycle(NamedTuple):
    """A cycle after some iterations.

    `directions` are the columns of $Z$, `rotations` is the product of all rotations, `inverse` that of the triangular
    matrix, and `matrix_size` the largest ratio so far of the norms of a product with the matrix and of the vector.
    `reduction` is the norm of the residual of the projected system, relative to that at the start of the cycle.
    `number`, of iterations, is common to the elements of a batch.
    """

    number: Array
    basis: Array
    directions: Array
    rotations: Array
    inverse: Array
    matrix_size: Array
    reduction: Array
    is_active: Array
    iterations: Array


def gmres(matrix: LinearMap, preconditioner: LinearMap, b: Vector, goal: Goal, restart: int) -> Outcome:
    """The solution of a linear system by restarted GMRES from zero.

    Parameters
    ----------
    matrix
        The product with the matrix.
    preconditioner
        An approximate solution of the system for a right-hand side, linear in it.
    b
        The right-hand side.
    goal
        The residual at which the iteration ends. A residual that is a rounding error ends it too.
    restart
        Number of vectors of a cycle.
    """
    restart = max(1, min(restart, b.size))
    goal = goal._replace(weights=goal.weights.astype(b.dtype))
    real = b.real.dtype
    rounding = ROUNDING * float(jnp.finfo(real).eps)
    size_of_b = _norm(goal.weights * b)

    def residual_of(
        now: _Cycles, cycle: _Cycle, before: Array, solution: Vector, rounding_error: Array
    ) -> tuple[Vector, Array, Array]:
        """The residual and its sizes; where the projected system shows that it is small enough, only the latter."""
        is_small = cycle.reduction * now.size <= goal.tolerance
        is_known = goal.is_euclidean & is_small & (rounding_error * now.size <= goal.tolerance * before)

        def computed() -> tuple[Vector, Array, Array]:
            residual = b - matrix(solution)
            return residual, _norm(goal.weights * residual), goal.size(residual)

        known = lambda: (now.residual, cycle.reduction * before, cycle.reduction * now.size)
        return lax.cond(any_element((now.status == RUNNING) & ~is_known), computed, known)

    def improve(now: _Cycles) -> _Cycles:
        before = _norm(goal.weights * now.residual)
        cycle = _cycle(matrix, preconditioner, goal, now, restart)
        solution = now.solution + scaled(before, _combined(cycle))
        terms = size_of_b + cycle.matrix_size * _norm(goal.weights * solution)
        residual, size, measured = residual_of(now, cycle, before, solution, rounding * terms)
        is_solved = (measured <= goal.tolerance) | (size <= rounding * terms)
        is_slow = (size > SLOW_CYCLE * before) | (now.number + 1 >= MAX_CYCLES)
        status = jnp.where(is_solved, CONVERGED, jnp.where(is_slow, STAGNATED, RUNNING))
        status = jnp.where(jnp.isfinite(size), status, NOT_FINITE).astype(jnp.int32)
        number, iterations = now.number + 1, cycle.iterations
        following = _Cycles(number, solution, residual, measured, cycle.matrix_size, status, iterations)
        return select(now.status == RUNNING, following, now)._replace(number=number)

    size, zero = goal.size(b), jnp.zeros((), jnp.int32)
    status = jnp.where(size <= goal.tolerance, CONVERGED, jnp.where(jnp.isfinite(size), RUNNING, NOT_FINITE))
    start = _Cycles(zero, jnp.zeros_like(b), b, size, jnp.zeros((), real), status.astype(jnp.int32), zero)
    # What the loop reads: its carry must vary over devices as that does.
    start = match_varying(start, (matrix, preconditioner, b, goal))
    end = lax.while_loop(lambda now: any_element(now.status == RUNNING), improve, start)
    return Outcome(end.solution, end.status, end.iterations)


def gmres_to_digits(matrix: LinearMap, preconditioner: LinearMap, b: Vector, fraction: float, restart: int) -> Outcome:
    """The solution whose residual leaves a fraction of all digits of a right-hand side, which may have any size."""
    # The squares of small entries, as of tangents, would be zero.
    size = jnp.max(jnp.abs(b), initial=0.0)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, jnp.ones_like(size))
    b = scaled(1 / size, b)
    goal = Goal.relative(b, float(jnp.finfo(b.dtype).eps) ** fraction)
    outcome = gmres(matrix, preconditioner, b, goal, restart)
    return outcome._replace(solution=scaled(size, outcome.solution))


def _cycle(matrix: LinearMap, preconditioner: LinearMap, goal: Goal, now: _Cycles, restart: int) -> _Cycle:
    """One cycle: iterations until the residual is small enough by the projected system, or there is no more place."""
    residual, real = goal.weights * now.residual, now.residual.real.dtype
    size = _norm(residual)
    wanted = goal.tolerance / jnp.where(now.size > 0, now.size, 1.0)  # relative to the present residual
    places = -(-(restart + 1) // BLOCK) * BLOCK

    def extend(cycle: _Cycle) -> _Cycle:
        j = cycle.number
        argument = preconditioner(lax.dynamic_index_in_dim(cycle.basis, j, keepdims=False) / goal.weights)
        product = goal.weights * matrix(argument)
        product_size, argument_size = _norm(product), _norm(goal.weights * argument)
        coefficients, rest = _orthogonalised(product, cycle.basis, j)
        rest_size = _norm(rest)
        # The rest is a rounding error if the Krylov space contains the solution.
        is_rounding = rest_size <= ROUNDING * float(jnp.finfo(real).eps) * product_size
        rest_size = jnp.where(is_rounding, 0.0, rest_size)
        rotations, inverse, is_regular = _with_column(
            cycle, coefficients.at[j + 1].set(rest_size.astype(product.dtype))
        )
        advances, reduction = cycle.is_active & is_regular, jnp.abs(rotations[j + 1, 0])
        vector = jnp.where(advances & ~is_rounding, scaled(1 / jnp.where(is_rounding, 1.0, rest_size), rest), 0.0)
        matrix_size = jnp.maximum(cycle.matrix_size, product_size / jnp.where(argument_size > 0, argument_size, 1.0))
        return _Cycle(
            number=j + 1,
            basis=lax.dynamic_update_index_in_dim(cycle.basis, vector, j + 1, 0),
            directions=lax.dynamic_update_index_in_dim(cycle.directions, argument, j, 0),
            rotations=select(advances, rotations, cycle.rotations),
            inverse=select(advances, inverse, cycle.inverse),
            matrix_size=jnp.where(advances, matrix_size, cycle.matrix_size),
            reduction=jnp.where(advances, reduction, cycle.reduction),
            is_active=advances & (reduction > wanted) & ~is_rounding,
            iterations=cycle.iterations + advances.astype(jnp.int32),
        )

    is_first = jnp.arange(places) == 0
    start = _Cycle(
        number=jnp.zeros((), jnp.int32),
        basis=jnp.where(is_first[:, None], scaled(1 / jnp.where(size > 0, size, 1.0), residual), 0),
        directions=jnp.zeros((places, residual.size), residual.dtype),
        rotations=jnp.eye(places, dtype=residual.dtype),
        inverse=jnp.zeros((places, places), residual.dtype),
        matrix_size=now.matrix_size,
        reduction=jnp.ones((), real),
        is_active=now.status == RUNNING,
        iterations=now.iterations,
    )
    start = match_varying(start, now)
    return lax.while_loop(lambda cycle: any_element(cycle.is_active) & (cycle.number < restart), extend, start)


def _orthogonalised(vector: Vector, basis: Array, last: Array) -> tuple[Array, Vector]:
    """The coefficients of a vector by the basis up to number `last`, and the rest of it."""

    def against(turn: Array, carry: tuple[Array, Vector]) -> tuple[Array, Vector]:
        coefficients, rest = carry
        start = turn % blocks * BLOCK
        rows = lax.dynamic_slice_in_dim(basis, start, BLOCK)
        new = _product(rows.conj(), rest)
        before = lax.dynamic_slice_in_dim(coefficients, start, BLOCK)
        coefficients = lax.dynamic_update_slice_in_dim(coefficients, before + new, start, 0)
        return coefficients, rest - _product(new, rows)

    blocks = last // BLOCK + 1
    carry = match_varying((jnp.zeros(basis.shape[0], basis.dtype), vector), (basis, vector))
    return lax.fori_loop(0, 2 * blocks, against, carry)


def _with_column(cycle: _Cycle, column: Array) -> tuple[Array, Array, Array]:
    """The rotations and the inverse with one more column of the projected matrix, and whether that is regular."""
    j, places = cycle.number, jnp.arange(column.size, dtype=jnp.int32)
    column = _product(cycle.rotations, column)
    pivot, below = column[j], column[j + 1]
    size = jnp.sqrt(jnp.abs(pivot) ** 2 + jnp.abs(below) ** 2)
    is_regular = (size > 0) & jnp.isfinite(size)
    reciprocal = (1 / jnp.where(is_regular, size, 1.0)).astype(column.dtype)
    upper, lower = cycle.rotations[j], cycle.rotations[j + 1]
    rotations = cycle.rotations.at[j].set(reciprocal * (pivot.conj() * upper + below.conj() * lower))
    rotations = rotations.at[j + 1].set(reciprocal * (pivot * lower - below * upper))
    above = _product(cycle.inverse, jnp.where(places < j, column, 0.0))
    entries = reciprocal * jnp.where(places == j, 1.0, -above)
    return rotations, cycle.inverse.at[:, j].set(entries), is_regular


def _combined(cycle: _Cycle) -> Vector:
    """The combination of the directions that minimises a residual of norm one."""
    weights = _product(cycle.inverse, cycle.rotations[:, 0])

    def add(block: Array, total: Vector) -> Vector:
        start = block * BLOCK
        rows = lax.dynamic_slice_in_dim(cycle.directions, start, BLOCK)
        return total + _product(lax.dynamic_slice_in_dim(weights, start, BLOCK), rows)

    blocks = (cycle.number + BLOCK - 1) // BLOCK
    return lax.fori_loop(0, blocks, add, match_varying(jnp.zeros_like(cycle.directions[0]), cycle))


def _product(a: Array, b: Array) -> Array:
    """The matrix product in full precision on GPUs too, without which vectors lose orthogonality."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _norm(vector: Vector) -> Array:
    """The Euclidean norm."""
    return jnp.sqrt(jnp.sum(jnp.abs(vector) ** 2 if jnp.iscomplexobj(vector) else vector * vector))
