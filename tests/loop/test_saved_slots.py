"""`SaveAt` fills its slots in the order, number and padding that it promises, in every combination of its options."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ClipStepSizeController, Euler, Heun, PIDController, SaveAt, Solution, SubSaveAt, diffeqsolve

from .measure import DECAY, ONE, SQUARE

INF = np.inf


def solve(saveat: SaveAt, t0: float = 0.0, t1: float = 1.0, max_steps: int | None = 8, **kwargs: Any) -> Solution:
    """y = t² by Heun's method, which is exact for it, in steps of a quarter."""
    dt0 = 0.25 if t1 >= t0 else -0.25
    return diffeqsolve(SQUARE, Heun(), t0, t1, dt0, jnp.asarray(t0**2), saveat=saveat, max_steps=max_steps, **kwargs)


def check_slots(ts: Any, ys: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(ts, expected)
    # Cubic Hermite dense output: squares are exact between the steps too.
    np.testing.assert_allclose(ys, np.square(expected), rtol=1e-14, atol=1e-16)


def check(solution: Solution, expected: list[float]) -> None:
    check_slots(solution.ts, solution.ys, expected)


@jax.jit
def dense(solution: Solution, ts: Any) -> tuple[Any, Any]:
    """The values and the slopes of the dense output."""
    return jax.vmap(solution.evaluate)(ts), jax.vmap(solution.derivative)(ts)


@jax.jit
def increment(solution: Solution, t0: Any, t1: Any) -> Any:
    return solution.evaluate(t0, t1)


ORDERS: list[tuple[SaveAt, list[float]]] = [
    (SaveAt(t0=True), [0]),
    (SaveAt(t1=True), [1]),
    (SaveAt(ts=[0.0, 1.0]), [0, 1]),
    (SaveAt(steps=3, t1=True), [0.75, 1, INF]),
    (SaveAt(steps=9), []),
    (SaveAt(t0=True, t1=True), [0, 1]),
    (SaveAt(ts=[0.3, 0.4]), [0.3, 0.4]),
    (SaveAt(ts=[0.1, 0.1, 0.25, 0.25, 1.0, 1.0]), [0.1, 0.1, 0.25, 0.25, 1, 1]),
    (SaveAt(t0=True, t1=True, ts=[0.0, 0.6, 1.0]), [0, 0, 0.6, 1, 1]),
    (SaveAt(steps=True), [0.25, 0.5, 0.75, 1, INF, INF, INF, INF]),
    (SaveAt(t1=True, steps=True), [0.25, 0.5, 0.75, 1, INF, INF, INF, INF]),
    (SaveAt(t0=True, steps=True), [0, 0.25, 0.5, 0.75, 1, INF, INF, INF, INF]),
    (SaveAt(ts=[0.1, 0.5, 0.6], steps=True), [0.1, 0.25, 0.5, 0.5, 0.6, 0.75, 1, INF, INF, INF, INF]),
    (SaveAt(steps=2), [0.5, 1, INF, INF]),
    (SaveAt(steps=3), [0.75, INF]),
    (SaveAt(steps=2, t1=True), [0.5, 1, INF, INF]),
    (SaveAt(steps=4, t1=True, ts=[1.0]), [1, 1, INF]),
    (SaveAt(steps=8), [INF]),
    (SaveAt(steps=8, t1=True), [1]),
    (SaveAt(t0=True, t1=True, ts=[0.9], steps=3), [0, 0.75, 0.9, 1, INF]),
]


def test_order_and_padding() -> None:
    """All of `ORDERS` in one solve."""
    solution = solve(SaveAt(subs=[saveat.subs for saveat, _ in ORDERS]))
    for (_, expected), ts, ys in zip(ORDERS, solution.ts, solution.ys, strict=True):
        check_slots(ts, ys, expected)


@pytest.mark.parametrize(
    ("saveat", "expected"),
    [*ORDERS[:5], *(pytest.param(*order, marks=pytest.mark.slow) for order in ORDERS[5:])],
    ids=str,
)
def test_order_and_padding_alone(saveat: SaveAt, expected: list[float]) -> None:
    check(solve(saveat), expected)


@pytest.mark.parametrize(
    ("saveat", "expected"),
    [
        (SaveAt(t0=True, t1=True, ts=[0.9, 0.6, 0.6], steps=True), [1, 0.9, 0.75, 0.6, 0.6, 0.5, 0.25, 0, *[INF] * 4]),
        (SaveAt(t1=True, steps=3), [0.25, 0, INF]),
    ],
)
def test_backwards_times_descend_and_padding_is_still_positive(saveat: SaveAt, expected: list[float]) -> None:
    check(solve(saveat, 1.0, 0.0), expected)


def test_without_a_bound_on_steps_times_and_ends_are_saved() -> None:
    check(solve(SaveAt(t0=True, t1=True, ts=[0.1, 0.9]), max_steps=None), [0, 0.1, 0.9, 1])


@pytest.mark.parametrize("saveat", [SaveAt(), SaveAt(ts=[])])
def test_nothing_to_save_is_none(saveat: SaveAt) -> None:
    solution = solve(saveat)
    assert solution.ts is None
    assert solution.ys is None
    assert solution.result == RESULTS.successful


def test_dense_alone_saves_no_slots() -> None:
    solution = solve(SaveAt(dense=True))
    assert solution.ts is None
    assert solution.ys is None
    ts = np.linspace(0, 1, 13)
    np.testing.assert_allclose(dense(solution, ts)[0], ts**2, atol=1e-15)


def test_rejected_steps_are_neither_saved_nor_counted() -> None:
    controller = PIDController(rtol=1e-6, atol=1e-9)
    saveat = SaveAt(subs=(SubSaveAt(steps=True), SubSaveAt(steps=2)), dense=True)
    solution = diffeqsolve(
        DECAY, Heun(), 0.0, 1.0, 1.0, ONE, stepsize_controller=controller, saveat=saveat, max_steps=1024
    )
    n = int(solution.num_accepted_steps)
    assert int(solution.stats["num_rejected_steps"]) > 0
    every, second = solution.ts
    assert np.isfinite(every).sum() == n
    np.testing.assert_array_equal(second[: n // 2], every[1:n:2][: n // 2])
    assert np.isinf(second[n // 2 :]).all()
    np.testing.assert_allclose(solution.ys[0][:n], np.exp(-every[:n]), rtol=1e-4)
    np.testing.assert_array_equal(dense(solution, every)[0][:n], solution.ys[0][:n])


# Functions and trees.


def _both(t: Any, y: Any, args: Any) -> Any:
    return {"t": t, "big": y > 0.25, "count": jnp.floor(4 * y).astype(jnp.int32), "twice": (2 * y, args)}


def test_a_function_sees_true_time_the_state_and_the_arguments() -> None:
    for t0, t1, times in [(0.0, 1.0, [0.0, 0.75, 1.0]), (1.0, 0.0, [1.0, 0.25, 0.0])]:
        solution = solve(SaveAt(t0=True, t1=True, steps=3, fn=_both), t0, t1, args=jnp.asarray(7.0))
        values = np.square(times)
        np.testing.assert_array_equal(solution.ys["t"], [*times, INF])
        np.testing.assert_array_equal(solution.ys["twice"][1], [7, 7, 7, INF])
        np.testing.assert_allclose(solution.ys["twice"][0], [*(2 * values), INF], rtol=1e-14)
        assert solution.ys["big"].tolist() == [*(values > 0.25), True]
        assert solution.ys["count"].tolist() == [*np.floor(4 * values), np.iinfo(np.int32).min]


def _norm(t: Any, y: Any, args: Any) -> Any:
    return jnp.abs(y)


def test_subs_give_their_tree_to_times_and_values() -> None:
    subs = {
        "ends": SubSaveAt(t0=True, t1=True),
        "times": [SubSaveAt(ts=[0.3]), SubSaveAt(ts=[0.3, 0.9], fn=_both)],
        "steps": SubSaveAt(steps=2, fn=_norm),
    }
    saveat = SaveAt(subs=subs)
    assert saveat.subs is subs
    solution = solve(saveat, args=jnp.asarray(7.0))
    ts, ys = solution.ts, solution.ys
    assert ts.keys() == ys.keys() == subs.keys()
    np.testing.assert_array_equal(ts["ends"], [0, 1])
    np.testing.assert_array_equal(ts["times"][0], [0.3])
    np.testing.assert_array_equal(ts["times"][1], [0.3, 0.9])
    np.testing.assert_array_equal(ts["steps"], [0.5, 1, INF, INF])
    np.testing.assert_allclose(ys["times"][0], [0.09], rtol=1e-14)
    np.testing.assert_allclose(ys["times"][1]["twice"][0], [0.18, 1.62], rtol=1e-14)
    np.testing.assert_allclose(ys["steps"], [0.25, 1, INF, INF], rtol=1e-14)


def test_options_become_one_sub() -> None:
    saveat = SaveAt(t1=True, steps=2)
    assert isinstance(saveat.subs, SubSaveAt)
    assert (saveat.subs.t0, saveat.subs.t1, saveat.subs.ts, saveat.subs.steps) == (False, True, None, 2)
    assert SaveAt().subs is None


def test_values_take_the_tree_of_the_state() -> None:
    y0 = {"a": jnp.ones((2, 3)), "b": (jnp.asarray(1 + 1j), jnp.zeros(0))}
    term = rungax.ODETerm(_decay_tree)
    solution = diffeqsolve(term, Euler(), 0.0, 1.0, 0.5, y0, saveat=SaveAt(t0=True, ts=[0.25], steps=True), max_steps=3)
    assert solution.ys["a"].shape == (5, 2, 3)
    assert solution.ys["b"][1].shape == (5, 0)
    values = [1, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(solution.ys["a"][:, 1, 2], [*values, INF])
    np.testing.assert_allclose(solution.ys["b"][0][:4], np.asarray(values) * (1 + 1j))
    assert np.isinf(solution.ys["b"][0][4].real)


def _decay_tree(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


# No interval, and no steps left.


def test_an_interval_of_no_length_fills_every_slot_but_those_of_steps() -> None:
    saveat = SaveAt(t0=True, t1=True, ts=[2.0, 2.0], steps=3, dense=True)
    solution = solve(saveat, 2.0, 2.0)
    check(solution, [2, 2, 2, 2, INF, INF])
    assert solution.result == RESULTS.successful
    np.testing.assert_array_equal(dense(solution, np.asarray([2.0, 2.1, 1.9]))[0], [4, np.nan, np.nan])
    assert float(increment(solution, 2.0, 2.0)) == 0.0


def test_out_of_steps_the_end_is_the_last_accepted_state_and_later_times_stay_empty() -> None:
    solution = solve(SaveAt(t0=True, t1=True, ts=[0.1, 0.6, 0.9], dense=True), max_steps=3, throw=False)
    assert solution.result == RESULTS.max_steps_reached
    check(solution, [0, 0.1, 0.6, 0.75, INF])
    np.testing.assert_allclose(dense(solution, np.asarray([0.7, 0.8]))[0], [0.49, np.nan], rtol=1e-14)


def test_out_of_steps_the_last_step_is_not_saved_twice() -> None:
    solution = solve(SaveAt(t1=True, steps=True), max_steps=3, throw=False)
    check(solution, [0.25, 0.5, 0.75])
    solution = solve(SaveAt(t1=True, steps=2), max_steps=3, throw=False)
    check(solution, [0.5, 0.75])


def test_out_of_steps_backwards() -> None:
    solution = solve(SaveAt(t1=True, ts=[0.9, 0.1]), 1.0, 0.0, max_steps=3, throw=False)
    check(solution, [0.9, 0.25, INF])


def test_before_the_first_step_is_accepted_the_end_is_the_start() -> None:
    controller = PIDController(rtol=1e-12, atol=1e-12)
    saveat = SaveAt(t0=True, t1=True, steps=1, ts=[0.5])
    solution = diffeqsolve(
        DECAY, Heun(), 0.0, 1.0, 1.0, ONE, stepsize_controller=controller, saveat=saveat, max_steps=1, throw=False
    )
    np.testing.assert_array_equal(solution.ts, [0, 0, INF])
    np.testing.assert_array_equal(solution.ys, [1, 1, INF])


# Dense output.


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 0.5)])
def test_dense_output_is_the_solution_inside_and_nan_outside(t0: float, t1: float) -> None:
    solution = solve(SaveAt(dense=True), t0, t1)
    ts = np.linspace(t0, t1, 13)
    values, slopes = dense(solution, ts)
    np.testing.assert_allclose(values, ts**2, atol=1e-15)
    np.testing.assert_allclose(slopes, 2 * ts, atol=1e-14)
    np.testing.assert_allclose(increment(solution, ts[3], ts[7]), ts[7] ** 2 - ts[3] ** 2, atol=1e-15)
    outside = np.asarray([min(t0, t1) - 0.1, max(t0, t1) + 0.1])
    assert all(np.isnan(found).all() for found in dense(solution, outside))
    assert float(solution.interpolation.t0) == t0
    assert float(solution.interpolation.t1) == t1


def test_dense_output_of_euler_has_a_corner_whose_side_left_picks() -> None:
    solution = diffeqsolve(SQUARE, Euler(), 0.0, 1.0, 0.25, jnp.asarray(0.0), saveat=SaveAt(dense=True), max_steps=8)
    assert float(solution.derivative(0.5)) == 0.5
    assert float(solution.derivative(0.5, left=False)) == 1.0


def test_dense_output_across_a_jump_uses_each_side_for_itself() -> None:
    jump = 0.4
    controller = ClipStepSizeController(PIDController(rtol=1e3, atol=1e3), jump_ts=[jump])
    term = rungax.ODETerm(_switch)
    solution = diffeqsolve(
        term, rungax.Tsit5(), 0.0, 1.0, 1.0, jnp.asarray(0.0), stepsize_controller=controller,
        saveat=SaveAt(dense=True), max_steps=8,
    )  # fmt: skip
    assert int(solution.num_steps) == 2
    ts = np.asarray([0.0, 0.2, np.nextafter(jump, 0), jump, np.nextafter(jump, 1), 0.7, 1.0])
    values, slopes = dense(solution, ts)
    np.testing.assert_allclose(values, np.maximum(ts - jump, 0.0), atol=1e-14)
    np.testing.assert_allclose(slopes[np.asarray([2, 4])], [0, 1], atol=1e-12)


def _switch(t: Any, y: Any, args: Any) -> Any:
    return jnp.where(t < 0.4, 0.0, 1.0) + 0 * y


def test_saving_does_not_change_the_steps() -> None:
    controller = PIDController(rtol=1e-6, atol=1e-9)
    ends = [
        diffeqsolve(DECAY, Heun(), 0.0, 1.0, None, ONE, stepsize_controller=controller, saveat=saveat, max_steps=4096)
        for saveat in (SaveAt(t1=True), SaveAt(t1=True, ts=[0.1, 0.2]), SaveAt(t1=True, dense=True))
    ]
    assert len({int(solution.num_steps) for solution in ends}) == 1
    assert len({float(solution.ys[-1]) for solution in ends}) == 1
