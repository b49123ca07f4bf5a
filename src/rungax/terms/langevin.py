r"""Underdamped Langevin dynamics: the motion of a particle in a potential, with friction and noise.

$$\mathrm{d}x = v\,\mathrm{d}t, \qquad
\mathrm{d}v = -\gamma v\,\mathrm{d}t - u\,\nabla f(x)\,\mathrm{d}t + \sqrt{2\gamma u}\,\mathrm{d}W$$

The state is the pair `(x, v)`. In its stationary distribution `x` has density proportional to $\exp(-f)$, and `v` is
normal with variance `u` and independent of `x`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..brownian import AbstractBrownianPath
from ..jaxkit import (
    AbstractChecked,
    Args,
    BoolScalar,
    Condition,
    RealScalar,
    Time,
    Y,
    call_user,
    cast_like,
    check_parameters,
    check_structure,
    inexact_dtype,
    layout,
    operand,
    scaled,
    shown,
    standing_for,
    trace_once,
    with_fields,
)
from ..paths import AbstractPath
from .base import AbstractTerm, Noise

type X = PyTree[Array]
"""A position, or a pytree like it: a velocity or a gradient."""


class UnderdampedLangevinDriftTerm(AbstractTerm[tuple[X, X], RealScalar], AbstractChecked):
    r"""The drift of underdamped Langevin dynamics, for a state `(x, v)`.

    $$\mathrm{d}x = v\,\mathrm{d}t, \qquad \mathrm{d}v = -\gamma v\,\mathrm{d}t - u\,\nabla f(x)\,\mathrm{d}t$$

    Parameters
    ----------
    gamma
        The friction, a rate; not negative. A number, or a pytree that is a prefix of `x` and whose arrays broadcast to
        the leaves of `x` below them.
    u
        The inverse mass, in the same form; the stationary variance of `v`.
    grad_f
        A function `grad_f(x, args)` that returns the gradient of the potential, a pytree like `x`.

    Raises
    ------
    ValueError
        If `gamma` or `u` is known to be negative, or `grad_f` is not a function. In a solve, if the state is not a pair
        `(x, v)` of pytrees with the same structure and shapes, if `gamma` or `u` does not broadcast to `x`, or if the
        gradient is not like `x`.

    Differentiability
    -----------------
    With respect to `gamma`, `u`, the state, `args`, and all parameters inside `grad_f`.

    Cost
    ----
    One evaluation of `grad_f` for each evaluation of the term.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> path = rungax.VirtualBrownianTree(
    ...     0.0,
    ...     1.0,
    ...     tol=1e-3,
    ...     shape=(2,),
    ...     key=jax.random.key(0),
    ...     levy_area=rungax.SpaceTimeTimeLevyArea,
    ... )
    >>> drift = rungax.UnderdampedLangevinDriftTerm(gamma=1.0, u=1.0, grad_f=lambda x, args: x)
    >>> diffusion = rungax.UnderdampedLangevinDiffusionTerm(gamma=1.0, u=1.0, bm=path)
    >>> y0 = (jnp.zeros(2), jnp.zeros(2))
    >>> solution = rungax.diffeqsolve(
    ...     rungax.MultiTerm(drift, diffusion), rungax.QUICSORT(), 0.0, 1.0, 0.1, y0
    ... )
    >>> x, v = solution.ys
    >>> x.shape
    (1, 2)
    """

    gamma: PyTree[Any]
    u: PyTree[Any]
    grad_f: Callable[..., X]

    def __init__(self, gamma: PyTree[Any], u: PyTree[Any], grad_f: Callable[..., X]):
        if not callable(grad_f):
            raise ValueError(
                "`UnderdampedLangevinDriftTerm(grad_f=...)` is the gradient of the potential.\n"
                f"Expected: a callable `grad_f(x, args)`\nFound:    {shown(grad_f)}"
            )
        self.gamma = gamma
        self.u = u
        self.grad_f = grad_f

    def value_conditions(self) -> Iterator[Condition]:
        """`gamma` and `u` are not negative."""
        return _signs("UnderdampedLangevinDriftTerm", self.gamma, self.u)

    def gradient(self, x: X, args: Args) -> X:
        """`grad_f(x, args)`, cast to the dtypes of `x`."""
        return _fit(call_user("the function `grad_f`", self.grad_f, x, args), x)

    def friction(self, x: X) -> X:
        """`gamma` as one real array for each leaf of `x`: a scalar, or of the leaf's rank and broadcasting to it."""
        return broadcast_to_leaves("gamma", self.gamma, x)

    def inverse_mass(self, x: X) -> X:
        """`u` in the same form as `friction`."""
        return broadcast_to_leaves("u", self.u, x)

    def vf(self, t: RealScalar, y: Y, args: Args) -> tuple[X, X]:
        """`(dx/dt, dv/dt)`."""
        del t
        x, v = position_and_velocity(y)
        force = jax.tree.map(
            lambda gamma, u, v, grad: -gamma * v - u * grad,
            self.friction(x),
            self.inverse_mass(x),
            v,
            self.gradient(x, args),
        )
        return v, force

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> RealScalar:
        """`t1 - t0`; options meant for random drivers are ignored."""
        del kwargs
        return t1 - t0

    def prod(self, vf: tuple[X, X], control: RealScalar) -> Y:
        """`control * vf`, in the dtype of each leaf."""
        return jax.tree.map(lambda x: scaled(control, x), vf)

    def quotient(self, increment: Y, control: RealScalar) -> tuple[X, X]:
        """`increment / control`."""
        return jax.tree.map(lambda x: x / jnp.asarray(control).astype(x.dtype), increment)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y:
        """The vector field itself."""
        return self.vf(t, y, args)

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term, checked, with `grad_f` traced once."""
        del t
        x, _ = position_and_velocity(y)
        self.friction(x)
        self.inverse_mass(x)
        where = "`UnderdampedLangevinDriftTerm(grad_f=...)`"
        check_parameters(self.grad_f, where, "grad_f(x, args)", ("position", "`args`"))
        return with_fields(self, grad_f=trace_once(standing_for(self.grad_f)(lambda *at: self.gradient(*at)), x, args))

    def num_equations(self) -> int:
        """Number of JAX operations of the traced gradient, 0 before `trace_once`."""
        return getattr(self.grad_f, "num_equations", 0)


class UnderdampedLangevinDiffusionTerm(AbstractTerm[tuple[X, X], X], AbstractChecked):
    r"""The diffusion of underdamped Langevin dynamics, for a state `(x, v)`.

    $$\mathrm{d}v = \sqrt{2\gamma u}\,\mathrm{d}W$$

    Parameters
    ----------
    gamma, u
        Friction and inverse mass, equal to those of the drift.
    bm
        The Brownian path, with values like `x`; stored as the attribute `control`.

    Raises
    ------
    ValueError
        If `gamma` or `u` is known to be negative, or `bm` is not a path. In a solve, if the state is not a pair
        `(x, v)` of pytrees with the same structure and shapes, if `gamma` or `u` does not broadcast to `x`, or if the
        values of the path are not like `x`.

    Differentiability
    -----------------
    With respect to `gamma` and `u` where neither is zero.

    Cost
    ----
    One evaluation of the path; no vector field is evaluated.

    See Also
    --------
    UnderdampedLangevinDriftTerm : the drift, with an example of both terms.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath(
    ...     (2,), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea
    ... )
    >>> diffusion = rungax.UnderdampedLangevinDiffusionTerm(gamma=1.0, u=1.0, bm=path)
    """

    gamma: PyTree[Any]
    u: PyTree[Any]
    control: AbstractPath

    def __init__(self, gamma: PyTree[Any], u: PyTree[Any], bm: AbstractPath):
        if not isinstance(bm, AbstractPath):
            raise ValueError(
                "`UnderdampedLangevinDiffusionTerm(bm=...)` is the Brownian path that drives the velocity.\n"
                f"Expected: a path such as VirtualBrownianTree\nFound:    {shown(bm)}"
            )
        self.gamma = gamma
        self.u = u
        self.control = bm

    def value_conditions(self) -> Iterator[Condition]:
        """`gamma` and `u` are not negative."""
        return _signs("UnderdampedLangevinDiffusionTerm", self.gamma, self.u)

    def friction(self, x: X) -> X:
        """`gamma` as one real array for each leaf of `x`: a scalar, or of the leaf's rank and broadcasting to it."""
        return broadcast_to_leaves("gamma", self.gamma, x)

    def inverse_mass(self, x: X) -> X:
        """`u` in the same form as `friction`."""
        return broadcast_to_leaves("u", self.u, x)

    def strength(self, x: X) -> X:
        r"""The factor of dW, $\sqrt{2\gamma u}$, in the same form as `friction`."""
        return jax.tree.map(lambda gamma, u: jnp.sqrt(2.0 * gamma * u), self.friction(x), self.inverse_mass(x))

    def vf(self, t: RealScalar, y: Y, args: Args) -> tuple[X, X]:
        """The factors of dW in the equations for `x`, where they are zero, and for `v`, entry by entry."""
        del t, args
        x, _ = position_and_velocity(y)
        whole = jax.tree.map(lambda s, x: jnp.broadcast_to(s, jnp.shape(x)).astype(x.dtype), self.strength(x), x)
        return jax.tree.map(jnp.zeros_like, x), whole

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> PyTree[Any]:
        """The path's increment from `t0` to `t1`, with its Lévy areas if `use_levy=True`."""
        return call_user("the path", self.control.evaluate, t0, t1, **kwargs)

    def prod(self, vf: tuple[X, X], control: X) -> Y:
        """`vf * control`, entry by entry."""
        return tuple(jax.tree.map(lambda f, w: f * jnp.asarray(w).astype(f.dtype), part, control) for part in vf)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """Zero for a Brownian path, which has no drift; unknown, and so `None`, for others."""
        del t, args
        return jax.tree.map(jnp.zeros_like, y) if isinstance(self.control, AbstractBrownianPath) else None

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """The structure of the noise, which is additive, or `None` if the path is not Brownian."""
        del t, args
        if not isinstance(self.control, AbstractBrownianPath):
            return None
        sources = sum(jnp.size(leaf) for leaf in jax.tree.leaves(y[0]))
        return Noise(self.control, is_additive=True, shape="scalar" if sources == 1 else "general")

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """Zero for `x` and the factor of dW for `v`, or `None` if the path is not Brownian."""
        return self.vf(t, y, args) if isinstance(self.control, AbstractBrownianPath) else None

    def initial_carry(self) -> PyTree[Any] | None:
        """The path's initial carry."""
        return self.control.initial_carry()

    def increment_and_carry(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The path's increment and carry."""
        return self.control.increment_and_carry(carry, t0, t1)

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term, checked."""
        del args
        x, _ = position_and_velocity(y)
        self.strength(x)
        _check_path(jax.eval_shape(lambda t: self.contr(t, t), t), x)
        return self


# ---------------------------------------------------------------------------------------------------- shapes and checks


def position_and_velocity(y: Y) -> tuple[X, X]:
    """Position and velocity, the two halves of the state `y`, as floats also where they are of integers.

    Raises
    ------
    ValueError
        If `y` is not a pair of pytrees with the same structure and shapes.
    """
    if not isinstance(y, tuple) or len(y) != 2:
        raise ValueError(
            "The state of underdamped Langevin dynamics is position and velocity.\n"
            f"Expected: a tuple `(x, v)` of two pytrees of the same structure\nFound:    {layout(y)}"
        )
    x, v = y
    found = [(jax.tree.structure(part), [jnp.shape(leaf) for leaf in jax.tree.leaves(part)]) for part in (x, v)]
    if found[0] != found[1]:
        raise ValueError(
            "Position and velocity of underdamped Langevin dynamics must have the same structure and shapes.\n"
            f"Position: {layout(x)}\nVelocity: {layout(v)}"
        )
    return cast_like(x, x), cast_like(v, v)


def equal_coefficients(
    drift: UnderdampedLangevinDriftTerm, diffusion: UnderdampedLangevinDiffusionTerm, x: X
) -> Iterator[Condition]:
    """The conditions that both terms have the same friction and inverse mass."""
    for name in ("gamma", "u"):
        one, other = getattr(drift, name), getattr(diffusion, name)
        yield Condition(
            (one, other),
            partial(_are_equal, name, one, other, x),
            f"Drift and diffusion of underdamped Langevin dynamics must have the same `{name}`.",
            partial(
                "\nUnderdampedLangevinDriftTerm:     {}\nUnderdampedLangevinDiffusionTerm: {}\n"
                "Give both the same value.".format,
                shown(one),
                shown(other),
            ),
        )


def _are_equal(name: str, one: PyTree[Any], other: PyTree[Any], x: X) -> BoolScalar:
    pairs = zip(*(jax.tree.leaves(broadcast_to_leaves(name, value, x)) for value in (one, other)), strict=True)
    return jnp.all(jnp.stack([jnp.all(a == b) for a, b in pairs]))


def broadcast_to_leaves(name: str, value: PyTree[Any], x: X) -> X:
    """`value`, a prefix of `x`, as one array for each leaf of `x` that broadcasts to the leaf and has its real dtype.

    The arrays are not enlarged to the shapes of the leaves, so functions of them are computed for their own entries
    only.

    Raises
    ------
    ValueError
        If `value` is not a prefix of `x`, does not broadcast, or is complex.
    """
    try:
        each = jax.tree.broadcast(value, x)
    except ValueError as error:
        raise ValueError(
            f"`{name}` of underdamped Langevin dynamics must be a number, or a pytree that is a prefix of `x`.\n"
            f"Expected: a prefix of {layout(x)}\nFound:    {layout(value)}"
        ) from error
    paths = jax.tree.leaves_with_path(x)
    leaves = [
        _broadcast_to_leaf(f"{name}` at `x{jax.tree_util.keystr(path)}", v, leaf)
        for v, (path, leaf) in zip(jax.tree.leaves(each), paths, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(x), leaves)


def _broadcast_to_leaf(where: str, value: Any, leaf: Any) -> Array:
    shape = jnp.shape(leaf)
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise ValueError(f"`{where}` must be real.\nExpected: a float\nFound:    {value.dtype}")
    if not _broadcasts(value.shape, shape):
        raise ValueError(
            f"`{where}` must broadcast to the position.\nExpected: a scalar, or a shape that broadcasts to {shape}\n"
            f"Found:    {value.shape}"
        )
    value = value.astype(jnp.finfo(jnp.result_type(leaf)).dtype)
    return value if value.ndim == 0 else value.reshape((1,) * (len(shape) - value.ndim) + value.shape)


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if len(shape) > len(target):
        return False
    return all(n in (1, m) for n, m in zip(reversed(shape), reversed(target), strict=False))


def _signs(term: str, gamma: PyTree[Any], u: PyTree[Any]) -> Iterator[Condition]:
    for name, value in (("gamma", gamma), ("u", u)):
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, int | float | np.ndarray | np.generic | jax.Array):
                yield _sign(f"{term}({name}=...)", leaf)


def _sign(where: str, value: Any) -> Condition:
    """The condition that no entry of an array is negative or NaN."""
    return Condition(
        value,
        lambda: (operand(value) >= 0).all(),
        f"`{where}` must not be negative.",
        lambda: f"\nExpected: numbers >= 0\nFound:    {np.min(operand(value))}",
    )


def _fit(gradient: X, x: X) -> X:
    """`gradient`, cast to the dtypes of `x`."""
    what = "`grad_f` must return a pytree of the same structure as the position `x`"
    check_structure(gradient, x, what, name="x", returned="`grad_f` returned")
    return jax.tree.map_with_path(lambda path, g, leaf: _fit_leaf(jax.tree_util.keystr(path), g, leaf), gradient, x)


def _fit_leaf(path: str, gradient: Any, x: Any) -> Array:
    where = f"leaf {path} of the value of `grad_f`" if path else "the value of `grad_f`"
    shape, dtype = jnp.shape(x), inexact_dtype(x)
    if jnp.shape(gradient) != shape:
        raise ValueError(
            f"The shape of {where} must be that of the position `x`.\nExpected: {shape}\n"
            f"Found:    {jnp.shape(gradient)}\n`grad_f` is the gradient of the potential, not the potential."
        )
    found = jnp.result_type(gradient)
    if jnp.issubdtype(found, jnp.complexfloating) and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"The dtype of {where} is complex but the position `x` is real.\nExpected: {dtype}\nFound:    {found}"
        )
    return jnp.asarray(gradient).astype(dtype)


def _check_path(like: PyTree[Any], x: X) -> None:
    """Raise a `ValueError` unless increments like `like` can be added to a velocity like `x`."""
    found = [(jax.tree.structure(part), [jnp.shape(leaf) for leaf in jax.tree.leaves(part)]) for part in (x, like)]
    if found[0] != found[1]:
        raise ValueError(
            "The path of `UnderdampedLangevinDiffusionTerm` must have values like the position.\n"
            f"Expected: {layout(x)}\nFound:    {layout(like)}\n"
            "Give the path this `shape`; for a pytree, a pytree of `jax.ShapeDtypeStruct`."
        )
    for w, leaf in zip(jax.tree.leaves(like), jax.tree.leaves(x), strict=True):
        if jnp.issubdtype(w.dtype, jnp.complexfloating) != jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise ValueError(
                "Position and path of underdamped Langevin dynamics must both be real or both be complex.\n"
                f"Position: {jnp.result_type(leaf)}\nPath:     {w.dtype}"
            )
