"""The gradients of `BacksolveAdjoint`: right, or refused by name, and never silently wrong.

`test_adjoints.py` compares it with the default adjoint where both apply without more ado.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import rungax
from rungax import (
    SEA,
    SRA1,
    AbstractTerm,
    BacksolveAdjoint,
    ClipStepSizeController,
    ConstantStepSize,
    ControlTerm,
    CubicInterpolation,
    Heun,
    ImplicitEuler,
    Kvaerno3,
    LinearInterpolation,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    SaveAt,
    ShARK,
    SPaRK,
    Tsit5,
    VirtualBrownianTree,
    backward_hermite_coefficients,
    diffeqsolve,
)

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from .measure import weigh

BACK, DEFAULT = BacksolveAdjoint(), RecursiveCheckpointAdjoint()


def end(terms: Any, solver: Any, adjoint: Any, **options: Any) -> Any:
    call: dict[str, Any] = {"t0": 0.0, "t1": 1.0, "dt0": 0.02, "y0": jnp.asarray(1.0), "max_steps": 256, **options}
    return diffeqsolve(terms, solver, adjoint=adjoint, **call).ys


# ----------------------------------------------------------------------------- only what is asked for is differentiated


@pytest.mark.parametrize(
    ("solver", "dt0"),
    [
        pytest.param(Heun(), 0.01, id="Heun"),
        pytest.param(Kvaerno3(), 0.02, id="Kvaerno3", marks=pytest.mark.slow),
        pytest.param(Tsit5(), None, id="Tsit5, adaptive"),
        pytest.param(ImplicitEuler(), 0.01, id="ImplicitEuler", marks=pytest.mark.slow),
    ],
)
def test_a_field_needs_no_derivative_by_time(solver: Any, dt0: float | None) -> None:
    """It has none where the time is `at`: at the start, at the end, on steps and between them."""
    controller = ConstantStepSize() if dt0 else PIDController(rtol=1e-6, atol=1e-6)

    @jax.jit
    @jax.grad
    def gradient(p: Any, at: Any) -> jax.Array:
        term = ODETerm(lambda t, y, p: p * jnp.sqrt(jnp.abs(t - jax.lax.stop_gradient(at))))
        return end(term, solver, BACK, dt0=dt0, args=p, stepsize_controller=controller)[0]

    for at in (0.0, 0.5, 1.0, *np.random.default_rng(0).uniform(0, 1, 3)):
        exact = 2 / 3 * (at**1.5 + (1 - at) ** 1.5)
        tolerance = 1e-3 if dt0 is None else 0.05 if isinstance(solver, ImplicitEuler) else 0.01
        np.testing.assert_allclose(gradient(1.0, at), exact, rtol=tolerance)


def test_a_field_needs_no_derivative_by_other_arguments() -> None:
    term = ODETerm(lambda t, y, args: -args["rate"] * y + jnp.sqrt(args["level"]))
    function = lambda rate, level: end(term, Heun(), BACK, args={"rate": rate, "level": level})[0]
    np.testing.assert_allclose(jax.jit(jax.grad(function))(1.0, 0.0), -np.exp(-1.0), rtol=1e-3)


# ------------------------------------------------------------------------------------------------ parameters of drivers

KNOTS = np.asarray([0.0, 0.3, 0.45, 1.0])
VALUES = np.random.default_rng(1).normal(size=(4, 2))
START = np.asarray([1.0, -0.5])


def field(t: Any, y: Any, gain: Any) -> Any:
    return jnp.stack([jnp.cos(y), gain * jnp.sin(y[::-1])], axis=1)


def by_path(path: Any) -> Callable[..., Any]:
    def function(values: Any, gain: Any, adjoint: Any, t1: float) -> jax.Array:
        drift = ODETerm(lambda t, y, gain: -gain * y)
        terms = MultiTerm(drift, ControlTerm(field, path(values)))
        times = {"t0": 1.0 - t1, "t1": t1, "dt0": 0.004 * (2 * t1 - 1), "y0": START, "args": gain}
        return weigh(end(terms, Heun(), adjoint, saveat=SaveAt(ts=np.asarray([0.4, 0.8])[:: int(2 * t1 - 1)]), **times))

    return function


class Driven(AbstractTerm[Any, Any]):
    """A term of a user's own, whose parameter is in its field and in its increments."""

    p: Any

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.sin(y + self.p)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return (t1**2 - t0**2) * jnp.exp(self.p)

    def prod(self, vf: Any, control: Any) -> Any:
        return vf * control


