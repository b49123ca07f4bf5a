"""Stages and linear systems with a mass matrix, `M y' = f(t, y)`, and with a complex shift.

With a regular mass matrix a step is that of the equation solved for the derivative. A singular one stands for an
algebraic equation: the step is that of the differential equation which is left when the algebraic one is eliminated.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import ODETerm
from rungax.nonlinear import LinearAlgebra, LinearSystem, solve
from rungax.nonlinear.jacobian import AbstractJacobian, BandedJacobian, DenseJacobian, ImplicitJacobian
from rungax.solvers.common.flat_field import FlatField

from ..catalogue import slow_unless
from ..gradients.measure import assert_derivative, weigh

T0, T1 = 0.3, 0.425


def make_step(solver: Any, field: Any, y0: Any, args: Any, mass: Any = None) -> tuple[jax.Array, jax.Array]:
    """The state after one step and the error estimate, or NaN if its equations were not solved."""

    @jax.jit
    def step(t0: jax.Array, t1: jax.Array, y0: jax.Array, args: Any, mass: Any) -> tuple[jax.Array, jax.Array]:
        term = ODETerm(field, mass=mass)
        y1, error, *_, result = solver.step(term, t0, t1, y0, args, solver.init(term, t0, t1, y0, args), False)
        y1, error = (jnp.where(rungax.is_successful(result), x, jnp.nan) for x in (y1, error))
        return y1, error

    return step(jnp.asarray(T0), jnp.asarray(T1), jnp.asarray(y0), args, mass)


NEWTON = rungax.ImplicitEuler(root_finder=optx.Newton(rtol=1e-12, atol=1e-12))
STAGES = [
    pytest.param(rungax.ImplicitEuler(), id="ImplicitEuler", marks=pytest.mark.slow),
    pytest.param(NEWTON, id="ImplicitEuler, Optimistix", marks=pytest.mark.slow),
    pytest.param(rungax.Kvaerno3(), id="Kvaerno3"),
    pytest.param(rungax.Kvaerno5(), id="Kvaerno5", marks=pytest.mark.slow),
]
ROSENBROCK = [
    pytest.param(rungax.ROS3P(), id="ROS3P"),
    pytest.param(rungax.Rodas5P(), id="Rodas5P", marks=pytest.mark.slow),
]

# ------------------------------------------------------------------------------------------------ a regular mass matrix

Y0 = np.asarray([1.2, -0.4])
REGULAR = np.asarray([[2.0, 0.5], [-0.3, 1.5]])


def coupled(t: Any, y: Any, args: Any) -> Any:
    a, b = y
    return jnp.stack([-5 * a * b - 20 * a + jnp.sin(3 * t), a * a - b])


def solved_for_the_derivative(t: Any, y: Any, args: Any) -> Any:
    return jnp.linalg.solve(args["mass"], coupled(t, y, args))


@pytest.mark.parametrize("solver", [*STAGES, *ROSENBROCK])
def test_a_regular_mass_matrix_is_that_of_the_equation(solver: Any) -> None:
    args = {"mass": jnp.asarray(REGULAR)}
    expected = make_step(solver, solved_for_the_derivative, Y0, args)
    found = make_step(solver, coupled, Y0, None, jnp.asarray(REGULAR))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("solver", [*STAGES[2:], *ROSENBROCK])
def test_derivatives_by_the_mass_matrix(solver: Any) -> None:
    def function(inputs: Any) -> jax.Array:
        return weigh(make_step(solver, coupled, inputs["y0"], None, inputs["mass"])[0])

    assert_derivative(function, {"y0": Y0, "mass": REGULAR}, rtol=1e-7)


# ----------------------------------------------------------------------------------------------- an algebraic equation

SINGULAR = np.diag([1.0, 0.0])


def constrained(t: Any, y: Any, args: Any) -> Any:
    """The system `a' = b - 2 a`, `0 = a - b + cos(t)`, without the cosine if `args["forced"]` is zero."""
    a, b = y
    return jnp.stack([b - 2 * a, a - b + args["forced"] * jnp.cos(t)])


def reduced(t: Any, y: Any, args: Any) -> Any:
    """The differential equation for `a` that is left when `b` is eliminated."""
    return -y + args["forced"] * jnp.cos(t)


def check_constrained(solver: Any, forced: float) -> None:
    args = {"forced": jnp.asarray(forced)}
    ((expected,), _) = make_step(solver, reduced, [0.7], args)
    found, _ = make_step(solver, constrained, [0.7, 0.7 + forced * np.cos(T0)], args, jnp.asarray(SINGULAR))
    np.testing.assert_allclose(found, [expected, expected + forced * np.cos(T1)], rtol=1e-12)


@pytest.mark.parametrize("solver", STAGES)
def test_a_stage_fulfils_an_algebraic_equation(solver: Any) -> None:
    check_constrained(solver, 1.0)


def test_a_rosenbrock_step_fulfils_an_autonomous_algebraic_equation() -> None:
    """An equation that depends on time is fulfilled up to the error of the method only."""
    check_constrained(rungax.Rodas5P(), 0.0)


# -------------------------------------------------------------------------------------------------- the shifted matrix

SIZE = 5
ROWS, COLUMNS = np.indices((SIZE, SIZE))
JACOBIANS: dict[str, AbstractJacobian] = {
    "dense": DenseJacobian(),
    "diagonal": BandedJacobian(0, 0),
    "tridiagonal": BandedJacobian(1, 1),
    "banded": BandedJacobian(2, 1),
}
SCALES = {"real": 0.75, "complex": 0.25 - 1.5j}
VECTOR = np.linspace(1.0, 2.0, SIZE) + 1j * np.linspace(-1.0, 3.0, SIZE)


def entries(jacobian: AbstractJacobian, seed: int) -> np.ndarray:
    """A matrix of the kind that a Jacobian stores."""
    matrix = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
    if not isinstance(jacobian, BandedJacobian):
        return matrix
    return np.where((jacobian.lower >= ROWS - COLUMNS) & (jacobian.upper >= COLUMNS - ROWS), matrix, 0.0)


class LinearField(FlatField):
    """The field `matrix @ y`, with a mass matrix or none."""

    def __init__(self, matrix: Any, mass: Any = None):
        term = ODETerm(lambda t, y, args: args["matrix"] @ y)
        args = {"matrix": jnp.asarray(matrix), "mass": None if mass is None else jnp.asarray(mass)}
        base = FlatField.for_step(term, jnp.asarray(0.0), jnp.asarray(1.0), jnp.ones(SIZE), args)
        self.term, self.args, self.control, self.rate, self.space = term, args, base.control, base.rate, base.space

    @property
    def mass(self) -> lx.AbstractLinearOperator | None:
        """The matrix in `args`, if there is one."""
        mass = self.args["mass"]
        return None if mass is None else lx.MatrixLinearOperator(mass)


def system(jacobian: AbstractJacobian, field: FlatField, scale: Any) -> tuple[LinearAlgebra, LinearSystem]:
    linear_solver = lx.GMRES(1e-12, 1e-12) if isinstance(jacobian, ImplicitJacobian) else jacobian.linear_solver(SIZE)
    algebra = LinearAlgebra(jacobian, linear_solver)
    return algebra, LinearSystem.at(algebra, field, jnp.asarray(0.0), jnp.ones(SIZE), jnp.asarray(scale))


def vector_like(scale: Any) -> np.ndarray:
    return VECTOR if np.iscomplexobj(scale) else VECTOR.real


@pytest.mark.parametrize(
    ("kind", "has_mass", "scale"),
    [
        pytest.param(
            kind, has_mass, scale, id=f"{kind}-{'mass' if has_mass else 'identity'}-{name}",
            # By default all kinds with each mass matrix and each shift once, and a full matrix with every pair.
            marks=slow_unless(kind == "dense" or has_mass == (name == "complex")),
        )
        for kind in JACOBIANS
        for has_mass in (False, True)
        for name, scale in SCALES.items()
    ],
)  # fmt: skip
def test_a_system_is_solved_with_mass_matrix_and_shift(kind: str, has_mass: bool, scale: Any) -> None:
    jacobian = JACOBIANS[kind]
    matrix, mass = entries(jacobian, 0), 3 * np.eye(SIZE) + entries(jacobian, 1) if has_mass else None
    algebra, shifted = system(jacobian, LinearField(matrix, mass), scale)
    expected = np.linalg.solve((np.eye(SIZE) if mass is None else mass) - scale * matrix, vector_like(scale))
    found = jax.jit(lambda b: solve(algebra, shifted, b, algebra.factorise(shifted)))(vector_like(scale))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES.keys())
@pytest.mark.parametrize("has_mass", [False, True], ids=["identity", "mass"])
def test_a_product_with_a_jacobian_that_is_never_formed(has_mass: bool, scale: Any) -> None:
    matrix, mass = entries(DenseJacobian(), 0), entries(DenseJacobian(), 1) if has_mass else None
    algebra, shifted = system(ImplicitJacobian(), LinearField(matrix, mass), scale)
    expected = ((np.eye(SIZE) if mass is None else mass) - scale * matrix) @ vector_like(scale)
    np.testing.assert_allclose(shifted.operator(algebra).mv(jnp.asarray(vector_like(scale))), expected, rtol=1e-12)


def test_derivatives_of_a_complex_system() -> None:
    """The derivatives by the real Jacobian agree with the closed form, in both modes."""
    matrix, change, scale = entries(DenseJacobian(), 0), entries(DenseJacobian(), 2), SCALES["complex"]

    def imaginary_part(s: Any) -> jax.Array:
        algebra, shifted = system(DenseJacobian(), LinearField(matrix + s * change), scale)
        return jnp.sum(solve(algebra, shifted, jnp.asarray(VECTOR)).imag)

    inverse = np.linalg.inv(np.eye(SIZE) - scale * matrix)
    expected = np.sum((scale * inverse @ change @ inverse @ VECTOR).imag)
    both = jax.jit(lambda s: (jax.grad(imaginary_part)(s), jax.jacfwd(imaginary_part)(s)))
    np.testing.assert_allclose(both(jnp.asarray(0.0)), [expected, expected], rtol=1e-11)
