"""A declared structure of the Jacobian changes the cost, not the solution; and linear solvers are exchangeable.

The problem is a method of lines: a row of cells with diffusion, convection and a reaction.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import Banded, ODETerm
from rungax.nonlinear.jacobian import BandedJacobian, DenseJacobian, ImplicitJacobian

from ..catalogue import slow_unless

SIZE = 18
CONTROLLER = rungax.PIDController(rtol=1e-7, atol=1e-9)


@cache
def row(lower: int, upper: int) -> Any:
    """A field that couples each cell with `lower` cells to the left and `upper` to the right."""

    def field(t: Any, y: Any, args: Any) -> Any:
        n, slope = y.shape[0], -60 * y
        padded = jnp.pad(y, (lower, upper))
        for offset in [*range(-lower, 0), *range(1, upper + 1)]:
            slope = slope + (25 / abs(offset) + offset) * padded[lower + offset : lower + offset + n]
        return slope + jnp.tanh(t + y * (1 - y))

    return field


@cache
def split_row(lower: int, upper: int) -> tuple[Any, Any]:
    """The reaction, and the rest of the field."""

    def reaction(t: Any, y: Any, args: Any) -> Any:
        return jnp.tanh(t + y * (1 - y))

    whole = row(lower, upper)
    return reaction, lambda t, y, args: whole(t, y, args) - reaction(t, y, args)


def start(size: int = SIZE) -> jax.Array:
    return jnp.sin(jnp.linspace(0.0, 3.0, size)) + 0.5


def solve(solver: Any, field: Any, tags: Any, y0: Any) -> jax.Array:
    if isinstance(solver, rungax.AbstractIMEXRK):
        explicit, implicit = field
        terms = rungax.MultiTerm(ODETerm(explicit), ODETerm(implicit, tags=tags))
    else:
        terms = ODETerm(field, tags=tags)
    return rungax.diffeqsolve(terms, solver, 0.0, 0.5, 0.01, y0, stepsize_controller=CONTROLLER).ys[0]  # pyright: ignore[reportOptionalSubscript]


TAGS: dict[str, tuple[tuple[int, int], Any]] = {
    "diagonal": ((0, 0), lx.diagonal_tag),
    "diagonal band": ((0, 0), Banded(0, 0)),
    "tridiagonal": ((1, 1), lx.tridiagonal_tag),
    "tridiagonal, one of several tags": ((1, 1), (lx.tridiagonal_tag, lx.negative_semidefinite_tag)),
    "band": ((2, 1), Banded(2, 1)),
    "band, wider than need be": ((1, 0), Banded(2, 3)),
    "one-sided band": ((0, 2), Banded(0, 2)),
}
SOLVERS = {
    "Kvaerno5": rungax.Kvaerno5(),
    "KenCarp4": rungax.KenCarp4(),
    "Rodas5P": rungax.Rodas5P(),
    "Rosenbrock23": rungax.Rosenbrock23(),
}
FAST = {("tridiagonal", "Rosenbrock23")}
CASES = [
    pytest.param(tags, solver, id=f"{tags}, {solver}", marks=() if (tags, solver) in FAST else pytest.mark.slow)
    for tags in TAGS
    for solver in SOLVERS
]


@pytest.mark.parametrize(("tags", "solver"), CASES)
def test_a_declared_structure_gives_the_same_solution(tags: str, solver: str) -> None:
    """Under `vmap` too."""
    band, tag = TAGS[tags]
    field = split_row(*band) if solver == "KenCarp4" else row(*band)
    batch = jnp.stack([start(), 0.5 * start()[::-1]])
    found, dense = (jax.vmap(lambda y0, t=t: solve(SOLVERS[solver], field, t, y0))(batch) for t in (tag, ()))
    np.testing.assert_allclose(found, dense, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_a_wrong_tag_changes_the_solution_of_a_rosenbrock_method() -> None:
    """The declared structure is used, not the true one."""
    field = row(2, 1)
    wrong = solve(rungax.Rosenbrock23(), field, (), start()), solve(rungax.Rosenbrock23(), field, Banded(1, 1), start())
    assert np.abs(wrong[0] - wrong[1]).max() > 1e-9


# ------------------------------------------------------------------------------------------------------ linear solvers

LINEAR_SOLVERS: dict[str, tuple[Any, Any]] = {
    "LU": (lx.LU(), ()),
    "QR": (lx.QR(), ()),
    "SmallLU": (rungax.SmallLU(), ()),
    "SmallLU of a band": (rungax.SmallLU(), Banded(1, 1)),
    "LU of a band": (lx.LU(), Banded(2, 1)),
    "BandedLU": (rungax.BandedLU(), Banded(2, 1)),
    "Tridiagonal": (lx.Tridiagonal(), lx.tridiagonal_tag),
    "GMRES": (lx.GMRES(rtol=1e-10, atol=1e-12), ()),
    "GMRES, tagged": (lx.GMRES(rtol=1e-10, atol=1e-12), lx.tridiagonal_tag),
    "Krylov": (rungax.Krylov(), ()),
    "Krylov, by the pattern of a tag": (rungax.Krylov(preconditioner="ilu"), lx.tridiagonal_tag),
    "BiCGStab": (lx.BiCGStab(rtol=1e-10, atol=1e-12), ()),
    "AutoLinearSolver": (lx.AutoLinearSolver(well_posed=True), ()),
    "SVD": (lx.SVD(), ()),
}
FAST_SOLVERS = {("GMRES", "Rosenbrock23")}
"""Another test has `BandedLU`, and `test_dtypes.py` has GMRES in a method that iterates."""
LINEAR_CASES = [
    pytest.param(
        name, cls, id=f"{name}, {cls.__name__}", marks=() if (name, cls.__name__) in FAST_SOLVERS else pytest.mark.slow
    )
    for name in LINEAR_SOLVERS
    for cls in (rungax.TRBDF2, rungax.Rosenbrock23, rungax.Rodas5P)
]


@pytest.mark.parametrize(("name", "cls"), LINEAR_CASES)
def test_every_linear_solver_gives_the_same_solution(name: str, cls: type[Any]) -> None:
    linear_solver, tags = LINEAR_SOLVERS[name]
    field = row(1, 1)
    found = solve(cls(linear_solver=linear_solver), field, tags, start())
    np.testing.assert_allclose(found, solve(cls(), field, (), start()), rtol=1e-6)


@pytest.mark.parametrize(
    "tags", [lx.tridiagonal_tag, Banded(1, 1), pytest.param(lx.diagonal_tag, marks=pytest.mark.slow)], ids=str
)
def test_the_banded_solver_takes_every_band(tags: Any) -> None:
    lower = 0 if tags is lx.diagonal_tag else 1
    field = row(lower, lower)
    found = solve(rungax.Rosenbrock23(linear_solver=rungax.BandedLU()), field, tags, start())
    np.testing.assert_allclose(found, solve(rungax.Rosenbrock23(), field, (), start()), rtol=1e-8)


def test_the_root_finders_linear_solver_is_used_too() -> None:
    finder = rungax.with_stepsize_controller_tols(rungax.VeryChord)(linear_solver=lx.GMRES(rtol=1e-10, atol=1e-12))
    shapes = shapes_in(lambda y0: solve(rungax.TRBDF2(root_finder=finder), row(1, 1), (), y0), start(37))
    assert (37, 37) not in shapes


# ---------------------------------------------------------------------------------------------------------------- cost


def shapes_in(function: Any, *args: Any) -> set[tuple[int, ...]]:
    """The shapes of all arrays that a function computes, in its loops and branches too."""
    shapes: set[tuple[int, ...]] = set()

    def walk(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            shapes.update(var.aval.shape for var in equation.outvars)
            for param in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(param, "jaxpr", param)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(function)(*args).jaxpr)
    return shapes


N = 37
MATRIX_FREE = {
    "GMRES": ({"linear_solver": lx.GMRES(rtol=1e-10, atol=1e-12)}, (), None),
    "diagonal": ({}, lx.diagonal_tag, 1),
    "tridiagonal": ({}, lx.tridiagonal_tag, 3),
    "band": ({}, Banded(2, 1), 4),
}


OFTEN = {
    *(("GMRES", rungax.Kvaerno5), ("tridiagonal", rungax.KenCarp4)),
    *(("diagonal", rungax.Rodas5P), ("band", rungax.Rodas5P)),
}
"""Every way to have no matrix once, and every family."""
MATRIX_FREE_CASES = [
    pytest.param(name, cls, id=f"{name}-{cls.__name__}", marks=slow_unless((name, cls) in OFTEN))
    for name in MATRIX_FREE
    for cls in (rungax.Kvaerno5, rungax.Rodas5P, rungax.KenCarp4)
]


@pytest.mark.parametrize(("name", "cls"), MATRIX_FREE_CASES)
def test_no_full_matrix_is_formed(name: str, cls: type[Any]) -> None:
    """Neither by the solve nor by its gradient; and there are as many products as the Jacobian has diagonals."""
    options: dict[str, Any]
    options, tags, width = MATRIX_FREE[name]
    field = split_row(1, 1) if cls is rungax.KenCarp4 else row(1, 1)

    def end(y0: Any) -> Any:
        return solve(cls(**options), field, tags, y0)

    forwards = shapes_in(end, start(N))
    gradient = shapes_in(jax.grad(lambda y0: jnp.sum(end(y0))), start(N))
    for shapes in (forwards, gradient):
        assert (N, N) not in shapes
        assert width is None or (width, N) in shapes


def test_a_full_matrix_is_found_where_there_is_one() -> None:
    assert (N, N) in shapes_in(lambda y0: solve(rungax.Rodas5P(), row(1, 1), (), y0), start(N))


@pytest.mark.parametrize(
    ("jacobian", "num_products"),
    [(DenseJacobian(), 20), (BandedJacobian(0, 0), 1), (BandedJacobian(1, 1), 3), (BandedJacobian(3, 2), 6)],
    ids=lambda x: f"{type(x).__name__} {x.lower}, {x.upper}" if isinstance(x, BandedJacobian) else None,
)
def test_the_number_of_products(jacobian: Any, num_products: int) -> None:
    """They are the rows of the batched tangent that reaches the field's own derivative rule."""
    batches: list[tuple[int, ...]] = []

    @jax.custom_jvp
    def square(y: Any) -> Any:
        return y * y

    @jax.custom_batching.custom_vmap
    def slope(y: Any, tangent: Any) -> Any:
        return 2 * y * tangent

    @slope.def_vmap
    def _(axis_size: int, batched: Any, y: Any, tangent: Any) -> Any:
        batches.append(tangent.shape)
        return 2 * y * tangent, True

    square.defjvp(lambda primals, tangents: (square(*primals), slope(*primals, *tangents)))
    y = jnp.arange(20.0)
    # With strict promotion of ranks the rule above would have to reshape.
    with jax.numpy_rank_promotion("allow"):
        stored = jax.jit(lambda y: jacobian.evaluate(square, y))(y)
    assert batches == [(num_products, 20)]
    shifted = jax.jit(lambda stored: jacobian.shifted(square, stored, jnp.asarray(0.5)).as_matrix())(stored)
    np.testing.assert_allclose(shifted, np.diag(1 - np.arange(20.0)), atol=1e-14)


def test_a_jacobian_that_is_never_formed_stores_its_state() -> None:
    y = jnp.arange(3.0)
    stored = ImplicitJacobian().evaluate(jnp.square, y)
    assert jnp.array_equal(stored, y)
    operator = ImplicitJacobian().shifted(jnp.square, stored, jnp.asarray(0.5))
    np.testing.assert_allclose(operator.mv(jnp.ones(3)), 1 - np.arange(3.0))
