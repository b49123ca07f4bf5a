"""Mass matrices: the forms in which users give them, as linear operators on vectors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from ..jaxkit import FlatSpace, complex_dtype, layout, shown
from ..sparsity import SparseMatrix, SparsityPattern, full_blocks, is_sparse, product_of, sparse_matrix
from .banded import BandedLinearOperator
from .sparse import SparseLinearOperator
from .tags import Banded

MAX_BLOCK = 300
"""The largest number of rows of a block of a banded or sparse matrix that is factorised to find its null spaces."""

_WHAT = "`ODETerm(mass=...)` is the matrix M of `M dy/dt = f(t, y, args)`."


def mass_operator(given: Any, space: FlatSpace) -> lx.AbstractLinearOperator:
    """A mass matrix as an operator on the vectors of a space: diagonal, tridiagonal, banded, sparse, or a full matrix.

    Parameters
    ----------
    given
        A pytree like the state whose leaves broadcast against its leaves: the diagonal; a matrix with a row for each
        entry of the state; a sparse matrix; or a linear operator on the entries.
    space
        The states that the vectors stand for.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    return _on_vectors(_entries(given, space), space)


def structure_of_mass(given: Any, space: FlatSpace) -> "Banded | SparsityPattern | None":
    """The band or the pattern of a mass matrix by the entries of the state; `None` for a full matrix."""
    operator = _entries(given, space)
    return operator.pattern if isinstance(operator, SparseLinearOperator) else _band_of(operator)


def with_structure_of_mass(
    structure: "Banded | SparsityPattern | None",
    tags: frozenset[object],
    band: Banded | None,
    pattern: SparsityPattern | None,
    size: int,
) -> tuple[frozenset[object], SparsityPattern | None]:
    """The tags and the pattern that hold for a shifted matrix, from those of the Jacobian, which may be narrower.

    Parameters
    ----------
    structure
        The band or the pattern of the mass matrix.
    tags, band, pattern
        The tags of the Jacobian, the band that they declare, and its pattern.
    size
        The number of entries of the state.
    """
    if pattern is None and band is None:
        return tags, None
    plain = frozenset(tag for tag in tags if not _is_band(tag))
    if structure is None:
        return plain, None
    if isinstance(structure, Banded) and structure.lower == structure.upper == 0:
        return tags, None if pattern is None else pattern.with_diagonal()
    of_mass, of_jacobian = (_as_pattern(x, size) for x in (structure, band if pattern is None else pattern))
    blocks = full_blocks(of_mass, MAX_BLOCK)
    if blocks.num_entries == size and isinstance(structure, Banded) and band is not None:
        return plain | {Banded(max(structure.lower, band.lower), max(structure.upper, band.upper))}, pattern
    # Equations are combined within a block.
    return plain, product_of(blocks, of_jacobian).union(blocks).union(of_mass)


def _as_pattern(structure: Any, size: int) -> SparsityPattern:
    """The pattern of a band, or a pattern itself."""
    if isinstance(structure, SparsityPattern):
        return structure
    return SparsityPattern.of_band(size, structure.lower, structure.upper)


def _is_band(tag: object) -> bool:
    return isinstance(tag, Banded) or tag in (lx.diagonal_tag, lx.tridiagonal_tag)


def _band_of(operator: lx.AbstractLinearOperator) -> Banded | None:
    """The band of an operator that is stored by diagonals."""
    if isinstance(operator, BandedLinearOperator):
        return Banded(operator.lower, operator.upper)
    if lx.is_diagonal(operator):
        return Banded(0, 0)
    return Banded(1, 1) if lx.is_tridiagonal(operator) else None


def _entries(given: Any, space: FlatSpace) -> lx.AbstractLinearOperator:
    """A mass matrix in any form, as an operator on the entries of the state that stores diagonals, entries or all."""
    diagonal = _diagonal(given, space)
    if diagonal is not None:
        return lx.DiagonalLinearOperator(diagonal)
    operator = _as_operator(sparse_matrix(given) if is_sparse(given) else given, space)
    size = len(space.places())
    if (operator.out_size(), operator.in_size()) != (size, size):
        raise _wrong(space, f"a matrix of shape ({operator.out_size()}, {operator.in_size()})")
    dtype = jnp.result_type(*jax.tree.leaves(operator.in_structure()))
    if not all(_holds(number, dtype) for _, number in space.leaves):
        raise _complex(space, f"a matrix of dtype {dtype}")
    return _stored(operator)


def _as_operator(given: Any, space: FlatSpace) -> lx.AbstractLinearOperator:
    """A mass matrix that is not its diagonal, as an operator on the entries of the state."""
    if isinstance(given, lx.AbstractLinearOperator):
        return given
    if isinstance(given, SparseMatrix):
        return SparseLinearOperator(given.values, given.pattern)
    matrix = _matrix(given)
    diagonal = None if matrix is None else _diagonal(matrix, space)  # a list of numbers for an array
    if diagonal is not None:
        return lx.DiagonalLinearOperator(diagonal)
    if matrix is None or matrix.ndim != 2:
        raise _wrong(space, layout(given) if jax.tree.leaves(given) else shown(given))
    return lx.MatrixLinearOperator(matrix)


