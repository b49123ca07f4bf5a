"""The condition of linear systems.

References
----------
W. W. Hager, Condition estimates, SIAM J. Sci. Stat. Comput. 5 (1984), 311–316.

N. J. Higham, FORTRAN codes for estimating the one-norm of a real or complex matrix, with applications to condition
estimation, ACM Trans. Math. Softw. 14 (1988), 381–396: the algorithm, with the last vector that it tries.
"""

from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array

from ..jaxkit import any_element, match_varying, select
from .jacobian import Vector
from .linear import AbstractLinearAlgebra, LinearSystem
from .lu import MAX_UNROLLED

_MAX_ITERATIONS = 5


def reciprocal_condition(
    algebra: AbstractLinearAlgebra, system: LinearSystem, times_bounds: Callable[[Vector], Vector] | None = None
) -> Array:
    """The reciprocal condition number of a matrix in the norm of sums by column, after its rows and columns are scaled.

    Rows are scaled to sums of one, and then columns. It is exact for few unknowns. For more, the norm of the inverse is
    estimated: a lower bound, seldom far off. It is zero for a matrix that is singular, or not finite.

    Parameters
    ----------
    algebra, system
        The matrix. The algebra must store entries, and solve by a factorisation.
    times_bounds
        The product with a matrix of bounds for the moduli of the entries, by whose sums rows and columns are scaled.
        Where an entry is the sum of others that cancel, its rounding must not be scaled to one. By default the moduli.
    """
    solver, state = algebra.solver, algebra.state(system, None)
    operator = system.operator(algebra)
    bounds: Callable[[Vector], Vector] = times_bounds or partial(_times_moduli, operator)
    dtype = jnp.result_type(*jax.tree.leaves(operator))
    ones = jnp.ones(operator.in_size(), jnp.finfo(dtype).dtype)
    rows = 1 / bounds(ones)
    columns = 1 / jax.linear_transpose(bounds, ones)(rows)[0]
    rows_of_matrix, columns_of_matrix = rows.astype(dtype), columns.astype(dtype)

    def inverse(vector: Vector) -> Vector:
        return solver.compute(state, vector / rows_of_matrix, {})[0] / columns_of_matrix

    if ones.size <= MAX_UNROLLED:
        inverted = jax.vmap(inverse)(jnp.eye(ones.size, dtype=dtype))
        size = jnp.max(jnp.sum(jnp.abs(inverted), axis=1), initial=0.0)
    else:
        transposed = solver.transpose(state, {})[0]

        def transposed_inverse(vector: Vector) -> Vector:
            return solver.compute(transposed, vector / columns_of_matrix, {})[0] / rows_of_matrix

        size = _inverse_norm(inverse, transposed_inverse, ones.astype(dtype))
    is_usable = jnp.isfinite(size) & (size > 0) & jnp.all(jnp.isfinite(rows)) & jnp.all(jnp.isfinite(columns))
    return jnp.where(is_usable, 1 / jnp.where(is_usable, size, 1.0), 0.0)


@singledispatch
def _times_moduli(operator: Any, vector: Vector) -> Vector:
    """The product of the matrix of moduli of an operator's entries with a vector."""
    return jax.tree.map(jnp.abs, operator).mv(vector)


@_times_moduli.register(lx.MatrixLinearOperator)
def _(operator: lx.MatrixLinearOperator, vector: Vector) -> Vector:
    # Not a matrix product, which is a call of a library: for few unknowns that costs more than a short solve.
    return jnp.sum(jnp.abs(operator.matrix) * vector[None, :], axis=1)


class _Search(NamedTuple):
    """The vector whose product with the inverse is next, the largest norm of a product so far, and the progress."""

    vector: Array
    size: Array
    number: Array
    goes_on: Array


def _inverse_norm(
    inverse: Callable[[Vector], Vector], transposed_inverse: Callable[[Vector], Vector], ones: Vector
) -> Array:
    """A lower bound of the norm of an inverse, by the largest of its columns that a search from their mean finds."""

    def improve(now: _Search) -> _Search:
        product = inverse(now.vector)
        modulus = jnp.abs(product)
        size = jnp.sum(modulus)
        signs = jnp.where(modulus > 0, product / jnp.where(modulus > 0, modulus, 1.0).astype(product.dtype), 1.0)
        gradient = transposed_inverse(signs.conj())
        column = jnp.argmax(jnp.abs(gradient))
        rises = jnp.abs(gradient[column]) > jnp.abs(jnp.sum(gradient * now.vector))
        # A size that is not finite ends the search, and is the result.
        is_larger = ~(size <= now.size)
        goes_on = is_larger & rises & (now.number + 1 < _MAX_ITERATIONS) & jnp.isfinite(size)
        unit = (jnp.arange(ones.size) == column).astype(ones.dtype)
        following = _Search(unit, jnp.where(is_larger, size, now.size), now.number + 1, goes_on)
        return select(now.goes_on, following, now)

    start, zero = ones / ones.size, jnp.zeros((), ones.real.dtype)
    first = _Search(start, zero, jnp.zeros((), jnp.int32), jnp.asarray(True))
    first = match_varying(first, inverse(start))
    found = lax.while_loop(lambda now: any_element(now.goes_on), improve, first).size
    # Against matrices whose columns cancel in the mean.
    places = jnp.arange(ones.size)
    alternating = jnp.where(places % 2 == 0, 1, -1) * (1 + places / (ones.size - 1))
    other = 2 * jnp.sum(jnp.abs(inverse(alternating.astype(ones.dtype)))) / (3 * ones.size)
    return jnp.where(other > found, other, found)
