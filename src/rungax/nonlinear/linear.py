r"""Linear systems $(M - \beta J)\,x = b$, solved with a factorisation that may be stored from an earlier step."""

import abc
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, PyTree

from ..jaxkit import (
    Args,
    BoolScalar,
    FlatSpace,
    RealScalar,
    Time,
    Y,
    match_varying,
    scaled,
    shown,
    without_derivatives,
)
from ..results import Result
from ..sparsity import SparsityPattern
from .banded import BandedLinearOperator
from .jacobian import AbstractJacobian, BandedJacobian, DenseJacobian, ImplicitJacobian, Scale, Vector
from .sparse_jacobian import SparseJacobian
from .tags import Banded, holomorphic_tag
from .tolerances import Accuracy

type LinearSolver = lx.AbstractLinearSolver[Any]


class AbstractLinearAlgebra(eqx.Module):
    """The storage of a field's Jacobian, and the linear solver for its systems."""

    jacobian: eqx.AbstractVar[AbstractJacobian]
    solver: eqx.AbstractVar[LinearSolver]

    @property
    @abc.abstractmethod
    def has_factors(self) -> bool:
        """True if there are arrays which make several solutions cheaper, and which are kept from step to step."""

    @abc.abstractmethod
    def factorise(self, system: "LinearSystem") -> PyTree[Array]:
        """The factorisation of a system: arrays that speed up its solutions."""

    @abc.abstractmethod
    def state(self, system: "LinearSystem", factors: PyTree[Array] | None) -> PyTree[Any]:
        """The linear solver's state for a system, from the arrays that `factorise` returned if there are some."""

    @abc.abstractmethod
    def at_iterate(self, system: "LinearSystem", t: Time, y: Vector) -> "LinearSystem":
        """The system with the Jacobian at another time and state, if that costs less than a factorisation."""

    @abc.abstractmethod
    def damping(self, scale: Array, factored_scale: Array) -> Array:
        """The factor by which solutions with a factorisation for another scale are multiplied."""

    @abc.abstractmethod
    def failure(self, is_unsolved: BoolScalar, otherwise: Result) -> Result:
        """The reason of a failure, from whether a solution is infinite, and the reason if that does not explain it."""

    def empty_factors(self, system: "LinearSystem") -> PyTree[Array]:
        """Zeros of the shapes and dtypes of `factorise`."""
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), eqx.filter_eval_shape(self.factorise, system))


class LinearAlgebra(AbstractLinearAlgebra):
    """The storage of the Jacobian with a solver of Lineax, whose state consists of the factors of the whole matrix."""

    jacobian: AbstractJacobian
    solver: LinearSolver

    @property
    def has_factors(self) -> bool:
        """True if the stored array holds the Jacobian's entries."""
        return self.jacobian.is_stored

    def factorise(self, system: "LinearSystem") -> PyTree[Array]:
        """The arrays in the linear solver's state."""
        return eqx.filter(self._init(system), eqx.is_array)

    def state(self, system: "LinearSystem", factors: PyTree[Array] | None) -> PyTree[Any]:
        """The linear solver's state for a system, from a factorisation if there is one."""
        if factors is None:
            return self._init(system)
        return eqx.combine(factors, eqx.filter(eqx.filter_eval_shape(self._init, system), _is_shape, inverse=True))

    def at_iterate(self, system: "LinearSystem", t: Time, y: Vector) -> "LinearSystem":
        """The system itself."""
        del t, y
        return system

    def damping(self, scale: Array, factored_scale: Array) -> Array:
        """The solution with another scale is wrong by a factor between one and the ratio of the scales."""
        return 2 * factored_scale / (factored_scale + scale)

    def failure(self, is_unsolved: BoolScalar, otherwise: Result) -> Result:
        """The other reason: a solution that is not finite shows that the iteration diverges."""
        del is_unsolved
        return otherwise

    def _init(self, system: "LinearSystem") -> PyTree[Any]:
        return self.solver.init(system.operator(self), {})


