"""The solves of `ReversibleAdjoint`: values as good as the solver's, derivatives of the values, the rest refused.

`test_adjoints.py` compares it with the default adjoint where both apply without more ado.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    Auto,
    Bosh3,
    ConstantStepSize,
    ControlTerm,
    Dopri8,
    Euler,
    Event,
    HalfSolver,
    Heun,
    ItoMilstein,
    KahanLi8,
    MultiTerm,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    ReversibleAdjoint,
    SaveAt,
    SlowRK,
    SPaRK,
    StepTo,
    Tsit5,
    UnsafeBrownianPath,
    VelocityVerlet,
    VirtualBrownianTree,
    diffeqsolve,
)

from ..catalogue import EXPLICIT, STIFF, name, slow_unless, terms_for
from ..problems.fields import ARGS, pendulum
from .measure import accepted_times, assert_derivative, stretched, weigh

REVERSIBLE, DEFAULT = ReversibleAdjoint(), RecursiveCheckpointAdjoint()
ACCEPTED = (*EXPLICIT, HalfSolver(Heun()))


def of_solvers(often: tuple[type, ...]) -> list[Any]:
    """Every solver of ordinary equations that the adjoint accepts; those not named are slow."""
    return [pytest.param(s, id=name(s), marks=slow_unless(type(s) in often)) for s in ACCEPTED]


# --------------------------------------------------------------------------------------------------------- inside steps

OFTEN = np.linspace(0.0, 10.0, 101)
CIRCLE = np.stack([np.cos(OFTEN), -np.sin(OFTEN)], axis=1)


def turned(solver: Any, adjoint: Any, **options: Any) -> rungax.Solution:
    """The oscillator from (1, 0) to 10."""
    field = lambda t, y, args: jnp.stack([y[1], -y[0]])
    saveat = SaveAt(ts=OFTEN, dense=True)
    call: dict[str, Any] = {
        "dt0": None,
        "stepsize_controller": PIDController(rtol=1e-9, atol=1e-9),
        "max_steps": 256,
        **options,
    }
    return diffeqsolve(ODETerm(field), solver, 0.0, 10.0, y0=np.eye(2)[0], adjoint=adjoint, saveat=saveat, **call)


def worst(values: Any) -> float:
    return float(np.abs(values - CIRCLE).max())


def test_values_inside_steps_are_as_exact_as_their_ends() -> None:
    """Twenty steps of order eight: a cubic through their ends has an error of 2e-4."""
    solution = turned(Dopri8(), REVERSIBLE)
    assert worst(solution.ys) < 2e-9
    assert worst(jax.vmap(solution.evaluate)(jnp.asarray(OFTEN))) < 2e-9


@pytest.mark.slow
@pytest.mark.parametrize("solver", ACCEPTED, ids=name)
def test_values_inside_steps_are_as_good_as_with_the_solver_itself(solver: Any) -> None:
    steps = {"dt0": 0.05, "stepsize_controller": ConstantStepSize()}
    found, expected = (worst(turned(solver, adjoint, **steps).ys) for adjoint in (REVERSIBLE, DEFAULT))
    # The reversible scheme itself may be a little less accurate, or more.
    assert found < 3 * expected + 1e-12


@pytest.mark.parametrize("solver", of_solvers((Dopri8, HalfSolver)))
@pytest.mark.parametrize("coupling", [0.99, pytest.param(0.7, marks=pytest.mark.slow)])
def test_dense_output_meets_the_steps(solver: Any, coupling: float) -> None:
    """At both ends, although the solver's own step starts from the companion."""
    saveat, adjoint = SaveAt(t0=True, steps=True, dense=True), ReversibleAdjoint(coupling)
    solution = diffeqsolve(ODETerm(pendulum), solver, 0.0, 2.0, 0.3, np.asarray([1.0, 0.5]), ARGS, saveat=saveat,
                           adjoint=adjoint, max_steps=8)  # fmt: skip
    assert solution.ys is not None
    times = accepted_times(solution)
    for left in (True, False):
        values = jax.vmap(lambda t, left=left: solution.evaluate(t, left=left))(times)
        np.testing.assert_allclose(values, solution.ys[: times.size], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- derivatives

EVERYTHING = (np.asarray([1.0, 0.5]), ARGS, np.asarray(0.1), np.asarray(1.9), np.asarray([0.1, 0.33, 0.8, 1.7]))
"""State, arguments, both ends and the saved times, of which the first is the start."""


def saved(x: Any, solver: Any, adjoint: Any = REVERSIBLE, **options: Any) -> rungax.Solution:
    y0, args, t0, t1, ts = x
    ts = jnp.concatenate([t0[None], ts[1:]])
    call: dict[str, Any] = {
        "dt0": 0.13,
        "max_steps": 64,
        "saveat": SaveAt(t0=True, ts=ts, t1=True, dense=True),
        **options,
    }
    terms = terms_for(solver, pendulum)
    return diffeqsolve(terms, solver, t0, t1, y0=y0, args=args, adjoint=adjoint, **call)


def loss_of_all(x: Any, solver: Any, **options: Any) -> jax.Array:
    solution = saved(x, solver, **options)
    return weigh((solution.ys, solution.evaluate(0.47), solution.derivative(1.21)))


@pytest.mark.parametrize("solver", of_solvers((Bosh3,)))
def test_derivatives_by_everything_are_those_of_the_values(solver: Any) -> None:
    """On constant steps, the last of which is shorter."""
    assert_derivative(lambda x: loss_of_all(x, solver), EVERYTHING, rtol=1e-7, h=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Bosh3(), Tsit5()], ids=name)