def by_own_term(values: Any, gain: Any, adjoint: Any, t1: float) -> jax.Array:
    times = {"t0": 1.0 - t1, "t1": t1, "dt0": 0.004 * (2 * t1 - 1), "y0": START}
    return weigh(end(Driven(gain * values[0]), Heun(), adjoint, **times))


def by_complex_path(values: Any, gain: Any, adjoint: Any, t1: float) -> jax.Array:
    term = ControlTerm(lambda t, y, gain: gain * jnp.cos(y), LinearInterpolation(KNOTS, jax.lax.complex(*values.T)))
    times = {"t0": 1.0 - t1, "t1": t1, "dt0": 0.004 * (2 * t1 - 1), "y0": jnp.asarray(1.0 + 0.5j), "args": gain}
    return weigh(end(term, Heun(), adjoint, **times))


DRIVERS: dict[str, Any] = {
    "linear": by_path(lambda values: LinearInterpolation(KNOTS, values)),
    "cubic": by_path(lambda values: CubicInterpolation(KNOTS, backward_hermite_coefficients(KNOTS, values))),
    "own term": by_own_term,
    "complex": by_complex_path,
}


DIFFERENT = ("complex", "own term")
"""The drivers that are no real interpolation."""


@pytest.mark.parametrize("t1", [1.0, pytest.param(0.0, id="backwards", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "function", [pytest.param(f, id=name, marks=slow_unless(name in DIFFERENT)) for name, f in DRIVERS.items()]
)
def test_the_gradient_by_parameters_of_a_driver_is_that_of_the_default(function: Any, t1: float) -> None:
    found, expected = (
        jax.jit(jax.grad(lambda v, g, adjoint=adjoint: function(v, g, adjoint, t1), (0, 1)))(VALUES, 0.7)
        for adjoint in (BACK, DEFAULT)
    )
    assert_trees_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_gradient_inside_shard_map_is_that_of_a_batch() -> None:
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])

    def gradient(values: Any) -> Any:
        def function(values: Any) -> jax.Array:
            term = ControlTerm(lambda t, y, args: jnp.cos(y), LinearInterpolation(KNOTS, values))
            return weigh(end(term, Heun(), BACK, dt0=0.1, max_steps=16, throw=False, saveat=SaveAt(ts=[0.4, 0.8])))

        return jax.vmap(jax.grad(function))(values)

    batch = np.random.default_rng(3).normal(size=(4, 4))
    sharded = jax.jit(
        jax.shard_map(gradient, mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec("batch"))
    )
    np.testing.assert_allclose(sharded(batch), jax.jit(gradient)(batch), rtol=1e-12)


