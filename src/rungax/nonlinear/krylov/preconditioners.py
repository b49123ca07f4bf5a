r"""Preconditioners: approximate solutions of $(M - \gamma J)\,x = r$, by which GMRES needs fewer iterations.

A preconditioner is *prepared* from the matrix at one state, which costs most and gives an `AbstractCorrection`. Its
arrays are kept from step to step as the factors of a direct solver are. An old one changes the number of iterations,
not the solution.
"""

import abc
from collections.abc import Callable
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from ...jaxkit import FlatSpace, RealScalar, Time, Y, call_user, check_structure, layout, shown, trace_once
from ..linear import LinearSystem
from ..lu import MAX_UNROLLED, SmallLU
from ..sparse import SparseLinearOperator

type Vector = Inexact[Array, " n"]


class AbstractCorrection(eqx.Module):
    """An approximate solution of a linear system, as a linear function of its right-hand side."""

    @abc.abstractmethod
    def __call__(self, residual: Vector) -> Vector:
        """The correction for a residual."""

    @abc.abstractmethod
    def transposed(self) -> "AbstractCorrection":
        """An approximate solution of the transposed system."""


class AbstractPreconditioner(eqx.Module):
    """A way to make approximate solutions of a system."""

    @property
    @abc.abstractmethod
    def needs_entries(self) -> bool:
        """True if it is made from entries of the matrix, which need a pattern."""

    @abc.abstractmethod
    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> AbstractCorrection:
        """The correction for a system, given the entries of its matrix if `needs_entries` is true.

        The system is `None` for a matrix that does not come from a differential equation.
        """


# ---------------------------------------------------------------------------------------------------------- of entries


@final
class Jacobi(AbstractPreconditioner):
    """Division by the diagonal; zeros on it count as ones."""

    @property
    def needs_entries(self) -> bool:
        """True."""
        return True

    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> "Scaling":
        """The reciprocals of the diagonal."""
        del system
        diagonal = lx.diagonal(entries_of(matrix))
        return Scaling(1 / jnp.where(diagonal == 0, 1, diagonal))


@final
class Scaling(AbstractCorrection):
    """A diagonal matrix."""

    factors: Vector

    def __call__(self, residual: Vector) -> Vector:
        """The residual times the factors."""
        return self.factors * residual

    def transposed(self) -> Self:
        """This matrix itself."""
        return self


