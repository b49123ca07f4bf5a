"""A pattern of the Jacobian and the solver of sparse systems change the cost, not the solution or its derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ODETerm
from rungax.nonlinear import suitesparse

from ..catalogue import slow_unless

SIZE = 20
CONTROLLER = rungax.PIDController(rtol=1e-7, atol=1e-9)
SOLVERS = {
    "Kvaerno3": rungax.Kvaerno3,
    "KenCarp3": rungax.KenCarp3,
    "Rosenbrock23": rungax.Rosenbrock23,
    "Auto": lambda **kwargs: rungax.Auto(rungax.Tsit5(), rungax.Rodas5P(**kwargs)),
}


def field(t: Any, y: Any, args: Any) -> Any:
    """Two species on a ring: diffusion, and a reaction between them at each place."""
    u, v = y["u"], y["v"]
    spread = lambda x: 40.0 * (jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1))
    return {"u": spread(u) + args * u * v - u, "v": spread(v) - args * u * v + jnp.sin(t)}


def start() -> dict[str, jax.Array]:
    x = jnp.linspace(0.0, 3.0, SIZE // 2)
    return {"u": jnp.sin(x) + 1.2, "v": jnp.cos(x) + 1.3}


def pattern() -> np.ndarray:
    eye = np.eye(SIZE // 2, dtype=bool)
    ring = eye | np.roll(eye, 1, axis=1) | np.roll(eye, -1, axis=1)
    return np.block([[ring, eye], [eye, ring]])


def solve(name: str, sparsity: Any, args: Any, linear_solver: Any = None, **options: Any) -> Any:
    term: Any = ODETerm(field, sparsity=sparsity)
    if name == "KenCarp3":
        term = rungax.MultiTerm(ODETerm(lambda t, y, args: jax.tree.map(lambda x: -0.1 * x, y)), term)
    solver = SOLVERS[name](linear_solver=linear_solver)
    options = {"stepsize_controller": CONTROLLER} | options
    return rungax.diffeqsolve(term, solver, 0.0, 0.5, 0.01, start(), args, **options)


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, expected)


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_unless(name == "Kvaerno3")) for name in SOLVERS])
def test_the_solution_and_the_steps_are_those_without_a_pattern(name: str) -> None:
    dense, sparse = solve(name, None, 1.0), solve(name, pattern(), 1.0, rungax.SparseLU())
    assert_close(sparse.ys, dense.ys, 1e-9)
    assert abs(int(sparse.stats["num_steps"]) - int(dense.stats["num_steps"])) <= 1


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_unless(name == "Rosenbrock23")) for name in SOLVERS])
def test_derivatives_agree_with_each_other_and_with_differences(name: str) -> None:
    def loss(args: Any, sparsity: Any) -> jax.Array:
        solution = solve(name, sparsity, args, max_steps=512, throw=False)
        return jnp.sum(solution.ys["u"] ** 2)

    declared = rungax.SparsityPattern(pattern())
    cases = ((jax.grad, declared), (jax.jacfwd, declared), (jax.jacfwd, None))
    values = [jax.jit(derivative(loss), static_argnums=1)(1.0, sparsity) for derivative, sparsity in cases]
    assert_close(values, [values[0]] * 3, 1e-6)
    step = 1e-4
    quotient = (loss(1 + step, declared) - loss(1 - step, declared)) / (2 * step)
    np.testing.assert_allclose(values[0], quotient, rtol=3e-5)


def test_a_step_made_again_for_derivatives_is_factored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stages and their derivatives, whose Jacobians differ, share the factorisation of the step."""
    matrices: set[float] = set()
    original = suitesparse.solve

    def counted(method: Any, pattern: Any, values: Any, vector: Any, transposed: bool) -> Any:
        jax.debug.callback(lambda total: matrices.add(float(total)), jnp.sum(jnp.abs(values)))
        return original(method, pattern, values, vector, transposed)

    monkeypatch.setattr(suitesparse, "solve", counted)
    options = {"stepsize_controller": rungax.ConstantStepSize(), "max_steps": 64}
    loss = lambda args: jnp.sum(solve("Kvaerno3", pattern(), args, rungax.SparseLU(), **options).ys["u"] ** 2)
    jax.block_until_ready(jax.jit(jax.grad(loss))(1.0))
    jax.effects_barrier()
    # Fifty steps made again, and a few factorisations that the solve itself kept.
    assert 50 <= len(matrices) <= 60


