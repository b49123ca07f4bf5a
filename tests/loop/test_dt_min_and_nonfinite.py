"""Steps that cannot be made shorter end a solve with `dt_min_reached`, values that are not finite with `nonfinite`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, Euler, Heun, ODETerm, PIDController, SaveAt, StepTo, diffeqsolve

from ..catalogue import SOLVERS, WRAPPERS, estimates_error, name, slow_unless, terms_for
from .measure import DECAY, ONE, counts


def _singular(t: Any, y: Any, args: Any) -> Any:
    """y' = y², whose solution from y(0) = 1 is infinite at t = 1."""
    return y**2


def _past_one(t: Any, y: Any, args: Any) -> Any:
    """The value `args` from t = 1 on."""
    return jnp.where(t < 1, -y, jnp.broadcast_to(args, jnp.shape(y)))


def _where_small(t: Any, y: Any, args: Any) -> Any:
    """NaN unless y > 0.1; steps that are too long end below."""
    return jnp.where(y > 0.1, -y, jnp.nan)


def _root(t: Any, y: Any, args: Any) -> Any:
    return -jnp.sqrt(y)


SINGULAR, PAST_ONE, WHERE_SMALL = ODETerm(_singular), ODETerm(_past_one), ODETerm(_where_small)


def solve(term: ODETerm, controller: Any, dt0: float | None = 0.01, t1: float = 2.0, **kwargs: Any) -> rungax.Solution:
    options = {"solver": Heun(), "saveat": SaveAt(t1=True), "args": jnp.asarray(0.0), **kwargs}
    solver, args = options.pop("solver"), options.pop("args")
    return diffeqsolve(term, solver, 0.0, t1, dt0, ONE, args, stepsize_controller=controller, throw=False, **options)


def test_dtmin_forces_acceptance_and_the_solve_goes_on() -> None:
    controller = PIDController(rtol=1e-10, atol=1e-10, dtmin=0.125)
    solution = solve(DECAY, controller, dt0=0.125, t1=1.0, saveat=SaveAt(t1=True, steps=True), max_steps=16)
    assert solution.result == RESULTS.successful
    assert counts(solution) == (8, 8, 0)
    np.testing.assert_array_equal(solution.ts[:8], 0.125 * np.arange(1, 9))


def _oscillation(t: Any, y: Any, args: Any) -> Any:
    return jnp.cos(args * t)