class LinearSystem(eqx.Module):
    r"""The matrix $M - \beta J$ of a field at a time.

    Parameters
    ----------
    field
        The vector field over a step, which has the mass matrix $M$.
    t
        The time of the Jacobian.
    stored
        The stored array for the Jacobian $J$, or several.
    scale
        The factor $\beta$, real or complex.
    """

    field: "AbstractField"
    t: Time
    stored: PyTree[Array]
    scale: Scale

    @classmethod
    def at(
        cls,
        algebra: AbstractLinearAlgebra,
        field: "AbstractField",
        t: Time,
        y: Vector,
        scale: Scale,
        rate: Vector | None = None,
    ) -> Self:
        """The system whose Jacobian is that at `y`, where the state has the derivative `rate`."""
        return cls(field, t, field.jacobian(algebra, t, y, rate), scale)

    def operator(self, algebra: AbstractLinearAlgebra) -> lx.AbstractLinearOperator:
        """The matrix as a linear operator."""
        return self.field.shifted(algebra.jacobian, self)


class AbstractField(eqx.Module):
    r"""The vector field $f$ of $M y' = f(t, y)$ over one step, on vectors."""

    @property
    def mass(self) -> lx.AbstractLinearOperator | None:
        """The mass matrix $M$, if it is constant; `None` stands for the identity."""
        return None

    def mass_at(self, t: RealScalar, y: Vector) -> lx.AbstractLinearOperator | None:
        """The mass matrix at a time and state; `None` stands for the identity."""
        del t, y
        return self.mass

    @property
    def has_mass(self) -> bool:
        """True if the mass matrix may be another than the identity, so that some equations may be algebraic."""
        return self.mass is not None

    @property
    def needs_rate(self) -> bool:
        """True if the Jacobian depends on the derivative of the state."""
        return False

    def mass_product(self, vector: Vector) -> Vector:
        """The constant mass matrix times a vector."""
        mass = self.mass
        return vector if mass is None else mass.mv(vector)

    def residual(self, t: RealScalar, y: Vector, diagonal: RealScalar, known: Vector, displacement: Vector) -> Vector:
        r"""The residual $\gamma F(t, y) - M (z - r)$ of a stage's equation.

        Parameters
        ----------
        t, y
            Time and state of the stage.
        diagonal, known, displacement
            The coefficient $\gamma$, the known part $r$ of the displacement, and the displacement $z$.
        """
        increment = scaled(diagonal, self.increment(t, y))
        if self.mass is None:
            return known + increment - displacement
        return increment - self.mass_product(displacement - known)

    def shifted(self, jacobian: AbstractJacobian, system: LinearSystem) -> lx.AbstractLinearOperator:
        """The matrix of a system of this field as a linear operator, from what `jacobian` has stored in the system."""
        slope = lambda y: self.slope(system.t, y)
        return jacobian.shifted(slope, system.stored, system.scale, self.mass)

    def of_jacobian(self, stored: PyTree[Array]) -> PyTree[Array]:
        """The part of what `jacobian` returns that is the stored Jacobian; by default all of it."""
        return stored

    def with_jacobian(self, stored: PyTree[Array], jacobian: PyTree[Array]) -> PyTree[Array]:
        """What `jacobian` has returned, with another stored Jacobian."""
        del stored
        return jacobian

    @abc.abstractmethod
    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the increment of its driver over the step."""

    @abc.abstractmethod
    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the mean rate of its driver: `increment` divided by the length of the step."""

    @abc.abstractmethod
    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The array that `algebra` stores for the Jacobian of `slope`; `rate` is the derivative of the state, if known.

        The user's Jacobian, if there is one.
        """

    def exact_jacobian(self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector) -> PyTree[Array]:
        """The array for the Jacobian as it is derived from `slope`, at a state with the derivative `rate`."""
        del rate
        return algebra.jacobian.evaluate(lambda y: self.slope(t, y), y)


def solve(
    algebra: AbstractLinearAlgebra,
    system: LinearSystem,
    b: Vector,
    factors: PyTree[Array] | None = None,
    accuracy: Accuracy | None = None,
) -> Vector:
    """The solution for a right-hand side, from a factorisation if there is one.

    It depends differentiably on the system and on `b`, as if the factorisation were that of the system's own matrix. An
    iterative solver may leave a residual of the given accuracy; without one it solves to rounding.
    """
    return _solve((system, b), without_derivatives((algebra, factors, accuracy)))


@eqx.filter_custom_jvp
def _solve(differentiable: tuple[LinearSystem, Vector], static: Any) -> Vector:
    (system, b), (algebra, factors, accuracy) = differentiable, static
    options = {} if accuracy is None else {"accuracy": accuracy}
    return algebra.solver.compute(algebra.state(system, factors), b, options)[0]


@_solve.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Vector, Vector | None]:
    r"""From $A x = b$: $A \dot x = \dot b - \dot A x$."""
    (system, b), (algebra, factors, _) = primals
    x = _solve(*primals)

    def residual(differentiable: tuple[LinearSystem, Vector]) -> Vector:
        system, b = differentiable
        return b - system.operator(algebra).mv(x)

    residual_tangent = eqx.filter_jvp(residual, ((system, b),), (tangents[0],))[1]
    if residual_tangent is None:  # neither matrix nor right-hand side depends on what is differentiated
        return x, None
    return x, solve_tangent(algebra, system, residual_tangent, factors)


def solve_tangent(
    algebra: AbstractLinearAlgebra, system: LinearSystem, b: Vector, factors: PyTree[Array] | None = None
) -> Vector:
    """The solution for a right-hand side that is a tangent: a map that can be transposed for every linear solver.

    It uses JAX's own linear solve. Lineax's has a callback in its derivatives, which a loop must not contain.
    """
    return transposable_solve(algebra, system, b, [factors], lambda product, b, solution: solution(b))


def transposable_solve(
    algebra: AbstractLinearAlgebra,
    system: LinearSystem,
    b: Vector,
    factors: Sequence[PyTree[Array] | None],
    solve_by: Callable[..., Vector],
) -> Vector:
    """The solution for a right-hand side that is a tangent, from solutions by one or several factorisations.

    Parameters
    ----------
    algebra, system, b
        The linear algebra, the system and the right-hand side.
    factors
        The factorisations; `None` stands for the system's own.
    solve_by
        A function of the product with the matrix, the right-hand side, and for each factorisation the solution with it
        for a right-hand side. For the transposed system it is called with the transposed ones.
    """
    system, b, factors = match_varying((system, b, factors), (system, b, factors))
    solver = algebra.solver
    states = without_derivatives([algebra.state(system, each) for each in factors])

    def solutions(states: Sequence[Any]) -> list[Callable[[Vector], Vector]]:
        return [lambda b, state=state: solver.compute(state, b, {})[0] for state in states]

    return lax.custom_linear_solve(
        system.operator(algebra).mv,
        b,
        lambda product, b: solve_by(product, b, *solutions(states)),
        lambda product, b: solve_by(product, b, *solutions([solver.transpose(state, {})[0] for state in states])),
    )


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


@singledispatch
def needs_matrix(solver: Any) -> bool:
    """True if a linear solver works on the entries of a matrix, and not only on its products with vectors.

    Register an iterative solver of your own: `needs_matrix.register(MySolver)(lambda solver: False)`.
    """
    del solver
    return True


@needs_matrix.register(lx.GMRES)
@needs_matrix.register(lx.BiCGStab)
@needs_matrix.register(lx.CG)
@needs_matrix.register(lx.Normal)
@needs_matrix.register(lx.LSMR)
def _(solver: Any) -> bool:
    del solver
    return False


@singledispatch
def improvement(solver: Any) -> str | None:
    """The change of an iterative linear solver that may help if systems are not solved; `None` for direct ones."""
    del solver
    return None


def check_linear_solver(solver: Any) -> None:
    """Raise a `ValueError` unless a solver's `linear_solver` is a Lineax solver or `None`."""
    if solver is not None and not isinstance(solver, lx.AbstractLinearSolver):
        raise ValueError(
            "`linear_solver` solves the linear systems of implicit steps.\n"
            f"Expected: a Lineax solver such as `lineax.LU()`, or None\nFound:    {shown(solver)}\n"
            "Give an instance, not a class; leave it out to let size and structure choose."
        )


