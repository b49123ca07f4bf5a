"""An LU factorisation that XLA compiles into the loop around it, for systems of a few unknowns.

The factorisation is $P A = L D U$: $P$ permutes rows so that each pivot is the largest remaining entry of its column,
$L$ and $U$ are triangular with unit diagonals, and $D$ is diagonal. The usual form is $P A = L (D U)$. With the rows of
$D U$ scaled once, every solve has one step less for each unknown. The transpose $A^T P^T = U^T D L^T$ is then a
factorisation of the same form, so that one substitution solves with both.

The code is unrolled: no library routine, no custom call, no inner loop. LAPACK also factorises a small matrix fast from
inside a compiled loop (0.3 µs for 4 unknowns on a CPU). But each solve through it costs 0.4 µs, and plain operations,
which XLA fuses with the surrounding ones, cost 0.02 µs.
"""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact, Int, PyTree

from ..jaxkit import complex_dtype

MAX_UNROLLED = 16
"""Number of unknowns up to which `SmallLU` is worth its compilation; above, `lineax.LU` is the better choice.

Measured on two cores of a server CPU in float64: a loop that factorises one matrix and solves with it six times, each
solve with the result of the one before. Microseconds per iteration, and seconds to trace and compile the loop:

==================  =====  =====  =====  =====  =====  =====  =====
unknowns                4      8     12     16     20     24     32
==================  =====  =====  =====  =====  =====  =====  =====
one, LAPACK           2.8    3.5    4.3    5.5    6.5    7.6   10.7
one, SmallLU          0.2    0.5    1.3    2.7    3.8    6.1   10.2
batch 256, LAPACK     240    424    623    900   1210   1611   2580
batch 256, SmallLU     32    115    257    953   2089   3730   6535
to compile:
one, LAPACK           0.3    0.3    0.3    0.3    0.3    0.3    0.3
one, SmallLU          0.4    0.5    1.0    1.3    1.9    2.7    7.3
batch 256, LAPACK     0.4    0.4    0.5    0.4    0.6    0.5    0.5
batch 256, SmallLU    0.4    1.2    1.7    3.4    4.8    6.1   11.7
==================  =====  =====  =====  =====  =====  =====  =====

In a batch of 1000: 80 µs against LAPACK's 930 for 3 unknowns, 305 against 1346 for 6, 1702 against 2502 for 12, and
4635 against 3527 for 16. So up to 12 unknowns it is faster for every size of the batch, and for a single system up to
24: a whole solve of 16 unknowns by `Kvaerno5` takes 0.26 ms with it and 0.64 with LAPACK. 16 is a compromise.
"""