@pytest.mark.parametrize(
    ("t0", "t1", "dtmin"),
    [(960.0, 970.0, 0.2), (-970.0, -960.0, 0.2), (970.0, 960.0, 0.1), (1e9, 1e9 + 10, 0.3), (0.0, 10.0, 0.7)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtmin_forces_where_times_are_rounded(t0: float, t1: float, dtmin: float, dtype: str) -> None:
    """The end of a step is rounded, so that its length may be a little above `dtmin`, or below."""
    if dtype == "float32" and abs(t0) > 1e6:
        pytest.skip("the resolution of time is longer than a step")
    solution = diffeqsolve(
        ODETerm(_oscillation),
        rungax.Tsit5(),
        *jnp.asarray([t0, t1], dtype),
        None,
        jnp.zeros((), dtype),
        jnp.asarray(1e4, dtype),
        stepsize_controller=PIDController(rtol=1e-6, atol=1e-6, dtmin=dtmin),
        throw=False,
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) <= 1.2 * 10 / dtmin


def test_dtmin_without_force_ends_the_solve() -> None:
    controller = PIDController(rtol=1e-10, atol=1e-10, dtmin=0.125, force_dtmin=False)
    solution = solve(DECAY, controller, dt0=0.5, t1=1.0)
    assert solution.result == RESULTS.dt_min_reached
    assert float(solution.ts[0]) == 0.0
    assert int(solution.stats["num_accepted_steps"]) == 0


def test_dtmin_without_force_is_harmless_while_the_tolerance_is_met() -> None:
    controller = PIDController(rtol=1.0, atol=1.0, dtmin=0.125, force_dtmin=False)
    solution = solve(DECAY, controller, dt0=0.125, t1=1.0)
    assert solution.result == RESULTS.successful


def test_dtmin_and_dtmax_bound_the_first_step_and_all_others() -> None:
    saveat = SaveAt(t0=True, steps=True)
    controller = PIDController(rtol=1e3, atol=1e3, dtmin=0.125, dtmax=0.25)
    for dt0 in (1e-3, 10.0):
        solution = solve(DECAY, controller, dt0=dt0, saveat=saveat, max_steps=32)
        lengths = np.diff(np.asarray(solution.ts)[np.isfinite(solution.ts)])
        assert lengths[0] == (0.125 if dt0 < 1 else 0.25)
        assert lengths.max() == 0.25


def test_a_solve_up_to_a_singularity_ends_with_dt_min_reached() -> None:
    solution = solve(SINGULAR, PIDController(rtol=1e-3, atol=1e-6))
    # Not `max_steps_reached`: a rejected step as short as time resolves cannot be made shorter.
    assert solution.result == RESULTS.dt_min_reached
    assert 0.99 < float(solution.ts[0]) < 1.01
    assert np.isfinite(solution.ys[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_field_that_is_not_finite_after_some_time_ends_the_solve_there(bad: float) -> None:
    solution = solve(PAST_ONE, PIDController(rtol=1e-3, atol=1e-6), args=jnp.asarray(bad))
    assert solution.result == RESULTS.nonfinite
    np.testing.assert_allclose(solution.ts[0], 1.0, rtol=1e-14)
    assert float(solution.ts[0]) < 1
    np.testing.assert_allclose(solution.ys[0], np.exp(-1.0), rtol=1e-2)


def _nowhere_finite(t: Any, y: Any, args: Any) -> Any:
    """A field that is `args` at one entry of the state, and decays at the other."""
    return -y * jnp.asarray([1.0, args])


CONTROL = PIDController(rtol=1e-3, atol=1e-6)
TWO = jnp.asarray([1.0, 2.0])
ADAPTIVE = [
    pytest.param(s, id=name(s), marks=slow_unless(name(s) in ("Tsit5", "Kvaerno3", "Rodas4", "Auto", "HalfSolver")))
    for s in SOLVERS + WRAPPERS
    if estimates_error(s)
]


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_a_field_that_is_not_finite_at_the_start_ends_the_solve_at_once(solver: rungax.AbstractSolver[Any]) -> None:
    """Under `vmap` the solve takes as many attempts as the other batch elements need."""

    def one(rate: jax.Array, y0: jax.Array, dt0: float | None = None) -> tuple[Any, jax.Array, jax.Array]:
        solution = diffeqsolve(
            terms_for(solver, _nowhere_finite), solver, 0.0, 1.0, dt0, y0, rate,
            stepsize_controller=CONTROL, throw=False,
        )  # fmt: skip
        return solution.result, solution.stats["num_steps"], solution.ys[-1]

    rates = jnp.asarray([1.0, np.nan, np.inf, -np.inf, 1.0, 1.0])
    y0s = jnp.asarray([TWO] * 4 + [[1.0, np.nan], [-np.inf, 2.0]])
    results, num_steps, ys = jax.jit(jax.vmap(one))(rates, y0s)
    assert (results == RESULTS.successful).tolist() == [True] + [False] * 5
    assert (results == RESULTS.nonfinite).tolist() == [False] + [True] * 5
    assert num_steps[1:].tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(ys[0], np.exp(-1.0) * TWO, rtol=5e-2)
    np.testing.assert_array_equal(ys[1:4], [TWO] * 3)


@pytest.mark.parametrize("dt0", [None, 0.01])
@pytest.mark.parametrize("solver", [Heun(), rungax.Kvaerno3()])
def test_the_first_step_does_not_matter_if_the_field_is_not_finite(solver: Any, dt0: float | None) -> None:
    solution = solve(PAST_ONE, CONTROL, dt0=dt0, args=jnp.asarray(np.nan), t1=3.0, solver=solver)
    assert solution.result == RESULTS.nonfinite
    assert np.isfinite(solution.ys[0])
    later = diffeqsolve(
        PAST_ONE, solver, 1.0, 2.0, dt0, ONE, jnp.asarray(np.nan), stepsize_controller=CONTROL, throw=False
    )
    assert later.result == RESULTS.nonfinite
    assert int(later.stats["num_steps"]) == 1


def test_with_constant_steps_an_implicit_method_names_the_field_and_not_its_root_finder() -> None:
    solution = diffeqsolve(PAST_ONE, rungax.Kvaerno3(), 1.0, 2.0, 0.25, ONE, jnp.asarray(np.nan), throw=False)
    assert solution.result == RESULTS.nonfinite


@pytest.mark.parametrize("solver", [rungax.Kvaerno3(), pytest.param(rungax.Rodas4(), marks=pytest.mark.slow)])
def test_an_implicit_method_names_a_field_that_is_not_finite_later(solver: Any) -> None:
    solution = solve(PAST_ONE, CONTROL, args=jnp.asarray(np.nan), solver=solver)
    assert solution.result == RESULTS.nonfinite
    np.testing.assert_allclose(solution.ts[0], 1.0, rtol=1e-14)


def _norm(t: Any, y: Any, args: Any) -> Any:
    """A field whose Jacobian is not a number at zero."""
    return -y - jnp.sqrt(jnp.sum(y**2))


def _root_of_time(t: Any, y: Any, args: Any) -> Any:
    """A field whose derivative by time is infinite at zero."""
    return jnp.sqrt(t) - y


@pytest.mark.parametrize(
    ("solver", "field"),
    [
        (rungax.Rodas4(), _norm),
        (rungax.Kvaerno3(), _norm),
        (rungax.Rodas4(), _root_of_time),
        pytest.param(rungax.KenCarp4(), _norm, marks=pytest.mark.slow),
        pytest.param(rungax.HalfSolver(rungax.ImplicitEuler()), _norm, marks=pytest.mark.slow),
    ],
)
def test_a_jacobian_that_is_not_finite_is_named(solver: Any, field: Any) -> None:
    options = {"stepsize_controller": CONTROL}
    terms, y0 = terms_for(solver, field, 0.0), jnp.zeros(2)
    solution = diffeqsolve(terms, solver, 0.0, 1.0, None, y0, throw=False, **options)
    assert solution.result == RESULTS.nonfinite_jacobian
    assert int(solution.stats["num_steps"]) == 1
    with pytest.raises(RuntimeError, match="Jacobian"):
        diffeqsolve(terms, solver, 0.0, 1.0, None, y0, **options)


def test_the_jacobian_of_the_user_is_the_one_that_counts() -> None:
    given = ODETerm(_norm, jacobian=lambda t, y, args: -jnp.eye(2))
    solution = diffeqsolve(given, rungax.Kvaerno3(), 0.0, 1.0, None, jnp.zeros(2), stepsize_controller=CONTROL)
    np.testing.assert_array_equal(solution.ys[0], np.zeros(2))


@pytest.mark.parametrize("solver", [rungax.Tsit5(), rungax.Kvaerno3(), rungax.Rodas4()])
def test_a_step_into_a_domain_error_is_made_again_shorter(solver: Any) -> None:
    """y' = -√y, whose solution (1 - t/2)² a long step leaves for negative numbers."""
    solution = solve(ODETerm(_root), CONTROL, dt0=1.9, t1=1.9, solver=solver)
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) > 0
    np.testing.assert_allclose(solution.ys[0], 0.05**2, rtol=0.05)


def test_steps_to_states_where_the_field_is_not_finite_are_repeated_shorter() -> None:
    solution = solve(WHERE_SMALL, PIDController(rtol=1e-3, atol=1e-6), dt0=1.5)
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) > 0
    np.testing.assert_allclose(solution.ys[0], np.exp(-2.0), rtol=1e-2)


def test_with_dtmin_a_field_that_is_not_finite_ends_the_solve_too() -> None:
    controller = PIDController(rtol=1e-3, atol=1e-6, dtmin=1e-3)
    solution = solve(PAST_ONE, controller, args=jnp.asarray(np.nan))
    assert solution.result == RESULTS.nonfinite
    assert 1 - 2e-3 < float(solution.ts[0]) < 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_fixed_steps_go_on_after_values_that_are_not_finite(bad: float) -> None:
    saveat = SaveAt(ts=[0.25, 1.0, 1.75], t1=True)
    fixed = solve(PAST_ONE, rungax.ConstantStepSize(), dt0=0.25, args=jnp.asarray(bad), solver=Euler(), saveat=saveat)
    times = StepTo([0.0, 0.25, 1.0, 1.75, 2.0])
    listed = solve(PAST_ONE, times, dt0=None, args=jnp.asarray(bad), solver=Euler(), saveat=saveat)
    for solution, values in ((fixed, (0.75, 0.75**4)), (listed, (0.75, 0.75 * 0.25))):
        assert solution.result == RESULTS.nonfinite
        np.testing.assert_array_equal(solution.ts, [0.25, 1.0, 1.75, 2.0])
        np.testing.assert_allclose(solution.ys[:2], values, rtol=1e-15)
        assert not np.isfinite(solution.ys[2:]).any()


def test_a_state_that_was_not_finite_is_reported_even_if_it_recovers() -> None:
    class Recovers(Euler):
        """Euler's method, but for a state that starts anew when it is infinite."""

        def step(self, *args: Any, **kwargs: Any) -> Any:
            y1, *others = super().step(*args, **kwargs)
            return jnp.where(jnp.isfinite(args[3]), y1, 1.0), *others

    solution = solve(PAST_ONE, rungax.ConstantStepSize(), dt0=0.25, args=jnp.asarray(np.inf), solver=Recovers())
    assert solution.result == RESULTS.nonfinite


def test_fixed_steps_towards_infinity_stop_when_no_batch_element_is_finite() -> None:
    solution = solve(PAST_ONE, rungax.ConstantStepSize(), dt0=0.25, t1=np.inf, args=jnp.asarray(np.nan), solver=Euler())
    assert solution.result == RESULTS.nonfinite
    assert int(solution.stats["num_steps"]) == 5


def test_an_initial_state_that_is_not_finite_ends_the_solve_at_the_start() -> None:
    for bad in (jnp.nan, jnp.inf):
        solution = diffeqsolve(
            DECAY, Heun(), 0.0, 2.0, None, jnp.asarray(bad), jnp.asarray(0.0),
            stepsize_controller=PIDController(rtol=1e-3, atol=1e-6), throw=False, saveat=SaveAt(t1=True),
        )  # fmt: skip
        assert solution.result == RESULTS.nonfinite
        assert int(solution.stats["num_accepted_steps"]) == 0


def test_a_batch_element_that_fails_does_not_stop_the_others() -> None:
    def result(bad: jax.Array) -> tuple[Any, jax.Array]:
        solution = solve(PAST_ONE, PIDController(rtol=1e-3, atol=1e-6), args=bad)
        return solution.result, solution.ts[0]

    results, ts = jax.vmap(result)(jnp.asarray([0.0, np.nan]))
    assert (results == rungax.RESULTS.successful).tolist() == [True, False]
    assert (results == rungax.RESULTS.nonfinite).tolist() == [False, True]
    assert float(ts[0]) == 2.0
