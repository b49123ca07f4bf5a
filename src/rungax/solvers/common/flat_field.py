"""The vector field of a term over one step, as a function of vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, PyTree

from ...jaxkit import Args, FlatSpace, RealScalar, Y, is_debugging, scaled, with_fields
from ...nonlinear import (
    AbstractField,
    AbstractJacobian,
    AbstractLinearAlgebra,
    AbstractNullSpaces,
    LinearSolver,
    LinearSystem,
    SparseJacobian,
    SparseLinearOperator,
    Vector,
    declared_band,
    disagree,
    for_problem,
    holomorphic_tag,
    linear_algebra,
    mass_operator,
    pattern_of_vectors,
    structure_of,
    structure_of_mass,
    with_structure_of_mass,
)
from ...results import RESULTS, Result, choose, first_failure
from ...sparsity import SparsityPattern, random_direction
from ...terms import AbstractTerm
from .failures import failure_of_derivative


class FlatField(AbstractField):
    """The vector field of a term over the step from `t0` to `t1`.

    Parameters
    ----------
    term, args
        The term and its arguments.
    control
        The increment of the term's driver over the step.
    rate
        The increment divided by the length of the step.
    space
        The states that the vectors stand for.
    spaces
        The null spaces of a constant mass matrix in whose terms the equations are combined: those without a derivative
        of the state are then apart from the others. (In their sums a short step would make them small.) `None` leaves
        the equations as they are.
    """

    term: AbstractTerm[Any, Any]
    args: Args
    control: PyTree[Any]
    rate: PyTree[Any]
    space: FlatSpace
    spaces: AbstractNullSpaces | None = None

    @classmethod
    def for_step(
        cls,
        term: AbstractTerm[Any, Any],
        t0: RealScalar,
        t1: RealScalar,
        y: Y,
        args: Args,
        space: FlatSpace | None = None,
    ) -> Self:
        """The field over a step, for states like `y`.

        By default complex states become complex vectors if the term is tagged as holomorphic, else real ones.
        """
        # The equation of a stage has derivatives of its own, which do not see what a function has captured. In a solve
        # the terms have been traced before.
        term = term.trace_once(jnp.asarray(t0), y, args)
        control = term.contr(t0, t1)
        length = jnp.asarray(t1 - t0)
        # A batch element that takes no step has length zero and increment zero, which must not be divided by it.
        length = jnp.where(length == 0, 1.0, length)
        rate = jax.tree.map(lambda x: x / length.astype(jnp.result_type(x)), control)
        space = FlatSpace(y, holomorphic_tag in term.jacobian_tags) if space is None else space
        cls = FieldWithVariableMass if term.mass_kind == "variable" else FlatField
        return cls(term, args, control, rate, space, term.null_spaces)

    @property
    def has_mass(self) -> bool:
        """True if the term has a mass matrix."""
        return self.term.mass_kind != "identity"

    @property
    def mass(self) -> lx.AbstractLinearOperator | None:
        """The mass matrix, if it is constant."""
        if self.term.mass_kind == "identity":
            return None
        if self.spaces is not None:
            return self.spaces.separated_mass
        # It is the same at all times and states.
        return mass_operator(self.term.mass_at(0.0, None, self.args), self.space)

    def increment(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the increment of its driver over the step."""
        return self._product(t, y, self.control)

    def slope(self, t: RealScalar, y: Vector) -> Vector:
        """The vector field times the mean rate of its driver over the step."""
        return self._product(t, y, self.rate)

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> PyTree[Array]:
        """The array that `algebra` stores for the Jacobian of `slope`: the user's, if given, else derived."""
        del rate
        return self._given_or_derived(algebra, t, y, lambda y: self.slope(t, y))

    def _given_or_derived(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, slope: Callable[[Vector], Vector]
    ) -> PyTree[Array]:
        """The array for the user's Jacobian, if given, else for that of a slope."""
        given = self.term.jacobian_at(t, self.space.unravel(y), self.args)
        if given is None:
            return algebra.jacobian.evaluate(slope, y)
        matrix = as_operator(given, self.space, self.term.jacobian_pattern)
        combined = matrix if self.spaces is None else self.spaces.of_equations(matrix)
        stored = algebra.jacobian.of_operator(combined)
        stored = stored * jnp.asarray(self.rate).astype(stored.dtype)
        if not is_debugging():
            return stored
        return jnp.where(jnp.any(self._disagree(matrix, t, y)), jnp.asarray(jnp.nan, stored.dtype), stored)

    def failure_of_jacobian(self, t: RealScalar, y: Y) -> Result:
        """The failure of every step that uses the Jacobian at a state: it is not finite, or not that of the field."""
        given, vector = self.term.jacobian_at(t, y, self.args), self.space.ravel(y)
        # Not finite in every row in which an entry is not.
        direction = (jnp.ones_like(vector),)
        sample = jax.jvp(lambda y: self.slope(t, y), (vector,), direction)[1] if given is None else given
        failure, wrong = failure_of_derivative(sample), self._wrong_rows(given, t, vector)
        if wrong is None:
            return failure
        reason = RESULTS.jacobian_pattern_wrong if given is None else RESULTS.jacobian_wrong
        return first_failure(failure, choose(jnp.any(wrong), reason, RESULTS.successful))

    def wrong_rows(self, t: RealScalar, y: Y) -> Bool[Array, " n"] | None:
        """For each row of the Jacobian whether it disagrees with a derivative; `None` if that is not compared.

        A pattern is always compared with a derivative, a user's Jacobian in JAX's debug mode `jax_enable_checks`.
        """
        return self._wrong_rows(self.term.jacobian_at(t, y, self.args), t, self.space.ravel(y))

    def _wrong_rows(self, given: Any, t: RealScalar, y: Vector) -> Bool[Array, " n"] | None:
        """The wrong rows, from the user's Jacobian if there is one."""
        pattern = self.term.jacobian_pattern
        if given is not None:
            return self._disagree(as_operator(given, self.space, pattern), t, y) if is_debugging() else None
        if pattern is None:
            return None
        plain = with_fields(self, spaces=None)
        return SparseJacobian(pattern_of_vectors(pattern, self.space)).compared(lambda y: plain.slope(t, y), y)[1]

    def _disagree(self, given: lx.AbstractLinearOperator, t: RealScalar, y: Vector) -> Bool[Array, " n"]:
        """For each row whether the user's Jacobian disagrees with a derivative in a random direction."""
        rate = jnp.asarray(self.rate).astype(self.space.dtype)
        direction = jnp.asarray(random_direction(self.space.size).astype(self.space.dtype))
        plain = with_fields(self, spaces=None)
        derivative = jax.jvp(lambda y: plain.slope(t, y), (y,), (direction,))[1]
        return disagree(rate * given, direction, derivative)

    def linear_algebra(self, solver: LinearSolver | None, t: RealScalar, y: Y) -> AbstractLinearAlgebra:
        """The storage of the Jacobian and the linear solver, for states like `y`."""
        tags, pattern = self.term.jacobian_tags, self.term.jacobian_pattern
        given = eqx.filter_eval_shape(self.term.jacobian_at, t, y, self.args)
        if isinstance(given, lx.AbstractLinearOperator):
            tags = tags | structure_of(given)
        if self.term.mass_kind != "identity":
            structure = structure_of_mass(self.term.mass_at(t, y, self.args), self.space)
            size = len(self.space.places())
            tags, pattern = with_structure_of_mass(structure, tags, declared_band(tags), pattern, size)
        solver = for_problem(solver, self.space, t, y, self.args)
        return linear_algebra(tags, solver, self.space, pattern)

    def _product(self, t: RealScalar, y: Vector, control: PyTree[Any]) -> Vector:
        product = self.space.ravel(self.term.vf_prod(t, self.space.unravel(y), self.args, control))
        return product if self.spaces is None else self.spaces.separated(product)


