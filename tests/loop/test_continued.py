"""A solve that goes on from the state an earlier one handed out equals one solve, as does stepping by hand.

`test_chains.py` has the solves that ended by `max_steps`; here are those that ended otherwise.
"""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import ClipStepSizeController, Heun, ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

from ..fakes import CountedField
from ..steps import make_step
from .measure import DECAY, ONE, STEPS, counts, finite

STATES = SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)
PI = PIDController(rtol=1e-6, atol=1e-9, pcoeff=0.3, icoeff=0.3, dcoeff=0.1)


def _oscillator(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -y[0]]) * (1 + t)


OSCILLATOR = ODETerm(_oscillator)
START = jnp.asarray([1.0, 0.0])


def resume(term: ODETerm, earlier: Solution, t1: float, dt0: float | None, controller: Any, **kwargs: Any) -> Solution:
    return diffeqsolve(
        term,
        Tsit5(),
        earlier.ts[-1],
        t1,
        dt0,
        earlier.ys[-1],
        stepsize_controller=controller,
        solver_state=earlier.solver_state,
        controller_state=earlier.controller_state,
        made_jump=earlier.made_jump,
        **{"saveat": STATES, **kwargs},
    )


@pytest.mark.parametrize("t1", [2.0, -2.0])
def test_constant_steps_in_two_parts_are_the_same_steps(t1: float) -> None:
    """With the size as before, and with the same size given, which makes a new grid."""
    dt0 = t1 / 20
    fixed = rungax.ConstantStepSize()
    whole = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, t1, dt0, START, saveat=STEPS, max_steps=20)
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 0.3 * t1, dt0, START, saveat=STATES, max_steps=20)
    second = resume(OSCILLATOR, first, t1, None, fixed, saveat=STEPS, max_steps=14)
    assert 6 * dt0 != 0.3 * t1, "to rounding"
    np.testing.assert_array_equal(second.ts, whole.ts[6:])
    np.testing.assert_allclose(second.ys, whole.ys[6:], rtol=1e-13)
    given = resume(OSCILLATOR, first, t1, dt0, fixed, saveat=STEPS, max_steps=14)
    np.testing.assert_allclose(given.ts, whole.ts[6:], rtol=1e-14)


def test_constant_steps_go_on_from_an_end_that_is_not_on_their_grid() -> None:
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 0.75, 0.1, START, saveat=STATES)
    fixed = rungax.ConstantStepSize()
    second = resume(OSCILLATOR, first, 1.1, None, fixed, saveat=STEPS, max_steps=16)
    np.testing.assert_allclose(finite(second.ts), [0.85, 0.95, 1.05, 1.1], rtol=1e-15)
    given = resume(OSCILLATOR, first, 1.1, 0.2, fixed, saveat=STEPS, max_steps=16)
    np.testing.assert_allclose(finite(given.ts), [0.95, 1.1], rtol=1e-15)


def test_given_times_go_on_from_any_of_them_and_from_between_two() -> None:
    steps = rungax.StepTo(np.linspace(0.0, 1.0, 6))
    first = diffeqsolve(
        OSCILLATOR, Tsit5(), 0.0, 1.0, None, START, stepsize_controller=steps, saveat=STATES, max_steps=2, throw=False
    )
    options = {"stepsize_controller": steps, "saveat": STEPS, "max_steps": 8}
    go_on = lambda t0, **kwargs: diffeqsolve(OSCILLATOR, Tsit5(), t0, 1.0, None, START, **options, **kwargs)
    state = {"controller_state": first.controller_state}
    np.testing.assert_allclose(finite(go_on(first.ts[0], **state).ts), [0.6, 0.8, 1.0])
    np.testing.assert_allclose(finite(go_on(0.5, **state).ts), [0.6, 0.8, 1.0])
    with pytest.raises(ValueError, match=r"must lead from `t0` to `t1`[^F]*Expected: first 0.5"):
        go_on(0.5, throw=False)
    with pytest.raises(ValueError, match=r"must lead from `t0` to `t1`[^F]*Expected: up to -0.5"):
        go_on(-0.5, throw=False, **state)


