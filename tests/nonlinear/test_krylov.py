"""`Krylov` gives the steps, the solution and the derivatives of a dense solver, with every preconditioner.

The problems are the Brusselator on a grid, and the diffusion of heat.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import RESULTS, Krylov, ODETerm
from rungax.nonlinear import SparseLinearOperator
from rungax.nonlinear.krylov.gmres import Goal, gmres
from rungax.nonlinear.krylov.incomplete_lu import IncompleteLU
from rungax.nonlinear.krylov.preconditioners import Jacobi
from rungax.nonlinear.sparse_jacobian import SparseJacobian
from rungax.sparsity import SparsityPattern

from ..catalogue import slow_unless

WIDTH = 4
DIFFUSION = 1.0


def laplacian(u: Any) -> Any:
    """On a periodic grid of the unit square."""
    neighbours = jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1)
    return (neighbours - 4 * u) * u.shape[0] ** 2


def brusselator(t: Any, y: Any, args: Any) -> Any:
    u, v = y
    feed, diffusion = args
    reaction = u * u * v
    return jnp.stack(
        [1 + reaction - (feed + 1) * u + diffusion * laplacian(u), feed * u - reaction + diffusion * laplacian(v)]
    )


def start(width: int) -> jax.Array:
    x = np.arange(width) / width
    return jnp.asarray(np.stack(np.meshgrid(22 * (x * (1 - x)) ** 1.5, 27 * (x * (1 - x)) ** 1.5, indexing="ij")))


@cache
def pattern(width: int) -> SparsityPattern:
    """Each species at its point and the four neighbours, and the other species there."""
    n = width**2
    points = np.arange(n).reshape(width, width)
    neighbours = [points, *(np.roll(points, shift, axis) for shift in (1, -1) for axis in (0, 1))]
    rows, columns = np.tile(points.ravel(), 5), np.concatenate([x.ravel() for x in neighbours])
    both = np.arange(2 * n)
    return SparsityPattern.of_entries(
        2 * n, np.r_[rows, rows + n, both], np.r_[columns, columns + n, (both + n) % (2 * n)]
    )


def diagonal_of_diffusion(t: Any, y: Any, args: Any, gamma: Any) -> Any:
    """A user's preconditioner, from arguments and gamma."""
    factor = 1 / (1 + gamma * args[1] * 4 * y.shape[-1] ** 2)
    return lambda residual: factor * residual


def krylov(name: str, width: int = WIDTH) -> Krylov:
    given = {"none": None, "blocks": rungax.BlockDiagonal(2, stride=width**2), "function": diagonal_of_diffusion}
    return Krylov(preconditioner=given.get(name, name))


NAMES = ("none", "jacobi", "blocks", "ilu", "function")
CONTROLLER = rungax.PIDController(rtol=1e-6, atol=1e-8)


def solve(solver: Any, width: int, feed: Any = 3.4, t1: float = 0.3, **options: Any) -> rungax.Solution:
    options = {"stepsize_controller": CONTROLLER, "dt0": 0.01, "max_steps": 512, **options}
    dt0, term = options.pop("dt0"), ODETerm(brusselator, sparsity=pattern(width))
    return rungax.diffeqsolve(term, solver, 0.0, t1, dt0, start(width), (feed, DIFFUSION), **options)


FAST = {("ilu", rungax.TRBDF2)}
CASES = [
    pytest.param(name, cls, id=f"{name}, {cls.__name__}", marks=slow_unless((name, cls) in FAST))
    for name in NAMES
    for cls in (rungax.TRBDF2, rungax.Rosenbrock23, rungax.Kvaerno5, rungax.Rodas5P)
]


@cache
def dense(cls: type[Any], width: int) -> rungax.Solution:
    return solve(cls(linear_solver=lx.LU()), width)


