"""Solutions of sparse systems by SuiteSparse, called from inside compiled programs through the package `sparsax`.

The package keeps factorisations in a cache of the process, by the values of the matrix. A program therefore carries the
values and never a reference to a factorisation: a solution with the values of an earlier one costs two triangular
solves, and one whose factorisation has left the cache costs another factorisation and is right too. A continued solve,
another process, or a branch that was not taken hold nothing that could have gone.
"""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Inexact

from ..jaxkit import complex_dtype
from ..sparsity import SparsityPattern

type SolveReal = Callable[[Any, Any, Any, Any, bool], Any]
"""Solutions in float64, for rows, columns and values of entries, a right-hand side, and whether to transpose."""

_PER_ELEMENT = 4
"""Number of factorisations in the cache for each element of the largest batch: of a step, and of its derivative."""


def is_installed() -> bool:
    """True if `sparsax`, and `threadpoolctl` for its BLAS library, can be imported."""
    return not missing()


def missing() -> list[str]:
    """The names of the required packages that are not installed."""
    return [name for name in ("sparsax", "threadpoolctl") if importlib.util.find_spec(name) is None]


def umfpack() -> SolveReal:
    """The multifrontal method UMFPACK, for matrices that fill in, such as those of two- and three-dimensional grids."""
    import sparsax

    _use_one_thread()
    _hold(1, sparsax.set_umf_cache_size)
    return _batched(sparsax.umf_solve, sparsax.set_umf_cache_size)


@functools.cache
def _use_one_thread() -> None:
    """Let the BLAS library in `sparsax` use one thread.

    UMFPACK multiplies many small matrices. More threads do not make it faster on two processors, and make it ten times
    slower where other programs use these processors.
    """
    import sparsax
    import threadpoolctl

    bundled = pathlib.Path(sparsax.__file__).parent.with_name("sparsax.libs")
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if bundled in pathlib.Path(library.filepath).parents:
            library.set_num_threads(1)


def klu() -> SolveReal:
    """The method KLU, for matrices that fill in little, such as those of circuits and reaction networks."""
    import sparsax

    _hold(1, sparsax.set_lu_cache_size)
    return _batched(sparsax.lu_solve, sparsax.set_lu_cache_size)


def solve(
    method: SolveReal,
    pattern: SparsityPattern,
    values: Inexact[Array, " entries"],
    vector: Inexact[Array, " n"],
    transposed: bool,
) -> Inexact[Array, " n"]:
    """The solution of a system with a sparse matrix or its transpose, in the precision of `vector`.

    SuiteSparse computes in float64. A system with complex numbers is solved as a real one of twice the size.
    """
    is_complex = jnp.iscomplexobj(values) or jnp.iscomplexobj(vector)
    dtype = complex_dtype(vector.dtype) if is_complex else vector.dtype
    with jax.enable_x64(True):
        if jnp.issubdtype(values.dtype, jnp.complexfloating):
            found = _solve_complex(method, pattern, values, vector, transposed)
        elif jnp.issubdtype(vector.dtype, jnp.complexfloating):
            parts = jnp.stack([vector.real, vector.imag], axis=1)
            solutions = _solve_real(method, pattern.rows, pattern.columns, values, parts, transposed)
            found = jax.lax.complex(solutions[:, 0], solutions[:, 1])
        else:
            found = _solve_real(method, pattern.rows, pattern.columns, values, vector, transposed)
        return found.astype(dtype)


def _solve_real(
    method: SolveReal, rows: Any, columns: Any, values: Array, vector: Array, transposed: bool
) -> Float[Array, "..."]:
    return method(rows, columns, values.astype(jnp.float64), vector.astype(jnp.float64), transposed)


def _solve_complex(
    method: SolveReal, pattern: SparsityPattern, values: Array, vector: Array, transposed: bool
) -> Array:
    """Each entry becomes a block of two rows and two columns, for the real and the imaginary part of an unknown.

    The transpose of the real matrix is that of the conjugate: its solution is that for the conjugate, conjugated.
    """
    values, vector = values.astype(jnp.complex128), vector.astype(jnp.complex128)
    vector = vector.conj() if transposed else vector
    rows, columns = 2 * pattern.rows, 2 * pattern.columns
    places = [(rows + i, columns + j) for i in (0, 1) for j in (0, 1)]
    all_rows, all_columns = (jnp.concatenate(x) for x in zip(*places, strict=True))
    parts = jnp.concatenate([values.real, -values.imag, values.imag, values.real])
    halves = jnp.stack([vector.real, vector.imag], axis=1).reshape(-1)
    found = _solve_real(method, all_rows, all_columns, parts, halves, transposed).reshape(-1, 2)
    solution = jax.lax.complex(found[:, 0], found[:, 1])
    return solution.conj() if transposed else solution


def _batched(package: Callable[..., Any], set_size: Callable[[int], None]) -> SolveReal:
    """The solutions of a method; under `vmap` the cache is enlarged to hold the factorisations of all elements."""

    def solve(rows: Any, columns: Any, values: Any, vector: Any, transposed: bool) -> Any:
        def one(values: Any, vector: Any) -> Any:
            direct = lambda vector: package(rows, columns, values, vector)
            return jax.linear_transpose(direct, vector)(vector)[0] if transposed else direct(vector)

        def several(size: int, batched: list[bool], values: Any, vector: Any) -> tuple[Any, bool]:
            _hold(size, set_size)
            return jax.vmap(one, tuple(0 if flag else None for flag in batched))(values, vector), True

        solved = custom_vmap(one)
        solved.def_vmap(several)
        return solved(values, vector)

    return solve


class _Largest:
    """The largest batch so far: the cache belongs to the process, and so does its size."""

    size = 0


def _hold(size: int, set_size: Callable[[int], None]) -> None:
    """Enlarge a cache to hold the factorisations of a batch."""
    _Largest.size = max(_Largest.size, size)
    set_size(_PER_ELEMENT * _Largest.size)
