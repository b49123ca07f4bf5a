"""Integration backwards in time.

A solve always runs forwards in `s = direction * t`. Solvers and controllers see `s`; vector fields and drivers must
see the true time `t`, which is what this wrapper gives them. No other place negates a time before a user sees it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ..jaxkit import Args, RealScalar, Time, Y, scaled
from .base import AbstractTerm, is_term


class DirectedTerm(AbstractTerm[Any, Any]):
    """`term` as seen from increasing time `s = direction * t`, with `direction` 1 or -1."""

    term: AbstractTerm[Any, Any]
    direction: Time

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The vector field at the true time."""
        return self.term.vf(t * self.direction, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The increment in the direction of travel, asked of the driver with the smaller true time first."""
        forwards = self.direction > 0
        a, b = t0 * self.direction, t1 * self.direction
        increment = self.term.contr(jnp.where(forwards, a, b), jnp.where(forwards, b, a), **kwargs)
        return jax.tree.map(lambda x: scaled(self.direction, x), increment)

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
    return jax.tree.map(lambda term: DirectedTerm(term, direction), terms, is_leaf=_is_no_sum)


def _is_no_sum(x: Any) -> bool:
    return is_term(x) and not x.parts
