"""Terms whose vector fields are not evaluated after some time, for methods that look past the end of a step."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, RealScalar, Time, Y
from .base import AbstractTerm, map_leaf_terms
from .wrapped import AbstractWrappedTerm


class BoundedTerm(AbstractWrappedTerm):
    """`term` with its vector field at `latest` in place of that at any later time.

    Parameters
    ----------
    term
        The term.
    latest
        The last time at which its vector field is evaluated.
    """

    term: AbstractTerm[Any, Any]
    latest: Time

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The vector field at `t`, or at `latest` if that is earlier."""
        return self.term.vf(jnp.minimum(t, self.latest), y, args)

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The wrapped term's product at `t`, or at `latest` if that is earlier."""
        return self.term.vf_prod(jnp.minimum(t, self.latest), y, args, control)

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The user's Jacobian at `t`, or at `latest` if that is earlier."""
        return self.term.jacobian_at(jnp.minimum(t, self.latest), y, args)

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The mass matrix at `t`, or at `latest` if that is earlier."""
        return self.term.mass_at(jnp.minimum(t, self.latest), y, args)


def evaluated_up_to(latest: Time, terms: PyTree[Any]) -> PyTree[Any]:
    """`terms` with vector fields that are not evaluated after `latest`."""
    return map_leaf_terms(lambda term: BoundedTerm(term, latest), terms)
