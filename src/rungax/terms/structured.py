"""A term whose structure has been found, and not declared."""

from typing import Any

import equinox as eqx

from ..jaxkit import Args, RealScalar, Y
from ..sparsity import SparsityPattern
from .base import AbstractTerm
from .wrapped import AbstractWrappedTerm


class StructuredTerm(AbstractWrappedTerm):
    """A term with the structure of the derivative of its vector field that a solver has found.

    Parameters
    ----------
    term
        The term, which declares no structure.
    pattern
        The pattern of the derivative.
    tags
        The tags that declare the band, if the pattern is one.
    """

    term: AbstractTerm[Any, Any]
    pattern: SparsityPattern = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True, default=frozenset())

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The term's product of vector field and increment."""
        return self.term.vf_prod(t, y, args, control)

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """The term's tags, and those for the band."""
        return self.term.jacobian_tags | self.tags

    @property
    def jacobian_pattern(self) -> SparsityPattern:
        """The pattern that has been found."""
        return self.pattern
