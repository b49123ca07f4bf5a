"""Terms of ordinary differential equations."""

from collections.abc import Callable
from typing import Any, Self, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from ..jaxkit import (
    Args,
    RealScalar,
    Time,
    Y,
    call_user,
    check_parameters,
    check_structure,
    inexact_dtype,
    layout,
    scaled,
    shape_and_dtype,
    shown,
    standing_for,
    trace_once,
    with_fields,
)
from ..sparsity import SparsityPattern, as_pattern, is_sparse, sparse_matrix
from .base import AbstractTerm, Consistency, MassKind

_JACOBIAN = "the function `ODETerm(jacobian=...)`"
_MASS = "the function `ODETerm(mass=...)`"


def _as_mass(given: Any) -> Any:
    """A mass matrix, of which a sparse one is stored as its values and its pattern."""
    return sparse_matrix(given) if is_sparse(given) else given


class ODETerm[VF](AbstractTerm[VF, RealScalar]):
    r"""An ordinary differential equation, driven by time itself.

    $$\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}t$$

    With a mass matrix it is $M\,\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}t$. If $M$ is singular, that is a
    differential-algebraic equation: with the columns of $W$ a basis of the left null space of $M$, the equations
    $W^\top f(t, y, \text{args}) = 0$ are algebraic. They must determine the part of the state that $M y$ leaves open,
    so that the equation is of index one.

    Parameters
    ----------
    vector_field
        A function `f(t, y, args)` that returns dy/dt with the tree structure and shapes of `y`. It may return another
        precision of the same kind of number, such as float32 for float64: the value is cast to the dtype of `y`. A
        Python number stands for every entry of its leaf.
    jacobian
        For implicit solvers, a function `jacobian(t, y, args)` that returns the derivative of the vector field with
        respect to `y`: a square matrix with a row for each entry of `y`, the pytree that `jax.jacfwd` returns, or a
        Lineax operator. For a complex state the matrix has twice the size, with the real parts before the imaginary
        ones, unless the field is declared holomorphic. With `sparsity` it may also be the vector of the values of the
        pattern's entries, row by row. By default JAX differentiates `vector_field`.
    tags
        The structure of that derivative: `lineax.diagonal_tag`, `lineax.tridiagonal_tag`, `rungax.Banded(lower,
        upper)`, and for complex states `rungax.holomorphic_tag`; one or several. The Jacobian is then computed, stored
        and factorised at a cost proportional to the number of its diagonals.
    sparsity
        The entries of that derivative that may differ from zero, for large systems: what `jacobian_sparsity` returns, a
        SciPy sparse array, a `jax.experimental.sparse.BCOO`, or a boolean matrix. Rows and columns are those of the
        entries of `y`, leaf after leaf. The Jacobian is then computed by one directional derivative for each colour of
        the pattern, and compared with one more: a pattern in which entries are missing ends the solve with
        `RESULTS.jacobian_pattern_wrong`.
    mass
        The mass matrix; `None` stands for the identity. Its diagonal, a pytree like `y` whose leaves broadcast against
        those of `y`, in which zeros make algebraic equations; or a matrix with a row for each entry of `y`, leaf after
        leaf: an array, a Lineax operator, a `BandedLinearOperator`, a SciPy sparse array or a `BCOO`; or a function
        `mass(t, y, args)` that returns one of these. Methods for stiff equations solve equations with singular
        matrices, and those but Rosenbrock methods also equations with a function, whose algebraic equations should be
        rows of zeros that stay in their places. Explicit methods need a regular constant matrix.
    consistency
        What happens if the initial values, or those after the effect of an event, do not fulfil the algebraic
        equations: `"solve"` changes the algebraic part of the state so that they do, as
        `consistent_initial_values` does; `"check"` ends the solve with `RESULTS.inconsistent_initial_values`; `"none"`
        does nothing, and then derivatives are those with respect to the values as given.

    Raises
    ------
    ValueError
        If `vector_field` or `jacobian` is not a function, `sparsity` is not the pattern of a square matrix, or
        `consistency` is none of these words. In a solve, if `mass` does not fit the state or the solver, if the value
        of `vector_field` differs from `y` in structure or shapes, or is complex where `y` is real, or if `sparsity` has
        not one row for each entry of `y`.

    Differentiability
    -----------------
    With respect to all parameters inside `vector_field` and `mass`, the state, time and `args`; of the initial state
    only $M y_0$ matters if initial values are made consistent. Derivatives by entries of a singular constant matrix are
    those along changes that keep its rank. Implicit solvers use `jacobian` only in their iterations, so their
    derivatives do not depend on it. A Rosenbrock step uses it in its formula and is differentiated through it.

    Cost
    ----
    One evaluation of `vector_field` for each evaluation of the term. A constant mass matrix that is not diagonal is
    factorised once a solve, a banded or sparse one by its connected blocks.

    Examples
    --------
    >>> import rungax
    >>> term = rungax.ODETerm(lambda t, y, args: -args * y)
    >>> float(term.vf_prod(0.0, 1.0, 2.0, 0.1))
    -0.2
    """

    vector_field: Callable[..., Y]
    jacobian: Callable[..., Any] | None = None
    tags: object = eqx.field(default=(), static=True)
    sparsity: SparsityPattern | None = eqx.field(default=None, static=True, converter=as_pattern)
    mass: Any = eqx.field(default=None, converter=_as_mass)
    consistency: Consistency = eqx.field(default="solve", static=True)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __check_init__(self) -> None:
        if self.consistency not in get_args(Consistency.__value__):
            raise ValueError(
                "`ODETerm(consistency=...)` says what is done about initial values that do not fulfil the algebraic"
                ' equations.\nExpected: "solve", "check" or "none"\n'
                f'Found:    {shown(self.consistency)}\n"solve" changes the algebraic part of `y0` as far as needed.'
            )
        for name, function in (("vector_field", self.vector_field), ("jacobian", self.jacobian)):
            if not callable(function) and not (function is None and name == "jacobian"):
                raise ValueError(
                    f"`ODETerm({name}=...)` is a function of time, state and arguments.\n"
                    f"Expected: a callable `{name}(t, y, args)`\nFound:    {shown(function)}"
                )

    def vf(self, t: RealScalar, y: Y, args: Args) -> Y:
        """dy/dt at time `t` and state `y`, cast to the dtypes of `y`; to floats where `y` is of integers."""
        return self._evaluated(t, y, args)

    def _evaluated(self, t: RealScalar, y: Y, args: Args) -> Y:
        """The vector field as given, also in subclasses that define `vf` by it."""
        return _fit(call_user("the vector field", self.vector_field, t, y, args), y)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> RealScalar:
        """`t1 - t0`; options meant for random drivers are ignored."""
        del kwargs
        return t1 - t0

    def prod(self, vf: Y, control: RealScalar) -> Y:
        """`control * vf`, in the dtype of each leaf of `vf`."""
        return jax.tree.map(lambda v: scaled(control, v), vf)

    def quotient(self, increment: Y, control: RealScalar) -> Y:
        """`increment / control`."""
        return jax.tree.map(lambda x: x / jnp.asarray(control).astype(x.dtype), increment)

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The value of the user's `jacobian`, or `None` if there is none."""
        return None if self.jacobian is None else call_user(_JACOBIAN, self.jacobian, t, y, args)

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The `mass`, or the value of that function."""
        return _as_mass(call_user(_MASS, self.mass, t, y, args)) if self.mass_kind == "variable" else self.mass

    @property
    def mass_kind(self) -> MassKind:
        """Whether `mass` is given, and by a function."""
        if self.mass is None:
            return "identity"
        is_operator = isinstance(self.mass, lx.AbstractLinearOperator)
        return "variable" if callable(self.mass) and not is_operator else "constant"

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """The `tags`."""
        return frozenset(self.tags) if isinstance(self.tags, tuple | list | set | frozenset) else frozenset([self.tags])

    @property
    def jacobian_pattern(self) -> SparsityPattern | None:
        """The `sparsity`."""
        return self.sparsity

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y:
        """The vector field itself."""
        return self.vf(t, y, args)

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term with its vector field traced once."""
        if self.num_equations() > 0:
            return self
        _check_size(self.sparsity, y)
        given = ("time", "state", "`args`")
        check_parameters(self.vector_field, "`vector_field`", "vector_field(t, y, args)", given)
        traced: dict[str, Any] = {
            "vector_field": trace_once(standing_for(self.vector_field)(lambda *at: self._evaluated(*at)), t, y, args)
        }
        functions = {"jacobian": self.jacobian_at, "mass": self.mass_at if self.mass_kind == "variable" else None}
        for name, method in functions.items():
            function = getattr(self, name)
            if function is not None and method is not None:
                check_parameters(function, f"`ODETerm({name}=...)`", f"{name}(t, y, args)", given)
                # JAX's messages name the user's function.
                traced[name] = trace_once(standing_for(function)(lambda *at, method=method: method(*at)), t, y, args)
        return with_fields(self, **traced)

    def num_equations(self) -> int:
        """Number of JAX operations of the traced vector field, 0 before `trace_once`."""
        return getattr(self.vector_field, "num_equations", 0)


