"""Terms driven by a path, for controlled and stochastic equations."""

from collections.abc import Callable
from math import prod
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ..brownian import AbstractBrownianPath
from ..jaxkit import (
    Args,
    FlatSpace,
    RealScalar,
    Time,
    Y,
    call_user,
    check_parameters,
    check_structure,
    layout,
    shown,
    standing_for,
    trace_once,
    with_fields,
)
from ..paths import AbstractPath
from .base import AbstractTerm, Noise, NoiseShape
from .ode import ODETerm


class ControlTerm[VF, Control](AbstractTerm[VF, Control]):
    r"""A vector field driven by a path: the diffusion of a stochastic equation, or a controlled equation.

    $$\mathrm{d}y = g(t, y(t), \text{args})\,\mathrm{d}x(t)$$

    The solver decides whether the integral with respect to a Brownian path is that of Itô or that of Stratonovich.

    Parameters
    ----------
    vector_field
        A function `g(t, y, args)`. It returns either arrays or an operator. Arrays: a pytree with the structure that
        `y` and the path's values share, each array of shape `y leaf shape + path leaf shape`. Each is multiplied with
        the leaf of the path's increment and summed over all axes of that leaf. Operator: a Lineax operator from the
        path's values to `y`.

        | noise | shape of path | `vector_field` returns |
        |---|---|---|
        | scalar, one source for all of `y` of shape `(n,)` | `()` | array of shape `(n,)` |
        | diagonal, one source for each entry | `(n,)` | `lineax.DiagonalLinearOperator(d)`, `d` of shape `(n,)` |
        | general | `(m,)` | array of shape `(n, m)`, or any operator of that size |
    control
        The path: an `AbstractPath`, or a function `control(t0, t1)` that returns its increment.

    Raises
    ------
    ValueError
        If `vector_field` is not a function, or `control` is neither a path nor a function. In a solve, if shapes do
        not fit.

    Differentiability
    -----------------
    With respect to all parameters inside `vector_field`, the state, `args`, and the path's own values.

    Cost
    ----
    One evaluation of `vector_field` and one of the path. The product with arrays takes one multiplication for each of
    their entries.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> path = rungax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=jax.random.key(0))
    >>> drift = rungax.ODETerm(lambda t, y, args: -y)
    >>> diffusion = rungax.ControlTerm(lambda t, y, args: jnp.array(0.5), path)
    >>> terms = rungax.MultiTerm(drift, diffusion)
    >>> solution = rungax.diffeqsolve(terms, rungax.Euler(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> solution.ys.shape
    (1,)
    """

    vector_field: Callable[..., PyTree[Any]]
    control: AbstractPath

    def __init__(self, vector_field: Callable[..., PyTree[Any]], control: AbstractPath | Callable[..., PyTree[Any]]):
        if not callable(vector_field):
            raise ValueError(
                "`ControlTerm(vector_field=...)` is a function of time, state and arguments.\n"
                f"Expected: a callable `vector_field(t, y, args)`\nFound:    {shown(vector_field)}"
            )
        if not isinstance(control, AbstractPath) and not callable(control):
            raise ValueError(
                "`ControlTerm(control=...)` is the driver of the equation.\n"
                "Expected: a path such as VirtualBrownianTree, or a function `control(t0, t1)`\n"
                f"Found:    {shown(control)}"
            )
        owner = getattr(control, "__self__", None)
        if isinstance(owner, AbstractPath) and getattr(control, "__name__", "") == "evaluate":
            # Replaced by the path itself, which has more than this one method.
            control = owner
        self.vector_field = vector_field
        self.control = control if isinstance(control, AbstractPath) else _IncrementsOnly(control)

    def vf(self, t: RealScalar, y: Y, args: Args) -> PyTree[Any]:
        """`vector_field(t, y, args)`: arrays or an operator."""
        return self._evaluated(t, y, args)

    def _evaluated(self, t: RealScalar, y: Y, args: Args) -> PyTree[Any]:
        """The vector field as given, also in subclasses that define `vf` by it."""
        return call_user("the vector field of a `ControlTerm`", self.vector_field, t, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> PyTree[Any]:
        """The path's increment from `t0` to `t1`; with `use_levy=True`, that of a Brownian path with its Lévy areas."""
        return call_user("the control of a `ControlTerm`", self.control.evaluate, t0, t1, **kwargs)

    def prod(self, vf: PyTree[Any], control: PyTree[Any]) -> Y:
        """The operator applied to the increment, or the arrays contracted with it, without complex conjugation."""
        if isinstance(vf, lx.AbstractLinearOperator):
            like = vf.in_structure()
            return vf.mv(jax.tree.map(lambda x, s: jnp.asarray(x).astype(s.dtype), control, like))
        return jax.tree.map(_contract, vf, control)

    def to_ode(self) -> ODETerm:
        r"""The equation $\mathrm{d}y/\mathrm{d}t = g(t, y)\,\dot x(t)$, for a path with a derivative."""
        return ODETerm(_ControlledField(self))

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term with its vector field traced once."""
        if self.num_equations() > 0:
            return self
        like = jax.eval_shape(lambda t: ControlTerm.contr(self, t, t), t)
        check_parameters(self.vector_field, "`vector_field`", "vector_field(t, y, args)", ("time", "state", "`args`"))
        fitted = standing_for(self.vector_field)(lambda t, y, args: _fit(self._evaluated(t, y, args), y, like))
        field = trace_once(fitted, t, y, args)
        return with_fields(self, vector_field=field)

    def num_equations(self) -> int:
        """Number of JAX operations of the traced vector field, 0 before `trace_once`."""
        return getattr(self.vector_field, "num_equations", 0)

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """The structure of the noise, or `None` if the path is not Brownian."""
        if not isinstance(self.control, AbstractBrownianPath):
            return None
        uses = getattr(self.vector_field, "uses", (True, True, True))
        like = jax.eval_shape(lambda t: self.contr(t, t), t)
        field = eqx.filter_eval_shape(self.vf, t, y, args)
        return Noise(self.control, is_additive=not uses[1], shape=_shape_of(field, y, like))

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """Zero for a Brownian path, which has no drift; unknown, and so `None`, for others."""
        del t, args
        return jax.tree.map(jnp.zeros_like, y) if isinstance(self.control, AbstractBrownianPath) else None

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """The square root of the sum of squares over all sources of noise, or `None` if the path is not Brownian."""
        if not isinstance(self.control, AbstractBrownianPath):
            return None
        field = self.vf(t, y, args)
        if isinstance(field, lx.AbstractLinearOperator):
            return FlatSpace(y, holomorphic=True).unravel(_row_norms(field))
        return jax.tree.map(
            lambda f, y: jnp.sqrt(jnp.sum(jnp.abs(f) ** 2, axis=tuple(range(y.ndim, f.ndim)))), field, y
        )

    def initial_carry(self) -> PyTree[Any] | None:
        """The path's initial carry."""
        return self.control.initial_carry()

    def increment_and_carry(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The path's increment and carry."""
        return self.control.increment_and_carry(carry, t0, t1)


class _IncrementsOnly(AbstractPath):
    """A path given by a function that returns its increments."""

    t0: RealScalar
    t1: RealScalar
    increment: Callable[..., PyTree[Any]]

    def __init__(self, increment: Callable[..., PyTree[Any]]):
        self.t0, self.t1, self.increment = -float("inf"), float("inf"), increment

    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The increment from `t0` to `t1`."""
        del left
        if t1 is None:
            raise ValueError(
                "`ControlTerm(control=...)` was given as a function of increments and has no value at one time.\n"
                "Expected: two times\nFound:    one\nUse an `AbstractPath` for a control with values."
            )
        return call_user("the control of a `ControlTerm`", self.increment, t0, t1)


class _ControlledField(eqx.Module):
    """The vector field of a controlled equation times the derivative of its control."""

    term: ControlTerm

    def __call__(self, t: RealScalar, y: Y, args: Args) -> Y:
        control = call_user("the derivative of a control", self.term.control.derivative, t)
        return self.term.vf_prod(t, y, args, control)


def _contract(field: Any, control: Any) -> Array:
    """`field * control`, summed over all axes of `control`, as a fused loop: a matrix product would call a library."""
    field, control = jnp.asarray(field), jnp.asarray(control)
    control = control.astype(field.dtype)
    if control.ndim == 0:
        return control * field
    rest = field.ndim - control.ndim
    return jnp.sum(field * control.reshape((1,) * rest + control.shape), axis=tuple(range(rest, field.ndim)))


def _row_norms(operator: lx.AbstractLinearOperator) -> Array:
    if lx.is_diagonal(operator):
        return jnp.abs(lx.diagonal(operator))
    return jnp.sqrt(jnp.sum(jnp.abs(operator.as_matrix()) ** 2, axis=1))


def _shape_of(field: PyTree[Any], y: Y, control: PyTree[Any]) -> NoiseShape:
    if sum(prod(x.shape) for x in jax.tree.leaves(control)) == 1:
        return "scalar"
    if isinstance(field, lx.AbstractLinearOperator):
        return "diagonal" if lx.is_diagonal(field) else "general"
    one_each = all(jnp.ndim(x) == 0 for x in jax.tree.leaves((y, control)))
    return "diagonal" if one_each else "general"


# ------------------------------------------------------------------------------------------------------------- checking


def _fit(value: PyTree[Any], y: Y, control: PyTree[Any]) -> PyTree[Any]:
    """The `value` of the vector field, with arrays cast to the dtypes of `y`.

    Raises
    ------
    ValueError
        If it does not map increments like `control` to states like `y`.
    """
    if isinstance(value, lx.AbstractLinearOperator):
        _check_operator(value, y, control)
        return value
    what = "A `ControlTerm` whose vector field returns arrays needs state, field and control of one structure"
    if jax.tree.structure(y) != jax.tree.structure(control):
        raise ValueError(
            f"{what}.\nState:   {layout(y)}\nField:   {layout(value)}\nControl: {layout(control)}\n"
            "Where several leaves share a source of noise, return a Lineax operator from control to state."
        )
    check_structure(value, y, what)
    rows = zip(jax.tree.leaves_with_path(y), jax.tree.leaves(value), jax.tree.leaves(control), strict=True)
    fitted = [
        _fit_leaf(jax.tree_util.keystr(path), *leaves) for (path, *leaves) in ((p, f, y, c) for (p, y), f, c in rows)
    ]
    return jax.tree.unflatten(jax.tree.structure(y), fitted)


def _fit_leaf(path: str, field: Any, y: Any, control: Any) -> Array:
    where = f"leaf {path} of the field of a `ControlTerm`" if path else "the field of a `ControlTerm`"
    expected = (*jnp.shape(y), *control.shape)
    if isinstance(field, int | float | complex) and not isinstance(field, bool):
        field = jnp.full(expected, field) if expected == () else jnp.asarray(field)
    if jnp.shape(field) != expected:
        raise ValueError(
            f"The shape of {where} must be that of the state followed by that of the control.\n"
            f"Expected: {expected}, state {jnp.shape(y)} and control {control.shape}\nFound:    {jnp.shape(field)}\n"
            "For diagonal noise return `lineax.DiagonalLinearOperator(...)`; for one source, make the path of shape ()."
        )
    dtype = jnp.result_type(y)
    for what, found in ((where, jnp.result_type(field)), ("the control", control.dtype)):
        if jnp.issubdtype(found, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"The dtype of {what} is complex but the state `y` is real.\nExpected: {dtype}\nFound:    {found}\n"
                "Make `y0` complex, or return the real part."
            )
    return jnp.asarray(field).astype(dtype)


def _check_operator(operator: lx.AbstractLinearOperator, y: Y, control: PyTree[Any]) -> None:
    for given, taken in zip(jax.tree.leaves(control), jax.tree.leaves(operator.in_structure()), strict=False):
        is_complex = [jnp.issubdtype(x.dtype, jnp.complexfloating) for x in (given, taken)]
        if is_complex == [True, False]:
            raise ValueError(
                "The field of a `ControlTerm` is a real Lineax operator, but the control is complex.\n"
                f"Expected: {taken.dtype}\nFound:    {given.dtype}\nMake state and operator complex, or the path real."
            )
    found, wanted = (operator.in_structure(), operator.out_structure()), jax.eval_shape(lambda s: s, (control, y))
    shapes = [[x.shape for x in jax.tree.leaves(s[0])] for s in (found, wanted)]
    dtypes = [[(x.shape, x.dtype) for x in jax.tree.leaves(s[1])] for s in (found, wanted)]
    same_structure = jax.tree.structure(found) == jax.tree.structure(wanted)
    if not same_structure or shapes[0] != shapes[1] or dtypes[0] != dtypes[1]:
        raise ValueError(
            "The Lineax operator that the field of a `ControlTerm` returns must map the control to the state.\n"
            f"Expected: {' -> '.join(map(layout, wanted))}\nFound:    {' -> '.join(map(layout, found))}\n"
            "Build it with these shapes, and in the state's dtype."
        )
