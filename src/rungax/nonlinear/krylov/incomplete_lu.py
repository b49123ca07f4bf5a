r"""Incomplete LU factors without fill, computed and applied by sweeps over all entries at once.

The factors $L$, with ones on the diagonal, and $U$ have the pattern of the matrix, and $L U$ agrees with it in the
pattern's entries. One after another these would be

$$l_{ij} = \Big(a_{ij} - \sum_{k<j} l_{ik} u_{kj}\Big) / u_{jj} \ (i > j), \qquad
u_{ij} = a_{ij} - \sum_{k<i} l_{ik} u_{kj} \ (i \le j),$$

a chain as long as a grid is wide. As a fixed-point iteration for all entries together, these equations need a few
sweeps, because the matrices $I - \gamma J$ of implicit steps have large diagonals. In the same way the two triangular
systems are solved by a few sweeps of Jacobi's iteration. A sweep is one operation on arrays, on every device.

References
----------
E. Chow, A. Patel, Fine-grained parallel incomplete LU factorization, SIAM J. Sci. Comput. 37 (2015), C169–C193.

H. Anzt, E. Chow, J. Dongarra, Iterative sparse triangular solves for preconditioning, Euro-Par 2015, 650–661.
"""

import functools
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact

from ...jaxkit import match_varying
from ...sparsity import SparsityPattern
from ..linear import LinearSystem
from ..sparse import SparseLinearOperator
from .preconditioners import AbstractCorrection, AbstractPreconditioner, Vector, entries_of
from .sums import ProductSums

FACTOR_SWEEPS = 3
"""Sweeps for the factors."""

SOLVE_SWEEPS = 3
"""Sweeps for each triangular system.

Iterations of `GMRES` for the matrix of the Brusselator on a grid of 32 x 32 points, to a residual of 1e-6:

=============================  =====  =====  =====  =====
gamma                           1e-4   1e-3   1e-2   1e-1
=============================  =====  =====  =====  =====
without                           20     58    144    600
2 for factors, 1 for systems      10     27     60    148
3 and 2                            8     21     52    107
3 and 3                            7     18     44     90
4 and 4                            7     18     42     88
exact factors and solutions        7     17     35     84
=============================  =====  =====  =====  =====
"""


@final
class IncompleteLU(AbstractPreconditioner):
    """Incomplete LU factors with the pattern of the matrix, ILU(0)."""

    @property
    def needs_entries(self) -> bool:
        """True."""
        return True

    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> "IncompleteFactors":
        """The factors."""
        del system
        matrix = entries_of(matrix)
        tables, values = tables_of(matrix.pattern), matrix.values

        def divided(remaining: Array, factors: Array) -> Array:
            """The entries of the lower factor divided by the pivots of their columns."""
            pivots = factors[tables.pivots]
            return jnp.where(tables.is_lower, remaining / jnp.where(pivots == 0, 1, pivots), remaining)

        sweep = lambda _, factors: divided(values - tables.eliminated(factors, factors), factors)
        factors = lax.fori_loop(0, FACTOR_SWEEPS, sweep, divided(values, values))
        diagonal = factors[tables.diagonal]
        return IncompleteFactors(factors, 1 / jnp.where(diagonal == 0, 1, diagonal), matrix.pattern, False)