class _AtState(NamedTuple):
    """What is stored for matrices with a mass part that depends on the state: the Jacobian, and where it is taken."""

    jacobian: PyTree[Array]
    t: RealScalar
    state: Vector
    rate: Vector | None


class FieldWithVariableMass(FlatField):
    r"""The vector field of $M(t, y)\, y' = f(t, y)$ over a step.

    The Jacobian is that of $f(t, y) - M(t, y)\, v$ by the state, at the derivative $v$ of the state.
    """

    @property
    def mass(self) -> None:
        """None: it is not constant."""

    @property
    def needs_rate(self) -> bool:
        """True: the mass matrix may depend on the state."""
        return True

    def mass_at(self, t: RealScalar, y: Vector) -> lx.AbstractLinearOperator:
        """The mass matrix at a time and state."""
        return mass_operator(self.term.mass_at(t, self.space.unravel(y), self.args), self.space)

    def residual(self, t: RealScalar, y: Vector, diagonal: RealScalar, known: Vector, displacement: Vector) -> Vector:
        """The residual of a stage's equation, with the mass matrix at the stage."""
        return scaled(diagonal, self.increment(t, y)) - self.mass_at(t, y).mv(displacement - known)

    def jacobian(
        self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector | None = None
    ) -> _AtState:
        """The array for the Jacobian; the user's is that of the vector field alone."""
        slope = lambda y: self._net_slope(t, y, rate)
        return _AtState(self._given_or_derived(algebra, t, y, slope), jnp.asarray(t), y, rate)

    def exact_jacobian(self, algebra: AbstractLinearAlgebra, t: RealScalar, y: Vector, rate: Vector) -> _AtState:
        """The array for the Jacobian at a state with the derivative `rate`."""
        jacobian = algebra.jacobian.evaluate(lambda y: self._net_slope(t, y, rate), y)
        return _AtState(jacobian, jnp.asarray(t), y, rate)

    def shifted(self, jacobian: AbstractJacobian, system: LinearSystem) -> lx.AbstractLinearOperator:
        """The matrix of a system, with the mass matrix where the Jacobian was evaluated."""
        stored = system.stored
        slope, mass = lambda y: self._net_slope(system.t, y, stored.rate), self.mass_at(stored.t, stored.state)
        return jacobian.shifted(slope, stored.jacobian, system.scale, mass)

    def of_jacobian(self, stored: _AtState) -> PyTree[Array]:
        """The stored Jacobian."""
        return stored.jacobian

    def with_jacobian(self, stored: _AtState, jacobian: PyTree[Array]) -> _AtState:
        """The same place with another stored Jacobian."""
        return stored._replace(jacobian=jacobian)

    def _net_slope(self, t: RealScalar, y: Vector, rate: Vector | None) -> Vector:
        """The slope without the part of the mass matrix times a derivative of the state, where that is known."""
        slope = self.slope(t, y)
        return slope if rate is None else slope - self.mass_at(t, y).mv(rate)


