"""A user's own term, traced once."""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp

from ..jaxkit import (
    Args,
    RealScalar,
    Time,
    TracedFunction,
    Y,
    call_user,
    check_structure,
    layout,
    standing_for,
    trace_once,
)
from .base import AbstractTerm
from .wrapped import AbstractWrappedTerm


class TracedTerm(AbstractWrappedTerm):
    """A term whose methods have been traced, so that the arrays that they capture are leaves of it.

    Parameters
    ----------
    term
        The term as the user made it.
    field, increment, product, field_product
        Its methods `vf`, `contr`, `prod` and `vf_prod`; the last is `None` if it is made of the others.
    """

    term: AbstractTerm[Any, Any]
    field: TracedFunction
    increment: TracedFunction
    product: TracedFunction
    field_product: TracedFunction | None

    @classmethod
    def of(cls, term: AbstractTerm[Any, Any], t: Time, y: Y, args: Args) -> Self:
        """`term`, traced for states like `y`."""
        vf, contr, prod, vf_prod = (_noted(method) for method in (term.vf, term.contr, term.prod, term.vf_prod))
        field = eqx.filter_eval_shape(vf, t, y, args)
        control = eqx.filter_eval_shape(contr, t, t)
        has_own_product = type(term).vf_prod is not AbstractTerm.vf_prod
        # Shapes and dtypes alone: the traced functions outlive the trace of `y`.
        like = jax.eval_shape(lambda: y)
        return cls(
            term,
            trace_once(vf, t, y, args),
            trace_once(contr, t, t),
            trace_once(_fitting(like, term, prod), field, control),
            trace_once(_fitting(like, term, vf_prod), t, y, args, control) if has_own_product else None,
        )

    def vf(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The term's vector field."""
        return self.field(t, y, args)

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The term's increment."""
        return self.term.contr(t0, t1, **kwargs) if kwargs else self.increment(t0, t1)

    def prod(self, vf: Any, control: Any) -> Y:
        """The term's product."""
        return self.product(vf, control)

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Any) -> Y:
        """The term's product of vector field and increment."""
        if self.field_product is None:
            return self.prod(self.vf(t, y, args), control)
        return self.field_product(t, y, args, control)

    def num_equations(self) -> int:
        """Number of JAX operations of the traced vector field."""
        return self.field.num_equations


def _fitting(like: Y, term: AbstractTerm[Any, Any], product: Callable[..., Y]) -> Callable[..., Y]:
    """A product of a term, which raises a `ValueError` unless its value can be added to states like `like`."""

    @standing_for(product)
    def checked(*args: Any) -> Y:
        value = product(*args)
        what = f"`prod` of a `{type(term).__name__}` must return the change of the state, with its structure"
        check_structure(value, like, what, returned="`prod` returned")
        for found, leaf in zip(jax.tree.leaves(value), jax.tree.leaves(like), strict=True):
            if not _broadcasts(jnp.shape(found), leaf.shape):
                raise ValueError(f"{what} and shapes.\nExpected: {layout(like)}\nFound:    {layout(value)}")
        return value

    return checked


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """True if an array of one shape can be added to one of the other, without making that larger."""
    try:
        return jnp.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a term; an exception that leaves it says so."""
    return standing_for(method)(lambda *args: call_user("a term", method, *args))
