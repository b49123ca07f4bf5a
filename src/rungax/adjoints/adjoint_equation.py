r"""The continuous adjoint equation of an equation, as terms that any solver for such terms solves.

With $a = \partial L / \partial y(t)$ and an equation $\mathrm{d}y = f\,\mathrm{d}x$ whose field and driver depend on
parameters $\theta$,

$$\mathrm{d}a = -a^\top \frac{\partial f}{\partial y}\,\mathrm{d}x, \qquad
\mathrm{d}a_\theta = -a^\top \Big(\frac{\partial f}{\partial \theta}\,\mathrm{d}x
+ f\,\mathrm{d}\frac{\partial x}{\partial \theta}\Big).$$

Derivatives are computed only with respect to the parameters for which they are requested. With respect to others, such
as time, a derivative may not exist.
"""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import Args, FlatSpace, RealScalar, Time, Y, match_varying, trace_once
from ..stops import Stops
from ..terms import AbstractTerm, MultiTerm, is_stochastic, leaf_terms

type Augmented = tuple[Y, Y, PyTree[Any], PyTree[Any]]
"""The state, and the adjoints of the state, of `args`, and of parameters inside the terms."""


class Parameters(NamedTuple):
    """The arrays of an equation by which a derivative is taken, with `None` in place of all others."""

    args: PyTree[Any]
    terms: PyTree[Any]


class _Increment(NamedTuple):
    """The increment of a driver, and its derivative.

    Parameters
    ----------
    control
        The increment.
    jacobian
        For each real number in the increment, stacked along the first axis of each leaf: its gradient with respect to
        the parameters of the driver.
    """

    control: PyTree[Any]
    jacobian: PyTree[Any]


