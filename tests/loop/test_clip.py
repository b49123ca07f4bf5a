"""`ClipStepSizeController` ends steps on its times, passes jumps, and retries the ends of rejected steps."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ClipStepSizeController, ODETerm, PIDController, SaveAt, Tsit5, diffeqsolve

from ..catalogue import STOCHASTIC, slow_unless
from ..fakes import FAKE_TERM, CountedField, FakeSolver, Script, fake_y0, scripted
from .measure import DECAY, ONE, PID, STEPS, counts, finite

KEEP, REJECT = True, False
LOOSE = PIDController(rtol=1e3, atol=1e3)


def before(t: float) -> float:
    return float(np.nextafter(t, -np.inf))


def after(t: float) -> float:
    return float(np.nextafter(t, np.inf))


def solve(controller: Any, t0: float = 0.0, t1: float = 1.0, dt0: float | None = 0.25, **kwargs: Any) -> Any:
    options = {"saveat": STEPS, "max_steps": 64, **kwargs}
    return diffeqsolve(DECAY, Tsit5(), t0, t1, dt0, ONE, stepsize_controller=controller, **options)


# Scripts: the times of every attempt.


def attempts(
    controller: ClipStepSizeController, t0: float = 0.0, t1: float = 1.0, max_steps: int = 8
) -> tuple[list[tuple[float, ...]], Any]:
    """(t0, t1, made_jump) of every attempt, and how the solve ended."""
    saveat = SaveAt(t1=True, controller_state=True)
    solution = diffeqsolve(
        FAKE_TERM, FakeSolver(), t0, t1, None, fake_y0(), stepsize_controller=controller, saveat=saveat, throw=False,
        max_steps=max_steps,
    )  # fmt: skip
    state = solution.controller_state.controller_state.inner_state
    return [tuple(float(x) for x in row[:3]) for row in state.log[: int(state.attempt)]], solution.result


def test_steps_end_on_step_ts_in_whatever_order_they_are_given() -> None:
    script = scripted(0.5, *[Script(KEEP, 2.0)] * 4)
    steps, result = attempts(ClipStepSizeController(script, step_ts=[0.75, 0.125, 0.5]))
    assert steps == [(0, 0.125, 0), (0.125, 0.5, 0), (0.5, 0.75, 0), (0.75, 1, 0)]
    assert result == RESULTS.successful


def test_a_step_that_ends_short_of_a_stop_is_left_alone() -> None:
    script = scripted(0.25, Script(KEEP, 0.5), *[Script(KEEP, 2.0)] * 2)
    steps, _ = attempts(ClipStepSizeController(script, step_ts=[0.75, 5.0, -5.0]))
    assert steps == [(0, 0.25, 0), (0.25, 0.5, 0), (0.5, 0.75, 0), (0.75, 1, 0)]


def test_a_step_within_rounding_of_a_stop_ends_on_it() -> None:
    script = scripted(0.25, Script(KEEP, before(before(0.75))), *[Script(KEEP, 2.0)] * 2)
    steps, _ = attempts(ClipStepSizeController(script, step_ts=[0.75, 5.0, -5.0]))
    assert steps == [(0, 0.25, 0), (0.25, 0.75, 0), (0.75, 1, 0)]


def test_a_rejected_step_to_a_stop_tries_again_and_stops_there_later() -> None:
    script = scripted(0.5, Script(REJECT, 0.25), *[Script(KEEP, 2.0)] * 3)
    steps, _ = attempts(ClipStepSizeController(script, step_ts=[0.5, 0.5, 7.0]))
    assert steps == [(0, 0.5, 0), (0, 0.25, 0), (0.25, 0.5, 0), (0.5, 1, 0)]


def test_a_jump_is_passed_from_the_number_before_to_the_number_after_it() -> None:
    kept = [Script(KEEP, 2.0)] * 2
    script = scripted(2.0, Script(REJECT, 0.25), Script(KEEP, 2.0), Script(KEEP, 0.75), Script(REJECT, 0.625), *kept)
    steps, result = attempts(ClipStepSizeController(script, step_ts=[0.5], jump_ts=[0.5, -1.0, 3.0]))
    length = 0.75 - before(0.5)
    assert steps == [
        (0, before(0.5), 0),
        (0, 0.25, 0),
        (0.25, before(0.5), 0),
        (after(0.5), after(0.5) + length, 1),
        (after(0.5), 0.625, 1),
        (0.625, 1, 0),
    ]
    assert result == RESULTS.successful


def test_backwards_a_jump_is_passed_the_other_way_round() -> None:
    script = scripted(0.0, Script(KEEP, 0.0), Script(KEEP, 2.0), Script(KEEP, 2.0))
    controller = ClipStepSizeController(script, step_ts=[7.0], jump_ts=np.asarray([0.5, 7.0, 3.0]))
    steps, result = attempts(controller, 1.0, 0.0)
    assert steps == [(-1, before(-0.5), 0), (after(-0.5), 0, 1)]
    assert result == RESULTS.successful


def test_jumps_next_to_each_other_at_the_start_or_at_zero_hang_nothing() -> None:
    jumps = np.asarray([-1.0, after(-1.0), before(0.0), 0.0, after(0.0), 0.5, after(0.5), after(after(0.5)), 0.5])
    solution = solve(ClipStepSizeController(LOOSE, jump_ts=jumps), -1.0)
    assert solution.result == RESULTS.successful
    assert 0.5 not in finite(solution.ts)
    assert 0.0 not in finite(solution.ts)
    assert finite(solution.ts)[-1] == 1.0


def test_a_jump_at_the_end_ends_the_solve_there_and_is_handed_out() -> None:
    controller = ClipStepSizeController(PID, jump_ts=[1.0])
    solution = solve(controller, saveat=SaveAt(t1=True, made_jump=True))
    assert float(solution.ts[0]) == 1.0
    assert solution.made_jump
    assert not solve(controller, t1=0.5, saveat=SaveAt(t1=True, made_jump=True)).made_jump


def test_every_rejected_end_is_retried() -> None:
    script = scripted(
        1.0, Script(REJECT, 0.5), Script(REJECT, 0.25), Script(KEEP, 2.0), Script(REJECT, 0.375), Script(KEEP, 2.0),
        Script(KEEP, 2.0), Script(KEEP, 2.0),
    )  # fmt: skip
    steps, result = attempts(ClipStepSizeController(script, store_rejected_steps=4))
    assert [(a, b) for a, b, _ in steps] == [
        (0, 1), (0, 0.5), (0, 0.25), (0.25, 0.5), (0.25, 0.375), (0.375, 0.5), (0.5, 1),
    ]  # fmt: skip
    assert result == RESULTS.successful


def test_as_many_rejections_in_a_row_as_there_is_room_for() -> None:
    lines = [Script(REJECT, 0.5), Script(REJECT, 0.25), Script(REJECT, 0.125), Script(KEEP, 2.0)]
    _, result = attempts(ClipStepSizeController(scripted(1.0, *lines), store_rejected_steps=2))
    assert result == RESULTS.max_steps_rejected
    _, result = attempts(ClipStepSizeController(scripted(1.0, *lines), store_rejected_steps=3), max_steps=4)
    assert result == RESULTS.max_steps_reached
    # Rejected again where it was rejected before: nothing new to store.
    lines = [Script(REJECT, 0.5), Script(KEEP, 2.0), Script(REJECT, 0.75), Script(KEEP, 2.0), Script(KEEP, 2.0)]
    steps, result = attempts(ClipStepSizeController(scripted(1.0, *lines), store_rejected_steps=2))
    assert [(a, b) for a, b, _ in steps] == [(0, 1), (0, 0.5), (0.5, 1), (0.5, 0.75), (0.75, 1)]
    assert result == RESULTS.successful


def test_nested_controllers_stop_at_the_times_of_both() -> None:
    script = scripted(2.0, *[Script(KEEP, 2.0)] * 6)
    inner = ClipStepSizeController(script, jump_ts=np.asarray([0.5]), step_ts=[0.75])
    outer = ClipStepSizeController(inner, step_ts=[0.25, 0.4375], store_rejected_steps=3)
    assert (outer.rtol, outer.atol, outer.norm) == (script.rtol, script.atol, script.norm)
    saveat = SaveAt(steps=True, controller_state=True)
    solution = diffeqsolve(
        FAKE_TERM, FakeSolver(), 0.0, 1.0, None, fake_y0(), stepsize_controller=outer, saveat=saveat, max_steps=8
    )
    log = solution.controller_state.controller_state.inner_state.inner_state.log[:5]
    assert [(float(a), float(b)) for a, b in log[:, :2]] == [
        (0, 0.25), (0.25, 0.4375), (0.4375, before(0.5)), (after(0.5), 0.75), (0.75, 1),
    ]  # fmt: skip
    assert log[:, 2].tolist() == [0, 0, 0, 1, 0]


# Equations.


def _switched(t: Any, y: Any, args: Any) -> Any:
    """0 before the first of two times, 1 between them, -2 from the second on."""
    return jnp.where(t < args[0], 0.0, jnp.where(t < args[1], 1.0, -2.0)) + 0 * y


SWITCHED = ODETerm(_switched)
TIMES = jnp.asarray([0.3, 0.7])
Y1 = 0.4 - 2 * 0.3


def _integrate(times: jax.Array, jump_ts: Any, t0: float, t1: float, y0: Any) -> rungax.Solution:
    controller = ClipStepSizeController(PID, jump_ts=jump_ts)
    dt0 = 0.25 if t1 > t0 else -0.25
    saveat = SaveAt(t1=True, dense=True)
    return diffeqsolve(
        SWITCHED, Tsit5(), t0, t1, dt0, y0, times, stepsize_controller=controller, saveat=saveat, max_steps=16
    )


@jax.jit
def _dense(solution: rungax.Solution, ts: list[float]) -> jax.Array:
    return jax.vmap(solution.evaluate)(jnp.stack(ts))


def test_a_step_function_is_integrated_exactly() -> None:
    solution = _integrate(TIMES, TIMES[::-1], 0.0, 1.0, jnp.asarray(0.0))
    np.testing.assert_allclose(solution.ys[0], Y1, rtol=1e-14)
    assert counts(solution)[2] == 0
    np.testing.assert_allclose(_dense(solution, [0.0, 0.2, 0.3, 0.5, 0.7, 1.0]), [0, 0, 0, 0.2, 0.4, Y1], atol=1e-15)


def test_a_step_function_is_integrated_exactly_backwards() -> None:
    solution = _integrate(TIMES, TIMES, 1.0, 0.0, jnp.asarray(Y1))
    np.testing.assert_allclose(solution.ys[0], 0.0, atol=1e-15)
    assert counts(solution)[2] == 0
    np.testing.assert_allclose(_dense(solution, [0.7] * 6), 0.4, rtol=1e-14)


def test_jump_times_may_be_traced_and_differ_between_batch_elements() -> None:
    def end(times: jax.Array) -> jax.Array:
        solution = _integrate(times, times, 0.0, 1.0, jnp.asarray(0.0))
        return jnp.stack([solution.ys[0], solution.num_steps.astype(float)])

    times = jnp.asarray([[0.3, 0.7], [0.1, 0.2], [0.5, 2.0], [-1.0, 0.5]])
    together = jax.jit(jax.vmap(end))(times)
    np.testing.assert_allclose(together[:, 0], [Y1, 0.1 - 1.6, 0.5, 0.5 - 1.0], rtol=1e-14)
    np.testing.assert_allclose(together, np.stack([end(t) for t in times]), rtol=1e-14)


def test_without_the_jump_it_takes_many_more_steps() -> None:
    clipped = _integrate(TIMES, TIMES, 0.0, 1.0, jnp.asarray(0.0))
    unclipped = diffeqsolve(SWITCHED, Tsit5(), 0.0, 1.0, 0.25, jnp.asarray(0.0), TIMES, stepsize_controller=PID)
    assert int(unclipped.stats["num_steps"]) > 5 * int(clipped.stats["num_steps"])


def test_saved_times_at_and_around_a_jump() -> None:
    ts = jnp.asarray([0.0, 0.3, 0.5, 0.7, 1.0])
    controller = ClipStepSizeController(PID, jump_ts=TIMES, step_ts=[0.5])
    solution = diffeqsolve(
        SWITCHED, Tsit5(), 0.0, 1.0, 0.25, jnp.asarray(0.0), TIMES, stepsize_controller=controller, saveat=SaveAt(ts=ts)
    )
    np.testing.assert_array_equal(solution.ts, ts)
    np.testing.assert_allclose(solution.ys, [0, 0, 0.2, 0.4, Y1], atol=1e-15)


def test_a_jump_discards_the_solvers_evaluations_of_the_field() -> None:
    field = CountedField(lambda t, y, args: jnp.where(t < 0.5, 0.0, 1.0) + 0 * y)
    for controller, calls in [
        (ClipStepSizeController(LOOSE, step_ts=[0.25, 0.5]), 1 + 3 * 6),
        (ClipStepSizeController(LOOSE, jump_ts=[0.25, 0.5]), 1 + 3 * 6 + 2),
    ]:
        start = field.num_calls
        solution = diffeqsolve(ODETerm(field), Tsit5(), 0.0, 1.0, 1.0, jnp.asarray(0.0), stepsize_controller=controller)
        assert int(solution.stats["num_steps"]) == 3
        assert field.num_calls - start == calls


def test_stops_of_an_adaptive_solve_are_among_its_steps() -> None:
    stops = [0.9, 0.1, 1 / 3, 1 / 3, 0.5, 17.0]
    solution = solve(ClipStepSizeController(PID, step_ts=stops))
    assert {0.9, 0.1, 1 / 3, 0.5, 1.0} <= set(finite(solution.ts))
    np.testing.assert_allclose(solution.ys[int(solution.num_accepted_steps) - 1], np.exp(-1.0), rtol=1e-6)
    integers = solve(ClipStepSizeController(PID, step_ts=[1, 2]), 0.0, 3.0)
    assert {1.0, 2.0, 3.0} <= set(finite(integers.ts))


def test_no_times_at_all_change_nothing() -> None:
    plain = solve(PID)
    clipped = solve(ClipStepSizeController(PID, step_ts=[], jump_ts=[]))
    np.testing.assert_array_equal(plain.ts, clipped.ts)
    np.testing.assert_array_equal(plain.ys, clipped.ys)
    assert not ClipStepSizeController(PID, step_ts=[0.5]).can_jump
    assert ClipStepSizeController(ClipStepSizeController(PID, jump_ts=[0.5])).can_jump


def test_a_first_step_chosen_by_the_controller_is_clipped_too() -> None:
    solution = solve(ClipStepSizeController(PID, step_ts=[1e-8]), dt0=None)
    assert finite(solution.ts)[0] == 1e-8


def test_rejected_ends_of_an_adaptive_solve_are_among_its_steps() -> None:
    plain = solve(PID, dt0=1.0)
    stored = solve(ClipStepSizeController(PID, store_rejected_steps=8), dt0=1.0)
    assert counts(plain)[2] > 0
    np.testing.assert_allclose(stored.ys[int(stored.num_accepted_steps) - 1], np.exp(-1.0), rtol=1e-6)
    few = solve(ClipStepSizeController(PIDController(1e-12, 1e-12), store_rejected_steps=1), dt0=1.0, throw=False)
    assert few.result == RESULTS.max_steps_rejected


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"step_ts": 0.5}, ("step_ts", "one-dimensional", "shape ()")),
        ({"jump_ts": np.ones((2, 2))}, ("jump_ts", "one-dimensional", "(2, 2)")),
        ({"jump_ts": [1, 2]}, ("jump_ts", "float", "int64")),
        ({"jump_ts": [1j]}, ("jump_ts", "float", "complex128")),
        ({"step_ts": [True]}, ("step_ts", "float", "bool")),
        ({"step_ts": [0.5, np.nan]}, ("step_ts", "numbers", "nan")),
        ({"store_rejected_steps": 0}, ("store_rejected_steps", "positive", "0")),
        ({"store_rejected_steps": -3}, ("store_rejected_steps", "positive", "-3")),
        ({"store_rejected_steps": True}, ("store_rejected_steps", "positive", "True")),
        ({"controller": rungax.ConstantStepSize()}, ("adaptive", "ConstantStepSize")),
        ({"controller": rungax.StepTo([0.0, 1.0])}, ("adaptive", "StepTo")),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="`") as error:
        ClipStepSizeController(**{"controller": PID, **arguments})
    for word in words:
        assert word in str(error.value)


def test_traced_times_that_are_not_numbers_are_invalid_input() -> None:
    def end(ts: jax.Array) -> tuple[Any, jax.Array]:
        solution = solve(ClipStepSizeController(PID, step_ts=ts), throw=False)
        return solution.result, solution.ys

    result, ys = jax.jit(end)(jnp.asarray([0.5, jnp.nan]))
    assert result == RESULTS.invalid_input
    assert jnp.isnan(ys).all()


def test_times_known_as_jax_arrays_are_fine_inside_a_compiled_function() -> None:
    times = jnp.array([0.25, 0.75])
    found = jax.jit(lambda t: ClipStepSizeController(PIDController(rtol=t, atol=t), step_ts=times).step_ts)(1e-3)
    np.testing.assert_array_equal(found, times)


# The older spelling.


def test_times_given_to_the_error_control_clip_it() -> None:
    old = PIDController(rtol=1e-6, atol=1e-6, pcoeff=0.1, step_ts=[0.5], jump_ts=[0.75])
    inner = PIDController(rtol=1e-6, atol=1e-6, pcoeff=0.1)
    assert isinstance(old, ClipStepSizeController)
    assert eqx.tree_equal(old, ClipStepSizeController(inner, step_ts=[0.5], jump_ts=[0.75]))
    assert isinstance(inner, PIDController)
    assert {0.5, before(0.75), 1.0} <= set(finite(solve(old).ts))


def test_times_do_not_replace_tolerances() -> None:
    with pytest.raises(TypeError, match="'rtol' and 'atol'"):
        PIDController(step_ts=[0.5])


STAGES = [
    pytest.param(solver, num_terms, id=f"{type(solver).__name__}-{form}", marks=slow_unless(often))
    for solver, num_terms, form, often in (
        (rungax.Heun(), 1, "unrolled", True),
        (rungax.Heun(), 40, "scanned", True),
        (rungax.Kvaerno3(), 1, "unrolled", True),
        (rungax.Kvaerno3(), 40, "scanned", False),
        (rungax.Rodas4(), 1, "unrolled", False),
        (rungax.Rodas4(), 40, "scanned", True),
        (rungax.SRIW1(), 1, "diagonal noise", True),
        (rungax.DRI1(), 1, "any noise", True),
        (rungax.GeneralShARK(), 1, "Stratonovich", False),
    )
]


@pytest.mark.parametrize(("solver", "num_terms"), STAGES)
def test_no_stage_of_a_step_that_ends_before_a_jump_sees_what_is_after_it(solver: Any, num_terms: int) -> None:
    """For any start: `t0 + (t1 - t0)` may be a rounding after `t1`."""

    def field(t: Any, y: Any, args: Any) -> Any:
        after = jnp.where(t < 1.0, 0.0, 1e6) + 0 * y
        return sum((jnp.sin(i * after) for i in range(1, num_terms)), start=after)

    last, terms = np.nextafter(1.0, 0.0), ODETerm(field)
    if solver in STOCHASTIC:
        path = rungax.VirtualBrownianTree(0.0, 1.0, 2.0**-8, (), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea)
        terms = rungax.MultiTerm(terms, rungax.ControlTerm(field, path))

    @jax.jit
    @jax.vmap
    def end(t0: Any) -> Any:
        return diffeqsolve(terms, solver, t0, last, last - t0, jnp.asarray(0.0), max_steps=2, throw=False).ys

    starts = np.random.default_rng(0).uniform(0.0, 0.5, 64)
    assert np.any(starts + (last - starts) > last)
    np.testing.assert_array_equal(end(starts), 0.0)
