r"""The LU factorisation of banded matrices.

It is Gaussian elimination with partial pivoting, one column after another. Column $j$ has entries in rows $j$ to
$j + l$ only, where $l$ is the number of lower diagonals. The exchange that brings the largest of them to row $j$ may
extend that row by $l$ more columns, so that $U$ has $l + u$ diagonals above the main one. The elimination works in a
window of $l + 1$ rows and $l + u + 1$ columns that moves down the matrix: a loop over columns with small arrays of
fixed size. The row that enters the window at the bottom is a full row of the band, because its first column is the
window's.

There is no LAPACK and no custom call, so that XLA compiles the loop over columns, and the loop around it, as one
function. Under `vmap` all batch elements use the loop together.

References
----------
G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed. (2013), 4.3.5.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Inexact, Int

from ..jaxkit import match_varying
from .banded import BandedLinearOperator

_ROWS_AT_ONCE = 2
"""Rows for each iteration of a substitution's loop. Two halve the overhead of the loop; more gain nothing on CPUs, and
neither do two columns for each iteration of the factorisation."""


class BandedLUState(eqx.Module):
    """The factorisation of a banded matrix or, if `transposed`, of its transpose.

    Attributes
    ----------
    reciprocals
        One over each pivot. Every solve multiplies by them, which costs less than divisions.
    rows
        The entries to the right of each pivot, in the pivot's row.
    multipliers
        By column: the multiples of the pivot's row that were subtracted from each of the `lower` rows below it.
    pivots
        By column: the number of rows between the pivot's final place and its original one below it.
    singular
        True if some pivot is zero, or not a number.
    transposed
        True if solutions are those of the transpose.
    """

    reciprocals: Inexact[Array, " n"]
    rows: Inexact[Array, "n lower+upper"]
    multipliers: Inexact[Array, "n lower"]
    pivots: Int[Array, " n"]
    singular: Bool[Array, ""]
    transposed: bool = eqx.field(static=True)


@final
class BandedLU(lx.AbstractLinearSolver[BandedLUState]):
    """Solves linear systems with a `BandedLinearOperator` by elimination with partial pivoting within the band.

    The result is `lineax.RESULTS.singular` for a matrix that is singular in floating-point arithmetic.

    Raises
    ------
    ValueError
        If the operator is neither a `BandedLinearOperator` nor tridiagonal nor diagonal.

    Differentiability
    -----------------
    Through `lineax.linear_solve`, with respect to the diagonals and the vector, forwards and backwards. The transposed
    system is solved with the same factorisation.

    Cost
    ----
    For `n` unknowns a factorisation takes `n * lower * (lower + upper)` multiplications and stores
    `n * (2 * lower + upper + 2)` numbers; a solve takes `n * (2 * lower + upper + 1)` multiplications. All are loops
    over `n` rows, made for CPUs: on a GPU each row takes a few kernel launches, whatever the size of the batch.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import lineax as lx
    >>> import rungax
    >>> diagonals = jnp.array([[1.0, 1.0, 1.0], [2.0, 2.0, 0.0], [4.0, 0.0, 0.0]])
    >>> operator = rungax.BandedLinearOperator(diagonals, lower=0, upper=2)
    >>> print(lx.linear_solve(operator, jnp.array([7.0, 3.0, 1.0]), rungax.BandedLU()).value)
    [1. 1. 1.]
    """

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> BandedLUState:
        """The factorisation of the operator's matrix."""
        del options
        if lx.is_diagonal(operator) or lx.is_tridiagonal(operator):
            width = 0 if lx.is_diagonal(operator) else 1
            operator = BandedLinearOperator.of(operator, width, width)
        if not isinstance(operator, BandedLinearOperator):
            raise ValueError(
                "`BandedLU` solves with the diagonals of a matrix.\nExpected: a `BandedLinearOperator`\n"
                f"Found:    a `{type(operator).__name__}`\n"
                "Make one with `BandedLinearOperator.of(operator, lower, upper)`, or use `lineax.Tridiagonal()` or "
                "`lineax.LU()`."
            )
        return _factorise(operator)

    def compute(
        self, state: BandedLUState, vector: Inexact[Array, " n"], options: dict[str, Any]
    ) -> tuple[Inexact[Array, " n"], lx.RESULTS, dict[str, Any]]:
        """The solution for a right-hand side."""
        del options
        if state.transposed:
            solution = _substitute_up_transposed(state, _substitute_down_transposed(state, vector))
        else:
            solution = _substitute_up(state, _substitute_down(state, vector))
        result = lx.RESULTS.where(state.singular, lx.RESULTS.singular, lx.RESULTS.successful)
        return solution, result, {}

    def transpose(self, state: BandedLUState, options: dict[str, Any]) -> tuple[BandedLUState, dict[str, Any]]:
        """The factorisation of the transpose: the same arrays, used in the opposite order."""
        arrays = (state.reciprocals, state.rows, state.multipliers, state.pivots, state.singular)
        return BandedLUState(*arrays, transposed=not state.transposed), options

    def conj(self, state: BandedLUState, options: dict[str, Any]) -> tuple[BandedLUState, dict[str, Any]]:
        """The conjugate of every factor."""
        factors = (state.reciprocals.conj(), state.rows.conj(), state.multipliers.conj())
        return BandedLUState(*factors, state.pivots, state.singular, state.transposed), options

    def assume_full_rank(self) -> bool:
        """True: singular matrices give no solution."""
        return True


