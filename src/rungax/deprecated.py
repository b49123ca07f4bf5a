"""Deprecated names of Diffrax that programs still use; each warns, says what to write, and does the same."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jaxtyping import Array, PyTree

from .events import Event, steady_state_event
from .jaxkit import Args, BoolScalar, RealScalar, Y, cast_like, kind_of, warn_deprecated
from .paths import AbstractPath
from .results import RESULTS, Result
from .terms import ControlTerm


def WeaklyDiagonalControlTerm(
    vector_field: Callable[..., PyTree[Any]], control: AbstractPath[Any] | Callable[..., PyTree[Any]]
) -> ControlTerm[Any, Any]:
    r"""A `ControlTerm` with a diagonal vector field; deprecated.

    Write `ControlTerm(lambda t, y, args: lineax.DiagonalLinearOperator(g(t, y, args)), control)`.

    Parameters
    ----------
    vector_field
        A function `g(t, y, args)` that returns the diagonal: arrays that broadcast to the state.
    control
        The path: an `AbstractPath`, or a function `control(t0, t1)` that returns its increment.

    Returns
    -------
    ControlTerm
        The term.

    Warns
    -----
    DeprecationWarning
        Always.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import rungax
    >>> path = rungax.LinearInterpolation(
    ...     jnp.array([0.0, 1.0]), jnp.array([[0.0, 0.0], [1.0, 2.0]])
    ... )
    >>> term = rungax.WeaklyDiagonalControlTerm(lambda t, y, args: args * y, path)
    >>> print(term.vf_prod(0.0, jnp.array([1.0, 1.0]), 3.0, path.evaluate(0.0, 1.0)))
    [3. 6.]
    """
    warn_deprecated(
        "`WeaklyDiagonalControlTerm(g, control)` is deprecated.\n"
        "Write `ControlTerm(lambda t, y, args: lineax.DiagonalLinearOperator(g(t, y, args)), control)`."
    )
    return ControlTerm(_Diagonal(vector_field) if callable(vector_field) else vector_field, control)


class _Diagonal(eqx.Module):
    """A vector field as the diagonal of an operator."""

    vector_field: Callable[..., PyTree[Any]]

    def __call__(self, t: RealScalar, y: Y, args: Args) -> lx.DiagonalLinearOperator:
        diagonal = self.vector_field(t, y, args)
        return lx.DiagonalLinearOperator(jax.tree.map(_like_state, diagonal, y))


def _like_state(diagonal: Any, y: Any) -> Array:
    """`diagonal` in the shape of `y` and in its dtype, unless that would drop an imaginary part."""
    diagonal = jnp.broadcast_to(jnp.asarray(diagonal), jnp.shape(y))
    return diagonal if jnp.iscomplexobj(diagonal) and not jnp.iscomplexobj(y) else cast_like(diagonal, y)


class _AtTime(NamedTuple):
    """The time and the state at which a deprecated event is asked."""

    tprev: RealScalar
    y: Y


class AbstractDiscreteTerminatingEvent(eqx.Module):
    """A condition that ends a solve at the end of a step; deprecated.

    Write `Event(cond_fn)`, whose condition is called as `cond_fn(t, y, args, **kwargs)`.

    Warns
    -----
    DeprecationWarning
        When one is made.

    See Also
    --------
    Event : the events of today.
    """

    _today: ClassVar[str] = "`Event(cond_fn)`, whose condition is called as `cond_fn(t, y, args, **kwargs)`"

    def __check_init__(self) -> None:
        warn_deprecated(f"`{type(self).__name__}` is deprecated.\nWrite {self._today}.")

    @abc.abstractmethod
    def __call__(self, state: Any, **kwargs: Any) -> BoolScalar:
        """True if the solve is to end at the time `state.tprev`, at which the solution is `state.y`."""


class DiscreteTerminatingEvent(AbstractDiscreteTerminatingEvent):
    """A function that says whether a solve ends at the end of a step; deprecated.

    Write `Event(cond_fn)`, whose condition is called as `cond_fn(t, y, args, **kwargs)`.

    Parameters
    ----------
    cond_fn
        A function `cond_fn(state, **kwargs)` that returns a boolean. The time is `state.tprev`, the solution `state.y`;
        the arguments of the solve follow by name.

    Warns
    -----
    DeprecationWarning
        Always.

    Examples
    --------
    >>> import rungax
    >>> event = rungax.DiscreteTerminatingEvent(lambda state, **kwargs: state.y < 0.5)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y,
    ...     rungax.Heun(),
    ...     0.0,
    ...     1.0,
    ...     0.1,
    ...     1.0,
    ...     discrete_terminating_event=event,
    ... )
    >>> print(f"{solution.ts[-1]:.1f}")
    0.7
    """

    cond_fn: Callable[..., BoolScalar]

    def __call__(self, state: Any, **kwargs: Any) -> BoolScalar:
        """`cond_fn(state, **kwargs)`."""
        return self.cond_fn(state, **kwargs)


class SteadyStateEvent(AbstractDiscreteTerminatingEvent):
    """A condition that ends a solve at a steady state; deprecated.

    Write `Event(steady_state_event(rtol, atol, norm))`.

    Parameters
    ----------
    rtol, atol
        Tolerances, as for `steady_state_event`; by default those of the step size controller.
    norm
        The norm of vector field and state; by default the root mean square.

    Warns
    -----
    DeprecationWarning
        Always.

    Examples
    --------
    >>> import rungax
    >>> event = rungax.SteadyStateEvent(rtol=1e-3, atol=1e-3)
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y,
    ...     rungax.Heun(),
    ...     0.0,
    ...     10.0,
    ...     0.1,
    ...     1.0,
    ...     discrete_terminating_event=event,
    ... )
    >>> bool(solution.result == rungax.RESULTS.event_occurred)
    True
    """

    _today: ClassVar[str] = "`Event(steady_state_event(rtol, atol, norm))`"

    rtol: PyTree[Any] | None = None
    atol: PyTree[Any] | None = None
    norm: Callable[[PyTree[Any]], RealScalar] = optx.rms_norm

    def __call__(self, state: Any, **kwargs: Any) -> BoolScalar:
        """True if the solution does not change any more, as `steady_state_event` says."""
        return steady_state_event(self.rtol, self.atol, self.norm)(state.tprev, state.y, **kwargs)


class _Condition(eqx.Module):
    """The condition of an `Event` that asks a deprecated event."""

    event: Callable[..., BoolScalar]

    def __call__(self, t: RealScalar, y: Y, args: Args, **kwargs: Any) -> BoolScalar:
        return self.event(_AtTime(t, y), args=args, **kwargs)


def event_of(event: Event | None, discrete_terminating_event: Callable[..., BoolScalar] | None) -> Event | None:
    """The event of a call of `diffeqsolve`, of which the second spelling is deprecated.

    Raises
    ------
    ValueError
        If both are given, or the second is not callable.
    """
    if discrete_terminating_event is None:
        return event
    if event is not None:
        raise ValueError(
            "`event` and `discrete_terminating_event` are two spellings of one argument.\n"
            "Expected: one of them\nFound:    both\nGive a pytree of conditions: `event=Event([one, other])`."
        )
    if not callable(discrete_terminating_event):
        raise ValueError(
            "`discrete_terminating_event` is a condition that ends the solve.\n"
            "Expected: a function, called as `f(state, **kwargs)`\n"
            f"Found:    {kind_of(discrete_terminating_event)}\nWrite `event=Event(cond_fn)`."
        )
    warn_deprecated(
        "`discrete_terminating_event=` is deprecated.\n"
        "Write `event=Event(cond_fn)`, whose condition is called as `cond_fn(t, y, args, **kwargs)`."
    )
    return Event(_Condition(discrete_terminating_event))


class _EventOccurred:
    """The attribute of `RESULTS` with the older name of `event_occurred`."""

    def __get__(self, result: Any, results: type[Any]) -> Result:
        warn_deprecated("`RESULTS.discrete_terminating_event_occurred` is deprecated.\nWrite `RESULTS.event_occurred`.")
        return results.event_occurred


# Equinox takes all that the body of an enumeration holds for items.
setattr(RESULTS, "discrete_terminating_event_occurred", _EventOccurred())  # noqa: B010  (a type checker knows no such name)
