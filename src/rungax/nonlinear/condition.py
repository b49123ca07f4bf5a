"""The condition of linear systems, estimated from a few solutions.

References
----------
W. W. Hager, Condition estimates, SIAM J. Sci. Stat. Comput. 5 (1984), 311–316.

N. J. Higham, FORTRAN codes for estimating the one-norm of a real or complex matrix, ACM Trans. Math. Softw. 14 (1988),
381–396.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..jaxkit import any_element, match_varying, select
from .jacobian import Vector
from .linear import AbstractLinearAlgebra, LinearSystem

_MAX_ITERATIONS = 5


def reciprocal_condition(algebra: AbstractLinearAlgebra, system: LinearSystem) -> Array:
    """The reciprocal condition number of a matrix in the norm of sums by column, after its rows and columns are scaled.

    Rows are scaled to sums of one, and then columns. The norm of the inverse is a lower bound that is seldom far off.
    The algebra must store entries. It is zero for a matrix that is singular, or not finite.
    """
    solver, state = algebra.solver, algebra.state(system, None)
    transposed = solver.transpose(state, {})[0]
    moduli = jax.tree.map(jnp.abs, system.operator(algebra))
    like = jax.eval_shape(lambda: system.operator(algebra).mv(jnp.zeros(moduli.in_size(), _dtype(moduli))))
    ones = jnp.ones(like.shape, _dtype(moduli))
    rows = _reciprocal(moduli.mv(ones))
    columns = _reciprocal(moduli.transpose().mv(rows))

    def inverse(vector: Vector) -> Vector:
        return solver.compute(state, vector / rows.astype(vector.dtype), {})[0] / columns.astype(vector.dtype)

    def transposed_inverse(vector: Vector) -> Vector:
        return solver.compute(transposed, vector / columns.astype(vector.dtype), {})[0] / rows.astype(vector.dtype)

    start = (ones / ones.size).astype(like.dtype)
    size = _inverse_norm(inverse, transposed_inverse, start)
    is_usable = jnp.isfinite(size) & (size > 0) & jnp.all(jnp.isfinite(rows)) & jnp.all(jnp.isfinite(columns))
    return jnp.where(is_usable, 1 / jnp.where(is_usable, size, 1.0), 0.0)


class _Search(NamedTuple):
    """The vector whose product with the inverse is largest so far, the norm of that product, and the progress."""

    vector: Array
    size: Array
    number: Array
    goes_on: Array


def _inverse_norm(
    inverse: Callable[[Vector], Vector], transposed_inverse: Callable[[Vector], Vector], start: Vector
) -> Array:
    """A lower bound of the norm of an inverse, by the largest of its columns that a search from their mean finds."""

    def improve(now: _Search) -> _Search:
        product = inverse(now.vector)
        size = jnp.sum(jnp.abs(product))
        modulus = jnp.abs(product)
        signs = jnp.where(modulus > 0, product / jnp.where(modulus > 0, modulus, 1.0), 1.0)
        gradient = transposed_inverse(signs.conj()).conj()
        column = jnp.argmax(jnp.abs(gradient))
        unit = (jnp.arange(start.size) == column).astype(start.dtype)
        is_larger = ~(size <= now.size)
        rises = jnp.abs(gradient[column]) > jnp.abs(jnp.vdot(gradient.conj(), now.vector))
        following = _Search(
            unit,
            jnp.where(is_larger, size, now.size),
            now.number + 1,
            is_larger & rises & (now.number + 1 < _MAX_ITERATIONS) & jnp.isfinite(size),
        )
        return select(now.goes_on, following, now)

    zero = jnp.zeros((), start.real.dtype)
    first = _Search(start, zero, jnp.zeros((), jnp.int32), jnp.asarray(True))
    first = match_varying(first, inverse(start))
    return lax.while_loop(lambda now: any_element(now.goes_on), improve, first).size


def _reciprocal(sums: Array) -> Array:
    """The reciprocals of sums; not finite where one is zero, as in a matrix with a row of zeros."""
    return 1 / sums


def _dtype(moduli: object) -> jnp.dtype:
    return jnp.result_type(*jax.tree.leaves(moduli))
