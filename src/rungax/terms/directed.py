"""Integration backwards in time.

A solve always runs forwards in `s = direction * t`. Solvers and controllers see `s`; vector fields and drivers must
see the true time `t`, which is what this wrapper gives them. No other place negates a time before a user sees it.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea
from ..jaxkit import Args, RealScalar, Time, Y, scaled
from ..stops import Stops
from .base import AbstractTerm, Noise, is_no_sum


class _Known(NamedTuple):
    """An increment that need not be asked for again."""

    t0: RealScalar
    t1: RealScalar
    control: Any


class DirectedTerm(AbstractTerm[Any, Any]):
    """`term` as seen from increasing time `s = direction * t`, with `direction` 1 or -1.

    Parameters
    ----------
    term
        The term.
    direction
        The direction of travel.
    known
        The increment over the step that is being made, where the loop has it.
    """

    term: AbstractTerm[Any, Any]
    direction: Time
    known: _Known | None = None

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The vector field at the true time."""
        return self.term.vf(t * self.direction, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The increment in the direction of travel, asked of the driver with the smaller true time first."""
        known = self.known
        # The same objects are the same times, and the program is then without a way from the root of the tree.
        if known is not None and t0 is known.t0 and t1 is known.t1:
            whole = kwargs.get("use_levy", False) or not isinstance(known.control, AbstractBrownianIncrement)
            return known.control if whole else known.control.W
        forwards = self.direction > 0
        a, b = t0 * self.direction, t1 * self.direction
        increment = self.term.contr(jnp.where(forwards, a, b), jnp.where(forwards, b, a), **kwargs)
        return _reversed(increment, self.direction)

    def stops(self) -> tuple[Stops, ...]:
        """The wrapped term's stops, in the direction of travel."""
        return tuple(Stops(jnp.asarray(stop.times) * self.direction, stop.order) for stop in self.term.stops())

    def initial_carry(self) -> PyTree[Any] | None:
        """As the wrapped term says."""
        return self.term.initial_carry()

    def move(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The wrapped term's, from true time to true time; only the length is turned, the rest has its sign."""
        increment, carry = self.term.move(carry, t0 * self.direction, t1 * self.direction)
        if isinstance(increment, AbstractBrownianIncrement):
            increment = replace(increment, dt=jax.tree.map(lambda dt: scaled(self.direction, dt), increment.dt))
        return increment, carry

    def bind_increment(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> "tuple[DirectedTerm, PyTree[Any]]":
        """This term with its increment from `t0` to `t1` at hand, and the carry there."""
        if carry is None:
            return self, None
        increment, carry = self.move(carry, t0, t1)
        return replace(self, known=_Known(t0, t1, increment)), carry

    def prod(self, vf: Any, control: Any) -> Y:
        """The wrapped term's product."""
        return self.term.prod(vf, control)

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The wrapped term's product at the true time."""
        return self.term.vf_prod(t * self.direction, y, args, control)

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """As the wrapped term says."""
        return self.term.is_vf_expensive(t0 * self.direction, t1 * self.direction, y, args)

    def quotient(self, increment: Y, control: Any) -> Any:
        """The wrapped term's quotient."""
        return self.term.quotient(increment, control)

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's derivative with respect to the state, at the true time."""
        return self.term.jacobian_at(t * self.direction, y, args)

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """As the wrapped term says."""
        return self.term.jacobian_tags

    @property
    def unwrapped(self) -> AbstractTerm[Any, Any]:
        """The wrapped term."""
        return self.term.unwrapped

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """As the wrapped term says."""
        return self.term.noise(t * self.direction, y, args)

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """As the wrapped term says, at the true time."""
        return self.term.deviation(t * self.direction, y, args)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """dy/ds, that is dy/dt times the direction."""
        derivative = self.term.time_derivative(t * self.direction, y, args)
        if derivative is None:
            return None
        return jax.tree.map(lambda x: scaled(self.direction, x), derivative)

    def num_equations(self) -> int:
        """As the wrapped term says."""
        return self.term.num_equations()


def direct(terms: Any, direction: Time) -> Any:
    """Every term of a pytree of terms, seen in the direction of travel; a sum stays a sum, of such terms."""
    return jax.tree.map(lambda term: DirectedTerm(term, direction), terms, is_leaf=is_no_sum)


def start_drivers(terms: PyTree[Any]) -> tuple[PyTree[Any], ...]:
    """What the drivers of directed terms carry through a solve, `None` for some of them; empty if for all."""
    carries = tuple(term.initial_carry() for term in jax.tree.leaves(terms, is_leaf=is_no_sum))
    return carries if any(carry is not None for carry in carries) else ()


def bind_increments(
    terms: PyTree[Any], drivers: tuple[PyTree[Any], ...], t0: RealScalar, t1: RealScalar
) -> tuple[PyTree[Any], tuple[PyTree[Any], ...]]:
    """Directed terms that have their increments from `t0` to `t1` at hand, and what the drivers carry from there."""
    if not drivers:
        return terms, drivers
    leaves, structure = jax.tree.flatten(terms, is_leaf=is_no_sum)
    moved = [term.bind_increment(carry, t0, t1) for term, carry in zip(leaves, drivers, strict=True)]
    return jax.tree.unflatten(structure, [term for term, _ in moved]), tuple(carry for _, carry in moved)


def _reversed(increment: Any, direction: Time) -> Any:
    """An increment asked with the smaller true time first, as it is in the direction of travel.

    Backwards, `W` and `K` change their sign and `H` does not.
    """
    turned = jax.tree.map(lambda x: scaled(direction, x), increment)
    if not isinstance(increment, AbstractBrownianIncrement):
        return turned
    turned = replace(turned, dt=increment.dt)
    return replace(turned, H=increment.H) if isinstance(increment, AbstractSpaceTimeLevyArea) else turned
