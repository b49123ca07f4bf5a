"""The linear algebra of `Krylov`: products at the present state, and a preconditioner kept from step to step."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from ...jaxkit import Args, BoolScalar, FlatSpace, Time, Y, shown
from ...results import RESULTS, Result, choose
from ...sparsity import SparsityPattern
from ..jacobian import AbstractJacobian, Field, ImplicitJacobian, Scale, Vector
from ..linear import (
    AbstractLinearAlgebra,
    LinearSystem,
    algebra_of,
    declared_band,
    for_other_systems,
    for_problem,
    improvement,
    needs_matrix,
    pattern_of_vectors,
)
from ..sparse import SparseLinearOperator
from ..sparse_jacobian import SparseJacobian
from .preconditioners import AbstractCorrection, AbstractPreconditioner, GivenPreconditioner
from .solver import Krylov, KrylovState


class Linearisation(NamedTuple):
    """The data of a Jacobian: the state at which products are taken, and the entries for the preconditioner, if any."""

    state: Vector
    entries: Array | None


class KrylovJacobian(AbstractJacobian):
    """Products of the Jacobian with vectors and, for preconditioners that need them, the entries of a pattern.

    Parameters
    ----------
    of_entries
        The storage of the entries; `None` if they are not needed.
    """

    of_entries: SparseJacobian | None

    @property
    def is_stored(self) -> bool:
        """False: no matrix is factorised."""
        return False

    def evaluate(self, field: Field, y: Vector) -> Linearisation:
        """The state and the entries."""
        return Linearisation(y, None if self.of_entries is None else self.of_entries.evaluate(field, y))

    def of_operator(self, operator: lx.AbstractLinearOperator) -> Array:
        """Raise a `ValueError`: products are derived from the field, not from an operator."""
        return ImplicitJacobian().of_operator(operator)

    def shifted(
        self, field: Field, stored: Linearisation, scale: Scale, mass: lx.AbstractLinearOperator | None = None
    ) -> lx.AbstractLinearOperator:
        """The product of the shifted matrix with a vector, as a function."""
        return ImplicitJacobian().shifted(field, stored.state, scale, mass)

    def linear_solver(self, size: int) -> lx.AbstractLinearSolver[Any]:
        """Unreachable: this kind of Jacobian is chosen by a linear solver that the user gave."""
        return ImplicitJacobian().linear_solver(size)

    def matrix(self, system: LinearSystem) -> SparseLinearOperator | None:
        """The entries of a system's matrix, as old as the stored ones."""
        if self.of_entries is None:
            return None
        field, stored = system.field, system.stored
        stored = field.with_jacobian(stored, field.of_jacobian(stored).entries)
        matrix = field.shifted(self.of_entries, LinearSystem(field, system.t, stored, system.scale))
        assert isinstance(matrix, SparseLinearOperator), "the entries of a pattern"
        return matrix