@final
class IncompleteFactors(AbstractCorrection):
    """The approximate solution with incomplete factors.

    Parameters
    ----------
    factors
        For each entry of the pattern that of the lower factor, below the diagonal, or of the upper one.
    reciprocals
        One over the diagonal of the upper factor.
    pattern
        The entries.
    is_transposed
        Whether the system is the transposed one.
    """

    factors: Inexact[Array, " entries"]
    reciprocals: Vector
    pattern: SparsityPattern = eqx.field(static=True)
    is_transposed: bool = eqx.field(static=True)

    def __call__(self, residual: Vector) -> Vector:
        """The solution with the lower factor, and then with the upper one; transposed in the opposite order."""
        tables = tables_of(self.pattern)
        if self.is_transposed:
            return self._lower(tables.lower_transposed, self._upper(tables.upper_transposed, residual))
        return self._upper(tables.upper, self._lower(tables.lower, residual))

    def transposed(self) -> "IncompleteFactors":
        """The same factors, used in the opposite order."""
        return IncompleteFactors(self.factors, self.reciprocals, self.pattern, not self.is_transposed)

    def _lower(self, product: ProductSums, b: Vector) -> Vector:
        """The solution with the lower factor or its transpose, whose product without the diagonal is given."""
        sweep = lambda _, x: b - product(self.factors, x)
        return lax.fori_loop(0, SOLVE_SWEEPS, sweep, match_varying(b, self))

    def _upper(self, product: ProductSums, b: Vector) -> Vector:
        """The solution with the upper factor or its transpose, whose product without the diagonal is given."""
        sweep = lambda _, x: self.reciprocals * (b - product(self.factors, x))
        return lax.fori_loop(0, SOLVE_SWEEPS, sweep, self.reciprocals * b)


@functools.lru_cache(maxsize=8)
def tables_of(pattern: SparsityPattern) -> "Tables":
    """The tables for a pattern that has the whole diagonal."""
    return Tables(pattern)


class Tables:
    """The places of the entries that the factors of a pattern consist of, and the sums in which they take part.

    Attributes
    ----------
    diagonal
        The place of the diagonal entry of each row.
    pivots
        For each entry the place of the diagonal entry of its column.
    is_lower
        Whether each entry belongs to the lower factor.
    eliminated
        For each entry the sum of the products of lower and upper entries that elimination subtracts from it.
    lower, upper, lower_transposed, upper_transposed
        The products with the factors without their diagonals, and with the transposes of these.
    """

    def __init__(self, pattern: SparsityPattern):
        rows, columns, n = pattern.rows, pattern.columns, pattern.size
        self.diagonal = pattern.diagonal_entries
        self.pivots = self.diagonal[columns]
        self.is_lower = rows > columns
        targets, lower, upper = _eliminations(pattern)
        self.eliminated = ProductSums(targets, lower, upper, pattern.num_entries)
        below, above = np.flatnonzero(self.is_lower), np.flatnonzero(rows < columns)
        self.lower, self.upper = (ProductSums(rows[x], x, columns[x], n) for x in (below, above))
        self.lower_transposed, self.upper_transposed = (ProductSums(columns[x], x, rows[x], n) for x in (below, above))


def _eliminations(pattern: SparsityPattern) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""The places of all $(i, j)$, $(i, k)$ and $(k, j)$ with $k < \min(i, j)$ that are entries of a pattern.

    For each entry $(i, j)$ the candidates for $k$ are taken from its row or from its column, whichever has fewer, so
    that dense rows and columns do not make their number quadratic.
    """
    rows, columns, n = pattern.rows.astype(np.int64), pattern.columns.astype(np.int64), pattern.size
    by_column = pattern.transposed_order
    before = np.minimum(rows, columns)
    in_row, in_column = rows * n + columns, (columns * n + rows)[by_column]
    row_starts = np.searchsorted(in_row, rows * n)
    row_counts = np.searchsorted(in_row, rows * n + before) - row_starts
    column_starts = np.searchsorted(in_column, columns * n)
    column_counts = np.searchsorted(in_column, columns * n + before) - column_starts
    by_row = row_counts <= column_counts
    targets, lower = _expanded(np.flatnonzero(by_row), row_starts, row_counts)
    upper, is_present = pattern.find(columns[lower], columns[targets])
    found = [(targets[is_present], lower[is_present], upper[is_present])]
    targets, places = _expanded(np.flatnonzero(~by_row), column_starts, column_counts)
    upper = by_column[places]
    lower, is_present = pattern.find(rows[targets], rows[upper])
    found.append((targets[is_present], lower[is_present], upper[is_present]))
    targets, lower, upper = (np.concatenate(x) for x in zip(*found, strict=True))
    return targets, lower, upper


def _expanded(entries: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each entry repeated by its count, and the places from its start on."""
    counts = counts[entries]
    targets = np.repeat(entries, counts)
    offsets = np.arange(targets.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return targets, starts[targets] + offsets
