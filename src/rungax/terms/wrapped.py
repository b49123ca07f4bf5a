"""A term around another, traced one."""

from typing import Any, Self

import equinox as eqx
from jaxtyping import PyTree

from ..jaxkit import Args, RealScalar, Time, Y
from ..sparsity import SparsityPattern
from ..stops import Stops
from .base import AbstractTerm, Consistency, MassKind, Noise


class AbstractWrappedTerm(AbstractTerm[Any, Any]):
    """A term that answers as the one inside it does, but for the methods that it overrides."""

    term: eqx.AbstractVar[AbstractTerm[Any, Any]]

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's vector field."""
        return self.term.vf(t, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The wrapped term's increment."""
        return self.term.contr(t0, t1, **kwargs)

    def prod(self, vf: Any, control: Any) -> Y:
        """The wrapped term's product."""
        return self.term.prod(vf, control)

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """The wrapped term's answer."""
        return self.term.is_vf_expensive(t0, t1, y, args)

    def quotient(self, increment: Y, control: Any) -> Any:
        """The wrapped term's quotient."""
        return self.term.quotient(increment, control)

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's derivative with respect to the state."""
        return self.term.jacobian_at(t, y, args)

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The wrapped term's mass matrix."""
        return self.term.mass_at(t, y, args)

    @property
    def mass_kind(self) -> MassKind:
        """The wrapped term's kind of mass matrix."""
        return self.term.mass_kind

    @property
    def consistency(self) -> Consistency:
        """The wrapped term's choice."""
        return self.term.consistency

    @property
    def null_spaces(self) -> Any:
        """The null spaces of the wrapped term's mass matrix."""
        return self.term.null_spaces

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """The wrapped term's tags."""
        return self.term.jacobian_tags

    @property
    def jacobian_pattern(self) -> SparsityPattern | None:
        """The wrapped term's pattern."""
        return self.term.jacobian_pattern

    @property
    def unwrapped(self) -> AbstractTerm[Any, Any]:
        """The wrapped term as the user made it."""
        return self.term.unwrapped

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """The wrapped term's noise."""
        return self.term.noise(t, y, args)

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """The wrapped term's standard deviation."""
        return self.term.deviation(t, y, args)

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """The wrapped term's time derivative."""
        return self.term.time_derivative(t, y, args)

    def stops(self) -> tuple[Stops, ...]:
        """The wrapped term's stops."""
        return self.term.stops()

    def initial_carry(self) -> PyTree[Any] | None:
        """The wrapped term's initial carry."""
        return self.term.initial_carry()

    def increment_and_carry(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The wrapped term's increment and carry."""
        return self.term.increment_and_carry(carry, t0, t1)

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term: the one that it wraps has been traced."""
        return self

    def num_equations(self) -> int:
        """The wrapped term's number of JAX operations."""
        return self.term.num_equations()