def _diagonal(given: Any, space: FlatSpace) -> Array | None:
    """The entries of a pytree like the state, whose leaves broadcast against its leaves; `None` for anything else.

    Raises
    ------
    ValueError
        If one is complex where the state is real.
    """
    leaves, structure = jax.tree.flatten(given)
    if structure != space.structure or not all(map(_is_number, leaves)):
        return None
    if not all(_broadcasts(jnp.shape(x), shape) for x, (shape, _) in zip(leaves, space.leaves, strict=True)):
        return None
    if not all(_holds(number, jnp.result_type(x)) for x, (_, number) in zip(leaves, space.leaves, strict=True)):
        raise _complex(space, layout(given))
    if not leaves:
        return jnp.zeros(0, space.dtype)
    dtype = _dtype(leaves, space)
    full = [
        jnp.broadcast_to(jnp.asarray(x), s).reshape(-1).astype(dtype)
        for x, (s, _) in zip(leaves, space.leaves, strict=True)
    ]
    return jnp.concatenate(full)


def _matrix(given: Any) -> Array | None:
    """An array, or nested sequences of numbers, as an array of floats; `None` for anything else."""
    if not all(map(_is_number, jax.tree.leaves(given))):
        return None
    try:
        matrix = jnp.asarray(given)
    except (ValueError, TypeError):
        return None
    return matrix if jnp.issubdtype(matrix.dtype, jnp.inexact) else matrix.astype(jnp.result_type(float))


def _on_vectors(kept: lx.AbstractLinearOperator, space: FlatSpace) -> lx.AbstractLinearOperator:
    """An operator on the entries of the state, as one on vectors, of their dtype."""
    if space.is_split:
        return _split(kept, space)
    return jax.tree.map(lambda x: x.astype(space.dtype), kept)


def _stored(operator: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
    """An operator as one that stores its diagonals, its sparse entries, or its matrix."""
    if isinstance(operator, BandedLinearOperator | SparseLinearOperator):
        return operator
    if lx.is_diagonal(operator):
        return lx.DiagonalLinearOperator(lx.diagonal(operator))
    if lx.is_tridiagonal(operator):
        return BandedLinearOperator.of(operator, 1, 1)
    return lx.MatrixLinearOperator(operator.as_matrix())


def _split(operator: lx.AbstractLinearOperator, space: FlatSpace) -> lx.AbstractLinearOperator:
    """An operator on entries of which some are split into real and imaginary parts, as one on real vectors.

    An entry $m = a + b i$ acts on both parts as the matrix with the rows $(a, -b)$ and $(b, a)$.
    """
    places = space.places()
    real, imaginary = places[:, 0], places[:, 1]
    is_split = real != imaginary
    if lx.is_diagonal(operator) and not jnp.iscomplexobj(diagonal := lx.diagonal(operator)):
        vector = jnp.zeros(space.size, space.dtype)
        return lx.DiagonalLinearOperator(vector.at[real].set(diagonal).at[imaginary].set(diagonal))
    pattern = operator.pattern if isinstance(operator, SparseLinearOperator) else _pattern(operator)
    values = SparseLinearOperator.of(operator, pattern).values
    rows, columns = pattern.rows, pattern.columns
    both = np.flatnonzero(is_split[rows] & is_split[columns])
    pieces = [
        (real[rows], real[columns], values.real),
        (imaginary[rows[both]], imaginary[columns[both]], values[both].real),
    ]
    pieces += [
        (real[rows[both]], imaginary[columns[both]], -values[both].imag),
        (imaginary[rows[both]], real[columns[both]], values[both].imag),
    ]
    entries = SparsityPattern.of_entries(
        space.size, np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])
    )
    total = jnp.zeros(entries.num_entries, space.dtype)
    for r, c, v in pieces:
        total = total.at[entries.find(r.astype(np.int32), c.astype(np.int32))[0]].add(v.astype(space.dtype))
    sparse = SparseLinearOperator(total, entries)
    is_full = isinstance(operator, lx.MatrixLinearOperator)
    return lx.MatrixLinearOperator(sparse.as_matrix()) if is_full else sparse


def _pattern(operator: lx.AbstractLinearOperator) -> SparsityPattern:
    size, band = operator.in_size(), _band_of(operator)
    return (
        SparsityPattern.of_band(size, size - 1, size - 1)
        if band is None
        else SparsityPattern.of_band(size, *_widths(band))
    )


def _widths(band: Banded) -> tuple[int, int]:
    return band.lower, band.upper


def _is_number(x: Any) -> bool:
    return eqx.is_array_like(x)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """True if an array of one shape broadcasts to the other."""
    pairs = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in pairs)


def _holds(number: Any, given: Any) -> bool:
    """True if entries of the state with one dtype can be multiplied by numbers with the other."""
    return jnp.issubdtype(number, jnp.complexfloating) or not jnp.issubdtype(given, jnp.complexfloating)


def _dtype(leaves: list[Any], space: FlatSpace) -> Any:
    """The dtype of the diagonal: that of vectors, or complex if an entry is."""
    is_complex = any(jnp.issubdtype(jnp.result_type(x), jnp.complexfloating) for x in leaves)
    return complex_dtype(space.dtype) if is_complex else space.dtype


def _wrong(space: FlatSpace, found: str) -> ValueError:
    size = len(space.places())
    state = jax.eval_shape(lambda: space.unravel(jnp.zeros(space.size, space.dtype)))
    return ValueError(
        f"{_WHAT}\nExpected: its diagonal, a pytree like the state whose leaves broadcast against {layout(state)};\n"
        f"          or a matrix of shape ({size}, {size}), dense, sparse or an operator, with a row for each entry\n"
        f"Found:    {found}\nZeros on the diagonal stand for algebraic equations; leave it out for the identity."
    )


def _complex(space: FlatSpace, found: str) -> ValueError:
    state = jax.eval_shape(lambda: space.unravel(jnp.zeros(space.size, space.dtype)))
    return ValueError(
        f"{_WHAT} A real entry of the state has real ones.\nExpected: real numbers for real leaves of {layout(state)}\n"
        f"Found:    {found}\nMake the whole state complex, or use real numbers in `mass`."
    )
