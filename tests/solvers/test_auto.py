"""`Auto` uses the explicit method while the equation is not stiff and the implicit one while it is."""

from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import (
    Auto,
    ConstantStepSize,
    DirectAdjoint,
    Kvaerno5,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    Rodas5P,
    SaveAt,
    Tsit5,
    Vern7,
    diffeqsolve,
)
from rungax.solvers.wrappers.votes import VOTES_TO_SWITCH

from ..compare import assert_trees_close
from ..gradients.measure import along, difference_quotient, direction_like, weigh
from ..problems.base import Problem
from ..problems.stiff import HIRES, OREGONATOR, ROBERTSON_LONG, VAN_DER_POL
from ..steps import make_step

OTHER = Auto(nonstiff=Vern7(), stiff=Kvaerno5())
BOTH = [pytest.param(Auto(), id="Tsit5, Rodas5P"), pytest.param(OTHER, id="Vern7, Kvaerno5")]
DEFAULT_FAST = [BOTH[0], pytest.param(OTHER, id="Vern7, Kvaerno5", marks=pytest.mark.slow)]


def van_der_pol(t: Any, y: Any, args: Any) -> Any:
    """In stiff stretches between two jumps that are not; of two arguments, the second is the direction of time."""
    mu, direction = args
    x, v = y
    return jnp.stack([direction * v, direction * (mu * (1 - x * x) * v - x)])


def solve(field: Any = van_der_pol, solver: Any = None, **options: Any) -> rungax.Solution:
    settings: dict[str, Any] = {
        "t0": 0.0,
        "t1": 2000.0,
        "dt0": None,
        "y0": np.asarray([2.0, 0.0]),
        "args": (1000.0, 1.0),
        "stepsize_controller": PIDController(rtol=1e-6, atol=1e-8),
        "max_steps": 4096,
        **options,
    }
    return diffeqsolve(ODETerm(field), solver, **settings)


def saved(solver: Any = None, ts: Any = None, **options: Any) -> rungax.Solution:
    """A solve of Van der Pol's equation that saves all that a test asks for: one program for each solver.

    The values at the seven `ts`, by default spread over the interval, come before that at the end.
    """
    if ts is None:
        ts = np.linspace(options.get("t0", 0.0), options.get("t1", 2000.0), 7)
    saveat = SaveAt(ts=ts, t1=True, dense=True, solver_state=True, controller_state=True, made_jump=True)
    return solve(solver=solver, saveat=saveat, **options)


def end(solution: rungax.Solution) -> np.ndarray:
    assert solution.ys is not None
    return np.asarray(solution.ys[-1])


def methods(solution: rungax.Solution) -> np.ndarray:
    """True for each accepted step that the stiff method made, in a solve with dense output."""
    infos: Any = solution.interpolation
    return np.asarray(infos.infos["is_stiff"])[: int(solution.num_accepted_steps)]


def is_stiff(solution: rungax.Solution) -> bool:
    state: Any = solution.solver_state
    return bool(state.is_stiff)


TIMES = (0.01, 400.0, 806.9, 807.05, 1500.0, 1613.9, 1900.0)
"""In steps of either method, and in steps at a jump of the solution."""


@cache
def references() -> dict[float, np.ndarray]:
    """States of Van der Pol's oscillator at some times, from one method with much tighter tolerances."""
    times = sorted({*TIMES, 900.0, 1000.0, 2000.0})
    tight = PIDController(rtol=1e-11, atol=1e-13)
    solution = solve(solver=Rodas5P(), saveat=SaveAt(ts=np.asarray(times)), stepsize_controller=tight, max_steps=None)
    return dict(zip(times, np.asarray(solution.ys), strict=True))


def reference(*times: float) -> np.ndarray:
    return np.stack([references()[t] for t in times])


# --------------------------------------------------------------------------------------------------------- which method


def test_without_stiffness_the_solve_is_that_of_the_explicit_method() -> None:
    """The same steps, if the error estimates of both methods have the same order: step size control uses the lower."""
    not_stiff = {"args": (0.5, 1.0), "t1": 30.0}
    found, expected = saved(Auto(), **not_stiff), solve(solver=Tsit5(), max_steps=None, **not_stiff)
    assert int(found.num_steps) > 100
    assert int(found.num_steps) == int(expected.num_steps)
    assert not is_stiff(found)
    np.testing.assert_allclose(end(found), end(expected), rtol=1e-10)
    assert not methods(found).any()


