"""Algebraic equations: states that fulfil them, and whether they determine the algebraic part of the state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...interpolation import AbstractLocalInterpolation
from ...jaxkit import Args, RealScalar, Time, Y, with_derivatives_of, with_fields
from ...nonlinear import (
    AbstractLinearAlgebra,
    AbstractNullSpaces,
    ErrorWeights,
    LinearSolver,
    Tolerances,
    Vector,
    consistent,
    default_tolerances,
    index_is_one,
    is_consistent,
    worst_equations,
)
from ...results import RESULTS, Result, choose, first_failure
from ...terms import AbstractTerm
from .derivative import algebra_at, at_time, null_spaces_of
from .flat_field import FlatField


class _At(NamedTuple):
    """The arguments of the functions on algebraic equations, at a time and state."""

    field: FlatField
    spaces: AbstractNullSpaces
    algebra: AbstractLinearAlgebra
    t: Time
    y: Vector


class Constraints(eqx.Module):
    """The algebraic equations of an equation with a mass matrix.

    Parameters
    ----------
    term, args
        The equation, in the direction of travel.
    tolerances
        The tolerances to which the equations are solved; `None` for almost all digits.
    linear_solver
        The linear solver that the user gave to the method.
    """

    term: AbstractTerm[Any, Any]
    args: Args
    tolerances: Tolerances | None
    linear_solver: LinearSolver | None

    def made_consistent(self, t: Time, y: Y) -> tuple[Y, Result]:
        """The state with its algebraic part changed as the term says, and the reason if that is not possible.

        A consistent state stays as it is. Equations of a higher index than one fail in any case.
        """
        result: Result = RESULTS.successful
        match self.term.consistency:
            case "solve":
                return self.found(t, y)
            case "check":
                field, spaces, algebra, t, vector = self._at(t, y)
                holds = is_consistent(field, spaces, algebra, self._weights(field, y), t, vector)
                result = choose(holds, result, RESULTS.inconsistent_initial_values)
                # Of consistent states: those of a given one need not be.
                y = jax.tree.map(with_derivatives_of, y, self.nearest(t, y)[0])
            case "none":
                pass
        return y, first_failure(self.index_failure(t, y), result)

    def found(self, t: Time, y: Y) -> tuple[Y, Result]:
        """The state of `nearest`, and the reason if there is none, or if the index is higher than one."""
        y, result = self.nearest(t, y)
        return y, first_failure(self.index_failure(t, y), result)

    def nearest(self, t: Time, y: Y) -> tuple[Y, Result]:
        """The state that fulfils the algebraic equations and has the same differential part, if one is found."""
        field, spaces, algebra, t, vector = self._at(t, y)
        found, result = consistent(field, spaces, algebra, self._weights(field, y), t, vector)
        # Numbers of lower precision come back as they were, and not rounded, if nothing changes.
        is_changed = jnp.any(found != vector)

        def changed(new: Array, old: Array) -> Array:
            # What is consistent already has the same derivatives as what is not.
            return with_derivatives_of(jnp.where(is_changed, new, old), new)

        return jax.tree.map(changed, field.space.unravel(found), y), result

    def worst_residuals(self, t: Time, y: Y) -> Y:
        """The sizes of the largest residuals of the algebraic equations at a state, and zero for all others."""
        field, spaces, _, t, vector = self._at(t, y)
        rows, sizes = worst_equations(field, spaces, t, vector)
        real = jnp.zeros(vector.shape, sizes.dtype).at[rows].set(sizes)
        return jax.tree.map(jnp.abs, field.space.unravel(real.astype(vector.dtype)))

    def index_failure(self, t: Time, y: Y) -> Result:
        """`RESULTS.index_above_one` if the algebraic equations do not determine the algebraic part at a state."""
        return choose(index_is_one(*self._at(t, y)), RESULTS.successful, RESULTS.index_above_one)

    def with_equation(self, term: AbstractTerm[Any, Any], args: Args) -> "Constraints":
        """The same of an equation with other parameters."""
        return with_fields(self, term=term, args=args)

    def _at(self, t: Time, y: Y) -> _At:
        field = at_time(self.term, t, y, self.args)
        vector, algebra = field.space.ravel(y), algebra_at(field, self.linear_solver, t, y)
        return _At(field, null_spaces_of(field, t, vector), algebra, jnp.asarray(t), vector)

    def _weights(self, field: FlatField, y: Y) -> ErrorWeights:
        return ErrorWeights.of(default_tolerances(y) if self.tolerances is None else self.tolerances, field.space)


class ConsistentInterpolations(eqx.Module):
    """A maker of interpolations that fulfil algebraic equations.

    Parameters
    ----------
    make
        The maker of a method's own interpolations.
    constraints
        The algebraic equations.
    """

    make: Callable[..., AbstractLocalInterpolation]
    constraints: Constraints

    def __call__(self, *, t0: RealScalar, t1: RealScalar, **dense_info: Any) -> "ConsistentInterpolation":
        """The interpolation over a step."""
        return ConsistentInterpolation(t0, t1, self.make(t0=t0, t1=t1, **dense_info), self.constraints)


class ConsistentInterpolation(AbstractLocalInterpolation):
    """An interpolation whose algebraic part is solved for: its order is that of the differential part.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    inner
        The interpolation whose differential part counts.
    constraints
        The algebraic equations.
    """

    t0: RealScalar
    t1: RealScalar
    inner: AbstractLocalInterpolation
    constraints: Constraints

    def value(self, t: RealScalar) -> Y:
        """The state at `t`, which fulfils the algebraic equations."""
        return self.constraints.nearest(jnp.asarray(t), self.inner.evaluate(t))[0]
