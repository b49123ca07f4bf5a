"""A pattern that lacks entries ends the solve with a result of its own, and the report names the rows."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ODETerm, PIDController, SparsityPattern

from ..catalogue import slow_unless, terms_around

N = 6
RING = np.eye(2 * N, dtype=bool)
for _shift in (-1, 1):
    RING[:N, :N] |= np.roll(np.eye(N, dtype=bool), _shift, axis=1)
for _block in ((0, N), (N, 0)):
    RING[np.arange(N) + _block[0], np.arange(N) + _block[1]] = True
Y0 = {"u": jnp.linspace(1.0, 2.0, N), "v": jnp.linspace(0.0, 1.0, N)}
CONTROLLER = PIDController(rtol=1e-5, atol=1e-7)
SOLVERS = [rungax.Rosenbrock23(), rungax.Kvaerno5(), rungax.KenCarp4(), rungax.ImplicitEuler(), rungax.Auto(), None]
OFTEN = ((rungax.ImplicitEuler, "constant"),)
"""Of Rosenbrock methods the report below is made."""


def field(t: Any, y: Any, args: Any) -> Any:
    """Diffusion on a ring, and a fast reaction at each point."""
    u, v = y["u"], y["v"]
    reaction = 100.0 * u * v
    return {"u": 3.0 * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) - reaction, "v": reaction - v}


def without(*entries: tuple[int, int]) -> np.ndarray:
    pattern = RING.copy()
    for row, column in entries:
        pattern[row, column] = False
    return pattern


def solve(solver: Any, sparsity: Any, y0: Any = Y0, vector_field: Any = field, **options: Any) -> rungax.Solution:
    term = ODETerm(vector_field, sparsity=sparsity)
    call: dict[str, Any] = {"stepsize_controller": CONTROLLER, "dt0": None, **options}
    dt0 = call.pop("dt0")
    terms = term if solver is None else terms_around(solver, term)
    return rungax.diffeqsolve(terms, solver, 0.0, 0.5, dt0, y0, **call)


CONSTANT = {"stepsize_controller": rungax.ConstantStepSize(), "dt0": 0.01}
CONTROL = [
    pytest.param(
        solver, options, id=f"{type(solver).__name__}-{name}", marks=slow_unless((type(solver), name) in OFTEN)
    )
    for solver in SOLVERS
    for name, options in (("adaptive", {}), ("constant", CONSTANT))
    if name == "adaptive" or not isinstance(solver, rungax.Auto | None)
]


@pytest.mark.parametrize(("solver", "options"), CONTROL)
def test_missing_entries_end_the_solve(solver: Any, options: dict[str, Any]) -> None:
    wrong = solve(solver, without((2, 3)), throw=False, max_steps=256, **options)
    assert wrong.result == RESULTS.jacobian_pattern_wrong


@pytest.mark.slow
@pytest.mark.parametrize("solver", [x for x in SOLVERS if not isinstance(x, rungax.Auto | None)])
def test_right_patterns_with_constant_steps(solver: Any) -> None:
    assert solve(solver, RING, throw=False, **{**CONSTANT, "dt0": 1e-3}).result == RESULTS.successful


def test_the_report_names_the_rows() -> None:
    with pytest.raises(rungax.SolveError) as error:
        solve(rungax.Rosenbrock23(), without((2, 3), (N + 1, 1)))
    report = str(error.value)
    assert "`RESULTS.jacobian_pattern_wrong`: The Jacobian of the vector field has entries that" in report
    where = "at the state that the solve had reached at t = 0.0"
    assert (
        f"Rows of the Jacobian that are not those of the vector field {where}: those of y['u'][2], y['v'][1]." in report
    )


@pytest.mark.slow
def test_the_report_names_the_rows_of_a_wrong_jacobian() -> None:
    """In JAX's debug mode, in which a user's Jacobian is compared."""
    term = ODETerm(lambda t, y, args: -y, jacobian=lambda t, y, args: jnp.diag(jnp.array([-1.0, -1.5, -1.0])))
    jax.config.update("jax_enable_checks", True)
    try:
        with pytest.raises(rungax.SolveError, match=r"jacobian_wrong(.|\n)*: those of y\[1\]\."):
            rungax.diffeqsolve(term, rungax.Rosenbrock23(), 0.0, 1.0, None, jnp.ones(3), stepsize_controller=CONTROLLER)
    finally:
        jax.config.update("jax_enable_checks", False)


def test_missing_entries_inside_jit_and_vmap() -> None:
    """In a batch only the elements in which the entries differ from zero fail."""

    @jax.jit
    @jax.vmap
    def results(coupling: jax.Array) -> Any:
        def vector_field(t: Any, y: Any, args: Any) -> Any:
            return -50.0 * y + coupling * jnp.roll(y, 1)

        term = ODETerm(vector_field, sparsity=np.eye(3))
        solution = rungax.diffeqsolve(
            term,
            rungax.ImplicitEuler(),
            0.0,
            0.5,
            None,
            jnp.arange(1.0, 4.0),
            stepsize_controller=CONTROLLER,
            throw=False,
        )
        return rungax.is_successful(solution.result), solution.result == RESULTS.jacobian_pattern_wrong

    successful, wrong = results(jnp.array([0.0, 1.0, 0.0, 1e-3]))
    assert successful.tolist() == [True, False, True, False]
    assert wrong.tolist() == [False, True, False, True]


@pytest.mark.slow
def test_single_precision() -> None:
    y0 = jax.tree.map(lambda x: x.astype(jnp.float32), Y0)
    options = {"throw": False, "stepsize_controller": PIDController(rtol=1e-3, atol=1e-4)}
    assert solve(rungax.Rosenbrock23(), RING, y0, **options).result == RESULTS.successful
    assert solve(rungax.Rosenbrock23(), without((2, 3)), y0, **options).result == RESULTS.jacobian_pattern_wrong


@pytest.mark.slow
def test_a_complex_state() -> None:
    """One row for each complex number, which has two in the system that is solved."""
    rotate = lambda t, y, args: 1j * y - 0.5 * jnp.conj(jnp.roll(y, 1))
    pattern = np.eye(4) + np.roll(np.eye(4), 1, axis=0)
    y0 = jnp.asarray([1.0, 1j, 0.5, 2.0])
    found, dense = (solve(rungax.Kvaerno5(), x, y0, rotate) for x in (pattern, None))
    np.testing.assert_allclose(found.ys, dense.ys, rtol=1e-10)
    wrong = solve(rungax.Kvaerno5(), np.eye(4), y0, rotate, throw=False)
    assert wrong.result == RESULTS.jacobian_pattern_wrong


@pytest.mark.parametrize(
    ("sparsity", "expected", "found"),
    [
        (np.eye(3), f"shape ({2 * N}, {2 * N}), for {{'u': float64[6], 'v': float64[6]}}", "shape (3, 3)"),
        (np.ones((2, 3)), "a square matrix", "shape (2, 3)"),
        ("tridiagonal", "a matrix of numbers", "'tridiagonal'"),
    ],
)
def test_patterns_that_do_not_fit_are_errors(sparsity: Any, expected: str, found: str) -> None:
    with pytest.raises(ValueError, match=f"Expected: {re.escape(expected)}.*\nFound:    {re.escape(found)}"):
        solve(rungax.Kvaerno5(), sparsity)


def test_a_pattern_that_was_found() -> None:
    pattern = rungax.jacobian_sparsity(field, 0.0, Y0)
    assert pattern == SparsityPattern(RING)