@pytest.mark.parametrize("solver", BOTH)
def test_it_switches_both_ways(solver: Any) -> None:
    """Only the start and both jumps are made by the explicit method; Tsit5 alone would take two million steps."""
    solution = saved(solver)
    stiff = methods(solution)
    switches = np.flatnonzero(np.diff(stiff.astype(int)))
    assert not stiff[0]
    assert stiff[-1]
    assert switches.size == 5, "to the stiff method after the start, and at each of the two jumps back and forth"
    assert int(solution.num_steps) < 1000
    steps = np.diff(np.asarray(solution.interpolation.ts)[1 : stiff.size + 1])  # pyright: ignore[reportOptionalMemberAccess]
    assert steps[~stiff[1:]].max() < 0.1 < 10 < steps[stiff[1:]].max()
    np.testing.assert_allclose(end(solution), reference(2000.0)[0], rtol=1e-4)


def test_it_takes_a_fraction_of_the_explicit_methods_attempts() -> None:
    explicit, auto = solve(solver=Tsit5(), t1=30.0, max_steps=None), saved(Auto(), t1=30.0)
    assert int(auto.num_steps) < 0.01 * int(explicit.num_steps)
    np.testing.assert_allclose(end(auto), end(explicit), rtol=1e-5)


def test_no_solver_means_auto() -> None:
    assert_trees_close(saved(None), saved(Auto()))


def pulled(t: Any, y: Any, rates: Any) -> Any:
    """A decay with one rate until time 2, and another after."""
    early, late = rates
    return -jnp.where(t < 2, early, late) * (y - jnp.cos(t))


def in_constant_steps(solver: Any, rates: tuple[float, float], t1: float, **options: Any) -> rungax.Solution:
    """Steps of size 1/8, whose product with the rate 26.4 is 3.3, at the limit of Tsit5's stability."""
    saveat = SaveAt(t1=True, dense=True, solver_state=True, controller_state=True, made_jump=True)
    settings: dict[str, Any] = {
        "y0": np.asarray([1.0]), "dt0": 0.125, "stepsize_controller": ConstantStepSize(), "saveat": saveat,
        "max_steps": 64, **options,
    }  # fmt: skip
    return solve(pulled, solver, args=rates, t1=t1, **settings)


@pytest.mark.parametrize("rate", [26.4, 24.0])
def test_with_constant_steps_it_switches_after_the_stated_number_of_votes(rate: float) -> None:
    """The lower rate is clearly within the limit."""
    for steps in (VOTES_TO_SWITCH - 1, VOTES_TO_SWITCH, 2 * VOTES_TO_SWITCH):
        solution = in_constant_steps(Auto(), (rate, rate), steps / 8)
        assert int(solution.num_steps) == steps
        assert is_stiff(solution) == (rate == 26.4 and steps >= VOTES_TO_SWITCH)
        np.testing.assert_allclose(end(solution), np.cos(steps / 8), atol=5e-2)


STIFF_UNTIL_TWO = (26.4, 1.0)


def test_with_constant_steps_it_switches_back() -> None:
    stiff = methods(in_constant_steps(Auto(), STIFF_UNTIL_TWO, 6.0))
    # The power iteration for one unknown is exact after one step.
    assert np.flatnonzero(np.diff(stiff.astype(int))).tolist() == [VOTES_TO_SWITCH - 1, 16 + VOTES_TO_SWITCH - 2]


STANDARD = [
    pytest.param(ROBERTSON_LONG, id=ROBERTSON_LONG.name),
    # The last two jump, as the equation of the other tests does.
    *(pytest.param(problem, id=problem.name, marks=pytest.mark.slow) for problem in (HIRES, OREGONATOR, VAN_DER_POL)),
]


@pytest.mark.parametrize("problem", STANDARD)
@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_standard_problem_is_solved(solver: Any, problem: Problem) -> None:
    solution = diffeqsolve(
        problem.field, solver, problem.t0, problem.t1, None, problem.y0, problem.args,
        stepsize_controller=PIDController(rtol=1e-6, atol=1e-10), max_steps=200_000,
    )  # fmt: skip
    error = np.abs(end(solution) - problem.final) / (np.abs(problem.final) + 1e-8)
    assert error.max() <= 5e-3, error
    assert int(solution.num_steps) < 2000


# ---------------------------------------------------------------------------------------------------------------- saves


@eqx.filter_jit
def dense_output(solution: rungax.Solution, ts: Any) -> Any:
    return jax.vmap(solution.evaluate)(ts), jax.vmap(solution.derivative)(ts)