def as_operator(given: Any, space: FlatSpace, pattern: SparsityPattern | None = None) -> lx.AbstractLinearOperator:
    """The value that a user's `jacobian` returned, as an operator on vectors.

    A vector holds the values of the entries of the pattern, if the term has one.

    Raises
    ------
    ValueError
        If the numbers of rows and columns are not the number of entries of the state, or if it is complex and the
        vectors are real.
    """
    size = space.size
    if isinstance(given, lx.AbstractLinearOperator):
        if (given.out_size(), given.in_size()) != (size, size):
            raise ValueError(_wrong_shape(size, f"an operator of shape ({given.out_size()}, {given.in_size()})"))
        return given
    entries = None if pattern is None else pattern_of_vectors(pattern, space)
    if entries is not None and eqx.is_array_like(given) and jnp.shape(given) == (entries.num_entries,):
        return SparseLinearOperator(jnp.asarray(given).astype(space.dtype), entries)
    is_matrix = eqx.is_array_like(given) and jnp.shape(given) == (size, size)
    matrix = jnp.asarray(given) if is_matrix else _matrix_of_blocks(given, space)
    if jnp.iscomplexobj(matrix) and not jnp.issubdtype(space.dtype, jnp.complexfloating):
        raise ValueError(
            "`ODETerm(..., jacobian=...)` must be real if the state is solved as a real one.\n"
            f"Expected: {space.dtype}\nFound:    {matrix.dtype}\n"
            "Return the real part; a complex state whose field is differentiable needs `rungax.holomorphic_tag`."
        )
    return lx.MatrixLinearOperator(matrix.astype(space.dtype))


def _matrix_of_blocks(given: Any, space: FlatSpace) -> Array:
    """The matrix of a derivative as `jax.jacfwd` returns it: for each leaf of the state a pytree like the state."""
    blocks = [(jnp.shape(x), jnp.size(x)) for x in jax.tree.leaves(given) if eqx.is_array_like(x)]
    found = f"shape {blocks[0][0]}" if len(blocks) == 1 else f"{len(blocks)} arrays"
    state = space.unravel(jnp.zeros(space.size, space.dtype))
    try:
        operator = lx.PyTreeLinearOperator(given, jax.eval_shape(lambda: state))
        matrix = operator.as_matrix()
    except (ValueError, TypeError) as error:
        raise ValueError(_wrong_shape(space.size, found)) from error
    if matrix.shape != (space.size, space.size):
        raise ValueError(_wrong_shape(space.size, found))
    return matrix


def _wrong_shape(size: int, found: str) -> str:
    return (
        "`ODETerm(..., jacobian=...)` must return the derivative of every entry of the vector field with respect to\n"
        f"every entry of the state.\nExpected: shape ({size}, {size}), or a Lineax operator of that size\n"
        f"Found:    {found}\nLet `jax.jacfwd(vector_field, argnums=1)` show what is meant, or leave it out."
    )
