r"""Matrices with few diagonals, and their factorisation.

The factorisation is Gaussian elimination with partial pivoting, one column after another. Column $j$ has entries in
rows $j$ to $j + l$ only, where $l$ is the number of lower diagonals; bringing the largest of them to row $j$ may extend
that row by $l$ more columns, so that $U$ has $l + u$ diagonals above the main one. All of it happens in a window of
$l + 1$ rows and $l + u + 1$ columns that slides down the matrix: a loop over columns with small arrays of fixed size.
The row that enters the window at the bottom is a full row of the band, because its first column is the window's.

There is no LAPACK and no custom call, so that XLA compiles the loop over columns, and the loop around it, as one
function. Lanes of a `vmap` run through the window side by side.

References
----------
G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed. (2013), 4.3.5.
"""

from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Inexact, Int, Shaped

from ..jaxkit import match_varying

_ROWS_AT_ONCE = 2
"""Rows that a trip of a substitution's loop takes: two hide half of the loop's own cost; more do not pay on CPUs, and
neither does a second column in a trip of the factorisation."""


@final
class BandedLinearOperator(lx.AbstractLinearOperator):
    r"""A square matrix of which only some diagonals around the main one are not zero.

    $$A_{ij} = D_{j - i + l,\; i} \quad \text{for } -l \le j - i \le u, \qquad A_{ij} = 0 \text{ otherwise.}$$

    Parameters
    ----------
    diagonals
        The diagonals $D$ of a matrix of `n` rows, from the lowest to the highest. Shape `(lower + upper + 1, n)`: entry
        `(d, i)` is that of row `i` and column `i + d - lower`. Where there is no such column, entries are ignored,
        whatever they are. Integers become floats.
    lower, upper
        Number of diagonals below and above the main one.

    Raises
    ------
    ValueError
        If `lower` or `upper` is not an integer or is negative, or if `diagonals` has another shape.

    Differentiability
    -----------------
    With respect to `diagonals`; ignored entries have derivative zero.

    Cost
    ----
    A product with a vector takes `n * (lower + upper + 1)` multiplications. `as_matrix` makes the `n * n` matrix.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import lineax as lx
    >>> import rungax
    >>> diagonals = jnp.array([[0.0, 1.0, 2.0, 4.0], [1.0, 2.0, 4.0, 8.0]])
    >>> operator = rungax.BandedLinearOperator(diagonals, lower=1, upper=0)
    >>> print(operator.as_matrix())
    [[1. 0. 0. 0.]
     [1. 2. 0. 0.]
     [0. 2. 4. 0.]
     [0. 0. 4. 8.]]
    >>> print(lx.linear_solve(operator, jnp.array([1.0, 3.0, 6.0, 12.0]), rungax.BandedLU()).value)
    [1. 1. 1. 1.]
    """

    diagonals: Inexact[Array, "width n"]
    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)

    def __init__(self, diagonals: Shaped[Array | np.ndarray, "width n"], lower: int, upper: int):
        _check_band(lower, upper)
        shape = jnp.shape(diagonals)
        if len(shape) != 2 or shape[0] != lower + upper + 1:
            raise ValueError(
                "`BandedLinearOperator(diagonals=...)` holds one row for each diagonal.\n"
                f"Expected: shape ({lower + upper + 1}, n), for lower={lower} and upper={upper}\n"
                f"Found:    shape {shape}\n"
                "Fill short diagonals with zeros: entry (d, i) is that of row i and column i + d - lower."
            )
        array = jnp.asarray(diagonals)
        dtype = array.dtype if jnp.issubdtype(array.dtype, jnp.inexact) else jnp.result_type(float)
        columns = np.arange(shape[1])[None, :] + np.arange(-lower, upper + 1)[:, None]
        # Zeros, not products with zero: what is ignored may be NaN.
        array = jnp.where((columns >= 0) & (columns < shape[1]), array.astype(dtype), jnp.zeros((), dtype))
        self.diagonals, self.lower, self.upper = array, lower, upper

    @classmethod
    def of(cls, operator: lx.AbstractLinearOperator, lower: int, upper: int) -> Self:
        """The band of any linear operator whose matrix is square.

        Parameters
        ----------
        operator
            Where the entries are read. Diagonal, tridiagonal and banded operators are read without making a matrix;
            of others the matrix is made, and entries outside the band are dropped.
        lower, upper
            Number of diagonals below and above the main one.

        Raises
        ------
        ValueError
            If `lower` or `upper` is not an integer or is negative, if the matrix is not square, or if the operator is
            itself banded, or tridiagonal, and has a diagonal outside the band.
        """
        _check_band(lower, upper)
        if operator.in_size() != operator.out_size():
            raise ValueError(
                "`BandedLinearOperator.of(operator=...)` takes a square matrix.\nExpected: as many rows as columns\n"
                f"Found:    {operator.out_size()} rows and {operator.in_size()} columns"
            )
        if isinstance(operator, cls):
            return operator._within(lower, upper)
        if lx.is_diagonal(operator):
            return cls(_diagonal(operator)[None, :], 0, 0)._within(lower, upper)
        if lx.is_tridiagonal(operator):
            main, below, above = lx.tridiagonal(operator)
            return cls(jnp.stack([jnp.pad(below, (1, 0)), main, jnp.pad(above, (0, 1))]), 1, 1)._within(lower, upper)
        return cls(_band(operator.as_matrix(), lower, upper), lower, upper)

    def mv(self, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The product with a vector."""
        padded = jnp.pad(vector, (self.lower, self.upper))
        n = self.diagonals.shape[1]
        terms = [diagonal * padded[d : d + n] for d, diagonal in enumerate(self.diagonals)]
        return sum(terms[1:], start=terms[0])

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The matrix with all its zeros."""
        width, n = self.diagonals.shape
        # Rows of the band, one entry further right in each row, because they are written longer than they are read.
        padded = jnp.pad(self.diagonals.T, ((0, 0), (0, n)))
        skewed = padded.reshape(-1)[: n * (n + width - 1)].reshape(n, n + width - 1)
        return skewed[:, self.lower : self.lower + n]

    def transpose(self) -> "BandedLinearOperator":
        """The transposed matrix, which has as many lower diagonals as this one has upper ones."""
        n = self.diagonals.shape[1]
        padded = jnp.pad(self.diagonals, ((0, 0), (self.upper, self.lower)))
        rows = [padded[self.lower + self.upper - d, d : d + n] for d in range(self.lower + self.upper + 1)]
        return BandedLinearOperator(jnp.stack(rows), self.upper, self.lower)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of vectors."""
        return jax.ShapeDtypeStruct((self.diagonals.shape[1],), self.diagonals.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of vectors."""
        return self.in_structure()

    def _within(self, lower: int, upper: int) -> Self:
        """The same matrix, stored with more diagonals."""
        if self.lower > lower or self.upper > upper:
            raise ValueError(
                "`BandedLinearOperator.of(operator=...)` has diagonals outside the band that is asked for.\n"
                f"Expected: at most {lower} lower and {upper} upper diagonals\n"
                f"Found:    {self.lower} lower and {self.upper} upper\n"
                "Declare the wider band, or return an operator without these diagonals."
            )
        rows = (lower - self.lower, upper - self.upper)
        return self if rows == (0, 0) else type(self)(jnp.pad(self.diagonals, (rows, (0, 0))), lower, upper)


class BandedLUState(eqx.Module):
    """The factorisation of a banded matrix or, if `transposed`, of its transpose.

    Attributes
    ----------
    reciprocals
        One over each pivot: products cost less than divisions, and these are used in every solve.
    rows
        What is to the right of each pivot in the row that was brought there.
    multipliers
        By column: how much of that row was taken from each of the `lower` rows below it.
    pivots
        By column: how many rows below its place that row was found.
    singular
        Whether some pivot is zero, or not a number.
    transposed
        Whether solutions are those of the transpose.
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

    A matrix that is singular in floating-point arithmetic gives `lineax.RESULTS.singular`.

    Raises
    ------
    ValueError
        If the operator is not a `BandedLinearOperator`.

    Differentiability
    -----------------
    Through `lineax.linear_solve`, with respect to the diagonals and the vector, forwards and backwards. The transposed
    system is solved with the same factorisation.

    Cost
    ----
    For `n` unknowns a factorisation takes `n * lower * (lower + upper)` multiplications and keeps
    `n * (2 * lower + upper + 2)` numbers; a solve takes `n * (2 * lower + upper + 1)` multiplications. All are loops
    over `n` rows, made for CPUs: on a GPU each row costs a few launches, whatever the number of lanes.

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
        """The factorisation."""
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
        """The same factorisation, to be used the other way round."""
        arrays = (state.reciprocals, state.rows, state.multipliers, state.pivots, state.singular)
        return BandedLUState(*arrays, transposed=not state.transposed), options

    def conj(self, state: BandedLUState, options: dict[str, Any]) -> tuple[BandedLUState, dict[str, Any]]:
        """The conjugate of every factor."""
        factors = (state.reciprocals.conj(), state.rows.conj(), state.multipliers.conj())
        return BandedLUState(*factors, state.pivots, state.singular, state.transposed), options

    def assume_full_rank(self) -> bool:
        """Other matrices give no solution."""
        return True


# ------------------------------------------------------------------------------------------------------- factorisation


def _factorise(operator: BandedLinearOperator) -> BandedLUState:
    """Elimination, column by column."""
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
    """What pivots are compared by: as good as the absolute value and, of complex numbers, without a root."""
    return jnp.abs(x.real) + jnp.abs(x.imag) if jnp.iscomplexobj(x) else jnp.abs(x)


# -------------------------------------------------------------------------------------------------------- substitution
#
# What a loop carries here are tuples of single entries rather than small vectors: a lane's worth of work is a few
# multiplications, and lanes of a `vmap` then lie next to each other in memory.


def _substitute_down(state: BandedLUState, b: Array) -> Array:
    """Does to `b` what elimination did to the matrix."""
    n, lower = state.multipliers.shape
    window, entering = _head_and_rest(state, b, lower)

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        entering, multipliers, pivot = row
        window = (*window, entering)
        top, others = _exchange(window, pivot)
        return tuple(x - multipliers[k] * top for k, x in enumerate(others)), top

    return lax.scan(step, window, (entering, state.multipliers, state.pivots), unroll=_unroll(n))[1]


def _substitute_up(state: BandedLUState, b: Array) -> Array:
    """Solves with the upper triangular factor."""
    n, width = state.rows.shape
    window = match_varying((jnp.zeros((), b.dtype),) * width, (state, b))

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        value, reciprocal, entries = row
        for k in reversed(range(width)):  # the entry that was found last comes last: the rest need not wait for it
            value = value - entries[k] * window[k]
        value = value * reciprocal
        return (value, *window)[:width], value

    return lax.scan(step, window, (b, state.reciprocals, state.rows), reverse=True, unroll=_unroll(n))[1]


def _substitute_down_transposed(state: BandedLUState, b: Array) -> Array:
    """Solves with the transpose of the upper triangular factor."""
    n, width = state.rows.shape
    window, entering = _head_and_rest(state, b, width)

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        entering, reciprocal, entries = row
        top, *others = (*window, entering)
        top = top * reciprocal
        return tuple(x - entries[k] * top for k, x in enumerate(others)), top

    return lax.scan(step, window, (entering, state.reciprocals, state.rows), unroll=_unroll(n))[1]


def _substitute_up_transposed(state: BandedLUState, b: Array) -> Array:
    """The transpose of `_substitute_down`, its steps in reverse."""
    n, lower = state.multipliers.shape
    window = match_varying((jnp.zeros((), b.dtype),) * lower, (state, b))

    def step(window: tuple[Array, ...], row: tuple[Array, Array, Array]) -> tuple[tuple[Array, ...], Array]:
        top, multipliers, pivot = row
        for k in reversed(range(lower)):
            top = top - multipliers[k] * window[k]
        top, others = _exchange((top, *window), pivot)
        *kept, done = (top, *others)
        return tuple(kept), done

    # A row is done when the exchange of the column `lower` before it is; the first rows are left in the window.
    window, done = lax.scan(step, window, (b, state.multipliers, state.pivots), reverse=True, unroll=_unroll(n))
    return jnp.concatenate([jnp.stack(window), done])[:n] if lower else done


def _head_and_rest(state: BandedLUState, b: Array, size: int) -> tuple[tuple[Array, ...], Array]:
    """The first entries of a right-hand side, and those that enter the window after them, which are zeros at last."""
    padded = match_varying(jnp.pad(b, (0, size)), state)
    return tuple(padded[k] for k in range(size)), padded[size:]


def _exchange(window: tuple[Array, ...], pivot: Int[Array, ""]) -> tuple[Array, list[Array]]:
    """The first entry and the others, after the first has changed places with that at `pivot`."""
    first, *others = window
    top = first
    for k, x in enumerate(others):
        top = jnp.where(pivot == k + 1, x, top)
    return top, [jnp.where(pivot == k + 1, first, x) for k, x in enumerate(others)]


def _unroll(n: int) -> int:
    return max(1, min(n, _ROWS_AT_ONCE))


# ----------------------------------------------------------------------------------------------------------- operators


def _check_band(lower: int, upper: int) -> None:
    for name, value in (("lower", lower), ("upper", upper)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(
                f"`BandedLinearOperator({name}=...)` is a number of diagonals.\n"
                f"Expected: an integer that is not negative\nFound:    {value!r}\n"
                "Count the diagonals on that side of the main one."
            )


def _diagonal(operator: lx.AbstractLinearOperator) -> Inexact[Array, " n"]:
    """The main diagonal in the dtype of the operator's vectors, which Lineax does not keep for an identity."""
    dtype = jnp.result_type(*jax.tree.leaves(operator.in_structure()))
    return lx.diagonal(operator).astype(dtype)


def _band(matrix: Inexact[Array, "n n"], lower: int, upper: int) -> Inexact[Array, "width n"]:
    """The diagonals of a matrix; the inverse of `BandedLinearOperator.as_matrix`."""
    n, width = matrix.shape[0], lower + upper + 1
    skewed = jnp.pad(matrix, ((0, 0), (lower, upper))).reshape(-1)
    return jnp.pad(skewed, (0, n)).reshape(n, n + width)[:, :width].T


# What Lineax asks of an operator is a function that dispatches on its class, for each question.


@lx.linearise.register(BandedLinearOperator)
@lx.materialise.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> BandedLinearOperator:
    return operator


@lx.conj.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> BandedLinearOperator:
    return BandedLinearOperator(operator.diagonals.conj(), operator.lower, operator.upper)


@lx.diagonal.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> Inexact[Array, " n"]:
    return operator.diagonals[operator.lower]


@lx.tridiagonal.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> tuple[Array, Array, Array]:
    padded = jnp.pad(operator.diagonals, ((1, 1), (0, 0)))
    below, main, above = padded[operator.lower : operator.lower + 3]
    return main, below[1:], above[:-1]


@lx.is_diagonal.register(BandedLinearOperator)
@lx.is_symmetric.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> bool:
    return operator.lower == operator.upper == 0


@lx.is_tridiagonal.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> bool:
    return operator.lower <= 1 and operator.upper <= 1


@lx.is_lower_triangular.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> bool:
    return operator.upper == 0


@lx.is_upper_triangular.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> bool:
    return operator.lower == 0


@lx.has_unit_diagonal.register(BandedLinearOperator)
@lx.is_positive_semidefinite.register(BandedLinearOperator)
@lx.is_negative_semidefinite.register(BandedLinearOperator)
def _(operator: BandedLinearOperator) -> bool:
    del operator
    return False
