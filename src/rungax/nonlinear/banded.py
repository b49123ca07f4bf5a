"""Banded matrices as linear operators."""

from functools import singledispatch
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact, Shaped

from ..jaxkit import shown


@final
class BandedLinearOperator(lx.AbstractLinearOperator):
    r"""A square banded matrix: only some diagonals around the main one are not zero.

    $$A_{ij} = D_{j - i + l,\; i} \quad \text{for } -l \le j - i \le u, \qquad A_{ij} = 0 \text{ otherwise.}$$

    Parameters
    ----------
    diagonals
        The diagonals $D$ of a matrix of `n` rows, from the lowest to the highest. Shape `(lower + upper + 1, n)`: entry
        `(d, i)` is that of row `i` and column `i + d - lower`. Entries without such a column are ignored, even NaN.
        Integers become floats.
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
    A product with a vector takes `n * (lower + upper + 1)` multiplications. `as_matrix` forms the `n * n` matrix.

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
    >>> print(
    ...     lx.linear_solve(operator, jnp.array([1.0, 3.0, 6.0, 12.0]), rungax.BandedLU()).value
    ... )
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
        # Zeros, not products with zero: ignored entries may be NaN.
        array = jnp.where((columns >= 0) & (columns < shape[1]), array.astype(dtype), jnp.zeros((), dtype))
        self.diagonals, self.lower, self.upper = array, lower, upper

    @classmethod
    def of(cls, operator: lx.AbstractLinearOperator, lower: int, upper: int) -> Self:
        """The banded operator with the entries of another linear operator, whose matrix is square.

        Parameters
        ----------
        operator
            The operator with the entries. Diagonal, tridiagonal, banded and sparse operators are read without forming a
            matrix. Of others the matrix is formed. Entries of a full or sparse matrix outside the band are dropped.
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
        return cls(band_of(operator, lower, upper), lower, upper)

    def mv(self, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The product with a vector."""
        padded = jnp.pad(vector, (self.lower, self.upper))
        n = self.diagonals.shape[1]
        terms = [diagonal * padded[d : d + n] for d, diagonal in enumerate(self.diagonals)]
        return sum(terms[1:], start=terms[0])

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The full matrix, with its zeros."""
        width, n = self.diagonals.shape
        # Rows are padded by n entries and read back one entry shorter, so that each starts one entry further right.
        padded = jnp.pad(self.diagonals.T, ((0, 0), (0, n)))
        skewed = padded.reshape(-1)[: n * (n + width - 1)].reshape(n, n + width - 1)
        return skewed[:, self.lower : self.lower + n]

    def transpose(self) -> "BandedLinearOperator":
        """The transposed matrix, with lower and upper diagonals exchanged."""
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
        """This matrix, stored with more diagonals."""
        if self.lower > lower or self.upper > upper:
            raise ValueError(
                "`BandedLinearOperator.of(operator=...)` has diagonals outside the requested band.\n"
                f"Expected: at most {lower} lower and {upper} upper diagonals\n"
                f"Found:    {self.lower} lower and {self.upper} upper\n"
                "Declare the wider band, or return an operator without these diagonals."
            )
        rows = (lower - self.lower, upper - self.upper)
        return self if rows == (0, 0) else type(self)(jnp.pad(self.diagonals, (rows, (0, 0))), lower, upper)


def _check_band(lower: int, upper: int) -> None:
    for name, value in (("lower", lower), ("upper", upper)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(
                f"`BandedLinearOperator({name}=...)` is a number of diagonals.\n"
                f"Expected: an integer that is not negative\nFound:    {shown(value)}\n"
                "Count the diagonals on that side of the main one."
            )


def _diagonal(operator: lx.AbstractLinearOperator) -> Inexact[Array, " n"]:
    """The main diagonal in the dtype of the operator's vectors; for an identity Lineax returns another dtype."""
    dtype = jnp.result_type(*jax.tree.leaves(operator.in_structure()))
    return lx.diagonal(operator).astype(dtype)


@singledispatch
def band_of(operator: Any, lower: int, upper: int) -> Array:
    """The diagonals of an operator's matrix; a class of operators with another storage registers a function here."""
    return _band(operator.as_matrix(), lower, upper)


def _band(matrix: Inexact[Array, "n n"], lower: int, upper: int) -> Inexact[Array, "width n"]:
    """The diagonals of a matrix; the inverse of `BandedLinearOperator.as_matrix`."""
    n, width = matrix.shape[0], lower + upper + 1
    skewed = jnp.pad(matrix, ((0, 0), (lower, upper))).reshape(-1)
    return jnp.pad(skewed, (0, n)).reshape(n, n + width)[:, :width].T


# Lineax's properties of an operator are functions that dispatch on its class.


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
