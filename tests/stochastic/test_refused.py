"""Combinations that are wrong for equations with noise raise an error or a warning when `diffeqsolve` is called."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import (
    BacksolveAdjoint,
    ConstantStepSize,
    ControlTerm,
    Euler,
    Heun,
    MultiTerm,
    ODETerm,
    PIDController,
    UnsafeBrownianPath,
    VirtualBrownianTree,
    diffeqsolve,
)

KEY = jax.random.key(0)
PID = PIDController(rtol=1e-2, atol=1e-2)
SPACE_TIME = rungax.SpaceTimeLevyArea


def tree(shape: Any = (), levy_area: Any = SPACE_TIME) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, 1.0, 1e-2, shape, KEY, levy_area=levy_area)


def solve(solver: Any, field: Any, path: Any, y0: Any = 1.0, **options: Any) -> Any:
    terms = MultiTerm(ODETerm(lambda t, y, args: -y), ControlTerm(field, path))
    return diffeqsolve(terms, solver, 0.0, 1.0, 0.1, jnp.asarray(y0), **options)


def accept(*call: Any, **options: Any) -> None:
    """Trace the solve without compiling it; that it is called is when errors and warnings appear."""
    jax.eval_shape(lambda: solve(*call, **options).ys)


def multiplicative(t: Any, y: Any, args: Any) -> Any:
    return 0.5 * y


def additive(t: Any, y: Any, args: Any) -> Any:
    """Additive noise: of the state it uses only the shape."""
    return 0.5 * jnp.ones_like(y)


def says(error: Any, *words: str) -> None:
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("solver", [rungax.SEA(), rungax.SRA1(), rungax.ShARK()], ids=lambda s: type(s).__name__)
def test_additive_solvers_refuse_noise_that_depends_on_the_state(solver: Any) -> None:
    with pytest.raises(ValueError, match="additive noise") as error:
        solve(solver, multiplicative, tree())
    says(error, type(solver).__name__, "makes no use of `y`", "SPaRK")
    accept(solver, additive, tree())


def test_a_state_without_influence_counts_as_unused() -> None:
    """The check looks at the program, not at the arguments of the function."""

    @jax.jit
    def through_jit(t: Any, y: Any, args: Any) -> Any:
        unused = jnp.sin(y)
        del unused
        return jnp.exp(-t)

    accept(rungax.SRA1(), through_jit, tree())


def test_diagonal_solvers_refuse_matrices() -> None:
    def matrix(t: Any, y: Any, args: Any) -> Any:
        return jnp.diag(y)

    with pytest.raises(ValueError, match="diagonal noise") as error:
        solve(rungax.SRIW1(), matrix, tree((2,)), np.ones(2))
    says(error, "SRIW1", "lineax.DiagonalLinearOperator", "shape ()")
    accept(rungax.SRIW1(), lambda t, y, args: lx.DiagonalLinearOperator(0.5 * y), tree((2,)), np.ones(2))
    accept(rungax.SRIW1(), multiplicative, tree(()), np.ones(2))


def test_complex_noise_is_refused_where_integrals_are_those_of_real_noise() -> None:
    path = tree(jax.ShapeDtypeStruct((), jnp.complex128))
    with pytest.raises(ValueError, match="real noise"):
        solve(rungax.SRIW1(), multiplicative, path, 1.0 + 0.0j)


@pytest.mark.parametrize("solver", [rungax.SPaRK(), rungax.SRA1(), rungax.SRIW1()], ids=lambda s: type(s).__name__)
def test_a_missing_levy_area_is_refused(solver: Any) -> None:
    with pytest.raises(ValueError, match="needs more of the Brownian path than its increments") as error:
        solve(solver, additive, tree(levy_area=rungax.BrownianIncrement))
    says(error, type(solver).__name__, "levy_area=SpaceTimeLevyArea", "levy_area=BrownianIncrement")


def test_more_levy_area_than_needed_is_fine() -> None:
    accept(rungax.SPaRK(), multiplicative, tree(levy_area=rungax.SpaceTimeTimeLevyArea))
    accept(Heun(), multiplicative, tree(levy_area=rungax.SpaceTimeTimeLevyArea))


def test_an_unsafe_path_refuses_adaptive_steps() -> None:
    with pytest.raises(ValueError, match="draws anew") as error:
        solve(Heun(), multiplicative, UnsafeBrownianPath((), KEY), stepsize_controller=PID)
    says(error, "UnsafeBrownianPath", "ConstantStepSize", "PIDController", "VirtualBrownianTree")


def test_an_unsafe_path_refuses_solvers_that_use_parts_of_a_step() -> None:
    with pytest.raises(ValueError, match="parts of a step") as error:
        solve(rungax.HalfSolver(Heun()), multiplicative, UnsafeBrownianPath((), KEY))
    says(error, "HalfSolver", "UnsafeBrownianPath", "VirtualBrownianTree")


def test_an_unsafe_path_refuses_backsolving() -> None:
    def end(y0: Any) -> Any:
        return solve(Heun(), multiplicative, UnsafeBrownianPath((), KEY), y0, adjoint=BacksolveAdjoint()).ys[0]

    with pytest.raises(ValueError, match="increments add up"):
        jax.grad(end)(1.0)


def test_backsolving_refuses_ito_solvers() -> None:
    with pytest.raises(NotImplementedError, match="Stratonovich") as error:
        solve(Euler(), multiplicative, tree(), adjoint=BacksolveAdjoint())
    says(error, "Euler", "Heun", "RecursiveCheckpointAdjoint")


def test_a_steady_state_has_no_noise() -> None:
    with pytest.raises(ValueError, match="which an equation with noise does not have"):
        solve(Heun(), multiplicative, tree(), adjoint=rungax.ImplicitAdjoint())


def test_a_solver_for_equations_without_noise_warns() -> None:
    with pytest.warns(UserWarning, match="meant for equations without noise"):
        accept(rungax.Tsit5(), multiplicative, tree())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accept(Heun(), multiplicative, tree())


def test_adaptive_euler_warns() -> None:
    adaptive = rungax.HalfSolver(Euler())
    with pytest.warns(UserWarning, match="wrong limit") as caught:
        accept(adaptive, multiplicative, tree(), stepsize_controller=PID)
    assert "HalfSolver" in str(caught[0].message) or "Euler" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accept(adaptive, multiplicative, tree(), stepsize_controller=ConstantStepSize())
        accept(rungax.HalfSolver(Heun()), multiplicative, tree(), stepsize_controller=PID)


def test_a_path_must_cover_the_whole_solve() -> None:
    short = VirtualBrownianTree(0.0, 0.5, 1e-2, (), KEY)
    with pytest.raises(ValueError, match=r"must lie in the tree's interval \[0.0, 0.5\]; found 0.75"):
        short.evaluate(0.0, 0.75)
    for throw in (True, False):
        with pytest.raises(ValueError, match="must reach over the whole solve") as error:
            solve(Heun(), multiplicative, short, throw=throw)
        says(error, "from 0.0 to 1.0", "from 0.0 to 0.5", "VirtualBrownianTree(0.0, 1.0, ...)")

    @jax.jit
    def compiled(t1: Any) -> Any:
        path = VirtualBrownianTree(0.0, t1, 1e-2, (), KEY)
        solution = solve(Heun(), multiplicative, path, throw=False)
        return solution.result, solution.ys

    result, ys = compiled(0.5)
    assert result == rungax.RESULTS.invalid_input
    assert np.isnan(ys).all()
    assert compiled(1.0)[0] == rungax.RESULTS.successful


def test_a_path_may_reach_further_than_the_solve() -> None:
    long = VirtualBrownianTree(-1.0, 2.0, 1e-2, (), KEY)
    assert np.isfinite(solve(Heun(), multiplicative, long).ys).all()


@pytest.mark.parametrize("throw", [True, False])
def test_langevin_terms_must_agree(throw: bool) -> None:
    path = tree((2,), rungax.SpaceTimeTimeLevyArea)
    terms = MultiTerm(
        rungax.UnderdampedLangevinDriftTerm(1.0, 1.0, lambda x, args: x),
        rungax.UnderdampedLangevinDiffusionTerm(2.0, 1.0, path),
    )
    with pytest.raises(ValueError, match="must have the same `gamma`"):
        diffeqsolve(terms, rungax.QUICSORT(), 0.0, 1.0, 0.1, (jnp.ones(2), jnp.ones(2)), throw=throw)


def test_no_solver_is_chosen_for_noise() -> None:
    path = rungax.VirtualBrownianTree(0.0, 1.0, tol=0.05, shape=(), key=jax.random.key(0))
    terms = rungax.ControlTerm(lambda t, y, args: y, path)
    with pytest.raises(ValueError, match=r"`solver=None`.*\nExpected: a solver for noise\nFound:    None") as error:
        rungax.diffeqsolve(terms, None, 0.0, 1.0, 0.1, jnp.asarray(1.0))
    assert "`SRIW1()`" in str(error.value)


def test_terms_and_paths_without_a_carry_say_so() -> None:
    path = rungax.LinearInterpolation(ts=jnp.array([0.0, 1.0]), ys=jnp.array([0.0, 1.0]))
    for term in (path, rungax.ODETerm(lambda t, y, args: -y)):
        assert term.initial_carry() is None
        with pytest.raises(NotImplementedError, match=f"A `{type(term).__name__}` carries nothing"):
            term.increment_and_carry(None, 0.0, 1.0)
