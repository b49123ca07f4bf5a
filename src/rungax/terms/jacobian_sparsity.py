"""The pattern of a field's Jacobian, found by evaluating derivatives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ..jaxkit import Args, FlatSpace, RealScalar, Time, Y, inexact_dtype, is_traced, layout, shown, time_dtype
from ..sparsity import Entries, SparsityPattern, entries_at, finite_points
from .base import AbstractTerm
from .ode import ODETerm

type Vector = Inexact[Array, " n"]
type Field = Callable[[Time, Vector], Vector]
type Point = tuple[Time, Vector]

_CHANGES = (0.0, 1e-3, 0.03, 0.3)
"""Sizes of the relative changes of the states near `y0`, and of the times."""


def jacobian_sparsity(vector_field: Any, t0: RealScalar, y0: Y, args: Args = None) -> SparsityPattern:
    """The pattern of the Jacobian of a vector field with respect to the state, for `ODETerm(sparsity=...)`.

    An entry is in the pattern if the derivative is not zero at one of six points. These are `t0`, `y0`; three random
    times and states near them, at which entries of `y0` that are not zero keep their signs; and two random states of
    the size of `y0`, with opposite signs. Points at which the field or a derivative is not finite are skipped. An entry
    that is zero at all six points is missed, for example behind a threshold that none of them exceeds. A solve whose
    pattern lacks an entry ends with `RESULTS.jacobian_pattern_wrong` as soon as the entry differs from zero.

    Parameters
    ----------
    vector_field
        A function `f(t, y, args)`, as `ODETerm` takes it, or a term.
    t0
        A time.
    y0
        A typical state: a pytree of arrays.
    args
        The arguments of the vector field.

    Returns
    -------
    SparsityPattern
        The pattern. Its rows and columns are those of the entries of the state, leaf after leaf. A complex entry has
        real and imaginary parts, and is one row and one column in which each of the four derivatives counts.

    Raises
    ------
    ValueError
        If `vector_field` is not a function whose value has the structure of `y0`, if a value is known only at run time,
        as inside `jit`, or if no point has finite derivatives.

    Cost
    ----
    Directional derivatives at each point: for a pattern with few entries in each row some hundreds, growing like the
    logarithm of the number of states; for a dense pattern twice as many as there are states. The memory is that of a
    block of up to 16 of them. The derivatives are computed and the program compiled anew in every call: store the
    pattern, and use it for many solves.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> def heat(t, u, args):
    ...     return jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)
    >>> rungax.jacobian_sparsity(heat, 0.0, jnp.ones(30))
    SparsityPattern(size=30, num_entries=90, num_colours=3)
    """
    if is_traced((t0, y0, args)):
        raise ValueError(_not_known(f"t0={shown(t0)}, y0={shown(y0)}, args={shown(args)}"))
    # Also inside `jit`, for a field and a state that do not depend on what it traces.
    with jax.ensure_compile_time_eval():
        y0 = jax.tree.map(jnp.asarray, y0)
        space = FlatSpace(y0)
        term = vector_field if isinstance(vector_field, AbstractTerm) else ODETerm(vector_field)
        field = _on_vectors(term.trace_once(jnp.asarray(t0, time_dtype(t0)), y0, args), space, args)
        try:
            rows, columns = _entries(field, _points(t0, y0, space), y0)
        except jax.errors.TracerArrayConversionError:
            raise ValueError(_not_known("a vector field that uses a traced value")) from None
    places = space.places()
    entry_of = np.zeros(space.size, int)
    entry_of[places] = np.arange(len(places))[:, None]
    return SparsityPattern.of_entries(len(places), entry_of[rows], entry_of[columns])


def _on_vectors(term: AbstractTerm[Any, Any], space: FlatSpace, args: Args) -> Field:
    """dy/dt of a term, on vectors."""

    def field(t: Time, y: Vector) -> Vector:
        state = space.unravel(y)
        slope = term.time_derivative(t, state, args)
        if slope is None:
            raise ValueError(
                "`jacobian_sparsity(vector_field, ...)` takes the pattern of dy/dt.\n"
                f"Expected: a function `f(t, y, args)` or an `ODETerm`\nFound:    a `{type(term).__name__}`\n"
                "Give the function that returns dy/dt."
            )
        return space.ravel(slope)

    return field


def _entries(field: Field, points: Point, y0: Y) -> Entries:
    """The entries at the points at which the field and its derivatives are finite."""
    is_finite = finite_points(field, points)
    if not np.any(is_finite):
        raise ValueError(
            "`jacobian_sparsity(vector_field, t0, y0)` evaluates derivatives at `y0` and at random states.\n"
            f"Expected: finite derivatives at one state at least, for y0 = {layout(y0)}\n"
            f"Found:    infinities or NaN at all {len(is_finite)}\n"
            "Give a `y0` at which the vector field can be differentiated."
        )
    return entries_at(field, jax.tree.map(lambda x: x[is_finite], points))


def _points(t0: RealScalar, y0: Y, space: FlatSpace) -> Point:
    """Times and states at which derivatives are evaluated, with an axis for the points in front."""
    generator = np.random.default_rng(0)
    y, size = (np.asarray(space.ravel(x), np.float64) for x in (y0, jax.tree.map(_size, y0)))
    uniform = lambda: generator.uniform(-1.0, 1.0, y.size)
    near = [y * (1 + change * uniform()) + np.where(y == 0, size * change * uniform(), 0.0) for change in _CHANGES]
    # Each entry with both signs, on which a field may branch: an upwind difference, for example.
    signs = generator.choice([-1.0, 1.0], y.size)
    far = [size * sign * np.abs(generator.normal(size=y.size)) for sign in (signs, -signs)]
    time = float(t0)
    times = [time + change * max(abs(time), 1.0) * generator.choice([-1.0, 1.0]) for change in (*_CHANGES, 0.0, 1.0)]
    states = np.array([*near, *far]).reshape(len(times), y.size)
    return jnp.asarray(np.array(times), time_dtype(t0)), jnp.asarray(states, space.dtype)


def _size(leaf: jax.Array) -> jax.Array:
    """The mean modulus of an array's entries, or one if they are zero, for every entry and each of its parts."""
    modulus = float(np.nan_to_num(np.mean(np.abs(np.asarray(leaf))))) if leaf.size > 0 else 0.0
    unit = 1 + 1j if jnp.iscomplexobj(leaf) else 1
    return jnp.full(leaf.shape, (modulus or 1.0) * unit, inexact_dtype(leaf))


def _not_known(found: str) -> str:
    return (
        "`jacobian_sparsity` evaluates the vector field, so that the pattern is known when a program is compiled.\n"
        f"Expected: values that are known\nFound:    {found}\nCall it outside of `jit`, with typical values."
    )
