"""Sums of terms."""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp

from ..jaxkit import Args, RealScalar, Time, Y, add, kind_of, with_fields
from ..sparsity import SparsityPattern
from .base import AbstractTerm, is_term


class MultiTerm[*Terms](AbstractTerm[tuple[Any, ...], tuple[Any, ...]]):
    r"""The sum of several terms, each with its own driver.

    $$\mathrm{d}y = \sum_i f_i(t, y(t), \text{args})\,\mathrm{d}x_i(t)$$

    For example, drift and diffusion of a stochastic equation, or the two parts of an implicit–explicit splitting. Its
    vector field and its increment are tuples with an item for each term, and their product is the sum of the terms'
    products.

    Parameters
    ----------
    *terms
        The terms to add, which may be `MultiTerm`s themselves; stored as the attribute `terms`.

    Raises
    ------
    ValueError
        If an argument is not a term, such as a bare vector field.

    Differentiability
    -----------------
    With respect to everything that the terms can be differentiated with respect to.

    Cost
    ----
    The sum of the terms' costs.

    Examples
    --------
    >>> import rungax
    >>> decay = rungax.ODETerm(lambda t, y, args: -y)
    >>> inflow = rungax.ODETerm(lambda t, y, args: 0.5)
    >>> terms = rungax.MultiTerm(decay, inflow)
    >>> y1 = rungax.diffeqsolve(terms, rungax.Heun(), 0.0, 10.0, 0.1, 1.0).ys[-1]
    >>> print(f"{y1:.3f}")
    0.500
    """

    terms: tuple[AbstractTerm[Any, Any], ...]

    def __init__(self, *terms: AbstractTerm[Any, Any]):
        for term in terms:
            if not is_term(term):
                raise ValueError(
                    "`MultiTerm(*terms)` adds terms.\nExpected: terms, one after another\n"
                    f"Found:    {kind_of(term)}\nWrap a vector field: `ODETerm(vector_field)`."
                )
        self.terms = terms

    def vf(self, t: RealScalar, y: Y, args: Args) -> tuple[Any, ...]:
        """The vector field of each term."""
        return tuple(term.vf(t, y, args) for term in self.terms)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> tuple[Any, ...]:
        """The increment of each term's driver."""
        return tuple(term.contr(t0, t1, **kwargs) for term in self.terms)

    def prod(self, vf: tuple[Any, ...], control: tuple[Any, ...]) -> Y:
        """The sum of the terms' products."""
        return add(*(term.prod(f, c) for term, f, c in zip(self.terms, vf, control, strict=True)))

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: tuple[Any, ...]) -> Y:
        """The sum of the terms' products, each by the term's own `vf_prod`."""
        return add(*(term.vf_prod(t, y, args, c) for term, c in zip(self.terms, control, strict=True)))

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """True if `is_vf_expensive` is true for any of the terms."""
        return any(term.is_vf_expensive(t0, t1, y, args) for term in self.terms)

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """The tags that all terms have in common, which therefore hold for their sum."""
        return frozenset.intersection(*(term.jacobian_tags for term in self.terms))

    @property
    def jacobian_pattern(self) -> SparsityPattern | None:
        """The union of the terms' patterns, or `None` if one is not known."""
        patterns = [term.jacobian_pattern for term in self.terms]
        known = [pattern for pattern in patterns if pattern is not None]
        return functools.reduce(SparsityPattern.union, known) if len(known) == len(patterns) else None

    @property
    def parts(self) -> tuple[AbstractTerm[Any, Any], ...]:
        """The terms."""
        return self.terms

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """The sum of the terms' time derivatives, or `None` if one is unknown."""
        parts = [term.time_derivative(t, y, args) for term in self.terms]
        return None if any(part is None for part in parts) else add(*parts)

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """The standard deviation by the noise of all terms, which is independent between terms."""
        found = [d for d in (term.deviation(t, y, args) for term in self.terms) if d is not None]
        return jax.tree.map(lambda *x: jnp.sqrt(sum(d**2 for d in x)), *found) if found else None

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """The sum of the terms, each traced once."""
        return with_fields(self, terms=tuple(term.trace_once(t, y, args) for term in self.terms))

    def num_equations(self) -> int:
        """The sum of the terms' numbers of JAX operations."""
        return sum(term.num_equations() for term in self.terms)