@final
class BlockDiagonal(AbstractPreconditioner):
    """A preconditioner of `Krylov`: the solution with blocks on the diagonal of the matrix, all of one size.

    For systems in which the components at one point of a grid are coupled more strongly than neighbouring points, such
    as stiff chemistry with weak diffusion.

    Parameters
    ----------
    size
        Number of rows of a block.
    stride
        Distance between the rows of a block. The default 1 is for states whose last axis has the components of a point,
        of shape `(..., size)`. For a state of shape `(size, ...)` it is the number of points.

    Raises
    ------
    ValueError
        If either is not a positive integer; when solved, if the number of unknowns is not a multiple of
        `size * stride`.

    Cost
    ----
    The factors of the blocks take `size` numbers for each unknown, and an application `2 * size` operations.

    Examples
    --------
    A state of two species at each of 100 points, as an array of shape `(2, 100)`:

    >>> import rungax
    >>> linear_solver = rungax.Krylov(preconditioner=rungax.BlockDiagonal(2, stride=100))
    """

    size: int = eqx.field(static=True)
    stride: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        for name in ("size", "stride"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`BlockDiagonal({name}=...)` describes the blocks on the diagonal of a matrix.\n"
                    f"Expected: a positive integer\nFound:    {shown(value)}\n"
                    "For a state of shape (points, species): size=species. For (species, points): stride=points too."
                )

    @property
    def needs_entries(self) -> bool:
        """True."""
        return True

    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> "Blocks":
        """The factors of the blocks."""
        del system
        matrix = entries_of(matrix)
        pattern, n = matrix.pattern, matrix.pattern.size
        if n % (self.size * self.stride) != 0:
            raise ValueError(
                "`BlockDiagonal(size, stride)` divides the unknowns into blocks of one size.\n"
                f"Expected: size * stride divides the number of unknowns, {n}\n"
                f"Found:    size={self.size}, stride={self.stride}\n"
                "A complex state has two unknowns for every entry, unless its field is tagged as holomorphic."
            )
        blocks, places = self._blocks_and_places(np.arange(n))
        is_inside = blocks[pattern.rows] == blocks[pattern.columns]
        rows, columns = pattern.rows[is_inside], pattern.columns[is_inside]
        values = jnp.zeros((n // self.size, self.size, self.size), matrix.values.dtype)
        values = values.at[blocks[rows], places[rows], places[columns]].set(matrix.values[np.flatnonzero(is_inside)])
        solver = _block_solver(self.size)
        state = eqx.filter_vmap(lambda block: solver.init(lx.MatrixLinearOperator(block), {}))(values)
        return Blocks(state, self)

    def _blocks_and_places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The block of each row, and its place in it."""
        outer, inner = np.divmod(rows, self.size * self.stride)
        place, offset = np.divmod(inner, self.stride)
        return outer * self.stride + offset, place


def _block_solver(size: int) -> lx.AbstractLinearSolver[Any]:
    return SmallLU() if size <= MAX_UNROLLED else lx.LU()


@final
class Blocks(AbstractCorrection):
    """A block diagonal matrix, by the factors of its blocks."""

    state: PyTree[Any]
    layout: BlockDiagonal

    def __call__(self, residual: Vector) -> Vector:
        """The solutions with all blocks."""
        size, stride = self.layout.size, self.layout.stride
        parts = residual.reshape(-1, size, stride).swapaxes(1, 2).reshape(-1, size)
        solver = _block_solver(size)
        solutions = eqx.filter_vmap(lambda state, part: solver.compute(state, part, {})[0])(self.state, parts)
        return solutions.reshape(-1, stride, size).swapaxes(1, 2).reshape(-1)

    def transposed(self) -> "Blocks":
        """The solutions with the transposed blocks."""
        solver = _block_solver(self.layout.size)
        return Blocks(eqx.filter_vmap(lambda state: solver.transpose(state, {})[0])(self.state), self.layout)


def entries_of(matrix: SparseLinearOperator | None) -> SparseLinearOperator:
    """The matrix, which is known wherever a preconditioner needs entries."""
    assert matrix is not None, "checked when the linear algebra is chosen"
    return matrix


# -------------------------------------------------------------------------------------------------------------- others


@final
class Unpreconditioned(AbstractPreconditioner):
    """No preconditioner."""

    @property
    def needs_entries(self) -> bool:
        """False."""
        return False

    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> "Identity":
        """The identity."""
        del system, matrix
        return Identity()


@final
class Identity(AbstractCorrection):
    """The identity matrix."""

    def __call__(self, residual: Vector) -> Vector:
        """The residual."""
        return residual

    def transposed(self) -> Self:
        """This matrix itself."""
        return self


@final
class GivenPreconditioner(AbstractPreconditioner):
    """A user's function of `(t, y, args, gamma)`, which returns a function from residuals to corrections.

    Parameters
    ----------
    corrector
        The function of `(t, y, gamma)`, traced: what it has captured, the arguments too, are leaves. It returns a
        function of residuals that is traced as well.
    space
        The states that vectors stand for.
    """

    corrector: Callable[[Time, Y, RealScalar], Callable[[Vector], Vector]]
    space: FlatSpace

    @classmethod
    def of(cls, function: Callable[..., Any], space: FlatSpace, t: Time, y: Y, args: PyTree[Any]) -> Self:
        """The preconditioner of a user's function for states like `y` and these arguments."""
        vector = jax.ShapeDtypeStruct((space.size,), space.dtype)

        def corrector(t: Time, y: Y, gamma: RealScalar) -> Callable[[Vector], Vector]:
            correction = call_user("the preconditioner", function, t, y, args, gamma)
            if not callable(correction):
                raise ValueError(
                    "`Krylov(preconditioner=...)` is a function of `(t, y, args, gamma)` that returns a function.\n"
                    "Expected: a function from a residual to a correction, both like `y0`\n"
                    f"Found:    {shown(correction)}\n"
                    "Return `lambda residual: ...`, an approximate solution of `x - gamma * J @ x = residual`."
                )
            return trace_once(lambda residual: _corrected(correction, residual, space), vector)

        return cls(trace_once(corrector, t, y, t), space)

    @property
    def needs_entries(self) -> bool:
        """False."""
        return False

    def prepare(self, system: LinearSystem | None, matrix: SparseLinearOperator | None) -> "GivenCorrection":
        """The user's function of residuals, at the state of the system."""
        del matrix
        assert system is not None, "functions are prepared for differential equations only"
        state = self.space.unravel(system.field.of_jacobian(system.stored).state)
        return GivenCorrection(self.corrector(system.t, state, jnp.asarray(system.scale, jnp.result_type(system.t))))


def _corrected(correction: Callable[[Y], Y], residual: Vector, space: FlatSpace) -> Vector:
    """The correction for a residual, both as vectors."""
    like = space.unravel(residual)
    found = call_user("the function that the preconditioner returned", correction, like)
    what = "`Krylov(preconditioner=...)` returns corrections like the state"
    check_structure(found, like, what, returned="the correction is")
    shapes = [(jnp.shape(a), jnp.shape(b)) for a, b in zip(jax.tree.leaves(like), jax.tree.leaves(found), strict=True)]
    if any(ours != theirs for ours, theirs in shapes):
        raise ValueError(
            f"{what}.\nExpected: {layout(like)}\nFound:    {layout(found)}\n"
            "A residual has the structure and the shapes of the state, and so has the correction for it."
        )
    return space.ravel(found)


@final
class GivenCorrection(AbstractCorrection):
    """A user's linear function of residuals."""

    function: Callable[[Vector], Vector]

    def __call__(self, residual: Vector) -> Vector:
        """The user's correction."""
        return self.function(residual)

    def transposed(self) -> "GivenCorrection":
        """The transposed function."""
        return GivenCorrection(TransposedFunction(self.function))


@final
class TransposedFunction(eqx.Module):
    """The transpose of a linear function of vectors."""

    function: Callable[[Vector], Vector]

    def __call__(self, residual: Vector) -> Vector:
        """The transposed function's value."""
        return jax.linear_transpose(self.function, residual)(residual)[0]
