r"""The LU factorisation of block tridiagonal matrices, such as Jacobians of several species on a line.

With blocks $B_i$, $A_i$, $C_i$ below, on and above the diagonal, the factorisation is

$$\begin{pmatrix} A_1 & C_1 \\ B_2 & A_2 & \ddots \\ & \ddots & \ddots \end{pmatrix}
= \begin{pmatrix} D_1 \\ B_2 & D_2 \\ & \ddots & \ddots \end{pmatrix}
\begin{pmatrix} I & U_1 \\ & I & \ddots \\ & & \ddots \end{pmatrix},
\qquad U_i = D_i^{-1} C_i, \quad D_i = A_i - B_i U_{i-1}.$$

It is a loop over blocks, which XLA compiles on every device. The blocks $D_i$ are factorised with partial pivoting.

References
----------
G. H. Golub, C. F. Van Loan, Matrix Computations, 4th ed. (2013), 4.5.1.
"""

from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Inexact, Int, PyTree

from ..jaxkit import match_varying, shown
from ..sparsity import SparsityPattern
from .banded import BandedLinearOperator
from .lu import MAX_UNROLLED, SmallLU
from .sparse import SparseLinearOperator


class Arrangement(eqx.Module):
    """The order of unknowns that belong to positions on a line, several to each.

    Parameters
    ----------
    shape
        The shape of an array whose entries are the unknowns in their order: number of positions and of unknowns at each
        position, or the other way round.
    axis
        Its axis of positions: 0 if the unknowns at a position follow each other, 1 if those of one species do.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    axis: int = eqx.field(static=True)

    @classmethod
    def of(cls, pattern: SparsityPattern, block_size: int) -> Self | None:
        """The order in which the entries of a pattern connect neighbouring positions only; `None` if neither does."""
        num_blocks = pattern.size // block_size
        for arrangement in (cls((num_blocks, block_size), 0), cls((block_size, num_blocks), 1)):
            rows, columns = (arrangement.places(x)[0] for x in (pattern.rows, pattern.columns))
            if np.all(np.abs(rows - columns) <= 1):
                return arrangement
        return None

    def places(self, unknowns: Int[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray]:
        """The positions of unknowns, and their numbers at the positions."""
        places = np.unravel_index(unknowns, self.shape)
        return places[self.axis], places[1 - self.axis]

    def blocks(self, vector: Inexact[Array, " n"]) -> Inexact[Array, "blocks size"]:
        """A vector with one row for each position."""
        return jnp.moveaxis(vector.reshape(self.shape), self.axis, 0)

    def vector(self, blocks: Inexact[Array, "blocks size"]) -> Inexact[Array, " n"]:
        """The inverse of `blocks`."""
        return jnp.moveaxis(blocks, 0, self.axis).reshape(-1)


class BlockTridiagonalState(eqx.Module):
    """The factorisation of a block tridiagonal matrix or, if `transposed`, of its transpose.

    Attributes
    ----------
    diagonal
        The factorisations of the blocks $D_i$, with an axis for the blocks in front.
    lower
        The blocks $B_i$ below the diagonal; the first is zero.
    upper
        The blocks $U_i$; the last is zero.
    singular
        True if some block $D_i$ is singular, or not finite.
    arrangement
        The order of the unknowns.
    transposed
        True if solutions are those of the transpose.
    """

    diagonal: PyTree[Any]
    lower: Inexact[Array, "blocks size size"]
    upper: Inexact[Array, "blocks size size"]
    singular: Bool[Array, ""]
    arrangement: Arrangement
    transposed: bool = eqx.field(static=True)


@final
class BlockTridiagonal(lx.AbstractLinearSolver[BlockTridiagonalState]):
    """Solves linear systems for several unknowns at each position on a line, each connected to neighbours only.

    It is for reaction-diffusion equations and other systems of partial differential equations in one dimension, on
    every device: `Kvaerno5(linear_solver=BlockTridiagonal(3))` for three species and `ODETerm(f, sparsity=...)`.

    Parameters
    ----------
    block_size
        Number of unknowns at each position. A complex number counts as two, unless the term is tagged as holomorphic.
        The unknowns may be in either order: position after position (`u1, v1, u2, v2, ...`) or species after species
        (`u1, u2, ..., v1, v2, ...`), as in a state with a leaf or a row for each species. The pattern shows which.

    Raises
    ------
    ValueError
        If `block_size` is not a positive integer. In a solve, if the size of the system is not a multiple of it, or if
        the pattern connects positions that are not neighbours, as periodic boundaries do, or if no pattern is known.

    Differentiability
    -----------------
    Through `lineax.linear_solve` and in solves of differential equations, in every mode. The transposed system is
    solved with the same factorisation.

    Cost
    ----
    For `n` unknowns a factorisation takes about `3 * n * block_size**2` multiplications, and a solve
    `3 * n * block_size`. Both are loops over the positions: on a GPU each position takes a few kernel launches,
    whatever the size of the batch. Blocks of more than 16 unknowns are factorised by `lineax.LU`.

    Notes
    -----
    Rows are exchanged within blocks only. This is stable if the blocks on the diagonal dominate, as in implicit steps
    for diffusion; a regular matrix whose leading blocks are singular counts as singular. `BandedLU` exchanges all rows.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> def field(t, y, args):  # two species, of which one diffuses
    ...     u, v = y
    ...     padded = jnp.pad(u, 1)
    ...     return 1e3 * (padded[2:] - 2 * u + padded[:-2]) - u * v, u * v - v
    >>> y0 = (jnp.ones(40), jnp.ones(40))
    >>> solution = rungax.diffeqsolve(
    ...     rungax.ODETerm(field, sparsity=rungax.jacobian_sparsity(field, 0.0, y0)),
    ...     rungax.Kvaerno5(linear_solver=rungax.BlockTridiagonal(2)),
    ...     t0=0.0,
    ...     t1=1.0,
    ...     dt0=None,
    ...     y0=y0,
    ...     stepsize_controller=rungax.PIDController(rtol=1e-6, atol=1e-6),
    ... )
    >>> print(f"{solution.ys[1][-1, 20]:.3f}")
    0.440
    """

    block_size: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        size = self.block_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                "`BlockTridiagonal(block_size=...)` is the number of unknowns at each position.\n"
                f"Expected: a positive integer\nFound:    {shown(size)}\nCount the species, complex ones twice."
            )

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> BlockTridiagonalState:
        """The factorisation of the operator's matrix."""
        del options
        arrangement, (lower, main, upper) = self._blocks_of(operator)
        solver, zero = self._solver_of_blocks(), jnp.zeros(main.shape[1:], main.dtype)
        static = eqx.filter(eqx.filter_eval_shape(self._factors, zero), _is_shape, inverse=True)

        def eliminate(previous: Array, row: tuple[Array, Array, Array]) -> tuple[Array, tuple[PyTree[Array], Array]]:
            below, on, above = row
            factors = self._factors(on - _product(below, previous))
            divide = lambda column: solver.compute(factors, column, {})[0]
            above = jax.vmap(divide, in_axes=1, out_axes=1)(above)
            return above, (eqx.filter(factors, eqx.is_array), above)

        _, (diagonal, upper) = lax.scan(eliminate, match_varying(zero, main), (lower, main, upper))
        singular = ~jnp.all(jnp.isfinite(upper))
        return BlockTridiagonalState(
            eqx.combine(diagonal, static), lower, upper, singular, arrangement, transposed=False
        )

    def compute(
        self, state: BlockTridiagonalState, vector: Inexact[Array, " n"], options: dict[str, Any]
    ) -> tuple[Inexact[Array, " n"], lx.RESULTS, dict[str, Any]]:
        """The solution for a right-hand side."""
        del options
        solve = self._solve_transposed if state.transposed else self._solve
        if jnp.iscomplexobj(vector) and not jnp.iscomplexobj(state.upper):
            solution = lax.complex(solve(state, vector.real), solve(state, vector.imag))
        else:
            solution = solve(state, vector.astype(state.upper.dtype))
        result = lx.RESULTS.where(state.singular, lx.RESULTS.singular, lx.RESULTS.successful)
        return solution, result, {}

    def transpose(
        self, state: BlockTridiagonalState, options: dict[str, Any]
    ) -> tuple[BlockTridiagonalState, dict[str, Any]]:
        """The factorisation of the transpose: the same arrays, used in the opposite order."""
        arrays = (state.diagonal, state.lower, state.upper, state.singular, state.arrangement)
        return BlockTridiagonalState(*arrays, transposed=not state.transposed), options

    def conj(
        self, state: BlockTridiagonalState, options: dict[str, Any]
    ) -> tuple[BlockTridiagonalState, dict[str, Any]]:
        """The conjugate of every factor."""
        # Not `lineax.LU.conj`, which in Lineax 0.1 transposes the matrix.
        factors, others = eqx.partition(state, eqx.is_inexact_array)
        return eqx.combine(jax.tree.map(jnp.conj, factors), others), options

    def assume_full_rank(self) -> bool:
        """True: singular matrices give no solution."""
        return True

    def _solver_of_blocks(self) -> lx.AbstractLinearSolver[Any]:
        return SmallLU() if self.block_size <= MAX_UNROLLED else lx.LU()

    def _factors(self, block: Inexact[Array, "size size"]) -> PyTree[Any]:
        """The factorisation of a block."""
        return self._solver_of_blocks().init(lx.MatrixLinearOperator(block), {})

    def _blocks_of(
        self, operator: lx.AbstractLinearOperator
    ) -> tuple[Arrangement, Inexact[Array, "3 blocks size size"]]:
        """The order of the unknowns, and the blocks below, on and above the diagonal."""
        size = self.block_size
        pattern = _pattern_of(operator, size)
        if pattern.size % size != 0:
            raise ValueError(
                f"`BlockTridiagonal(block_size={size})` solves for as many unknowns at each position.\n"
                f"Expected: a multiple of {size} unknowns\nFound:    {pattern.size} unknowns\n"
                "Count the unknowns at a position, complex numbers twice."
            )
        arrangement = Arrangement.of(pattern, size)
        if arrangement is None:
            raise ValueError(
                f"`BlockTridiagonal(block_size={size})` solves for unknowns that are connected to neighbours only.\n"
                "Expected: a pattern that says so, `ODETerm(vector_field, sparsity=...)`, and boundaries that are not "
                f"periodic\nFound:    {_described(operator)}\n"
                "`BandedLU` takes wider bands, `SparseLU` any pattern, `lineax.LU` any matrix."
            )
        (rows, in_row), (columns, in_column) = (arrangement.places(x) for x in (pattern.rows, pattern.columns))
        values = SparseLinearOperator.of(operator, pattern).values
        blocks = match_varying(jnp.zeros((3, pattern.size // size, size, size), values.dtype), values)
        return arrangement, blocks.at[columns - rows + 1, rows, in_row, in_column].set(values)

    def _solve(self, state: BlockTridiagonalState, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The solution, down with the lower factor and up with the upper one."""
        solver = self._solver_of_blocks()
        arrays, static = eqx.partition(state.diagonal, eqx.is_array)

        def down(previous: Array, row: tuple[PyTree[Array], Array, Array]) -> tuple[Array, Array]:
            factors, lower, b = row
            x = solver.compute(eqx.combine(factors, static), b - _product(lower, previous), {})[0]
            return x, x

        def up(following: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            upper, b = row
            x = b - _product(upper, following)
            return x, x

        rows = match_varying(state.arrangement.blocks(vector), state)
        zero = match_varying(jnp.zeros(rows.shape[1:], rows.dtype), rows)
        rows = lax.scan(down, zero, (arrays, state.lower, rows))[1]
        return state.arrangement.vector(lax.scan(up, zero, (state.upper, rows), reverse=True)[1])

    def _solve_transposed(self, state: BlockTridiagonalState, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """The solution of the transposed system, down with the upper factor and up with the lower one."""
        solver = self._solver_of_blocks()
        arrays, static = eqx.partition(state.diagonal, eqx.is_array)

        def down(previous: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            upper, b = row
            rest = b - previous
            return _product(upper.T, rest), rest

        def up(following: Array, row: tuple[PyTree[Array], Array, Array]) -> tuple[Array, Array]:
            factors, lower, b = row
            transposed = solver.transpose(eqx.combine(factors, static), {})[0]
            x = solver.compute(transposed, b - following, {})[0]
            return _product(lower.T, x), x

        rows = match_varying(state.arrangement.blocks(vector), state)
        zero = match_varying(jnp.zeros(rows.shape[1:], rows.dtype), rows)
        rows = lax.scan(down, zero, (state.upper, rows))[1]
        return state.arrangement.vector(lax.scan(up, zero, (arrays, state.lower, rows), reverse=True)[1])


def _product(matrix: Inexact[Array, "size size"], x: Array) -> Array:
    """The product with a matrix or a vector, in full precision on every device."""
    return jnp.matmul(matrix, x, precision=lax.Precision.HIGHEST)


def _pattern_of(operator: lx.AbstractLinearOperator, block_size: int) -> SparsityPattern:
    """The entries that an operator may have, as far as it is known.

    A matrix that is neither sparse nor banded counts as a band that is too wide for blocks of this size.
    """
    if isinstance(operator, SparseLinearOperator):
        return operator.pattern
    size = operator.in_size()
    lower = upper = 0 if lx.is_diagonal(operator) else 1 if lx.is_tridiagonal(operator) else 2 * block_size
    if isinstance(operator, BandedLinearOperator):
        lower, upper = operator.lower, operator.upper
    rows, offsets = np.arange(size)[:, None], np.arange(-lower, upper + 1)
    is_inside = (rows + offsets >= 0) & (rows + offsets < size)
    places, diagonals = np.nonzero(is_inside)
    return SparsityPattern.of_entries(size, places, places + offsets[diagonals])


def _described(operator: lx.AbstractLinearOperator) -> str:
    """A pattern, or the class of another operator."""
    is_sparse = isinstance(operator, SparseLinearOperator)
    return repr(operator.pattern) if is_sparse else f"a `{type(operator).__name__}`"


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)
