"""A term that depends on a part of the state that only the solver knows."""

from typing import Any

from ..jaxkit import Args, RealScalar, Time, Y
from .base import AbstractTerm
from .wrapped import AbstractWrappedTerm


class UntracedTerm(AbstractWrappedTerm):
    """A term in a pytree of terms, each of which depends on its own part of the state; only the solver evaluates it.

    Without an example of its state it cannot be traced once, and has no facts that need the state.

    Parameters
    ----------
    term
        The term as the user made it.
    """

    term: AbstractTerm[Any, Any]

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The term's product of vector field and increment."""
        return self.term.vf_prod(t, y, args, control)

    def noise(self, t: Time, y: Y, args: Args) -> None:
        """`None`: unknown."""
        del t, y, args

    def deviation(self, t: Time, y: Y, args: Args) -> None:
        """`None`: unknown."""
        del t, y, args

    def time_derivative(self, t: Time, y: Y, args: Args) -> None:
        """`None`: unknown."""
        del t, y, args