def structure_of(operator: lx.AbstractLinearOperator) -> frozenset[object]:
    """The tag for the diagonals of a banded operator; no tag for any other operator."""
    if isinstance(operator, BandedLinearOperator):
        return frozenset([Banded(operator.lower, operator.upper)])
    if lx.is_diagonal(operator):
        return frozenset([lx.diagonal_tag])
    return frozenset([lx.tridiagonal_tag]) if lx.is_tridiagonal(operator) else frozenset()


def linear_algebra(
    tags: frozenset[object], solver: LinearSolver | None, space: FlatSpace, pattern: SparsityPattern | None = None
) -> AbstractLinearAlgebra:
    """The storage and the linear solver that suit a term's structure and the linear solver that the user gave, if any.

    Parameters
    ----------
    tags
        The tags of the term.
    solver
        The linear solver that the user gave.
    space
        The states that vectors stand for.
    pattern
        The pattern of the Jacobian by the entries of the state, if it is known.
    """
    return algebra_of(solver, tags, space, pattern)


@singledispatch
def algebra_of(
    solver: Any, tags: frozenset[object], space: FlatSpace, pattern: SparsityPattern | None
) -> AbstractLinearAlgebra:
    """`linear_algebra` by the class of the linear solver: one that stores something else registers a function here."""
    jacobian = _jacobian(tags, solver, space, pattern)
    return LinearAlgebra(jacobian, jacobian.linear_solver(space.size) if solver is None else solver)