@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_saved_times_and_dense_output_across_switches(solver: Any) -> None:
    solution = saved(solver, np.asarray(TIMES), stepsize_controller=PIDController(rtol=1e-8, atol=1e-10))
    stiff, found = methods(solution), np.asarray(solution.ys)[:-1]
    assert 0 < stiff.sum() < stiff.size
    dense, slope = (np.asarray(x) for x in dense_output(solution, jnp.asarray(TIMES)))
    np.testing.assert_allclose(dense, found, rtol=1e-9)
    # A jump that is a little early or late is a large error at its time.
    error = np.abs(found - reference(*TIMES)) / (np.abs(reference(*TIMES)) + 1e-3)
    assert error.max() < 0.05
    assert error[[0, 1, 4, 6]].max() < 1e-4
    np.testing.assert_allclose(slope[:, 0], found[:, 1], rtol=2e-2, atol=1e-5)


def test_backwards_in_time() -> None:
    """The same equation in reversed time."""
    ts = np.linspace(100.0, 900.0, 7)
    forwards = saved(Auto(), ts, t1=1000.0)
    backwards = saved(Auto(), -ts, t1=-1000.0, args=(1000.0, -1.0))
    assert int(forwards.num_steps) == int(backwards.num_steps)
    np.testing.assert_allclose(np.asarray(backwards.ys), np.asarray(forwards.ys), rtol=1e-6)


@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_a_continued_solve_goes_on_with_the_method_in_use(solver: Any) -> None:
    """Votes continue too: with constant steps, wherever it is interrupted, the solve is the same up to rounding."""
    whole = in_constant_steps(solver, STIFF_UNTIL_TWO, 6.0)
    for cut in (0.5, 1.5, 2.5, 4.0):
        first = in_constant_steps(solver, STIFF_UNTIL_TWO, cut)
        rest = in_constant_steps(solver, STIFF_UNTIL_TWO, 6.0, t0=cut, **resumed(first))
        np.testing.assert_allclose(end(rest), end(whole), rtol=1e-9)
        for key in ("is_stiff", "votes"):
            assert int(getattr(rest.solver_state, key)) == int(getattr(whole.solver_state, key))


def resumed(first: rungax.Solution) -> dict[str, Any]:
    """The arguments of a solve that goes on from the end of `first`."""
    states = {key: getattr(first, key) for key in ("solver_state", "controller_state", "made_jump")}
    return {"y0": end(first), **states}


def test_a_continued_solve_with_error_control() -> None:
    first = saved(Auto(), t1=1000.0)
    assert is_stiff(first)
    rest = saved(Auto(), t0=1000.0, **resumed(first))
    assert methods(rest)[0]
    np.testing.assert_allclose(end(rest), reference(2000.0)[0], rtol=1e-4)


# --------------------------------------------------------------------------------------------------------------- states


def in_a_tree(t: Any, y: Any, args: Any) -> Any:
    slope = van_der_pol(t, jnp.stack([y["place"], y["speed"][0]]), args)
    return {"place": slope[0], "speed": (slope[1],)}


def test_a_pytree() -> None:
    tree = {"place": np.asarray(2.0), "speed": (np.asarray(0.0),)}
    found = solve(in_a_tree, Auto(), y0=tree, saveat=SaveAt(ts=np.asarray([400.0, 900.0]), dense=True))
    assert methods(found).any()
    stacked = np.stack(jax.tree.leaves(found.ys), axis=-1)
    np.testing.assert_allclose(stacked, reference(400.0, 900.0), rtol=1e-4)


def test_single_precision() -> None:
    y0 = np.asarray([2.0, 0.0], np.float32)
    times = {"t0": np.float32(0), "t1": np.float32(1000), "args": (np.float32(1000), np.float32(1))}
    control = PIDController(rtol=1e-4, atol=1e-6)
    solution = solve(solver=Auto(), y0=y0, stepsize_controller=control, saveat=SaveAt(t1=True, dense=True), **times)
    assert end(solution).dtype == np.float32
    assert 0 < methods(solution).sum() < methods(solution).size
    np.testing.assert_allclose(end(solution), reference(1000.0)[0], rtol=1e-2)