def test_vmap_is_a_loop() -> None:
    rates = jnp.asarray([0.0, 1.0, 30.0])
    batch = jax.vmap(lambda args: solve("Kvaerno3", pattern(), args, rungax.SparseLU()).ys)(rates)
    for i, rate in enumerate(rates):
        alone = solve("Kvaerno3", pattern(), rate, rungax.SparseLU()).ys
        assert_close(jax.tree.map(lambda x, i=i: x[i], batch), alone, 1e-9)


@pytest.mark.slow
def test_a_continued_solve_makes_the_steps_of_one_solve() -> None:
    options = {"saveat": rungax.SaveAt(t1=True, solver_state=True, controller_state=True)}
    term, solver = ODETerm(field, sparsity=pattern()), rungax.Kvaerno3(linear_solver=rungax.SparseLU())
    run = lambda t0, t1, y0, **more: rungax.diffeqsolve(
        term, solver, t0, t1, 0.01, y0, 1.0, stepsize_controller=CONTROLLER, **options, **more
    )
    first = run(0.0, 0.2, start())
    last = jax.tree.map(lambda x: x[-1], first.ys)
    second = run(0.2, 0.5, last, solver_state=first.solver_state, controller_state=first.controller_state)
    assert_close(second.ys, run(0.0, 0.5, start()).ys, 1e-7)


def test_the_jacobian_may_be_given_by_the_values_of_the_pattern() -> None:
    entries = rungax.SparsityPattern(np.eye(18, dtype=bool) | np.eye(18, k=1, dtype=bool))
    weights = jnp.where(entries.rows == entries.columns, -3.0, 1.0)

    def linear(t: Any, y: Any, args: Any) -> Any:
        return -3.0 * y + jnp.append(y[1:], 0.0)

    def run(**structure: Any) -> Any:
        term, y0 = ODETerm(linear, **structure), jnp.linspace(1.0, 2.0, 18)
        return rungax.diffeqsolve(term, rungax.Rosenbrock23(), 0.0, 1.0, 0.1, y0, stepsize_controller=CONTROLLER)

    given = run(sparsity=entries, jacobian=lambda t, y, args: weights)
    assert_close(given.ys, run(sparsity=entries).ys, 1e-12)
    with pytest.raises(
        ValueError, match=r"jacobian=...\)` must return(.|\n)*shape \(18, 18\)(.|\n)*Found:    shape \(34,\)"
    ):
        run(sparsity=entries, jacobian=lambda t, y, args: weights[1:])


def test_a_wrong_jacobian_is_found_in_debug_mode_and_only_there() -> None:
    def run(jacobian: Any) -> Any:
        term = ODETerm(lambda t, y, args: -y * jnp.arange(1.0, 4.0), jacobian=jacobian)
        controller = rungax.PIDController(rtol=1e-4, atol=1e-4)
        return rungax.diffeqsolve(
            term, rungax.ImplicitEuler(), 0.0, 1.0, 0.1, jnp.ones(3), stepsize_controller=controller, throw=False
        ).result

    right, wrong = -jnp.diag(jnp.arange(1.0, 4.0)), -jnp.diag(jnp.asarray([1.0, 2.0, 3.5]))
    assert run(lambda t, y, args: wrong) == rungax.RESULTS.successful
    jax.config.update("jax_enable_checks", True)
    try:
        assert run(lambda t, y, args: wrong + 0.0) == rungax.RESULTS.jacobian_wrong
        assert run(lambda t, y, args: right) == rungax.RESULTS.successful
    finally:
        jax.config.update("jax_enable_checks", False)


@pytest.mark.slow
def test_single_precision_works_without_and_with_the_solver_for_sparse_systems() -> None:
    with jax.enable_x64(False):
        y0 = jnp.linspace(1.0, 2.0, SIZE, dtype=jnp.float32)
        term = ODETerm(
            lambda t, y, args: 30.0 * (jnp.roll(y, 1) - y), sparsity=np.roll(np.eye(SIZE), 1, 0) + np.eye(SIZE)
        )
        solve = lambda linear_solver: (
            rungax.diffeqsolve(
                term,
                rungax.Kvaerno3(linear_solver=linear_solver),
                0.0,
                1.0,
                0.01,
                y0,
                stepsize_controller=rungax.PIDController(rtol=1e-4, atol=1e-4),
            ).ys
        )
        sparse, dense = solve(rungax.SparseLU()), solve(rungax.SmallLU())
        assert sparse.dtype == jnp.float32
        np.testing.assert_allclose(sparse, dense, rtol=1e-5)


def test_a_sparse_solver_without_a_pattern_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Expected: a term that declares them, `ODETerm\(vector_field, sparsity=...\)`"
    ):
        solve("Kvaerno3", None, 1.0, rungax.SparseLU())
