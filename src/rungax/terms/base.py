"""The protocol of terms."""

import abc
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..brownian import AbstractBrownianPath
from ..jaxkit import Args, RealScalar, Time, Y
from ..sparsity import SparsityPattern
from ..stops import Stops

type NoiseShape = Literal["scalar", "diagonal", "general"]

type MassKind = Literal["identity", "constant", "variable"]
"""The identity, any other constant matrix, or a function of time and state."""

type Consistency = Literal["solve", "check", "none"]
"""What is done about initial values that do not fulfil algebraic equations: others are sought, or the solve ends."""

type Terms = PyTree[AbstractTerm[Any, Any]]
"""The terms of an equation, in the structure that a solver asks for."""


class Noise(eqx.Module):
    """The structure of a Brownian path's noise in an equation.

    Parameters
    ----------
    path
        The path.
    is_additive
        Whether the vector field is independent of the state, as far as its program shows.
    shape
        `"scalar"` for one source of noise, `"diagonal"` for one source for each entry of the state, else `"general"`.
    """

    path: AbstractBrownianPath[Any]
    is_additive: bool = eqx.field(static=True)
    shape: NoiseShape = eqx.field(static=True)


class AbstractTerm[VF, Control](eqx.Module):
    r"""One part of an equation: a vector field times the increment of its driver.

    $$\mathrm{d}y = f(t, y(t), \text{args})\,\mathrm{d}x(t)$$

    A solver uses only `vf` (f), `contr` (the increment of x over an interval) and their product. To drive an equation
    by something of your own, subclass it and implement `vf`, `contr` and `prod`.

    See Also
    --------
    ODETerm, ControlTerm, MultiTerm : the terms that most equations need.

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
            The `args` of `diffeqsolve`.

        Returns
        -------
        VF
            The vector field, in any form that `prod` accepts; for ordinary equations dy/dt, a pytree like `y`.
        """

    @abc.abstractmethod
    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Control:
        """The increment of the driver from `t0` to `t1`.

        Parameters
        ----------
        t0, t1
            Times, real scalars, the earlier one first, also in a solve backwards in time.
        **kwargs
            Options of the driver, such as `use_levy=True` for the Lévy areas of a Brownian path; ignore those that do
            not apply.

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
            The value of `vf`.
        control
            The value of `contr`.

        Returns
        -------
        PyTree
            The change of the state, with its structure, shapes and dtypes.
        """

    def vf_prod(self, t: RealScalar, y: Y, args: Args, control: Control) -> Y:
        """`prod(vf(t, y, args), control)`; override it if the product is cheaper to compute than the vector field.

        Parameters
        ----------
        t, y, args
            See `vf`.
        control
            See `prod`.

        Returns
        -------
        PyTree
            The change of the state.
        """
        return self.prod(self.vf(t, y, args), control)

    def is_vf_expensive(self, t0: RealScalar, t1: RealScalar, y: Y, args: Args) -> bool:
        """True if it is cheaper to evaluate `vf_prod` several times than to evaluate `vf` once and store its value."""
        del t0, t1, y, args
        return False

    def quotient(self, increment: Y, control: Control) -> VF | None:
        """The vector field whose product with `control` is `increment`, or `None` if that does not determine it."""
        del increment, control

    def jacobian_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The derivative of `vf` with respect to `y` by the user's own function, or `None` if there is none."""
        del t, y, args

    @property
    def jacobian_tags(self) -> frozenset[object]:
        """The known structure of the derivative of `vf` with respect to `y`: Lineax tags and `rungax.Banded`."""
        return frozenset()

    def mass_at(self, t: RealScalar, y: Y, args: Args) -> Any:
        """The mass matrix of `M dy/dt = f(t, y)` in any form that `ODETerm(mass=...)` takes; `None` is the identity."""
        del t, y, args

    @property
    def mass_kind(self) -> MassKind:
        """Whether the mass matrix is the identity, or constant, or depends on time or state."""
        return "identity"

    @property
    def consistency(self) -> Consistency:
        """What is done about initial values that do not fulfil algebraic equations."""
        return "none"

    @property
    def null_spaces(self) -> Any:
        """The null spaces of a constant mass matrix, once a solve has computed them; else `None`."""

    @property
    def jacobian_pattern(self) -> SparsityPattern | None:
        """The pattern of the derivative of `vf` with respect to `y`, or `None` if it is not known."""

    @property
    def parts(self) -> "tuple[AbstractTerm[Any, Any], ...]":
        """The terms of which this one is the sum; empty if it is not a sum."""
        return ()

    @property
    def unwrapped(self) -> "AbstractTerm[Any, Any]":
        """The term as the user made it, for solvers that need more than its vector field and increments."""
        return self

    def time_derivative(self, t: Time, y: Y, args: Args) -> Y | None:
        """dy/dt, zero for noise, or `None` if unknown; used to choose the first step."""
        del t, y, args

    def noise(self, t: Time, y: Y, args: Args) -> Noise | None:
        """The structure of the term's noise, or `None` if it has none; called only after `trace_once`."""
        del t, y, args

    def deviation(self, t: Time, y: Y, args: Args) -> Y | None:
        """The standard deviation that the noise gives the state in a unit of time; `None` for terms without noise."""
        del t, y, args

    def stops(self) -> tuple[Stops, ...]:
        """The times at which adaptive steps must end, because this term is not smooth there; by default none."""
        return ()

    def initial_carry(self) -> PyTree[Any] | None:
        """The carry of a solve before its first step, for terms with `increment_and_carry`; `None` for others."""

    def increment_and_carry(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[Any, PyTree[Any]]:
        """The increment over a step, Lévy areas included, and the carry at the end of the step.

        A driver that is cheaper to evaluate step after step keeps what it needs for the next step in the carry. The
        method is called only if `initial_carry` returns one.
        """
        raise NotImplementedError(f"A `{type(self).__name__}` carries nothing from step to step; use `contr`.")

    def trace_once(self, t: Time, y: Y, args: Args) -> "AbstractTerm[Any, Any]":
        """This term with its methods traced once for states like `y`, which makes captured arrays leaves of it.

        Raises
        ------
        ValueError
            If the value of the vector field does not fit the state.
        """
        from .traced import TracedTerm  # which is a term itself

        return TracedTerm.of(self, t, y, args)

    def num_equations(self) -> int:
        """Number of JAX operations of the traced vector field, 0 if unknown; solvers unroll small fields."""
        return 0


def is_term(x: PyTree[Any]) -> bool:
    """True if `x` is a term; for use as `is_leaf` on pytrees of terms."""
    return isinstance(x, AbstractTerm)


def is_single_term(x: PyTree[Any]) -> bool:
    """True if `x` is a term that is not a sum of others; for use as `is_leaf`."""
    return is_term(x) and not x.parts


def leaf_terms(terms: PyTree[Any]) -> list[AbstractTerm[Any, Any]]:
    """All terms in a pytree of terms; a sum counts as the terms of which it consists."""
    return [term for term in jax.tree.leaves(terms, is_leaf=is_single_term) if is_term(term)]


def map_leaf_terms(function: Callable[[Any], Any], terms: PyTree[Any]) -> PyTree[Any]:
    """`terms` with `function(term)` in place of every term; a sum counts as the terms of which it consists."""
    return jax.tree.map(lambda x: function(x) if is_term(x) else x, terms, is_leaf=is_single_term)


def has_mass(terms: PyTree[Any]) -> bool:
    """True if the mass matrix of any of `terms` is another than the identity."""
    return any(term.mass_kind != "identity" for term in leaf_terms(terms))


def stops_of(terms: PyTree[Any]) -> tuple[Stops, ...]:
    """The times at which steps must end because of any of `terms`."""
    return tuple(stop for term in leaf_terms(terms) for stop in term.stops())


def brownian_paths(terms: PyTree[Any]) -> list[AbstractBrownianPath[Any]]:
    """All Brownian paths anywhere in `terms`."""
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, AbstractBrownianPath))
    return [path for path in leaves if isinstance(path, AbstractBrownianPath)]


def is_stochastic(terms: PyTree[Any]) -> bool:
    """True if a Brownian path is anywhere in `terms`."""
    return bool(brownian_paths(terms))