def _check_size(pattern: SparsityPattern | None, y: Y) -> None:
    """Raise a `ValueError` unless a pattern has one row for each entry of the state."""
    size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(y))
    if pattern is not None and pattern.size != size:
        raise ValueError(
            "`ODETerm(sparsity=...)` has one row and one column for each entry of the state.\n"
            f"Expected: shape ({size}, {size}), for {layout(y)}\n"
            f"Found:    shape ({pattern.size}, {pattern.size})\n"
            "The entries are those of all leaves, one after another, as `jax.flatten_util.ravel_pytree(y0)` has them."
        )


def _fit(value: Y, y: Y) -> Y:
    """`value`, cast to the dtypes of `y`, and to floats where those are not of floats.

    Raises
    ------
    ValueError
        If it differs from `y` in structure or in a shape, or is complex where `y` is real.
    """
    check_structure(value, y, "`vector_field` must return dy/dt with the structure of the state")
    return jax.tree.map_with_path(lambda path, v, leaf: _fit_leaf(jax.tree_util.keystr(path), v, leaf), value, y)


def _fit_leaf(path: str, value: Any, y: Any) -> jax.Array:
    shape, dtype = jnp.shape(y), inexact_dtype(y)
    where = f"leaf {path} of the value of `vector_field`" if path else "the value of `vector_field`"
    if isinstance(value, bool | int | float | complex):
        value = jnp.broadcast_to(jnp.asarray(value, dtype if not isinstance(value, complex) else complex), shape)
    if not eqx.is_array_like(value):
        raise ValueError(
            f"{where[0].upper()}{where[1:]} must be numbers.\nExpected: {shape_and_dtype(y)}\nFound:    {layout(value)}"
        )
    if jnp.shape(value) != shape:
        fix = "Return dy/dt with the shape of `y0`, or give `y0` the shape of dy/dt (jnp.broadcast_to)."
        if jnp.shape(value) == ():
            fix = "Return dy/dt of every entry, `jnp.stack([...])`. Are its parameters in the order `(t, y, args)`?"
        raise ValueError(
            f"The shape of {where} must be that of the state `y`.\nExpected: {shape}\nFound:    {jnp.shape(value)}\n"
            f"{fix}"
        )
    found = jnp.result_type(value)
    if jnp.issubdtype(found, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"The dtype of {where} is complex but the state `y` is real.\nExpected: {dtype}\nFound:    {found}\n"
            "Make `y0` complex, or return the real part."
        )
    return jnp.asarray(value).astype(dtype)