@singledispatch
def for_problem(solver: Any, space: FlatSpace, t: Time, y: Y, args: Args) -> Any:
    """The linear solver for states like `y` and these arguments: one with a function of them registers a function."""
    del space, t, y, args
    return solver


@singledispatch
def for_other_systems(solver: Any) -> Any:
    """The linear solver for systems that are not those of implicit steps, for which its preconditioner may be made."""
    return solver


def pattern_of_vectors(pattern: SparsityPattern, space: FlatSpace) -> SparsityPattern:
    """The pattern of the Jacobian of vectors, of which an entry of the state that is split has two."""
    return pattern.repeated(space.size, space.places()) if space.is_split else pattern


def _jacobian(
    tags: frozenset[object], solver: LinearSolver | None, space: FlatSpace, pattern: SparsityPattern | None
) -> AbstractJacobian:
    """The storage of the Jacobian: none for an iterative solver, else what the tags or the pattern declare, or all."""
    if solver is not None and not needs_matrix(solver):
        return ImplicitJacobian()
    band = declared_band(tags)
    if band is None and pattern is not None:
        return SparseJacobian(pattern_of_vectors(pattern, space).with_diagonal())
    if band is None:
        return DenseJacobian()
    if space.is_split:
        raise ValueError(
            "`ODETerm(tags=...)` declares diagonals of a Jacobian, but complex states are solved as real ones.\n"
            f"Expected: `rungax.holomorphic_tag` among the tags, if the field is differentiable in the complex sense\n"
            f"Found:    {band}\nAdd it, or leave out the structure."
        )
    return BandedJacobian(band.lower, band.upper)


_LINEAX_BANDS: dict[object, Banded] = {lx.diagonal_tag: Banded(0, 0), lx.tridiagonal_tag: Banded(1, 1)}

_OTHER_TAGS = (
    holomorphic_tag,
    lx.symmetric_tag,
    lx.unit_diagonal_tag,
    lx.lower_triangular_tag,
    lx.upper_triangular_tag,
    lx.positive_semidefinite_tag,
    lx.negative_semidefinite_tag,
)


def declared_band(tags: frozenset[object]) -> Banded | None:
    """The narrowest band that the tags declare."""
    unknown = [tag for tag in tags if not (isinstance(tag, Banded) or tag in _LINEAX_BANDS or tag in _OTHER_TAGS)]
    if unknown:
        raise ValueError(
            "`ODETerm(tags=...)` declares the structure of the Jacobian.\n"
            "Expected: Lineax's tags, `rungax.Banded(lower, upper)`, or `rungax.holomorphic_tag`\n"
            f"Found:    {shown(unknown[0])}\nFor example `tags=lineax.tridiagonal_tag`."
        )
    bands = [tag for tag in tags if isinstance(tag, Banded)]
    bands += [band for tag, band in _LINEAX_BANDS.items() if tag in tags]
    return min(bands, key=lambda band: (band.lower + band.upper, band.lower), default=None)