def test_a_complex_state() -> None:

    def field(t: Any, z: Any, rate: Any) -> Any:
        turn, i = jax.lax.complex(jnp.cos(t), jnp.sin(t)), jnp.asarray(1j, z.dtype)
        return -rate.astype(z.dtype) * (z - turn) + i * turn

    solution = solve(
        field, Auto(), y0=np.asarray([1.0 + 0j]), args=np.asarray(1e4), t1=3.0, saveat=SaveAt(t1=True, dense=True)
    )
    assert methods(solution).any()
    np.testing.assert_allclose(end(solution), np.exp(3j), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ batch elements

MUS = np.asarray([0.5, 1000.0, 30.0, 5.0])


@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_elements_of_a_batch_switch_on_their_own(solver: Any) -> None:
    """Stiff and other equations in one batch: each element makes the steps that it makes alone."""

    def outputs(solution: rungax.Solution) -> Any:
        state: Any = solution.solver_state
        return solution.ys, solution.num_steps, state.is_stiff

    ts = np.linspace(10.0, 35.0, 7)
    saveat = SaveAt(ts=ts, t1=True, solver_state=True)
    together = jax.vmap(lambda mu: outputs(solve(solver=solver, args=(mu, 1.0), t1=40.0, saveat=saveat)))
    ys, steps, stiff = jax.tree.map(np.asarray, jax.jit(together)(MUS))
    assert len(set(stiff.tolist())) == 2
    for i, mu in enumerate(MUS):
        expected = outputs(saved(solver, ts, args=(float(mu), 1.0), t1=40.0))
        np.testing.assert_allclose(ys[i], expected[0], rtol=1e-4)
        assert abs(int(steps[i]) - int(expected[1])) <= 0.05 * int(expected[1])
        assert stiff[i] == expected[2]


# ------------------------------------------------------------------------------------------------------------ gradients

PULSING: dict[str, Any] = {"y0": np.asarray([0.3, 1.2]), "log_k": np.log(1e3)}


def pulsing(t: Any, y: Any, log_k: Any) -> Any:
    """Stiff for a third of each period."""
    a, b = y
    speed = 1 + jnp.exp(log_k) * jax.nn.sigmoid(20 * (jnp.sin(t) - 0.5))
    return jnp.stack([-speed * (a - jnp.cos(b) - 0.3 * a * b), 0.3 * jnp.sin(a) + 0.2 * jnp.cos(t)])


def pulses(x: Any, solver: Any, rtol: float = 1e-8, **options: Any) -> rungax.Solution:
    control = PIDController(rtol=rtol, atol=1e-2 * rtol)
    settings = {"t1": 8.0, "stepsize_controller": control, "max_steps": 2048, **options}
    return solve(pulsing, solver, y0=x["y0"], args=x["log_k"], **settings)


def loss(x: Any, solver: Any, **options: Any) -> jax.Array:
    return weigh(pulses(x, solver, **options).ys)


@cache
def true_derivative() -> float:
    function = jax.jit(lambda x: loss(x, Rodas5P(), rtol=1e-11, max_steps=None))
    return float(difference_quotient(function, PULSING, direction_like(PULSING), h=1e-2))


@cache
def gradient(solver: Any) -> Any:
    return jax.jit(jax.grad(lambda x: loss(x, solver)))(PULSING)


@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_gradient_in_both_modes(solver: Any) -> None:
    direction = direction_like(PULSING)
    by_reverse = along(gradient(solver), direction)

    def loss_and_solution(x: Any) -> tuple[jax.Array, rungax.Solution]:
        solution = pulses(x, solver, saveat=SaveAt(t1=True, dense=True))
        return weigh(solution.ys), solution

    @eqx.filter_jit
    def forward(x: Any) -> tuple[jax.Array, rungax.Solution]:
        (_, solution), (slope, _) = eqx.filter_jvp(loss_and_solution, (x,), (direction,))
        return slope, solution

    by_forward, solution = forward(jax.tree.map(jnp.asarray, PULSING))
    switches = np.flatnonzero(np.diff(methods(solution).astype(int)))
    assert switches.size >= 3, "the derivatives are taken across switches"
    assert abs(by_reverse) > 1e-3, "a derivative of zero shows nothing"
    np.testing.assert_allclose(by_forward, by_reverse, rtol=1e-6)
    np.testing.assert_allclose(by_reverse, true_derivative(), rtol=1e-5)


ADJOINTS = {
    "few marks": RecursiveCheckpointAdjoint(checkpoints=4),
    "direct": DirectAdjoint(),
}


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["few marks", pytest.param("direct", marks=pytest.mark.slow)])
def test_other_adjoints_agree(adjoint: str) -> None:
    found = jax.jit(jax.grad(lambda x: loss(x, Auto(), adjoint=ADJOINTS[adjoint])))(PULSING)
    assert_trees_close(found, gradient(Auto()), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("solver", DEFAULT_FAST)
def test_gradients_in_a_batch(solver: Any) -> None:
    """Elements of different stiffness, so that some do not use one of the methods, and a tape that is halved."""

    def function(x: Any) -> jax.Array:
        saveat = SaveAt(ts=np.asarray([2.0, 5.0]), t1=True)
        return loss(x, solver, rtol=1e-6, saveat=saveat, adjoint=RecursiveCheckpointAdjoint(checkpoints=16))

    elements = {"y0": np.tile(PULSING["y0"], (3, 1)), "log_k": np.log([0.5, 1e3, 1e5])}
    one = jax.jit(jax.grad(function))
    found = jax.jit(jax.vmap(jax.grad(function)))(elements)
    for i in range(3):
        element, of_element = (jax.tree.map(lambda x, i=i: x[i], tree) for tree in (elements, found))
        assert_trees_close(of_element, one(element), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_gradient_of_dense_output_and_of_the_end() -> None:
    """Saved values are the solution at their times, and their derivatives by time are the vector field."""

    def at(times: Any) -> Any:
        solution = pulses(PULSING, Auto(), t1=times[1], saveat=SaveAt(t1=True, dense=True))
        assert solution.ys is not None
        return jnp.stack([solution.evaluate(times[0]), solution.ys[-1]])

    times = np.asarray([2.0, 8.0])
    of_times, values = jax.jit(jax.jacrev(at))(times), at(times)
    for i in range(2):
        slope = np.asarray(pulsing(times[i], values[i], PULSING["log_k"]))
        np.testing.assert_allclose(of_times[i, :, i], slope, rtol=1e-4)


@pytest.mark.slow
def test_second_derivative() -> None:
    options = {"rtol": 1e-8, "t1": 3.0, "max_steps": 512}
    direction = direction_like(PULSING)
    first = jax.jit(jax.grad(lambda x: loss(x, Auto(), **options)))
    second = jax.jit(lambda x: jax.jvp(jax.grad(lambda x: loss(x, Auto(), **options)), (x,), (direction,))[1])(PULSING)
    assert_trees_close(
        second, difference_quotient(first, PULSING, direction, h=1e-3), rtol=1e-3, atol=1e-6, dtypes=False
    )


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "nonstiff",
    [Rodas5P(), rungax.Euler(), rungax.RK4(), Tsit5, "Tsit5"],
    ids=["Rodas5P", "Euler", "RK4", "class", "str"],
)
def test_a_method_without_a_stiffness_estimate_is_refused(nonstiff: Any) -> None:
    with pytest.raises(ValueError, match=r"Auto\(nonstiff=.*\nExpected: an explicit .*\nFound: .*\nUse `Tsit5\(\)`"):
        Auto(nonstiff=nonstiff)


@pytest.mark.parametrize(
    "stiff", [rungax.KenCarp4(), rungax.Euler(), Rodas5P, "Rodas5P"], ids=["KenCarp4", "Euler", "class", "text"]
)
def test_a_method_not_for_one_term_or_without_error_estimate_is_refused(stiff: Any) -> None:
    with pytest.raises(ValueError, match=r"Auto\(stiff=.*\nExpected: .*Rodas5P.*\nFound: .*\n.*KenCarp4"):
        Auto(stiff=stiff)


def test_any_method_with_an_estimate_may_be_the_second() -> None:
    """Even an explicit one, for example a more stable one."""
    solution = solve(pulled, Auto(stiff=rungax.Bosh3()), y0=np.asarray([1.0]), args=(100.0, 100.0), t1=3.0)
    np.testing.assert_allclose(end(solution), np.cos(3.0), rtol=2e-2)


# ------------------------------------------------------------------------------------------------------------ stability

LIMITS = {
    "Heun": 2.0,
    "Midpoint": 2.0,
    "Ralston": 2.0,
    "Bosh3": 2.5127,
    "RK4": 2.7853,
    "Dopri5": 3.3066,
    "Tsit5": 3.5068,
}


@pytest.mark.parametrize("method", LIMITS)
def test_length_of_the_stability_interval(method: str) -> None:
    """Hairer and Wanner, IV.2; for Tsit5, the zero of its stability polynomial minus one."""
    assert getattr(rungax, method).tableau.real_stability == pytest.approx(LIMITS[method], abs=0.011)


@pytest.mark.parametrize("method", [rungax.Heun, rungax.Bosh3, Tsit5, rungax.Dopri8, Vern7, rungax.Vern9])
def test_at_the_end_of_the_interval_a_decay_neither_grows_nor_shrinks(method: Any) -> None:
    """The same limit from the steps of the solver."""
    limit = method.tableau.real_stability

    @jax.jit
    def after_a_step(z: Any) -> jax.Array:
        decay = ODETerm(lambda t, y, args: -z * y)
        return jnp.abs(make_step(method(), decay, jnp.asarray(0.0), jnp.asarray(1.0), jnp.asarray(1.0)).y1)

    assert after_a_step(limit - 0.02) < 1 < after_a_step(limit + 0.01)