@pytest.mark.parametrize(("name", "cls"), CASES)
def test_the_solution_and_its_steps_are_those_of_a_dense_solver(name: str, cls: type[Any]) -> None:
    found, expected = solve(cls(linear_solver=krylov(name)), WIDTH), dense(cls, WIDTH)
    np.testing.assert_allclose(np.asarray(found.ys), np.asarray(expected.ys), rtol=1e-6, atol=1e-8)
    assert abs(int(found.stats["num_steps"]) - int(expected.stats["num_steps"])) <= 1
    assert int(found.stats["num_rejected_by_nonlinear_solve"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_larger_grid_is_solved_as_well(name: str) -> None:
    found = solve(rungax.Kvaerno5(linear_solver=krylov(name, 16)), 16)
    np.testing.assert_allclose(np.asarray(found.ys), np.asarray(dense(rungax.Kvaerno5, 16).ys), rtol=2e-6, atol=2e-8)


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n == "jacobi")) for n in NAMES])
@pytest.mark.parametrize("cls", [pytest.param(rungax.Rosenbrock23, marks=pytest.mark.slow), rungax.ImplicitEuler])
@pytest.mark.parametrize("mode", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_derivatives_are_those_of_a_dense_solver(name: str, cls: type[Any], mode: str) -> None:
    """In either mode, of a batch; two steps of constant length, solved to all digits.

    Of a dense solver the derivative in forward mode is enough: that its modes agree is tested elsewhere.
    """

    def loss(feed: Any, linear_solver: Any) -> Any:
        if name == "function":  # which has captured what is differentiated
            captured = lambda t, y, args, gamma: diagonal_of_diffusion(t, y, (feed, DIFFUSION), gamma)
            linear_solver = linear_solver or Krylov(preconditioner=captured)
        solver, controller = cls(linear_solver=linear_solver), rungax.ConstantStepSize()
        ys = solve(solver, 2, feed, 0.02, stepsize_controller=controller, max_steps=2).ys[0]  # pyright: ignore[reportOptionalSubscript]
        return jnp.sum(jnp.sin(ys * jnp.arange(8.0).reshape(2, 2, 2)))

    def in_forward_mode(feed: Any, linear_solver: Any) -> Any:
        return jax.jvp(lambda feed: loss(feed, linear_solver), (feed,), (jnp.ones_like(feed),))[1]

    given = None if name == "function" else krylov(name, 2)
    derivative = {"forward": in_forward_mode, "reverse": jax.grad(loss)}[mode]
    feeds = jnp.array([2.0, 3.4])
    expected = jax.jit(jax.vmap(lambda feed: in_forward_mode(feed, lx.LU())))(feeds)
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda feed: derivative(feed, given)))(feeds), expected, rtol=1e-8)


def test_preconditioners_save_iterations() -> None:
    """For the matrices of the Brusselator on a grid of 16 x 16 points."""
    y, entries = start(16), SparseJacobian(pattern(16).with_diagonal())
    field = lambda v: brusselator(0.0, v.reshape(y.shape), (3.4, 10.0)).reshape(-1)
    b = jnp.asarray(np.random.default_rng(0).normal(size=y.size))

    @jax.jit
    def iterations(gamma: Any) -> Any:
        matrix = entries.shifted(field, entries.evaluate(field, y.reshape(-1)), gamma)
        assert isinstance(matrix, SparseLinearOperator)
        ways = (lambda v: v, Jacobi().prepare(None, matrix), IncompleteLU().prepare(None, matrix))
        return [gmres(matrix.mv, way, b, Goal.relative(b, 1e-8), 30).iterations for way in ways]

    for gamma in (1e-4, 1e-3):
        none, jacobi, ilu = map(int, iterations(gamma))
        assert jacobi <= none
        assert ilu <= 0.6 * none


def heat(t: Any, y: Any, args: Any) -> Any:
    interior = jnp.pad(y, 1)
    return (interior[2:] - 2 * y + interior[:-2]) * (y.size + 1) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("tags", [rungax.Banded(1, 1), lx.tridiagonal_tag], ids=str)
def test_a_declared_band_is_a_pattern(tags: Any) -> None:
    """Heat decays in its first mode at the rate of the difference scheme."""
    n = 63
    mode = jnp.asarray(np.sin(np.pi * np.arange(1, n + 1) / (n + 1)))
    solver = rungax.Kvaerno5(linear_solver=Krylov(preconditioner="ilu"))
    controller = rungax.PIDController(rtol=1e-8, atol=1e-10)
    found = rungax.diffeqsolve(
        ODETerm(heat, tags=tags), solver, 0.0, 0.1, 1e-3, mode, stepsize_controller=controller
    ).ys[0]  # pyright: ignore[reportOptionalSubscript]
    rate = 4 * (n + 1) ** 2 * np.sin(np.pi / 2 / (n + 1)) ** 2
    np.testing.assert_allclose(found, np.exp(-0.1 * rate) * mode, atol=1e-8)