class KrylovAlgebra(AbstractLinearAlgebra):
    """The linear algebra of `Krylov`, whose factors are the arrays of the preconditioner.

    Parameters
    ----------
    jacobian
        The products and the entries.
    solver
        The linear solver.
    preconditioner
        Its preconditioner.
    """

    # Fields of a module are not assigned to, so that narrower types are safe.
    jacobian: KrylovJacobian  # pyright: ignore[reportIncompatibleVariableOverride]
    solver: Krylov  # pyright: ignore[reportIncompatibleVariableOverride]
    preconditioner: AbstractPreconditioner

    @property
    def has_factors(self) -> bool:
        """True if there is a preconditioner."""
        return self.solver.preconditioner is not None

    def factorise(self, system: LinearSystem) -> PyTree[Array]:
        """The arrays of the preconditioner."""
        return tuple(jax.tree.leaves(eqx.filter(self._correction(system), eqx.is_array)))

    def state(self, system: LinearSystem, factors: PyTree[Array] | None) -> KrylovState:
        """The products with the system's own matrix, and a preconditioner that may be that of another."""
        return KrylovState(system.operator(self), self._restored(system, factors))

    def at_iterate(self, system: LinearSystem, t: Time, y: Vector) -> LinearSystem:
        """The system with its products at another time and state, and the same entries."""
        field, stored = system.field, system.stored
        stored = field.with_jacobian(stored, field.of_jacobian(stored)._replace(state=y))
        return LinearSystem(field, t, stored, system.scale)

    def damping(self, scale: Array, factored_scale: Array) -> Array:
        """One: solutions are those of the system's own matrix."""
        del scale
        return jnp.ones_like(factored_scale)

    def failure(self, is_unsolved: BoolScalar, otherwise: Result) -> Result:
        """Stagnation if a system was not solved."""
        return choose(is_unsolved, RESULTS.stagnation, otherwise)

    def _correction(self, system: LinearSystem) -> AbstractCorrection:
        return self.preconditioner.prepare(system, self.jacobian.matrix(system))

    def _restored(self, system: LinearSystem, factors: PyTree[Array] | None) -> AbstractCorrection:
        """The preconditioner for a system, or the one whose arrays are given."""
        if factors is None:
            return self._correction(system)
        shapes, others = eqx.partition(
            eqx.filter_eval_shape(self._correction, system), lambda x: isinstance(x, jax.ShapeDtypeStruct)
        )
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(shapes), factors), others)


@needs_matrix.register(Krylov)
def _(solver: Krylov) -> bool:
    del solver
    return False


@improvement.register(Krylov)
def _(solver: Krylov) -> str:
    if solver.preconditioner is None:
        return (
            "`Krylov()` has no preconditioner, without which it does not solve stiff systems of this size: give "
            '`Krylov(preconditioner="ilu")` with `ODETerm(sparsity=...)`, or a function of (t, y, args, gamma).'
        )
    return (
        'The preconditioner of `Krylov` is not good enough: give another one, such as "ilu", or a larger `restart`, '
        f"which is {solver.restart}."
    )


@for_problem.register(Krylov)
def _(solver: Krylov, space: FlatSpace, t: Time, y: Y, args: Args) -> Krylov:
    if solver.kind is not None:
        return solver
    preconditioner = GivenPreconditioner.of(solver.preconditioner, space, t, y, args)
    return Krylov(solver.restart, preconditioner)


@for_other_systems.register(Krylov)
def _(solver: Krylov) -> Krylov:
    # A function is an approximate inverse of the matrices of implicit steps alone.
    return solver if isinstance(solver.preconditioner, str) else Krylov(solver.restart)


@algebra_of.register(Krylov)
def _(
    solver: Krylov, tags: frozenset[object], space: FlatSpace, pattern: SparsityPattern | None
) -> AbstractLinearAlgebra:
    kind = solver.kind
    if kind is None:
        raise ValueError(
            "`Krylov(preconditioner=...)` is a function of a time and a state of a differential equation.\n"
            "Expected: a name or no preconditioner for other equations\n"
            f"Found:    {shown(solver.preconditioner)}\nGive the solver to `diffeqsolve`, or leave the function out."
        )
    if not kind.needs_entries:
        return KrylovAlgebra(KrylovJacobian(None), solver, kind)
    entries = _pattern(tags, space, pattern)
    if entries is None:
        raise ValueError(
            "`Krylov(preconditioner=...)` makes this preconditioner from entries of the Jacobian.\n"
            "Expected: `ODETerm(vector_field, sparsity=...)`, the pattern of the Jacobian\n"
            f"Found:    no pattern, and preconditioner={shown(solver.preconditioner)}\n"
            "Find it by `rungax.jacobian_sparsity`, or give a function of (t, y, args, gamma), which needs none."
        )
    return KrylovAlgebra(KrylovJacobian(SparseJacobian(entries.with_diagonal())), solver, kind)


def _pattern(tags: frozenset[object], space: FlatSpace, pattern: SparsityPattern | None) -> SparsityPattern | None:
    """The pattern of the Jacobian of vectors: as declared, or a declared band."""
    if pattern is not None:
        return pattern_of_vectors(pattern, space)
    band = declared_band(tags)
    return None if band is None else SparsityPattern.of_band(space.size, band.lower, band.upper)
