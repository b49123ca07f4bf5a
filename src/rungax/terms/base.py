"""The protocol of a term."""

import abc
from typing import Any, Literal, Self

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..brownian import AbstractBrownianPath
from ..jaxkit import Args, RealScalar, Time, Y
from ..stops import Stops

type NoiseShape = Literal["scalar", "diagonal", "general"]

type Terms = PyTree[AbstractTerm[Any, Any]]
"""The terms of an equation, in the structure that a solver asks for."""


class Noise(eqx.Module):
    """How a Brownian path enters an equation.

    Parameters
    ----------
    path
        The path.
    is_additive
        Whether the vector field does not depend on the state, as far as its program tells.
    shape
        Whether there is one source of noise, one for each entry of the state, or any number.
    """

    path: AbstractBrownianPath
    is_additive: bool = eqx.field(static=True)
    shape: NoiseShape = eqx.field(static=True)


class AbstractTerm[VF, Control](eqx.Module):
    r"""One part of an equation: a vector field times the increment of what drives it.

    $$\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}x(t)$$

    A solver only ever asks for `vf` (f), `contr` (the increment of x over an interval) and their product.
    Subclass it to drive an equation by something of your own: give `vf`, `contr` and `prod`.

    See Also
    --------
    ODETerm, ControlTerm, MultiTerm : the terms that most equations are made of.

    Examples
    --------
    An equation driven by the square of time:

    >>> import rungax
    >>> class SquareOfTime(rungax.AbstractTerm):
    ...     def vf(self, t, y, args):
    ...         return -y
    ...
    ...     def contr(self, t0, t1, **kwargs):
    ...         return t1**2 - t0**2
    ...
    ...     def prod(self, vf, control):
    ...         return vf * control
    >>> y1 = rungax.diffeqsolve(SquareOfTime(), rungax.Heun(), 0.0, 1.0, 0.05, 1.0).ys[-1]
    >>> print(f"{y1:.2f}")
    0.37
    """

    @abc.abstractmethod
    def vf(self, t: RealScalar, y: Y, args: Args) -> VF:
        """The vector field at time `t` and state `y`.

        Parameters
        ----------
        t
            The time, a real scalar.
        y
            The state.
        args
            Handed on from `diffeqsolve`.

        Returns
        -------
        VF
            Whatever `prod` multiplies with an increment: for ordinary equations dy/dt, a pytree like `y`.
        """

    @abc.abstractmethod
    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Control:
        """The increment of the driver from `t0` to `t1`.

        Parameters
        ----------
        t0, t1
            Times, real scalars; in a solve backwards the true ones, the earlier one first.
        **kwargs
            Options of the driver, such as `use_levy=True` for the Lévy areas of a Brownian path; ignore what does not
            apply.

        Returns
        -------
        Control
            For ordinary equations `t1 - t0`.
        """

    @abc.abstractmethod
    def prod(self, vf: VF, control: Control) -> Y:
        """The product of vector field and increment, linear in both.

        Parameters
        ----------
        vf
            What `vf` returned.
        control
            What `contr` returned.

        Returns
        -------
        PyTree
            What the state changes by: like it in structure, shapes and dtypes.
        """

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Control) -> Y:
        """`prod(vf(t, y, args), control)`; override where the product is cheaper than the field.

        Parameters
        ----------
        t, y, args
            As of `vf`.
        control
            As of `prod`.

        Returns
        -------
        PyTree
            What the state changes by.
        """
        return self.prod(self.vf(t, y, args), control)

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """Whether evaluating `vf_prod` several times is cheaper than evaluating `vf` once and keeping it."""
        del t0, t1, y, args
        return False

    def quotient(self, increment: Y, control: Control) -> VF | None:
        """The vector field whose product with `control` is `increment`, if that says it all, else `None`."""
        del increment, control

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The derivative of `vf` with respect to `y` as the user gave it, a matrix or an operator; else `None`."""
        del t, y, args

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """What is known of the structure of that derivative, as Lineax tags and `rungax.Banded`."""
        return frozenset()

    @property
    def parts(self) -> "tuple[AbstractTerm[Any, Any], ...]":
        """The terms that this one is the sum of; none if it is not a sum."""
        return ()

    @property
    def unwrapped(self) -> "AbstractTerm[Any, Any]":
        """The term as the user wrote it, for a solver that needs more of it than vector field and increment."""
        return self

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """dy/dt, zero for noise, or `None` if not known: for choosing a first step."""
        del t, y, args

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """How a Brownian path enters, `None` for terms without one; asked only after `trace_once`."""
        del t, y, args

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """Standard deviation that noise would give the state in a unit of time, `None` for terms without noise."""
        del t, y, args

    def stops(self) -> tuple[Stops, ...]:
        """The times at which steps must end, because this term is not smooth there; by default none."""
        return ()

    def initial_carry(self) -> PyTree[Any] | None:
        """What a solve carries from step to step so that `move` is cheaper than `contr`; by default nothing."""

    def move(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The increment over a step in all detail, and the carry at its end; asked only where there is one."""
        raise NotImplementedError(f"A `{type(self).__name__}` carries nothing, so nothing moves it.")

    def trace_once(self, t: Time, y: Y, args: Args) -> Self:
        """This term with its vector field traced once for states like `y`, and checked; by default itself.

        Raises
        ------
        ValueError
            If the vector field's value does not fit the state.
        """
        del t, y, args
        return self

    def num_equations(self) -> int:
        """Size of the traced vector field in JAX operations, 0 if unknown; solvers unroll small fields."""
        return 0


def is_term(x: PyTree[Any]) -> bool:
    """Whether `x` is a term: for use as `is_leaf` when walking a pytree of terms."""
    return isinstance(x, AbstractTerm)


def is_no_sum(x: PyTree[Any]) -> bool:
    """Whether `x` is a term that is not a sum of others: for use as `is_leaf`."""
    return is_term(x) and not x.parts


def leaf_terms(terms: PyTree[Any]) -> list[AbstractTerm[Any, Any]]:
    """All terms of a pytree of terms and sums of terms that are no sums."""
    return [term for term in jax.tree.leaves(terms, is_leaf=is_no_sum) if is_term(term)]


def stops_of(terms: PyTree[Any]) -> tuple[Stops, ...]:
    """The times at which steps must end because of any of `terms`."""
    return tuple(stop for term in leaf_terms(terms) for stop in term.stops())


def brownian_paths(terms: PyTree[Any]) -> list[AbstractBrownianPath]:
    """All Brownian paths in `terms`, wherever they are."""
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, AbstractBrownianPath))
    return [path for path in leaves if isinstance(path, AbstractBrownianPath)]


def is_stochastic(terms: PyTree[Any]) -> bool:
    """Whether a Brownian path is anywhere in `terms`."""
    return bool(brownian_paths(terms))