def first_size(earlier: Solution, t1: float) -> float:
    """The length of the first attempt of the solve that goes on from `earlier`."""
    one = resume(OSCILLATOR, earlier, t1, None, PI, max_steps=1, throw=False, saveat=STEPS)
    assert counts(one) == (1, 1, 0)
    return abs(float(one.ts[0] - earlier.ts[-1]))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_solve_that_reached_its_end_goes_on_with_the_size_before_the_cut(sign: float) -> None:
    options = {"stepsize_controller": PI, "max_steps": 64}
    solve = lambda t1, **kwargs: diffeqsolve(
        OSCILLATOR, Tsit5(), 0.0, sign * t1, sign * 0.01, START, **options, **kwargs
    )
    whole = solve(1.0, saveat=STEPS)
    assert counts(whole)[2] == 0
    before, size = float(abs(whole.ts[4])), float(abs(whole.ts[5] - whole.ts[4]))
    for part in (0.01, 0.5):
        first = solve(before + part * size, saveat=STATES)
        np.testing.assert_allclose(first_size(first, sign), size, rtol=1e-10)
    # One that ends on a step as it was proposed goes on as the one solve does.
    np.testing.assert_allclose(first_size(solve(before + size, saveat=STATES), sign), abs(whole.ts[6] - whole.ts[5]))


def test_a_solve_that_ended_at_an_event_goes_on_with_the_size_before_the_search() -> None:
    options = {"stepsize_controller": PI, "max_steps": 64}
    solve = lambda **kwargs: diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 1.0, 0.01, START, **options, **kwargs)
    ts = solve(saveat=STEPS).ts
    event = rungax.Event(lambda t, y, args, **kwargs: t - ts[4] - 0.1 * (ts[5] - ts[4]), optx.Newton(1e-9, 1e-9))
    np.testing.assert_allclose(first_size(solve(saveat=STATES, event=event), 1.0), ts[5] - ts[4], rtol=1e-8)


def test_a_start_elsewhere_has_the_size_that_was_left() -> None:
    options = {"stepsize_controller": PI, "saveat": STATES}
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 1.0, 0.01, START, max_steps=3, throw=False, **options)
    left = first.controller_state
    again = eqx.tree_at(lambda s: (s.ts, s.solver_state), first, (first.ts - 0.125, None))
    np.testing.assert_allclose(first_size(again, 1.0), left.proposed_end - left.t, rtol=1e-12)


def test_a_controllers_own_state_goes_on_without_a_size() -> None:
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 1.0, 0.01, START, stepsize_controller=PI, saveat=STATES)
    own = eqx.tree_at(lambda s: s.controller_state, first, first.controller_state.controller_state)
    second, expected = (resume(OSCILLATOR, s, 2.0, 0.02, PI, saveat=STEPS, max_steps=64) for s in (own, first))
    np.testing.assert_allclose(second.ts[0] - 1.0, 0.02)
    np.testing.assert_array_equal(second.ts, expected.ts)
    with pytest.raises(ValueError, match="`dt0=None` asks for a first step"):
        resume(OSCILLATOR, own, 2.0, None, rungax.ConstantStepSize())


def test_states_of_other_times_are_refused() -> None:
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 1.0, 0.01, START, stepsize_controller=PI, saveat=STATES)
    for change in (lambda t: t.astype(np.float32), lambda t: t[None]):
        other = jax.tree.map(change, first.controller_state)
        with pytest.raises(ValueError, match=r"`controller_state` holds the next step[^F]*dtype float64[^F]*Found: "):
            resume(OSCILLATOR, eqx.tree_at(lambda s: s.controller_state, first, other), 2.0, None, PI)


