"""`Event`: the conditions, effects and options that users give; and the condition of a steady state."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, PyTree

from ..jaxkit import Args, BoolScalar, RealScalar, Y, layout, shown
from ..nonlinear import like_state

MAX_EFFECTS = 4096
"""The default of `Event(max_effects=...)`."""


class Event(eqx.Module):
    """An event: when its condition is met, the solve ends, or its state changes and the solve continues.

    A real condition is met where its value crosses zero, a boolean one where it is true. Conditions are tested at the
    start and at the end of every accepted step; boolean ones that end the solve are tested after each effect too. With
    a `root_finder`, the step in which a real condition crosses zero is repeated until it ends at the time of the event:
    just before the crossing, with a value and a time within the root finder's tolerances. Without one, the event is at
    the end of the step. Of two events in a step the earlier one comes first. A value of zero at `t0`, or after an
    effect, is not a crossing.

    Parameters
    ----------
    cond_fn
        A function `cond_fn(t, y, args, *, terms, solver, t0, t1, dt0, saveat, stepsize_controller, max_steps,
        **kwargs)` that returns one boolean or one real number, or a pytree of such functions. `t`, `y` and `args` are
        passed by position; `t` is the true time. `**kwargs` takes the arguments that are not needed.
    root_finder
        An Optimistix root finder, such as `optimistix.Newton(rtol=1e-8, atol=1e-8)`, whose tolerances hold for real
        conditions: its `atol` for the value, its `rtol` and `atol` for the time. Rungax makes the search itself, which
        keeps the event between two times and always finds it.
    direction
        The direction in which a real condition crosses zero: `True` for upwards, `False` for downwards, `None` for
        both. One value for all conditions, or a pytree like `cond_fn`.
    effect
        `None`: the solve ends with `RESULTS.event_occurred`. Otherwise a function `effect(t, y, args)` that returns the
        new state, from which the solve continues; or a pytree like `cond_fn` of such functions and `None`s. If it has a
        parameter named `index` without a default, it receives the number of times that this event has happened before.
        A boolean condition with an effect counts when it becomes true.
    interior
        The number of times inside each step at which real conditions are tested too, on its interpolation, so that two
        crossings within a step are detected. With 0 only the ends are tested.
    max_effects
        The largest number of changes of the state in a solve; one more ends it with `RESULTS.max_effects_reached`.
        Events at the same time count as one change.

    Raises
    ------
    ValueError
        If a condition or an effect is not a function, `root_finder` is not a root finder, `direction` or `effect` has
        another structure than `cond_fn`, or a number is negative; in a solve, if a condition has other parameters or
        returns something else than one boolean or one real number.

    Warns
    -----
    UserWarning
        In a solve, if a real condition has an effect and there is no root finder: the effect then comes up to a step
        too late.

    Differentiability
    -----------------
    The time of an event found by a root finder, the state there and the state after its effect have derivatives with
    respect to all parameters, by the implicit function theorem. Other events have fixed times, among them those whose
    condition an effect has made true: derivatives are those of the state at the fixed time. With noise the time of an
    event has no derivative: it is NaN, and so are the derivatives of everything that depends on it.

    Cost
    ----
    One evaluation of each condition a step; for an event one or two more steps, up to about twenty with noise, and some
    evaluations of the interpolation.

    Examples
    --------
    A ball that is dropped, and how long it falls:

    >>> import jax.numpy as jnp
    >>> import optimistix as optx
    >>> import rungax
    >>> ground = rungax.Event(
    ...     lambda t, y, args, **kwargs: y[0], optx.Newton(rtol=1e-8, atol=1e-8)
    ... )
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: jnp.stack([y[1], jnp.full((), -9.81)]),
    ...     rungax.Tsit5(),
    ...     t0=0.0,
    ...     t1=jnp.inf,
    ...     dt0=0.1,
    ...     y0=jnp.array([10.0, 0.0]),
    ...     event=ground,
    ... )
    >>> print(f"{solution.ts[0]:.3f}")
    1.428
    """

    cond_fn: PyTree[Callable[..., Any]]
    root_finder: optx.AbstractRootFinder[Any, Any, Any, Any] | None = None
    direction: PyTree[bool | None] = None
    effect: PyTree[Callable[..., Y] | None] = None
    interior: int = eqx.field(default=0, static=True)
    max_effects: int = eqx.field(default=MAX_EFFECTS, static=True)

    def __check_init__(self) -> None:
        if not self.conditions:
            raise ValueError(
                "`Event(cond_fn=...)` is a function, or a pytree of functions.\nExpected: at least one\n"
                f"Found:    {shown(self.cond_fn)}\nWithout a condition leave `event` out."
            )
        for path, leaf in jax.tree.leaves_with_path(self.cond_fn, is_leaf=callable):
            if not callable(leaf):
                raise ValueError(
                    f"`Event(cond_fn=...)` is a function, or a pytree of functions.\nExpected: a callable\n"
                    f"Found:    {shown(leaf)} at cond_fn{jax.tree_util.keystr(path)}"
                )
        if not isinstance(self.root_finder, optx.AbstractRootFinder | None):
            raise ValueError(
                "`Event(root_finder=...)` finds the time of an event within its step.\n"
                "Expected: an Optimistix root finder, such as optimistix.Newton(rtol=1e-8, atol=1e-8), or None\n"
                f"Found:    {shown(self.root_finder)}\nWith None an event is at the end of its step."
            )
        for name in ("direction", "effect"):
            self.leaves_of(name)
        for name in ("interior", "max_effects"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ValueError(
                    f"`Event({name}=...)` is a count.\nExpected: an integer, at least 0\nFound:    {shown(number)}"
                )

    @property
    def conditions(self) -> list[Callable[..., Any]]:
        """The leaves of `cond_fn`."""
        return jax.tree.leaves(self.cond_fn, is_leaf=callable)

    @property
    def names(self) -> list[str]:
        """The names of the conditions in messages, such as `cond_fn['ground']`."""
        paths = jax.tree.leaves_with_path(self.cond_fn, is_leaf=callable)
        return [f"cond_fn{jax.tree_util.keystr(path)}" for path, _ in paths]

    def mask(self, flags: Bool[Array, " conditions"]) -> PyTree[BoolScalar]:
        """The flag of each condition, in the structure of `cond_fn`."""
        structure = jax.tree.structure(self.cond_fn, is_leaf=callable)
        return jax.tree.unflatten(structure, [flags[i] for i in range(structure.num_leaves)])

    def leaves_of(self, name: str) -> list[Any]:
        """The attribute `name`, one value for each condition."""
        value = getattr(self, name)
        structure = jax.tree.structure(self.cond_fn, is_leaf=callable)
        if value is None or isinstance(value, bool) or callable(value):
            leaves = [value] * structure.num_leaves
        else:
            is_leaf = lambda x: x is None or callable(x)
            found = jax.tree.structure(value, is_leaf=is_leaf)
            if found != structure:
                raise ValueError(
                    f"`Event({name}=...)` must be one for all conditions or have the structure of `cond_fn`.\n"
                    f"Expected: {layout(self.cond_fn, callable)}\nFound:    {layout(value, is_leaf)}"
                )
            leaves = jax.tree.leaves(value, is_leaf=is_leaf)
        wanted = (
            "True (upwards, SciPy's 1), False (downwards, SciPy's -1) or None"
            if name == "direction"
            else "a callable or None"
        )
        for leaf in leaves:
            fits = isinstance(leaf, bool) if name == "direction" else callable(leaf)
            if leaf is not None and not fits:
                raise ValueError(f"`Event({name}=...)` is not valid.\nExpected: {wanted}\nFound:    {shown(leaf)}")
        return leaves


def steady_state_event(
    rtol: PyTree[Any] | None = None,
    atol: PyTree[Any] | None = None,
    norm: Callable[[PyTree[Any]], RealScalar] | None = None,
) -> Callable[..., BoolScalar]:
    r"""A condition for `Event`: the solution does not change any more.

    $$\lVert f(t, y) \rVert < \text{atol} + \text{rtol} \, \lVert y \rVert$$

    If a tolerance is an array or a pytree, each entry of the vector field is divided by its own bound:
    $\lVert f / (\text{atol} + \text{rtol} \, |y|) \rVert < 1$.

    Parameters
    ----------
    rtol, atol
        Numbers, arrays that broadcast to each leaf of the state, or pytrees like the state; by default those of the
        solve's step size controller.
    norm
        A function of a pytree like the state; by default that of the controller.

    Returns
    -------
    Callable
        The condition.

    Raises
    ------
    ValueError
        In a solve, if one of them is missing and the step size controller has no tolerances, or if a pytree of
        tolerances has another structure than the state.

    Notes
    -----
    Near a steady state an explicit method makes steps at the limit of its stability, and the slope stays about as large
    as the tolerance of a step allows. It may then never fall below the controller's own tolerances: give tolerances
    that are ten times larger, and keep `max_steps`.

    Differentiability
    -----------------
    A boolean condition: the time at which it is met has no derivative. For that of the steady state see
    `ImplicitAdjoint`.

    Cost
    ----
    One evaluation of the vector field a step.

    Examples
    --------
    >>> import rungax
    >>> event = rungax.Event(rungax.steady_state_event(rtol=1e-6, atol=1e-6))
    """
    return _SteadyState(rtol, atol, norm)


class _SteadyState(eqx.Module):
    rtol: PyTree[Any] | None
    atol: PyTree[Any] | None
    norm: Callable[[PyTree[Any]], RealScalar] | None

    def __call__(
        self, t: RealScalar, y: Y, args: Args, *, terms: Any, solver: Any, stepsize_controller: Any, **kwargs: Any
    ) -> BoolScalar:
        del kwargs
        tolerances = stepsize_controller.tolerances()
        if tolerances is None and None in (self.rtol, self.atol, self.norm):
            raise ValueError(
                "`steady_state_event` compares the vector field with tolerances.\n"
                "Expected: `rtol`, `atol` and `norm`, or a controller that has them, such as PIDController\n"
                f"Found:    rtol={shown(self.rtol)}, atol={shown(self.atol)}, norm={self.norm} and"
                f" {type(stepsize_controller).__name__}\nGive all three."
            )
        rtol, atol, norm = (
            getattr(tolerances, name) if getattr(self, name) is None else getattr(self, name)
            for name in ("rtol", "atol", "norm")
        )
        slope = solver.func(terms, t, y, args)
        if all(jax.tree_util.all_leaves([x]) and jnp.ndim(x) == 0 for x in (rtol, atol)):
            slope, size = jnp.asarray(norm(slope)), jnp.asarray(norm(y))
            rtol, atol = (jnp.asarray(x).astype(size.dtype) for x in (rtol, atol))
            return slope < atol + rtol * size
        rtol = like_state("steady_state_event(rtol=...)", rtol, y)
        atol = like_state("steady_state_event(atol=...)", atol, y)
        return jnp.asarray(norm(jax.tree.map(_relative, slope, y, rtol, atol))) < 1


def _relative(slope: Array, y: Array, rtol: Any, atol: Any) -> Array:
    """|slope| / (atol + rtol |y|), entry by entry; zero where both are zero."""
    slope, size = jnp.abs(slope), jnp.abs(y)
    rtol, atol = (jnp.broadcast_to(jnp.asarray(x).astype(size.dtype), size.shape) for x in (rtol, atol))
    bound = atol + rtol * size
    return jnp.where(slope == 0, 0.0, slope / bound)