class Layout(eqx.Module):
    """The layout of unknowns in a pytree: its structure, and shape and dtype of each leaf.

    It is not a `jax.ShapeDtypeStruct`, which also holds sharding and weak types: they may differ between two traces.
    """

    structure: Any = eqx.field(static=True)
    leaves: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...] = eqx.field(static=True)

    @staticmethod
    def of(tree: PyTree[jax.ShapeDtypeStruct]) -> "Layout":
        """The layout of a pytree of arrays or of their shapes."""
        leaves, structure = jax.tree.flatten(tree)
        return Layout(structure, tuple((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves))

    def unravel(self, vector: Inexact[Array, " n"]) -> PyTree[Array]:
        """The pytree whose leaves, flattened and joined, are `vector`."""
        parts: list[Array] = []
        start = 0
        for shape, dtype in self.leaves:
            stop = start + math.prod(shape)
            # A real operator may have a complex solution.
            leaf_dtype = complex_dtype(dtype) if jnp.iscomplexobj(vector) else dtype
            parts.append(lax.slice_in_dim(vector, start, stop).reshape(shape).astype(leaf_dtype))
            start = stop
        return jax.tree.unflatten(self.structure, parts)


class SmallLUState(eqx.Module):
    """The factorisation $P A = L D U$ of a matrix or, if `transposed`, of its transpose.

    Attributes
    ----------
    factors
        $L$ below the diagonal and $U$ above it; the diagonal is not used. For a transpose $U^T$ and $L^T$.
    reciprocals
        The diagonal of $D^{-1}$. Every solve multiplies by it, which costs less than divisions.
    permutation
        Row $i$ of $P A$ is row `permutation[i]` of $A$.
    solution
        Layout of the solution.
    vector
        Layout of the right-hand side.
    transposed
        True if $P$ permutes the solution rather than the right-hand side.
    """

    factors: Inexact[Array, "n n"]
    reciprocals: Inexact[Array, " n"]
    permutation: Int[Array, " n"]
    solution: Layout
    vector: Layout
    transposed: bool = eqx.field(static=True)


@final
class SmallLU(lx.AbstractLinearSolver[SmallLUState]):
    """LU factorisation with partial pivoting, written in operations that XLA compiles into the loop around it.

    A Lineax solver for every nonsingular square operator of a few unknowns, real or complex. Under `jax.vmap` each
    batch element has its own pivots, and the batch is computed together.

    Notes
    -----
    It is as stable as LAPACK's routine: the pivots are the same, up to ties and to the order of roundings. A pivot
    whose reciprocal overflows counts as zero, and a matrix with such a pivot as singular: `compute` then returns
    `lineax.RESULTS.singular`.

    Raises
    ------
    ValueError
        If the operator is not square.

    Differentiability
    -----------------
    Both modes, to any order, through `lineax.linear_solve` as well as through `init` and `compute`. The choice of
    pivots has no derivative; it does not change the solution.

    Cost
    ----
    The size of the program is proportional to the number of unknowns. The number of operations is proportional to its
    cube for `init` and to its square for `compute`. Above about 16 unknowns `lineax.LU` is the better choice.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import lineax as lx
    >>> import rungax
    >>> operator = lx.MatrixLinearOperator(jnp.array([[0.0, 2.0], [4.0, 1.0]]))
    >>> print(lx.linear_solve(operator, jnp.array([2.0, 9.0]), rungax.SmallLU()).value)
    [2. 1.]
    """

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> SmallLUState:
        del options
        rows, columns = operator.out_size(), operator.in_size()
        if rows != columns:
            raise ValueError(
                f"`operator` must be square to be factorised.\nExpected: as many equations as unknowns\n"
                f"Found:    {rows} equations, {columns} unknowns\n"
                "For least squares use `lineax.QR()` or `lineax.SVD()`."
            )
        solution, vector = Layout.of(operator.in_structure()), Layout.of(operator.out_structure())
        return SmallLUState(*_factorise(operator.as_matrix()), solution, vector, transposed=False)

    def compute(
        self, state: SmallLUState, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        del options
        x = _solve(state, _ravel(vector, state.factors.dtype))
        regular = jnp.all(jnp.isfinite(state.reciprocals))
        result = lx.RESULTS.where(regular, lx.RESULTS.successful, lx.RESULTS.singular)
        return state.solution.unravel(x), result, {}

    def transpose(self, state: SmallLUState, options: dict[str, Any]) -> tuple[SmallLUState, dict[str, Any]]:
        transpose = SmallLUState(
            state.factors.T,
            state.reciprocals,
            state.permutation,
            solution=state.vector,
            vector=state.solution,
            transposed=not state.transposed,
        )
        return transpose, options

    def conj(self, state: SmallLUState, options: dict[str, Any]) -> tuple[SmallLUState, dict[str, Any]]:
        conjugate = SmallLUState(
            state.factors.conj(),
            state.reciprocals.conj(),
            state.permutation,
            state.solution,
            state.vector,
            state.transposed,
        )
        return conjugate, options

    def assume_full_rank(self) -> bool:
        return True


def _factorise(
    matrix: Inexact[Array, "n n"],
) -> tuple[Inexact[Array, "n n"], Inexact[Array, " n"], Int[Array, " n"]]:
    """`factors`, `reciprocals` and `permutation` of a `SmallLUState`.

    The rows that have not been pivot rows are one array, which loses its pivot row in every round. So a row is moved
    once, and the work shrinks as the elimination proceeds. Columns are not removed: to the left the rows hold their
    part of $L$.

    Alternatives were measured for 8 unknowns, with six solves: µs for one system, µs for a batch of 256, and seconds to
    compile the batch. This one: 0.5, 116 and 1.3. Scalar entries, with rows swapped by comparing them one by one: 4.2,
    501 and 7.3. Rows as vectors, swapped likewise: 1.4, 328 and 8.5. The whole array, updated under masks: 0.9, 1234
    and 3.3. Only for 2 or 3 unknowns are they equally fast. A layout with the batch axis last gained nothing.
    """
    n = matrix.shape[0]
    columns = np.arange(n)
    rest, order = matrix, jnp.arange(n, dtype=jnp.int32)
    rows: list[Array] = []
    reciprocals: list[Array] = []
    permutation: list[Array] = []
    for k in range(n):
        pivot = jnp.argmax(_magnitude(lax.index_in_dim(rest, k, 1, keepdims=False))).astype(jnp.int32)
        row, place = _entry(rest, pivot), _entry(order, pivot)
        reciprocal = 1 / lax.index_in_dim(row, k, keepdims=False)
        rows.append(jnp.where(columns > k, row * reciprocal, row))
        reciprocals.append(reciprocal)
        permutation.append(place)
        if k == n - 1:
            break
        vacant = np.arange(1, n - k, dtype=np.int32) == pivot  # the first row moves to the place of the pivot row
        rest, order = jnp.where(vacant[:, None], rest[:1], rest[1:]), jnp.where(vacant, order[0], order[1:])
        multipliers = rest[:, k : k + 1] * reciprocal
        rest = jnp.concatenate(
            [rest[:, :k], multipliers, rest[:, k + 1 :] - multipliers * lax.slice_in_dim(row, k + 1, n)[None]], axis=1
        )
    if n == 0:
        return matrix, matrix.reshape(0), order
    return jnp.stack(rows), jnp.stack(reciprocals), jnp.stack(permutation)


def _solve(state: SmallLUState, b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """The solution by forward substitution with $L$ and back substitution with $U$, column by column."""
    n = b.shape[0]
    entries = lax.broadcasted_iota(jnp.int32, (n,), 0)
    factors, reciprocals = state.factors.astype(b.dtype), state.reciprocals.astype(b.dtype)
    x = b if state.transposed else _permuted(b, state.permutation)
    for k in range(n - 1):
        column = lax.index_in_dim(factors, k, 1, keepdims=False)
        x = x - jnp.where(entries > k, column, 0) * lax.index_in_dim(x, k)
    x = x * reciprocals
    for k in reversed(range(1, n)):
        column = lax.index_in_dim(factors, k, 1, keepdims=False)
        x = x - jnp.where(entries < k, column, 0) * lax.index_in_dim(x, k)
    return _permuted_back(x, state.permutation) if state.transposed else x


def _magnitude(x: Inexact[Array, " m"]) -> Array:
    """The measure for the choice of pivots; for complex numbers LAPACK's norm, which needs no square root."""
    x = lax.stop_gradient(x)
    return jnp.abs(x.real) + jnp.abs(x.imag) if jnp.iscomplexobj(x) else jnp.abs(x)


def _entry(x: Array, index: Int[Array, ""]) -> Array:
    """The entry `x[index]`, without the arithmetic for negative indices."""
    return lax.dynamic_index_in_dim(x, index, keepdims=False, allow_negative_indices=False)


def _permuted(x: Inexact[Array, " n"], permutation: Int[Array, " n"]) -> Inexact[Array, " n"]:
    return x.at[permutation].get(mode="promise_in_bounds", unique_indices=True)


def _permuted_back(x: Inexact[Array, " n"], permutation: Int[Array, " n"]) -> Inexact[Array, " n"]:
    """The inverse of `_permuted`, by comparing all pairs: for few unknowns as fast as a sort or a scatter."""
    # Not a NumPy array: JAX's linear solve would capture it as a constant, which does not vary in `shard_map`.
    comes_from = permutation[:, None] == lax.broadcasted_iota(jnp.int32, (1, x.shape[0]), 1)
    return jnp.sum(jnp.where(comes_from, x[:, None], 0), axis=0)


def _ravel(vector: PyTree[Array], dtype: np.dtype[Any]) -> Inexact[Array, " n"]:
    """The leaves of `vector`, flattened and joined, in `dtype` or in complex numbers of its width if any is complex."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(vector)]
    if any(jnp.iscomplexobj(leaf) for leaf in leaves):
        dtype = complex_dtype(dtype)
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves])