# ------------------------------------------------------------------------------------------------------- factorisation


def _factorise(operator: BandedLinearOperator) -> BandedLUState:
    """The factorisation, column by column."""
    lower = operator.lower
    padded = jnp.pad(operator.diagonals, ((0, 0), (0, lower))).T  # rows of zeros, which are never chosen as pivots
    width = padded.shape[1]
    # The first rows reach back to columns that do not exist; the window starts at column 0.
    first = [jnp.pad(padded[i, lower - i :], (0, lower - i)) for i in range(lower)]
    window = jnp.stack(first) if first else jnp.zeros((0, width), padded.dtype)

    def eliminate(window: Array, entering: Array) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        window = jnp.concatenate([window, entering[None]])
        pivot = lax.argmax(_size(window[:, 0]), 0, jnp.int32)
        top = lax.dynamic_index_in_dim(window, pivot, keepdims=False)
        places = np.arange(1, lower + 1, dtype=np.int32)[:, None]
        others = jnp.where(places == pivot, window[:1], window[1:])
        reciprocal = 1 / top[0]
        multipliers = others[:, 0] * reciprocal
        rest = others[:, 1:] - multipliers[:, None] * top[None, 1:]
        return jnp.pad(rest, ((0, 0), (0, 1))), (reciprocal, top[1:], multipliers, pivot)

    _, (reciprocals, rows, multipliers, pivots) = lax.scan(eliminate, match_varying(window, padded), padded[lower:])
    singular = ~jnp.all(jnp.isfinite(reciprocals))
    return BandedLUState(reciprocals, rows, multipliers, pivots, singular, transposed=False)


def _size(x: Inexact[Array, " m"]) -> Array:
    """The measure for the choice of pivots, which for complex numbers needs no square root."""
    return jnp.abs(x.real) + jnp.abs(x.imag) if jnp.iscomplexobj(x) else jnp.abs(x)


# -------------------------------------------------------------------------------------------------------- substitution
#
# The loops carry tuples of single entries rather than small vectors. The work for one system is a few multiplications,
# and under `vmap` the entries of all systems then lie next to each other in memory.


def _substitute_down(state: BandedLUState, b: Array) -> Array:
    """The solution with the permuted lower triangular factor: the row operations of the elimination, applied to `b`."""
    n, lower = state.multipliers.shape
    window, entering = _head_and_rest(state, b, lower)

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        entering, multipliers, pivot = row
        window = (*window, entering)
        top, others = _exchange(window, pivot)
        return tuple(x - multipliers[k] * top for k, x in enumerate(others)), top

    return lax.scan(step, window, (entering, state.multipliers, state.pivots), unroll=_unroll(n))[1]


def _substitute_up(state: BandedLUState, b: Array) -> Array:
    """The solution with the upper triangular factor."""
    n, width = state.rows.shape
    window = match_varying((jnp.zeros((), b.dtype),) * width, (state, b))

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        value, reciprocal, entries = row
        for k in reversed(range(width)):  # the newest entry last, so that the others need not wait for it
            value = value - entries[k] * window[k]
        value = value * reciprocal
        return (value, *window)[:width], value

    return lax.scan(step, window, (b, state.reciprocals, state.rows), reverse=True, unroll=_unroll(n))[1]


def _substitute_down_transposed(state: BandedLUState, b: Array) -> Array:
    """The solution with the transpose of the upper triangular factor."""
    n, width = state.rows.shape
    window, entering = _head_and_rest(state, b, width)

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        entering, reciprocal, entries = row
        top, *others = (*window, entering)
        top = top * reciprocal
        return tuple(x - entries[k] * top for k, x in enumerate(others)), top

    return lax.scan(step, window, (entering, state.reciprocals, state.rows), unroll=_unroll(n))[1]


def _substitute_up_transposed(state: BandedLUState, b: Array) -> Array:
    """The solution with the transpose of the permuted lower factor: the transposed row operations in reverse order."""
    n, lower = state.multipliers.shape
    window = match_varying((jnp.zeros((), b.dtype),) * lower, (state, b))

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        top, multipliers, pivot = row
        for k in reversed(range(lower)):
            top = top - multipliers[k] * window[k]
        top, others = _exchange((top, *window), pivot)
        *remaining, final = (top, *others)
        return tuple(remaining), final

    # A row is final after the exchange of the column `lower` before it; the first rows remain in the window.
    window, final = lax.scan(step, window, (b, state.multipliers, state.pivots), reverse=True, unroll=_unroll(n))
    return jnp.concatenate([jnp.stack(window), final])[:n] if lower else final


def _head_and_rest(state: BandedLUState, b: Array, size: int) -> tuple[tuple[Array, ...], Array]:
    """The first entries of a right-hand side, and those that enter the window after them, with zeros at the end."""
    padded = match_varying(jnp.pad(b, (0, size)), state)
    return tuple(padded[k] for k in range(size)), padded[size:]


def _exchange(window: tuple[Array, ...], pivot: Int[Array, ""]) -> tuple[Array, list[Array]]:
    """The first entry and the others, after the exchange of the first with that at `pivot`."""
    first, *others = window
    top = first
    for k, x in enumerate(others):
        top = jnp.where(pivot == k + 1, x, top)
    return top, [jnp.where(pivot == k + 1, first, x) for k, x in enumerate(others)]


def _unroll(n: int) -> int:
    return max(1, min(n, _ROWS_AT_ONCE))
