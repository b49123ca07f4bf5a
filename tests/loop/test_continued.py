"""A solve that goes on from the state an earlier one handed out equals one solve, as does stepping by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ClipStepSizeController, Heun, ODETerm, PIDController, SaveAt, Solution, Tsit5, diffeqsolve

from ..fakes import CountedField
from ..steps import make_step
from .measure import DECAY, ONE, counts

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
def test_fixed_steps_in_two_parts_are_the_same_steps(t1: float) -> None:
    dt0 = t1 / 16
    fixed = rungax.ConstantStepSize()
    whole = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, t1, dt0, START, saveat=STATES)
    first = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, t1 / 2, dt0, START, saveat=STATES)
    second = resume(OSCILLATOR, first, t1, dt0, fixed)
    np.testing.assert_allclose(second.ys, whole.ys, rtol=1e-14)
    assert counts(first)[0] + counts(second)[0] == counts(whole)[0]


def test_adaptive_steps_in_two_parts_with_all_states_are_the_same_steps() -> None:
    steps = SaveAt(t0=True, steps=True)
    whole = diffeqsolve(OSCILLATOR, Tsit5(), 0.0, 1.0, 0.01, START, stepsize_controller=PI, saveat=steps, max_steps=64)
    n, k = int(whole.num_accepted_steps), 5
    assert counts(whole)[2] == 0, "else the parts are attempted differently"
    middle, following = float(whole.ts[k]), float(whole.ts[k + 1])
    first = diffeqsolve(
        OSCILLATOR, Tsit5(), 0.0, middle, 0.01, START, stepsize_controller=PI, saveat=STATES, max_steps=64
    )
    second = resume(OSCILLATOR, first, 1.0, following - middle, PI, saveat=steps, max_steps=64)
    assert counts(first)[0] == k
    np.testing.assert_allclose(second.ts[: n - k + 1], whole.ts[k : n + 1], rtol=1e-6)
    np.testing.assert_allclose(second.ys[n - k], whole.ys[n], rtol=1e-9)


def test_a_stored_evaluation_of_the_field_spares_one_and_a_jump_discards_it() -> None:
    field = CountedField(lambda t, y, args: -y)
    term = ODETerm(field)
    solve = lambda **kwargs: diffeqsolve(term, Tsit5(), 0.0, 1.0, 1.0, ONE, saveat=STATES, **kwargs)
    first, before = solve(), field.num_calls
    assert before == 1 + 6
    for made_jump, calls in [(None, 6), (False, 6), (jnp.asarray(False), 6), (True, 7), (jnp.asarray(True), 7)]:
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
    np.testing.assert_allclose(one_step(True), 0.5, rtol=1e-14)
    assert abs(float(one_step(False)) - 0.5) > 0.01, "the test sees nothing"


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
    pending = np.asarray(first.controller_state.reject_info)
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


@pytest.mark.parametrize("solver", [Tsit5(), Heun(), rungax.Euler()])
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
