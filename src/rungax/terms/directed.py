"""Terms in the direction of travel, for integration backwards in time.

A solve always runs forwards in `s = direction * t`. Solvers and controllers see `s`. Vector fields and drivers must see
the true time `t`: this wrapper converts between the two, and no other code negates a time before a user's function sees
it.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..brownian import AbstractBrownianIncrement, AbstractSpaceTimeLevyArea
from ..jaxkit import Args, RealScalar, Time, Y, scaled
from ..sparsity import SparsityPattern
from ..stops import Stops
from .base import AbstractTerm, Noise, leaf_terms, map_leaf_terms
from .structured import StructuredTerm
from .wrapped import AbstractWrappedTerm


class _StepIncrement(NamedTuple):
    """The increment over the current step, so that the driver is not evaluated again."""

    t0: RealScalar
    t1: RealScalar
    control: Any


class DirectedTerm(AbstractWrappedTerm):
    """`term` as seen from increasing time `s = direction * t`, with `direction` 1 or -1.

    Parameters
    ----------
    term
        The term.
    direction
        The direction of travel.
    step_increment
        The increment over the current step, if the loop has computed it.
    """

    term: AbstractTerm[Any, Any]
    direction: Time
    step_increment: _StepIncrement | None = None

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The vector field at the true time."""
        return self.term.vf(t * self.direction, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The increment in the direction of travel; the driver is called with the smaller true time first."""
        known = self.step_increment
        # Compared as objects, at trace time, so that the program contains no descent from the root of the tree.
        if known is not None and t0 is known.t0 and t1 is known.t1:
            whole = kwargs.get("use_levy", False) or not isinstance(known.control, AbstractBrownianIncrement)
            return known.control if whole else known.control.W
        forwards = self.direction > 0
        a, b = t0 * self.direction, t1 * self.direction
        increment = self.term.contr(jnp.where(forwards, a, b), jnp.where(forwards, b, a), **kwargs)
        return _directed(increment, self.direction)

    def stops(self) -> tuple[Stops, ...]:
        """The wrapped term's stops, in the direction of travel."""
        return tuple(Stops(jnp.asarray(stop.times) * self.direction, stop.order) for stop in self.term.stops())

    def increment_and_carry(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The wrapped term's increment between the true times, and its carry.

        It is the increment in the direction of travel already; only `dt` changes its sign, because it is measured in
        `s`.
        """
        increment, carry = self.term.increment_and_carry(carry, t0 * self.direction, t1 * self.direction)
        if isinstance(increment, AbstractBrownianIncrement):
            increment = replace(increment, dt=jax.tree.map(lambda dt: scaled(self.direction, dt), increment.dt))
        return increment, carry

    def bind_increment(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> "tuple[DirectedTerm, PyTree[Any]]":
        """This term with its increment from `t0` to `t1` already computed, and the carry at `t1`."""
        if carry is None:
            return self, None
        increment, carry = self.increment_and_carry(carry, t0, t1)
        return replace(self, step_increment=_StepIncrement(t0, t1, increment)), carry

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The wrapped term's product at the true time."""
        return self.term.vf_prod(t * self.direction, y, args, control)

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """The wrapped term's answer, at the true times."""
        return self.term.is_vf_expensive(t0 * self.direction, t1 * self.direction, y, args)

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's derivative with respect to the state, at the true time."""
        return self.term.jacobian_at(t * self.direction, y, args)

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's mass matrix, at the true time."""
        return self.term.mass_at(t * self.direction, y, args)

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """The wrapped term's noise."""
        return self.term.noise(t * self.direction, y, args)

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """The wrapped term's standard deviation, at the true time."""
        return self.term.deviation(t * self.direction, y, args)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """dy/ds: dy/dt times the direction."""
        derivative = self.term.time_derivative(t * self.direction, y, args)
        if derivative is None:
            return None
        return jax.tree.map(lambda x: scaled(self.direction, x), derivative)


def in_direction_of_travel(terms: Any, direction: Time) -> Any:
    """`terms` with every term wrapped in a `DirectedTerm`; a sum of terms becomes a sum of wrapped terms."""
    return map_leaf_terms(lambda term: DirectedTerm(term, direction), terms)


def with_structure(terms: Any, pattern: SparsityPattern, tags: frozenset[object]) -> Any:
    """Directed terms with the pattern that has been found for the derivative of their sum, and its tags for a band."""
    return map_leaf_terms(lambda term: replace(term, term=StructuredTerm(term.term, pattern, tags)), terms)


def start_drivers(terms: PyTree[Any]) -> tuple[PyTree[Any], ...]:
    """The initial carries of the drivers of directed terms, `None` for a driver without; empty if no driver has one."""
    carries = tuple(term.initial_carry() for term in leaf_terms(terms))
    return carries if any(carry is not None for carry in carries) else ()


def bind_increments(
    terms: PyTree[Any], drivers: tuple[PyTree[Any], ...], t0: RealScalar, t1: RealScalar
) -> tuple[PyTree[Any], tuple[PyTree[Any], ...]]:
    """Directed terms with their increments from `t0` to `t1` already computed, and the drivers' carries at `t1`."""
    if not drivers:
        return terms, drivers
    directed: list[Any] = leaf_terms(terms)
    bound = [term.bind_increment(carry, t0, t1) for term, carry in zip(directed, drivers, strict=True)]
    in_order = iter(bound)
    return map_leaf_terms(lambda _: next(in_order)[0], terms), tuple(carry for _, carry in bound)


def _directed(increment: Any, direction: Time) -> Any:
    """The increment in the direction of travel, from the one with the smaller true time first.

    In a solve backwards, `W` and `K` change their sign and `H` does not.
    """
    signed = jax.tree.map(lambda x: scaled(direction, x), increment)
    if not isinstance(increment, AbstractBrownianIncrement):
        return signed
    signed = replace(signed, dt=increment.dt)
    return replace(signed, H=increment.H) if isinstance(increment, AbstractSpaceTimeLevyArea) else signed
