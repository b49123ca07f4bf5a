"""The LU factorisation of sparse matrices, for CPUs."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact

from ..jaxkit import shown
from ..sparsity import SparsityPattern
from . import suitesparse
from .sparse import SparseLinearOperator

_PERTURBATION = 4.0
"""Relative change of a diagonal entry, in units of the rounding of float64."""

_MUCH_FILL = 100
"""Number of entries of both factors for each row, from which UMFPACK is faster than KLU.

Two species on a two-dimensional grid, milliseconds for a factorisation, one thread:

=========  ==============  =======  =======
unknowns   entries a row   KLU      UMFPACK
=========  ==============  =======  =======
288        75              0.26     0.29
512        93              0.61     0.56
2048       142             5.0      3.6
8192       209             41       17
=========  ==============  =======  =======
"""

_INSTALL = 'Install it with `pip install "rungax[sparse]"`.'


class SparseLUState(eqx.Module):
    """The values of a sparse matrix, by which its factorisation is found.

    Attributes
    ----------
    values
        The value of each entry.
    is_finite
        True if all values are finite; else they are those of the identity.
    pattern
        The positions of the entries.
    transposed
        True if solutions are those of the transpose.
    """

    values: Inexact[Array, " entries"]
    is_finite: Array
    pattern: SparsityPattern = eqx.field(static=True)
    transposed: bool = eqx.field(static=True)


@final
class SparseLU(lx.AbstractLinearSolver[SparseLUState]):
    """Solves sparse linear systems by SuiteSparse, on CPUs; it needs the extra `rungax[sparse]`.

    The analysis of a pattern is made once, and a factorisation serves all solutions with the same values.

    Parameters
    ----------
    method
        `"umfpack"` for matrices that fill in much, such as those of large two- and three-dimensional grids, or `"klu"`
        for others, such as those of circuits and reaction networks. By default it is chosen by the number of entries
        that elimination adds. The BLAS library that comes with `sparsax` is limited to one thread.

    Raises
    ------
    ValueError
        If `method` is none of these. In a solve, if the term declares no pattern, or if the program is for another
        device than a CPU.
    ModuleNotFoundError
        If the extra is not installed.

    Differentiability
    -----------------
    Through `lineax.linear_solve` and in solves of differential equations, in every mode. The transposed system is
    solved with the same factorisation.

    Cost
    ----
    A factorisation for each matrix of other values, and two triangular solves for each solution. For the Jacobian of a
    two-dimensional reaction-diffusion equation with two species a factorisation takes 4 ms for 2048 unknowns and 17 ms
    for 8192, and a solution 0.15 and 0.65 ms. Computations are in float64; systems with complex numbers are solved as
    real ones of twice the size. Under `vmap` each element has a factorisation of its own.

    Notes
    -----
    A matrix that is exactly singular would end the whole program. Diagonal entries are therefore changed by four
    roundings, and those that are zero become as small as they can be without being noticed: the solution is then very
    large, and the step is rejected.

    References
    ----------
    T. A. Davis, Algorithm 832: UMFPACK V4.3, ACM Trans. Math. Softw. 30 (2004), 196–199.

    T. A. Davis, E. Palamadai Natarajan, Algorithm 907: KLU, ACM Trans. Math. Softw. 37 (2010), 36.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import rungax
    >>> eye = np.eye(50, dtype=bool)
    >>> pattern = eye | np.roll(eye, 1, axis=0) | np.roll(eye, 2, axis=0)
    >>> def field(t, y, args):
    ...     return 100.0 * (jnp.roll(y, 1) - y) + jnp.roll(y, 2) ** 2 - y
    >>> solution = rungax.diffeqsolve(
    ...     rungax.ODETerm(field, sparsity=pattern),
    ...     rungax.Kvaerno5(linear_solver=rungax.SparseLU()),
    ...     t0=0.0,
    ...     t1=1.0,
    ...     dt0=None,
    ...     y0=jnp.ones(50),
    ...     stepsize_controller=rungax.PIDController(rtol=1e-6, atol=1e-6),
    ... )
    >>> print(f"{solution.ys[-1, 0]:.4f}")
    1.0000
    """

    method: str | None = eqx.field(default=None, static=True)

    def __check_init__(self) -> None:
        if self.method is not None and self.method not in _METHODS:
            raise ValueError(
                "`SparseLU(method=...)` is the name of a method of SuiteSparse.\n"
                f"Expected: {', '.join(map(repr, _METHODS))}, or None\nFound:    {shown(self.method)}\n"
                "Leave it out to let the pattern choose."
            )

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> SparseLUState:
        """The values by which the factorisation is found, changed so that the matrix is not exactly singular."""
        del options
        _check_environment()
        if not isinstance(operator, SparseLinearOperator):
            raise ValueError(
                "`SparseLU` solves with the entries of a sparse Jacobian.\n"
                "Expected: a term that declares them, `ODETerm(vector_field, sparsity=...)`\n"
                f"Found:    a `{type(operator).__name__}`\n"
                "`rungax.jacobian_sparsity(vector_field, t0, y0, args)` finds the pattern; or leave the solver out."
            )
        operator = SparseLinearOperator.of(operator, operator.pattern.with_diagonal())
        is_finite = jnp.all(jnp.isfinite(operator.values))
        identity = (operator.pattern.rows == operator.pattern.columns).astype(operator.values.dtype)
        values = jnp.where(is_finite, _not_singular(operator), identity)
        return SparseLUState(values, is_finite, operator.pattern, transposed=False)

    def compute(
        self, state: SparseLUState, vector: Inexact[Array, " n"], options: dict[str, Any]
    ) -> tuple[Inexact[Array, " n"], lx.RESULTS, dict[str, Any]]:
        """The solution for a right-hand side; not a number if the matrix is not finite."""
        del options
        safe = jnp.where(jnp.isfinite(vector), vector, jnp.zeros((), vector.dtype))
        method = _METHODS[self.method or _method_for(state.pattern)]()
        solution = suitesparse.solve(method, state.pattern, state.values, safe, state.transposed)
        is_finite = state.is_finite & jnp.all(jnp.isfinite(vector))
        solution = jnp.where(is_finite, solution, jnp.asarray(jnp.nan, solution.dtype))
        return solution, lx.RESULTS.where(is_finite, lx.RESULTS.successful, lx.RESULTS.nonfinite_input), {}

    def transpose(self, state: SparseLUState, options: dict[str, Any]) -> tuple[SparseLUState, dict[str, Any]]:
        """The same values, for solutions with the transpose."""
        return SparseLUState(state.values, state.is_finite, state.pattern, not state.transposed), options

    def conj(self, state: SparseLUState, options: dict[str, Any]) -> tuple[SparseLUState, dict[str, Any]]:
        """The conjugate of the values."""
        return SparseLUState(state.values.conj(), state.is_finite, state.pattern, state.transposed), options

    def assume_full_rank(self) -> bool:
        """True: singular matrices give no solution."""
        return True


_METHODS = {"umfpack": suitesparse.umfpack, "klu": suitesparse.klu}


@functools.lru_cache(maxsize=32)
def _method_for(pattern: SparsityPattern) -> str:
    """The method for a pattern, by the number of entries that its factors have."""
    import scipy.sparse
    import scipy.sparse.linalg

    entries = np.random.default_rng(0).uniform(-1.0, 1.0, pattern.num_entries)
    # Diagonally dominant, so that no rows are exchanged.
    entries[pattern.diagonal_entries] = 2.0 * np.bincount(pattern.rows, minlength=pattern.size)
    shape = (pattern.size, pattern.size)
    factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array((entries, (pattern.rows, pattern.columns)), shape=shape))
    return "umfpack" if factors.nnz > _MUCH_FILL * pattern.size else "klu"


def is_sparse_lu_available() -> bool:
    """True if programs are for CPUs and SuiteSparse is installed."""
    return jax.default_backend() == "cpu" and suitesparse.is_installed()


def _check_environment() -> None:
    """Raise an error unless the package is installed and programs are for CPUs."""
    if not suitesparse.is_installed():
        raise ModuleNotFoundError(
            "`SparseLU` factorises sparse matrices with SuiteSparse, through the package `sparsax`.\n"
            f"Expected: the extra `sparse`\nFound:    no module named {' or '.join(suitesparse.missing())}\n{_INSTALL}"
        )
    device = jax.default_backend()
    if device != "cpu":
        raise ValueError(
            "`SparseLU` factorises sparse matrices on CPUs.\n"
            f"Expected: programs for a CPU\nFound:    programs for a {device}\n"
            "Use `Krylov`, which runs on every device, `BlockTridiagonal` for one-dimensional problems, or\n"
            '`with jax.default_device(jax.devices("cpu")[0])`.'
        )


def _not_singular(operator: SparseLinearOperator) -> Array:
    """The values of a matrix that is not exactly singular, changed by a few roundings of each diagonal entry."""
    pattern, values = operator.pattern, operator.values
    entries = pattern.diagonal_entries
    diagonal = values[entries]
    real = jnp.finfo(values.dtype).dtype
    size = jax.ops.segment_sum(jnp.abs(values), pattern.rows, pattern.size, indices_are_sorted=True)
    # Different for all rows, so that rows that are equal do not stay equal.
    change = _PERTURBATION * float(jnp.finfo(real).eps) * np.random.default_rng(0).uniform(0.5, 1.5, pattern.size)
    unnoticed = float(jnp.finfo(real).eps) ** 2 * size
    unnoticed = jnp.where(unnoticed == 0, 1.0, unnoticed).astype(values.dtype)
    changed = diagonal * jnp.asarray(1 + change, values.dtype)
    return values.at[entries].set(jnp.where(diagonal == 0, unnoticed, changed))
