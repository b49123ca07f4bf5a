"""Regression tests for defects in equations with noise, one test for each."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import (
    ClipStepSizeController,
    ControlTerm,
    Euler,
    HalfSolver,
    Heun,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    SPaRK,
    UnsafeBrownianPath,
    VirtualBrownianTree,
    diffeqsolve,
)

KEY = jax.random.key(11)


def tree(shape: Any = (), tol: float = 2.0**-12, key: Any = KEY) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, 1.0, tol, shape, key, levy_area=rungax.SpaceTimeLevyArea)


def drift(t: Any, y: Any, args: Any) -> Any:
    return -y


def noise(t: Any, y: Any, args: Any) -> Any:
    return 0.5 * y


def terms(path: Any = None) -> MultiTerm[Any]:
    return MultiTerm(ODETerm(drift), ControlTerm(noise, tree() if path is None else path))


def solve(terms: Any, solver: Any, dt0: Any = 0.25, **options: Any) -> rungax.Solution:
    return diffeqsolve(terms, solver, 0.0, 1.0, dt0, jnp.array(1.0), **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [*(pytest.param(s, marks=pytest.mark.slow) for s in (Euler(), Heun())), rungax.Kvaerno3()],
    ids=lambda s: type(s).__name__,
)
def test_half_solver_saves_the_same_at_times_and_at_steps(solver: Any) -> None:
    """The defect: dense output was that of the full step, which is discarded."""
    equation = ODETerm(drift) if isinstance(solver, rungax.Kvaerno3) else terms()
    times = np.array([0.25, 0.5, 0.75, 1.0])
    subs = [rungax.SubSaveAt(ts=times), rungax.SubSaveAt(steps=True)]
    saveat = SaveAt(subs=subs, dense=True)

    @jax.jit
    def solved() -> Any:
        solution = solve(equation, HalfSolver(solver), saveat=saveat, max_steps=8)
        around = np.array([0.5 - 1e-9, 0.375 - 1e-9, 0.375 + 1e-9])
        return solution.ys, solution.evaluate(0.5, left=True), jax.vmap(solution.evaluate)(around)

    (at_times, at_steps), at_end, (before_end, before_half, after_half) = solved()
    np.testing.assert_allclose(at_times, at_steps[:4], rtol=1e-14)
    np.testing.assert_allclose(at_end, at_steps[1], rtol=1e-12)
    np.testing.assert_allclose(before_end, at_steps[1], rtol=1e-6)
    np.testing.assert_allclose(before_half, after_half, rtol=1e-6)


@pytest.mark.slow
def test_the_drift_comes_first_and_the_diffusion_is_one_term() -> None:
    """The defect: swapped or nested terms converged to another limit."""

    def wrongs(path: Any) -> list[Any]:
        first, second = terms(path).terms
        nested = MultiTerm(first, MultiTerm(second, second))
        return [MultiTerm(second, first), MultiTerm(second, second), nested]

    for wrong in wrongs(tree()):
        for solver in (rungax.EulerHeun(), rungax.ItoMilstein(), SPaRK(), HalfSolver(rungax.EulerHeun())):
            with pytest.raises(ValueError, match="treats drift and diffusion differently"):
                solve(wrong, solver)
    for wrong in wrongs(UnsafeBrownianPath((), KEY)):  # Heun's method takes them
        assert np.isfinite(jax.jit(lambda wrong=wrong: solve(wrong, Heun()).ys)()).all()
    first, second = terms().terms
    with pytest.raises(ValueError, match="needs a Brownian path"):
        solve(MultiTerm(first, ControlTerm(noise, lambda a, b: b - a)), SPaRK())
    with pytest.raises(ValueError, match="treats drift"):
        solve(MultiTerm(second, ControlTerm(noise, lambda a, b: b - a)), SPaRK())


def test_the_method_of_a_path_is_the_path() -> None:
    """The defect: as a function it passed all checks, and rejected steps drew new noise."""
    unsafe = UnsafeBrownianPath((), KEY)
    with pytest.raises(ValueError, match="draws anew"):
        solve(terms(unsafe.evaluate), Heun(), stepsize_controller=PIDController(rtol=1e-2, atol=1e-2))
    assert ControlTerm(noise, tree().evaluate).control.levy_area is rungax.SpaceTimeLevyArea  # pyright: ignore[reportAttributeAccessIssue]


def test_a_path_inside_a_users_term_is_found() -> None:
    class Own(rungax.AbstractTerm[Any, Any]):
        path: Any

        def vf(self, t: Any, y: Any, args: Any) -> Any:
            return 0.5 * y

        def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
            return self.path.evaluate(t0, t1, **kwargs)

        def prod(self, vf: Any, control: Any) -> Any:
            return vf * control

    controller = PIDController(rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="draws anew"):
        solve(MultiTerm(ODETerm(drift), Own(UnsafeBrownianPath((), KEY))), Heun(), stepsize_controller=controller)


def test_a_continued_solve_retries_times_rejected_before() -> None:
    """The defect: the first step of the second part went past times that the first part had rejected."""

    @functools.partial(jax.jit, static_argnames="max_steps")
    def part(t0: float, dt0: Any, y0: Any, max_steps: int, **state: Any) -> rungax.Solution:
        return diffeqsolve(
            MultiTerm(ODETerm(drift), ControlTerm(lambda t, y, args: 0.8 * jnp.sin(3 * y), tree())),
            SPaRK(), t0, 1.0, dt0, y0, max_steps=max_steps, throw=False,
            stepsize_controller=PIDController(rtol=3e-3, atol=3e-3),
            saveat=SaveAt(steps=True, solver_state=True, controller_state=True, made_jump=True), **state,
        )  # fmt: skip

    first = part(0.0, 0.5, jnp.array(1.0), 12)
    pending = np.asarray(first.controller_state.controller_state.reject_info)
    pending = pending[np.isfinite(pending)]
    made = int(first.stats["num_accepted_steps"])
    assert pending.size > 0
    assert made > 0
    state = {name: getattr(first, name) for name in ("solver_state", "controller_state", "made_jump")}
    second = part(float(first.ts[made - 1]), 0.5, first.ys[made - 1], 256, **state)
    missed = [t for t in pending if np.abs(np.asarray(second.ts) - t).min() > 1e-12]
    assert missed == []


@jax.jit
def times_of_steps(tol: Any, noise: Any) -> Any:
    """The times of adaptive steps, with noise `noise[0] + noise[1] y`."""
    diffusion = ControlTerm(lambda t, y, args: args[0] + args[1] * y, tree(tol=1e-5))
    equation = MultiTerm(ODETerm(lambda t, y, args: jnp.sin(y)), diffusion)
    options = {"stepsize_controller": PIDController(rtol=tol, atol=tol), "saveat": SaveAt(t0=True, steps=True)}
    return solve(equation, SPaRK(), None, args=jnp.asarray(noise), max_steps=512, **options).ts


@pytest.mark.parametrize("noise", [(0.0, 0.5), (0.5, 0.0)], ids=["multiplicative", "additive"])
def test_the_first_step_is_not_much_shorter_than_the_others(noise: tuple[float, float]) -> None:
    """The defect: noise in the estimated curvature made the first step 1e-7."""
    for tol in (1e-1, 1e-3):
        ts = np.asarray(times_of_steps(tol, noise))
        lengths = np.diff(ts[np.isfinite(ts)])
        assert 1e-2 * np.median(lengths) < lengths[0] < 10 * np.median(lengths), tol


def test_jumps_lose_no_more_noise_than_that_of_the_gap() -> None:
    """No step is made from the float before a jump to the float after it, so the noise between them is missing."""
    path = tree()
    controller = ClipStepSizeController(PIDController(rtol=1e-2, atol=1e-2), jump_ts=[0.2, 0.4, 0.6])
    term = MultiTerm(ODETerm(lambda t, y, args: jnp.zeros_like(y)), ControlTerm(lambda t, y, args: jnp.ones(()), path))
    end = jax.jit(lambda: solve(term, Heun(), 0.1, stepsize_controller=controller).ys[0])()
    np.testing.assert_allclose(end - 1.0, path.evaluate(0.0, 1.0), atol=3e-7)


def test_reversible_heun_takes_any_operator() -> None:
    """The defect: the static parts of an operator were passed into the loop."""
    path = UnsafeBrownianPath((2,), KEY)

    def field(t: Any, y: Any, args: Any) -> Any:
        return lx.FunctionLinearOperator(lambda w: jnp.cos(y) * w, jax.ShapeDtypeStruct((2,), jnp.float64))

    def diagonal(t: Any, y: Any, args: Any) -> Any:
        return lx.DiagonalLinearOperator(jnp.cos(y))

    def end_and_slope(field: Any) -> Any:
        equation = MultiTerm(ODETerm(drift), ControlTerm(field, path))

        def total(y0: Any) -> Any:
            y = diffeqsolve(equation, rungax.ReversibleHeun(), 0.0, 1.0, 0.125, y0, max_steps=16).ys[0]
            return y.sum(), y

        slope, y = jax.jit(jax.grad(total, has_aux=True))(jnp.array([0.5, 1.0]))
        return y, slope

    (y, slope), (expected, expected_slope) = end_and_slope(field), end_and_slope(diagonal)
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-12)


def test_steps_below_the_tolerance_of_the_path_warn() -> None:
    with pytest.warns(UserWarning, match="shorter than the Brownian path is exact") as found:
        jax.eval_shape(lambda: diffeqsolve(terms(tree(tol=0.1)), Heun(), 0.0, 1.0, 0.01, 1.0).ys)
    assert found[0].filename == __file__  # the line that calls `diffeqsolve`
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(lambda: solve(terms(tree(tol=0.01)), Heun(), 0.01).ys)


def test_a_complex_path_and_a_real_operator_are_refused() -> None:
    path = tree(jax.ShapeDtypeStruct((1,), jnp.complex128))
    equation = ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones(1)), path)
    with pytest.raises(ValueError, match="but the control is complex"):
        diffeqsolve(equation, Euler(), 0.0, 1.0, 0.1, jnp.ones(1))