def test_derivatives_on_adaptive_steps_are_those_on_the_same_grid(solver: Any) -> None:
    """The grid moves with both ends of the interval, as that of the default adjoint does."""
    adaptive: dict[str, Any] = {"dt0": None, "stepsize_controller": PIDController(rtol=1e-4, atol=1e-6)}
    steps = saved(EVERYTHING, solver, **{**adaptive, "saveat": SaveAt(t0=True, steps=True)})
    grid = accepted_times(steps)
    assert grid.size > 4

    def on_grid(x: Any) -> jax.Array:
        return loss_of_all(x, solver, dt0=None, stepsize_controller=StepTo(stretched(grid, x[2], x[3])))

    assert_derivative(lambda x: loss_of_all(x, solver, **adaptive), EVERYTHING, reference=on_grid, rtol=1e-7, h=3e-4)


@pytest.mark.parametrize("t1", [-1.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_the_start_of_an_autonomous_equation_moves_its_end(t1: float) -> None:
    """By as much as the end does, in the other direction; forwards and backwards in time."""

    def end(t0: Any, t1: Any, adjoint: Any) -> jax.Array:
        controller = PIDController(rtol=1e-9, atol=1e-9)
        solution = diffeqsolve(lambda t, y, args: jnp.cos(y), Tsit5(), t0, t1, None, 0.3, adjoint=adjoint,
                               stepsize_controller=controller)  # fmt: skip
        assert solution.ys is not None
        return solution.ys[0]

    by_t0, by_t1 = jax.jit(jax.grad(lambda t0, t1: end(t0, t1, REVERSIBLE), (0, 1)))(0.4, t1)
    slope = np.cos(end(0.4, t1, DEFAULT))
    np.testing.assert_allclose((by_t0, by_t1), (-slope, slope), rtol=1e-6)


def test_the_time_of_an_event_has_the_derivative_of_the_value() -> None:
    """y' = -rate y from 1 falls to 1/2 at log(2) / rate."""

    def time(rate: Any) -> jax.Array:
        event = Event(lambda t, y, args, **kwargs: y - 0.5, optx.Newton(1e-10, 1e-10))
        solution = diffeqsolve(lambda t, y, rate: -rate * y, Dopri8(), 0.0, 5.0, 0.1, 1.0, rate, event=event,
                               adjoint=REVERSIBLE)  # fmt: skip
        assert solution.ts is not None
        return solution.ts[-1]

    value, slope = jax.jit(jax.value_and_grad(time))(2.0)
    np.testing.assert_allclose((value, slope), (np.log(2) / 2, -np.log(2) / 4), rtol=1e-7)


# ----------------------------------------------------------------------------------------------------- continued solves


def decay(t: Any, y: Any, rate: Any) -> Any:
    return jax.tree.map(lambda y: -rate * y, y)


PAIR = (ODETerm(lambda t, w, rate: -rate * w), ODETerm(lambda t, v, rate: v))
CONTINUED = [
    pytest.param(solver, id=name(solver), marks=slow_unless(type(solver) is Bosh3))
    for solver in (Heun(), Bosh3(), Tsit5(), HalfSolver(Bosh3()), VelocityVerlet(), KahanLi8())
]


@pytest.mark.parametrize(
    "adjoints",
    [
        pytest.param((REVERSIBLE, DEFAULT), id="then the default"),
        pytest.param((REVERSIBLE, REVERSIBLE), id="then again", marks=pytest.mark.slow),
        pytest.param((DEFAULT, REVERSIBLE), id="after the default", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("solver", CONTINUED)
def test_another_solve_goes_on_from_the_state(solver: Any, adjoints: tuple[Any, Any]) -> None:
    """The state of the solver that is handed on is the one that belongs to the state of the equation."""
    is_pair = isinstance(solver, VelocityVerlet | KahanLi8)
    terms, start = (PAIR, (np.asarray(1.0), np.asarray(0.3))) if is_pair else (ODETerm(decay), np.asarray(1.0))

    def second(rate: Any, first_by: Any, second_by: Any, with_state: bool) -> jax.Array:
        saveat = SaveAt(t1=True, solver_state=True)
        first = diffeqsolve(terms, solver, 0.0, 1.0, 0.25, start, rate, saveat=saveat, adjoint=first_by)
        y0 = jax.tree.map(lambda y: y[-1], first.ys)
        state = first.solver_state if with_state else None
        return weigh(diffeqsolve(terms, solver, 1.0, 2.0, 0.25, y0, rate, solver_state=state, adjoint=second_by).ys)

    found, expected = (
        jax.jit(jax.value_and_grad(lambda rate, with_state=with_state: second(rate, *adjoints, with_state)))(0.9)
        for with_state in (True, False)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# -------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("solver", [*STIFF, Auto(), HalfSolver(rungax.ImplicitEuler())], ids=name)
def test_methods_for_stiff_equations_are_refused(solver: Any) -> None:
    """With Kvaerno5, y' = -10 (y - cos t) would come to -221 at t = 2 instead of -0.3."""
    kind = r"(makes every step backwards|depends on nothing but the state)"
    with pytest.raises(ValueError, match=rf"`ReversibleAdjoint`.*{kind}(.*\n)+Found:    {name(solver)}"):
        diffeqsolve(terms_for(solver, decay), solver, 0.0, 1.0, 0.1, 1.0, 2.0, adjoint=REVERSIBLE)


TREE = VirtualBrownianTree(0.0, 1.0, 1e-3, (), jax.random.key(5))
AREAS = VirtualBrownianTree(0.0, 1.0, 1e-3, (), jax.random.key(5), levy_area=rungax.SpaceTimeLevyArea)
ANEW = UnsafeBrownianPath((), jax.random.key(5))


def noisy(rate: Any, solver: Any, path: Any, adjoint: Any) -> jax.Array:
    drift, diffusion = ODETerm(lambda t, y, rate: -rate * y), ControlTerm(lambda t, y, rate: 0.5 * y, path)
    solution = diffeqsolve(MultiTerm(drift, diffusion), solver, 0.0, 1.0, 1 / 64, 1.0, rate, adjoint=adjoint)
    assert solution.ys is not None
    return solution.ys[0]


@pytest.mark.parametrize(
    ("solver", "path", "expected"),
    [
        (Euler(), TREE, "Stratonovich"),
        (ItoMilstein(), TREE, "Stratonovich"),
        (Heun(), ANEW, "increments add up"),
    ],
    ids=["Euler", "ItoMilstein", "UnsafeBrownianPath"],
)
def test_noise_whose_steps_cannot_be_made_backwards_is_refused(solver: Any, path: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"`ReversibleAdjoint`.*\nExpected: .*{expected}.*\nFound:    {name(solver)}"):
        noisy(0.5, solver, path, REVERSIBLE)


@pytest.mark.parametrize(
    ("solver", "path", "tolerance"),
    [
        pytest.param(Heun(), TREE, 1e-2, id="Heun"),
        pytest.param(SPaRK(), AREAS, 2e-3, id="SPaRK", marks=pytest.mark.slow),
        pytest.param(SlowRK(), AREAS, 2e-3, id="SlowRK", marks=pytest.mark.slow),
    ],
)
def test_stratonovich_noise_is_right(solver: Any, path: Any, tolerance: float) -> None:
    """The solution is exp(0.5 B - rate t); Lévy areas are those of the path in the other direction on the way back."""
    value, slope = jax.jit(jax.value_and_grad(lambda rate: noisy(rate, solver, path, REVERSIBLE)))(0.5)
    exact = np.exp(0.5 * np.asarray(path.evaluate(0.0, 1.0)) - 0.5)
    np.testing.assert_allclose((value, slope), (exact, -exact), rtol=tolerance)