@pytest.mark.slow
def test_the_gradient_by_parameters_of_a_driver_with_other_solvers() -> None:
    """Implicit methods divide the increment by the length of the step; elements of a batch have their own steps."""

    def function(values: Any, solver: Any, adjoint: Any) -> jax.Array:
        term = ControlTerm(lambda t, y, args: jnp.cos(y), LinearInterpolation(KNOTS, values[:, 0]))
        controller = ClipStepSizeController(PIDController(rtol=1e-6, atol=1e-8), step_ts=KNOTS)
        return end(term, solver, adjoint, stepsize_controller=controller, max_steps=1024)[0]

    batch = np.stack([VALUES, -2 * VALUES])
    for solver in (Kvaerno3(), Tsit5()):
        found, expected = (
            jax.jit(jax.vmap(jax.grad(lambda v, s=solver, a=adjoint: function(v, s, a))))(batch)
            for adjoint in (BACK, DEFAULT)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


# --------------------------------------------------------------------------------------------- times at which steps end


def loss_with_stops(time: Any, name: str, is_of_the_adjoint: bool) -> jax.Array:
    clipped = ClipStepSizeController(PIDController(rtol=1e-6, atol=1e-6), **{name: time[None]})
    adjoint = BacksolveAdjoint(stepsize_controller=clipped) if is_of_the_adjoint else BACK
    controller = PIDController(rtol=1e-6, atol=1e-6) if is_of_the_adjoint else clipped
    term = ODETerm(lambda t, y, args: jnp.where(t < time, y, 3 * y))
    return end(term, Tsit5(), adjoint, stepsize_controller=controller)[0]


@pytest.mark.parametrize("is_of_the_adjoint", [False, True], ids=["of the solve", "of the adjoint"])
@pytest.mark.parametrize("name", ["step_ts", "jump_ts"])
def test_there_is_no_silent_zero_for_the_times_of_stops(name: str, is_of_the_adjoint: bool) -> None:
    match = r"`BacksolveAdjoint` has no derivatives with respect to times.*\n.*\nFound: .*`jump_ts`"
    with pytest.raises(ValueError, match=match):
        jax.grad(lambda time: loss_with_stops(time, name, is_of_the_adjoint))(np.asarray(0.4))


def test_there_is_no_silent_zero_for_a_value_inside_a_solver() -> None:
    """The solution does not depend on a tolerance of the stages, but it may on other values of a user's own solver."""

    def function(rtol: Any, is_of_the_adjoint: bool) -> jax.Array:
        solver = ImplicitEuler(root_finder=rungax.VeryChord(rtol=rtol, atol=1e-6))
        adjoint = BacksolveAdjoint(solver=solver) if is_of_the_adjoint else BACK
        term = ODETerm(lambda t, y, args: -y)
        return end(term, Heun() if is_of_the_adjoint else solver, adjoint)[0]

    for is_of_the_adjoint in (False, True):
        with pytest.raises(ValueError, match=r"`BacksolveAdjoint` has no(.*\n)+Found:    a value inside the solver"):
            jax.grad(lambda rtol, of=is_of_the_adjoint: function(rtol, of))(1e-6)


def test_stops_that_are_not_differentiated_do_no_harm() -> None:
    def function(y0: Any, time: Any) -> jax.Array:
        clipped = ClipStepSizeController(PIDController(rtol=1e-6, atol=1e-6), jump_ts=time[None])
        term = ODETerm(lambda t, y, args: jnp.where(t < time, y, 3 * y))
        return end(term, Tsit5(), BACK, y0=y0, stepsize_controller=clipped)[0]

    np.testing.assert_allclose(jax.jit(jax.grad(function))(1.0, np.asarray(0.4)), np.exp(0.4 + 3 * 0.6), rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- noise


def brownian(levy_area: Any = rungax.SpaceTimeTimeLevyArea) -> VirtualBrownianTree:
    return VirtualBrownianTree(0.0, 1.0, 1e-3, (), jax.random.key(2), levy_area=levy_area)


def noisy(p: Any, solver: Any, adjoint: Any, multiplicative: bool = False, path: Any = None) -> jax.Array:
    drift = ODETerm(lambda t, y, p: jnp.sin(y) - p["rate"] * y)
    diffusion = lambda t, y, p: p["size"] * (y if multiplicative else 1 + t)
    terms = MultiTerm(drift, ControlTerm(diffusion, brownian() if path is None else path))
    return end(terms, solver, adjoint, args=p, dt0=0.01)[0]


P = {"rate": 0.7, "size": 0.4}
ADDITIVE = [pytest.param(s, id=type(s).__name__, marks=slow_unless(s == ShARK())) for s in (SEA(), SRA1(), ShARK())]


@pytest.mark.slow
@pytest.mark.parametrize("solver", ADDITIVE)
def test_a_solver_for_additive_noise_is_right_where_the_noise_of_the_adjoint_is_additive(solver: Any) -> None:
    """By parameters of the drift and by the start; on the path of the default adjoint."""
    found, expected = (
        jax.jit(jax.grad(lambda rate, adjoint=adjoint: noisy({**P, "rate": rate}, solver, adjoint)))(0.7)
        for adjoint in (BACK, DEFAULT)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_a_solver_for_any_noise_gives_the_gradient_of_additive_noise() -> None:
    """The solve itself is by a solver for additive noise; the two differ by the error of their order."""
    adjoints = BacksolveAdjoint(solver=SPaRK()), DEFAULT
    found, expected = (
        jax.jit(jax.grad(lambda p, adjoint=adjoint: noisy(p, ShARK(), adjoint)))(P) for adjoint in adjoints
    )
    assert_trees_close(found, expected, rtol=2e-2)


@pytest.mark.parametrize("solver", ADDITIVE)
def test_a_solver_for_additive_noise_refuses_other_noise_of_the_adjoint(solver: Any) -> None:
    by_name = rf"`BacksolveAdjoint`.*noise depends on its state(.*\n)+Found:    {type(solver).__name__}, for additive"
    by_size = lambda size, solver, adjoint: noisy({**P, "size": size}, solver, adjoint)
    by_rate = lambda rate, solver, adjoint: noisy({**P, "rate": rate}, solver, adjoint, multiplicative=True)
    for function, solve_by, adjoint in (
        (by_size, solver, BACK),
        (by_size, Heun(), BacksolveAdjoint(solver=solver)),
        (by_rate, Heun(), BacksolveAdjoint(solver=solver)),
    ):
        with pytest.raises(NotImplementedError, match=by_name):
            jax.grad(lambda p, f=function, s=solve_by, a=adjoint: f(p, s, a))(0.5)


def test_a_solver_that_needs_levy_areas_is_refused_without_them() -> None:
    path = brownian(rungax.BrownianIncrement)
    match = r"`BacksolveAdjoint\(solver=SPaRK\(\)\)` needs more.*\nExpected: .*LevyArea.*\nFound: .*BrownianIncrement"
    with pytest.raises(ValueError, match=match):
        noisy(P, Heun(), BacksolveAdjoint(solver=SPaRK()), path=path)


# -------------------------------------------------------------------------------------------------------- failed solves

STARTS = np.asarray([0.5, 5.0, 0.8])
"""The second solution of y' = y² ends at t = 0.2, the others after 1."""
SAVED = np.asarray([0.1, 0.15, 0.5])


def explosion(y0: Any, controller: Any, p: Any = 1.0) -> rungax.Solution:
    return diffeqsolve(
        lambda t, y, p: p * y**2, Heun(), 0.0, 1.0, 0.005, y0, p, adjoint=BACK, max_steps=512, throw=False,
        stepsize_controller=controller, saveat=SaveAt(t0=True, ts=SAVED, t1=True),
    )  # fmt: skip


CONTROLLERS = [
    pytest.param(PIDController(rtol=1e-4, atol=1e-6), id="adaptive"),
    pytest.param(ConstantStepSize(), id="constant", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_failed_element_without_cotangents_has_a_gradient_of_zero(controller: Any) -> None:
    def loss(y0: Any, p: Any) -> jax.Array:
        def ends(y0: Any) -> jax.Array:
            solution = explosion(y0, controller, p)
            assert solution.ys is not None
            return jnp.where(rungax.is_successful(solution.result), solution.ys[-1], 0.0)

        return jnp.sum(jax.vmap(ends)(y0))

    of_starts, of_p = jax.jit(jax.grad(loss, (0, 1)))(STARTS, 1.0)
    exact = np.where(STARTS < 1, (1 - STARTS) ** -2.0, 0.0)
    np.testing.assert_allclose(of_starts, exact, rtol=2e-3)
    np.testing.assert_allclose(of_p, np.sum(STARTS**2 * exact), rtol=2e-3)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_values_saved_before_a_failure_have_their_derivatives(controller: Any) -> None:
    """Those of all others, the end among them, are NaN."""
    jacobian = jax.jit(jax.jacrev(lambda y0: explosion(y0, controller).ys))(5.0)
    exact = (1 - 5.0 * np.asarray([0.0, *SAVED[:2]])) ** -2.0
    np.testing.assert_allclose(jacobian[:3], exact, rtol=2e-2)
    assert np.isnan(jacobian[3:]).all()