@pytest.mark.slow
def test_a_complex_state_is_solved() -> None:
    """As a real one of twice the size, and in complex arithmetic if the field is holomorphic."""
    field = lambda t, y, args: 1j * 50 * heat(t, y, args) / y.size**2 - y
    y0 = jnp.asarray(np.exp(1j * np.arange(10.0)))
    expected = rungax.diffeqsolve(field, rungax.Kvaerno5(), 0.0, 0.3, 0.01, y0, stepsize_controller=CONTROLLER).ys
    band = SparsityPattern.of_band(10, 1, 1)
    for tags in ((), (rungax.holomorphic_tag,)):
        for preconditioner in (None, "ilu"):
            solver = rungax.Kvaerno5(linear_solver=Krylov(preconditioner=preconditioner))
            term = ODETerm(field, sparsity=band, tags=tags)
            found = rungax.diffeqsolve(term, solver, 0.0, 0.3, 0.01, y0, stepsize_controller=CONTROLLER).ys
            np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- failures


def rotation(t: Any, y: Any, rate: Any) -> Any:
    return jnp.stack([rate * y[1], -rate * y[0]])


@pytest.mark.parametrize(
    "cls",
    [rungax.ImplicitEuler, pytest.param(rungax.Rosenbrock23, marks=pytest.mark.slow)],
    ids=lambda cls: cls.__name__,
)
def test_a_system_that_is_not_solved_fails_the_step(cls: type[Any]) -> None:
    """With one vector a cycle, GMRES hardly reduces the residual of a fast rotation."""
    solver = cls(linear_solver=Krylov(restart=1))
    solution = rungax.diffeqsolve(rotation, solver, 0.0, 1.0, 0.1, jnp.ones(2), 1e3, throw=False)
    assert solution.result == RESULTS.stagnation
    assert "Without a preconditioner" in RESULTS[RESULTS.stagnation]


# ------------------------------------------------------------------------------------------------------------ bad input


def correcting(value: Any) -> Any:
    return lambda t, y, args, gamma: lambda residual: value(residual)


BAD: dict[str, tuple[Any, Any, str]] = {
    "no pattern": ("ilu", None, r"Expected: `ODETerm\(vector_field, sparsity=...\)`.*\nFound:    no pattern.*'ilu'"),
    "no pattern for blocks": (rungax.BlockDiagonal(2), None, r"`rungax.jacobian_sparsity`"),
    "blocks": (rungax.BlockDiagonal(3), np.ones((2, 2)), r"size \* stride divides the number of unknowns, 2"),
    "no function": (lambda t, y, args, gamma: y, None, r"Expected: a function from a residual to a correction"),
    "structure": (
        correcting(lambda r: (r, r)),
        None,
        r"`y0` is one array of shape \(2,\), the correction is a tuple of 2",
    ),
    "shape": (correcting(lambda r: r[:1]), None, r"Expected: .*2.*\nFound:    .*1.*\nA residual has the structure"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    preconditioner, sparsity, message = BAD[name]
    solver = rungax.ImplicitEuler(linear_solver=Krylov(preconditioner=preconditioner))
    with pytest.raises(ValueError, match=message):
        rungax.diffeqsolve(ODETerm(rotation, sparsity=sparsity), solver, 0.0, 1.0, 0.1, jnp.ones(2), 1.0)


def test_a_jacobian_of_the_user_is_refused() -> None:
    term = ODETerm(rotation, jacobian=lambda t, y, args: jnp.eye(2))
    solver = rungax.ImplicitEuler(linear_solver=Krylov())
    with pytest.raises(ValueError, match="Expected: no `jacobian`"):
        rungax.diffeqsolve(term, solver, 0.0, 1.0, 0.1, jnp.ones(2), 1.0)
