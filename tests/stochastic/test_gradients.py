"""Derivatives of a solve along a fixed path agree with finite differences, and reverse with forward mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import rungax
from rungax import (
    BacksolveAdjoint,
    ControlTerm,
    DirectAdjoint,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    SaveAt,
    SpaceTimeLevyArea,
    UnsafeBrownianPath,
    VirtualBrownianTree,
    diffeqsolve,
)

from ..catalogue import slow_unless

KEY = jax.random.key(5)
PARAMETERS = {
    "y0": jnp.array([0.7, -0.4]),
    "drift": jnp.array(0.8),
    "noise": jnp.array(0.3),
    "args": jnp.array([0.5, 1.5]),
}

type Field = Callable[[Any, Any, Any, Any], Any]


def additive(scale: Any, t: Any, y: Any, args: Any) -> Any:
    return lx.DiagonalLinearOperator(scale * args * (1.0 + 0.5 * t))


def diagonal(scale: Any, t: Any, y: Any, args: Any) -> Any:
    return lx.DiagonalLinearOperator(scale * args * jnp.cos(y))


def general(scale: Any, t: Any, y: Any, args: Any) -> Any:
    return scale * jnp.stack([jnp.stack([args[0] * y[1], jnp.cos(y[0])]), jnp.stack([jnp.sin(y[0]), args[1] * y[1]])])


def drift(scale: Any, t: Any, y: Any, args: Any) -> Any:
    return -scale * y + jnp.sin(args * y[::-1])


SOLVERS: dict[str, tuple[Any, Field]] = {
    "Euler": (rungax.Euler(), general),
    "Heun": (rungax.Heun(), general),
    "ItoMilstein": (rungax.ItoMilstein(), diagonal),
    "ReversibleHeun": (rungax.ReversibleHeun(), general),
    "SPaRK": (rungax.SPaRK(), general),
    "ShARK": (rungax.ShARK(), additive),
    "SRIW1": (rungax.SRIW1(), diagonal),
    "DRI1": (rungax.DRI1(), general),
    "HalfSolver": (rungax.HalfSolver(rungax.EulerHeun()), general),
    "Midpoint": (rungax.Midpoint(), general),
    "Ralston": (rungax.Ralston(), general),
    "EulerHeun": (rungax.EulerHeun(), general),
    "StratonovichMilstein": (rungax.StratonovichMilstein(), diagonal),
    "GeneralShARK": (rungax.GeneralShARK(), general),
    "SlowRK": (rungax.SlowRK(), general),
    "SEA": (rungax.SEA(), additive),
    "SRA1": (rungax.SRA1(), additive),
}
CASES = [pytest.param(name, marks=slow_unless(name == "ItoMilstein")) for name in SOLVERS]
"""By default a step that contains derivatives itself; one of several stages is tested along an unsafe path."""


def tree(key: jax.Array = KEY) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, 1.0, 1e-2, (2,), key, levy_area=SpaceTimeLevyArea)


def loss(parameters: Any, solver: Any, noise: Field, path: Any = None, **options: Any) -> jax.Array:
    """A function of saved states and of the final state."""
    terms = MultiTerm(
        ODETerm(lambda t, y, args: drift(parameters["drift"], t, y, args)),
        ControlTerm(lambda t, y, args: noise(parameters["noise"], t, y, args), tree() if path is None else path),
    )
    options = {"saveat": SaveAt(ts=[0.3, 0.8], t1=True), "t0": 0.0, "t1": 1.0, "dt0": 0.125, "max_steps": 16, **options}
    ys = diffeqsolve(terms, solver, y0=parameters["y0"], args=parameters["args"], **options).ys
    return jnp.sum(jnp.array([[1.0, -0.5], [0.3, 0.7], [-0.2, 1.1]]) * jnp.sin(ys))


def assert_derivatives(value: Callable[[Any], jax.Array], parameters: Any = PARAMETERS, rtol: float = 1e-7) -> None:
    """Assert that reverse mode agrees with central differences, and with forward mode in one direction."""
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    direction = jnp.asarray(np.random.default_rng(0).normal(size=flat.size))
    of_flat = lambda x: value(unravel(x))

    @jax.jit
    def derivatives(x: jax.Array) -> Any:
        """The value, its derivative in the direction, and its gradient: one program, for all differences too."""
        return *jax.jvp(of_flat, (x,), (direction,)), jax.grad(of_flat)(x)

    _, forward, reverse = derivatives(flat)
    h = 1e-5
    differences = np.array(
        [(derivatives(flat + step)[0] - derivatives(flat - step)[0]) / (2 * h) for step in h * np.eye(flat.size)]
    )
    np.testing.assert_allclose(reverse, differences, rtol=rtol, atol=rtol * float(np.abs(differences).max()))
    np.testing.assert_allclose(forward, reverse @ direction, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_every_solver_with_respect_to_every_parameter(name: str) -> None:
    solver, noise = SOLVERS[name]
    assert_derivatives(lambda parameters: loss(parameters, solver, noise))


@pytest.mark.slow
def test_backwards_in_time() -> None:
    saveat = SaveAt(ts=[0.8, 0.3], t1=True)
    options = {"t0": 1.0, "t1": 0.0, "dt0": -0.125, "saveat": saveat}
    assert_derivatives(lambda parameters: loss(parameters, rungax.SPaRK(), general, **options))


@pytest.mark.parametrize("name", [pytest.param("SPaRK", marks=pytest.mark.slow), "Heun"])
def test_an_unsafe_path_draws_the_same_increments_again(name: str) -> None:
    (solver, noise), path = SOLVERS[name], UnsafeBrownianPath((2,), KEY, levy_area=SpaceTimeLevyArea)
    assert_derivatives(lambda parameters: loss(parameters, solver, noise, path))


@pytest.mark.slow
def test_adaptive_steps_are_constants() -> None:
    """The step times chosen by error control are constants; finite differences with these times agree."""
    controller = PIDController(rtol=1e-3, atol=1e-3)

    def adaptive(parameters: Any) -> Any:
        return loss(parameters, rungax.SPaRK(), general, stepsize_controller=controller, max_steps=256)

    def steps() -> jax.Array:
        terms = MultiTerm(
            ODETerm(lambda t, y, args: drift(PARAMETERS["drift"], t, y, args)),
            ControlTerm(lambda t, y, args: general(PARAMETERS["noise"], t, y, args), tree()),
        )
        saveat = SaveAt(t0=True, steps=True)
        solution = diffeqsolve(
            terms, rungax.SPaRK(), 0.0, 1.0, 0.125, PARAMETERS["y0"], PARAMETERS["args"],
            stepsize_controller=controller, max_steps=256, saveat=saveat,
        )  # fmt: skip
        return solution.ts[jnp.isfinite(solution.ts)]

    grid = steps()
    assert grid.size > 9

    def on_grid(parameters: Any) -> Any:
        return loss(
            parameters, rungax.SPaRK(), general, stepsize_controller=rungax.StepTo(grid), dt0=None, max_steps=256
        )

    found, expected = jax.grad(adaptive)(PARAMETERS), jax.grad(on_grid)(PARAMETERS)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_derivatives(on_grid)


@pytest.mark.slow
def test_adjoints_agree() -> None:
    def gradient(adjoint: Any) -> Any:
        return jax.grad(lambda parameters: loss(parameters, rungax.SPaRK(), general, adjoint=adjoint))(PARAMETERS)

    expected = gradient(RecursiveCheckpointAdjoint())
    for adjoint in (DirectAdjoint(), RecursiveCheckpointAdjoint(checkpoints=2)):
        for a, b in zip(jax.tree.leaves(gradient(adjoint)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [rungax.Heun(), rungax.SPaRK(), rungax.ReversibleHeun()], ids=lambda s: type(s).__name__
)
def test_backsolving_converges_with_shorter_steps(solver: Any) -> None:
    """The gradient by backsolving along the same path approaches that of the solve as the steps shrink."""
    saveat = SaveAt(t1=True)

    def gradient(adjoint: Any, dt0: Any) -> Any:
        def value(parameters: Any) -> Any:
            terms = MultiTerm(
                ODETerm(lambda t, y, args: drift(parameters["drift"], t, y, args)),
                ControlTerm(lambda t, y, args: diagonal(parameters["noise"], t, y, args), tree()),
            )
            y0, args = parameters["y0"], parameters["args"]
            solution = diffeqsolve(
                terms, solver, 0.0, 1.0, dt0, y0, args, adjoint=adjoint, saveat=saveat, max_steps=2048
            )
            return jnp.sum(jnp.sin(solution.ys))

        return jax.flatten_util.ravel_pytree(jax.grad(value)(PARAMETERS))[0]

    both = jax.jit(lambda dt0: (gradient(RecursiveCheckpointAdjoint(), dt0), gradient(BacksolveAdjoint(), dt0)))
    off = [float(jnp.abs(jnp.subtract(*both(dt0))).max()) for dt0 in (2.0**-4, 2.0**-7, 2.0**-10)]
    assert off[2] < off[0] / 8
    assert off[2] < 1e-3


@pytest.mark.slow
def test_second_derivatives() -> None:
    def value(noise: Any) -> Any:
        return loss({**PARAMETERS, "noise": noise}, rungax.Heun(), general)

    slope = jax.grad(value)
    difference = (slope(0.3 + 1e-5) - slope(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.hessian(value)(0.3), difference, rtol=1e-6)


def test_the_times_of_a_brownian_path_have_no_derivative() -> None:
    def end(t1: Any) -> Any:
        return loss(PARAMETERS, rungax.Heun(), general, t1=t1, saveat=SaveAt(ts=[0.3, 0.8], t1=True))

    with pytest.raises(RuntimeError, match="cannot be differentiated with respect to the times"):
        jax.jit(jax.grad(end))(1.0)