def test_only_a_solve_that_hands_it_on_carries_the_proposed_end() -> None:
    def carry(**kwargs: bool) -> int:
        solve = lambda y: diffeqsolve(DECAY, Tsit5(), 0.0, 1.0, 0.5, y, stepsize_controller=PI, saveat=SaveAt(**kwargs))
        return max(values_in_loops(jax.make_jaxpr(solve)(ONE).jaxpr))

    assert carry(t1=True, controller_state=True) == carry(t1=True) + 1


def values_in_loops(jaxpr: Any) -> Iterator[int]:
    """The number of values that each loop of a program carries."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            yield len(equation.outvars)
        for param in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(param, "jaxpr", param)
            if hasattr(inner, "eqns"):
                yield from values_in_loops(inner)


def test_a_jump_lies_before_the_start_of_a_solve_that_goes_on_from_the_last_of_its_steps() -> None:
    """The last of `steps` is the time before the jump, from where the next step must not look back."""
    jump, term = 0.5, ODETerm(_steps_up)
    controller = ClipStepSizeController(PIDController(1e3, 1e3), jump_ts=[jump])
    start = np.nextafter(jump, 0.0)
    left = {"solver_state": jnp.asarray(0.0)}
    for states in ({}, {**left, "made_jump": True}):
        solution = diffeqsolve(term, Tsit5(), start, 1.0, 0.5, 0.0, stepsize_controller=controller, **states)
        np.testing.assert_allclose(solution.ys[0], 0.5, rtol=1e-14)


def test_a_stored_evaluation_of_the_field_spares_one_and_a_jump_discards_it() -> None:
    field = CountedField(lambda t, y, args: -y)
    term = ODETerm(field)
    solve = lambda **kwargs: diffeqsolve(term, Tsit5(), 0.0, 1.0, 1.0, ONE, saveat=STATES, **kwargs)
    first, before = solve(), field.num_calls
    assert before == 1 + 6
    for made_jump, calls in [(None, 6), (True, 7), (jnp.asarray(True), 7)]:
        start = field.num_calls
        again = solve(solver_state=first.solver_state, made_jump=made_jump)
        assert field.num_calls - start == calls
        assert np.isfinite(again.ys).all()


def test_a_jump_between_two_parts_gives_the_value_of_the_other_side() -> None:
    jump = 0.5
    term = ODETerm(_steps_up)
    controller = ClipStepSizeController(PI, jump_ts=[jump])
    zero = jnp.asarray(0.0)
    first = diffeqsolve(term, Tsit5(), 0.0, jump, 0.1, zero, stepsize_controller=controller, saveat=STATES)
    second = resume(term, first, 1.0, 0.1, controller)
    np.testing.assert_allclose(second.ys[0], 0.5, atol=1e-5)
    assert first.made_jump
    again = {"saveat": STATES, "solver_state": jnp.asarray(0.0), "stepsize_controller": PIDController(1e3, 1e3)}
    one_step = lambda made_jump: diffeqsolve(term, Tsit5(), jump, 1.0, 0.5, zero, made_jump=made_jump, **again).ys[0]
    np.testing.assert_allclose(one_step(jnp.asarray(True)), 0.5, rtol=1e-14)
    assert abs(float(one_step(jnp.asarray(False))) - 0.5) > 0.01, "the test sees nothing"


def _steps_up(t: Any, y: Any, args: Any) -> Any:
    return jnp.where(t < 0.5, 0.0, 1.0) + 0 * y


def test_stored_rejections_outlive_the_solve() -> None:
    controller = ClipStepSizeController(PIDController(rtol=1e-8, atol=1e-8), store_rejected_steps=16)
    solve = lambda t1, **kwargs: diffeqsolve(
        OSCILLATOR, Tsit5(), 0.0, t1, 1.0, START, stepsize_controller=controller, max_steps=256, **kwargs
    )
    whole = solve(2.0, saveat=SaveAt(t0=True, steps=True))
    first = solve(float(whole.ts[1]), saveat=STATES)
    # What was rejected on the way to the first accepted step is still to be retried, unless this solve ended there.
    pending = np.asarray(first.controller_state.controller_state.reject_info)
    pending = pending[np.isfinite(pending)]
    second = resume(OSCILLATOR, first, 2.0, 1e-3, controller, saveat=SaveAt(steps=True), max_steps=256)
    assert set(pending[pending > first.ts[0]].tolist()) <= set(np.asarray(second.ts).tolist())


def test_states_are_none_unless_asked_for() -> None:
    solution = diffeqsolve(DECAY, Tsit5(), 0.0, 1.0, 0.5, ONE, saveat=SaveAt(t1=True))
    assert solution.solver_state is None
    assert solution.controller_state is None
    assert solution.made_jump is None


def test_states_may_be_all_that_is_kept() -> None:
    saveat = SaveAt(solver_state=True, controller_state=True, made_jump=True)
    solution = diffeqsolve(DECAY, Tsit5(), 0.0, 1.0, 0.5, ONE, saveat=saveat)
    assert solution.ts is None
    assert solution.ys is None
    np.testing.assert_allclose(solution.solver_state, -np.exp(-1.0), rtol=1e-3)


@pytest.mark.parametrize("solver", [pytest.param(Tsit5(), marks=pytest.mark.slow), Heun(), rungax.Euler()])
def test_stepping_by_hand_is_the_solve_with_a_fixed_step(solver: Any) -> None:
    t, dt, y = 0.0, 0.25, START
    state = solver.init(OSCILLATOR, t, t + dt, y, None)
    for i in range(4):
        t, t_next = i * dt, (i + 1) * dt
        step = make_step(solver, OSCILLATOR, t, t_next, y, solver_state=state)
        y, state = step.y1, step.solver_state
        assert step.result == rungax.RESULTS.successful
        assert step.y_error is None or step.y_error.shape == y.shape
    solution = diffeqsolve(OSCILLATOR, solver, 0.0, 1.0, dt, START, saveat=SaveAt(t1=True, dense=True), max_steps=4)
    np.testing.assert_allclose(y, solution.ys[0], rtol=1e-14)
    interpolation = solver.interpolation_cls(t0=t, t1=t_next, **solver.densify(step))
    np.testing.assert_allclose(interpolation.evaluate(0.9), solution.evaluate(0.9), rtol=1e-13)


def test_stepping_by_hand_with_error_control_is_the_adaptive_solve() -> None:
    solver, controller = Tsit5(), PI.wrap(jnp.asarray(1.0))
    t, t1 = jnp.asarray(0.0), jnp.asarray(2.0)
    order = solver.error_order(OSCILLATOR)
    t_next, controller_state = controller.init(OSCILLATOR, t, t1, START, jnp.asarray(0.5), None, solver.func, order)
    state = solver.init(OSCILLATOR, t, t_next, START, None)

    @jax.jit
    def attempt(t: Any, t_next: Any, y: Any, state: Any, controller_state: Any) -> Any:
        y1, error, _, new_state, _ = solver.step(OSCILLATOR, t, t_next, y, None, state, False)
        keep, t, t_next, _, controller_state, _ = controller.adapt_step_size(
            t, t_next, y, y1, None, error, order, controller_state
        )
        y, state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), (y1, new_state), (y, state))
        return t, jnp.minimum(t_next, t1), y, state, controller_state

    y, attempts = START, 0
    while t < t1:
        t, t_next, y, state, controller_state = attempt(t, t_next, y, state, controller_state)
        attempts += 1
    solution = diffeqsolve(OSCILLATOR, solver, 0.0, 2.0, 0.5, START, stepsize_controller=PI)
    assert attempts == int(solution.stats["num_steps"])
    np.testing.assert_allclose(y, solution.ys[0], rtol=1e-12)