class AdjointTerm(AbstractTerm[Any, Any]):
    """The adjoint equation of a part of `terms`.

    Its vector field is the pair of time and state, because the rest can be computed only together with the increment.

    Parameters
    ----------
    terms, args
        The equation.
    parameters
        The arrays in them by which the derivative is taken.
    of_driver
        Those of the arrays in `parameters.terms` on which the increment of the part's driver depends.
    part
        The index of the part among the parts of `terms`; `None` for all.
    """

    terms: Any
    args: Args
    parameters: Parameters
    of_driver: PyTree[Any]
    part: int | None = eqx.field(static=True)

    @classmethod
    def of_part(cls, terms: Any, args: Args, parameters: Parameters, t: Time, part: int | None) -> Self:
        """The adjoint equation of a part; `t` is any time."""
        leaves, tree = jax.tree.flatten(parameters.terms)

        def increment(t: Time, *leaves: Any) -> Any:
            whole = eqx.combine(jax.tree.unflatten(tree, leaves), terms)
            return eqx.filter(_part_of(whole, part).contr(t, t), eqx.is_array)

        uses = trace_once(increment, t, *leaves).uses[1:]
        of_driver = [leaf if is_used else None for leaf, is_used in zip(leaves, uses, strict=True)]
        return cls(terms, args, parameters, jax.tree.unflatten(tree, of_driver), part)

    @property
    def own_part(self) -> AbstractTerm[Any, Any]:
        """The part whose adjoint equation this is."""
        return _part_of(self.terms, self.part)

    @property
    def has_parameters_of_driver(self) -> bool:
        """True if the increment of the part's driver has a derivative."""
        return bool(jax.tree.leaves(self.of_driver))

    def vf(self, t: RealScalar, y: Augmented, args: Args) -> tuple[RealScalar, Augmented]:
        """Time and state."""
        return t, y

    def contr(self, t0: RealScalar, t1: RealScalar, **kwargs: Any) -> Any:
        """The increment of the part's own driver, with its derivative if it has one."""
        if not self.has_parameters_of_driver:
            return self.own_part.contr(t0, t1, **kwargs)

        def increment(of_driver: Any) -> Any:
            return _part_of(eqx.combine(of_driver, self.terms), self.part).contr(t0, t1, **kwargs)

        control, vjp = jax.vjp(increment, self.of_driver)
        space = FlatSpace(control)
        units = match_varying(jnp.eye(space.size, dtype=space.dtype), control)
        (jacobian,) = jax.vmap(lambda unit: vjp(space.unravel(unit)))(units)
        return _Increment(control, jacobian)

    def prod(self, vf: tuple[RealScalar, Augmented], control: Any) -> Augmented:
        """The increments of state and adjoints."""
        t, (y, adjoint, _, _) = vf
        control, jacobian = control if self.has_parameters_of_driver else (control, None)
        dy, vjp = jax.vjp(lambda y, parameters: self._increment(t, y, parameters, control), y, self.parameters)
        of_y, (of_args, of_terms) = vjp(adjoint)
        if jacobian is not None:
            vjp = jax.vjp(lambda control: self._increment(t, y, self.parameters, control), control)[1]
            (of_control,) = vjp(adjoint)
            of_terms = _added(of_terms, _cotangent_times(of_control, jacobian))
        return dy, *jax.tree.map(jnp.negative, (of_y, of_args, of_terms))

    def _increment(self, t: RealScalar, y: Y, parameters: Parameters, control: Any) -> Y:
        """The increment of the part itself."""
        args, terms = eqx.combine(parameters, Parameters(self.args, self.terms))
        return _part_of(terms, self.part).vf_prod(t, y, args, control)

    def time_derivative(self, t: Time, y: Augmented, args: Args) -> Augmented | None:
        """The time derivative of the adjoint equation, if the part has one."""
        part = self.own_part
        if part.noise(t, y[0], self.args) is not None:
            return jax.tree.map(jnp.zeros_like, y)
        if part.time_derivative(t, y[0], self.args) is None:
            return None
        return self.prod((t, y), self.contr(t, t + 1))

    def has_additive_noise(self, t: Time, y: Augmented) -> bool:
        """True if the increment of the adjoint equation does not depend on its state, as far as its program shows."""
        control = self.contr(t, t)
        return not trace_once(lambda y: self.prod((t, y), control), y).uses[0]

    def stops(self) -> tuple[Stops, ...]:
        """The part's stops."""
        return self.own_part.stops()

    def initial_carry(self) -> Any:
        """The part's carry; `None` if its increments have derivatives, which the carried ones do not have."""
        return None if self.has_parameters_of_driver else self.own_part.initial_carry()

    def increment_and_carry(self, carry: Any, t0: RealScalar, t1: RealScalar) -> tuple[Any, Any]:
        """The part's increment and carry."""
        return self.own_part.increment_and_carry(carry, t0, t1)

    def trace_once(self, t: Time, y: Augmented, args: Args) -> Self:
        """This term: its parts have been traced."""
        return self

    def num_equations(self) -> int:
        """The size of the field and of its vector–Jacobian product."""
        return 3 * self.own_part.num_equations()


def adjoint_terms(terms: Any, args: Args, parameters: Parameters, t: Time) -> AbstractTerm[Any, Any]:
    """The adjoint equation: a sum of as many terms as the equation itself, in their order; `t` is any time."""
    if not terms.parts:
        return AdjointTerm.of_part(terms, args, parameters, t, None)
    return MultiTerm(*(AdjointTerm.of_part(terms, args, parameters, t, i) for i in range(len(terms.parts))))


def has_additive_noise(terms: AbstractTerm[Any, Any], t: Time, y: Augmented) -> bool:
    """True if no noise in the adjoint equation `terms` depends on its state."""
    noisy = [term for term in leaf_terms(terms) if isinstance(term, AdjointTerm) and is_stochastic(term.own_part)]
    return all(term.has_additive_noise(t, y) for term in noisy)


def _part_of(terms: Any, part: int | None) -> Any:
    return terms if part is None else terms.parts[part]


def _cotangent_times(cotangent: PyTree[Any], jacobian: PyTree[Any]) -> PyTree[Any]:
    """The cotangent of the parameters of a driver, from that of its increment and the `_Increment.jacobian`."""
    vector = FlatSpace(cotangent).ravel(cotangent)
    return jax.tree.map(lambda rows: jnp.tensordot(vector.astype(rows.dtype), rows, axes=1), jacobian)


def _added(tree: PyTree[Any], some: PyTree[Any]) -> PyTree[Any]:
    """`tree` with `some` added, whose leaves may be `None`."""
    add = lambda x, y: x if y is None else x + y
    return jax.tree.map(add, tree, some, is_leaf=lambda x: x is None)
