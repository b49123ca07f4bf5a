"""`BDF` changes order and step size exactly, and each of its formulas has its order."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rungax
from rungax.solvers.multistep.dense import BackwardDifferenceInterpolation
from rungax.solvers.multistep.history import advanced, resized

from ..catalogue import name, slow_unless
from ..compare import assert_trees_close
from ..problems.stiff import HIRES, ROBERTSON, ROBERTSON_LONG

ORDERS = range(1, 6)
COEFFICIENTS = np.array([0.7, -1.3, 0.4, 2.1, -0.9, 0.3])
"""The coefficients of a polynomial of order 5, from the constant on."""


def polynomial(order: int, t: Any) -> Any:
    return np.polynomial.polynomial.polyval(t, COEFFICIENTS[: order + 1])


def differences_of(values: np.ndarray) -> np.ndarray:
    """The backward differences of orders 1 and more at the last of some values, with a second entry twice as large."""
    rows: list[float] = []
    while values.size > 1:
        values = np.diff(values)
        rows.append(values[-1])
    return np.stack([np.array(rows), 2 * np.array(rows)], axis=1)


def history(order: int, t: float, size: float, rows: int = 5) -> np.ndarray:
    """The differences of the polynomial at `t`, and rows that a method of this order does not use."""
    exact = differences_of(polynomial(order, t - size * np.arange(order, -1.0, -1.0)))
    return np.concatenate([exact, np.full((rows - order, 2), 7.0)])


@pytest.mark.parametrize("order", ORDERS)
def test_a_history_is_resized_as_the_polynomial_that_it_stands_for(order: int) -> None:
    for ratio in (0.3, 1.0, 2.5):
        found = resized(jnp.asarray(history(order, 1.2, 0.1)), jnp.asarray(order), jnp.asarray(ratio))
        np.testing.assert_allclose(found, history(order, 1.2, 0.1 * ratio), rtol=1e-9, atol=1e-12)


def test_the_derivative_by_the_size_is_that_of_the_polynomial_also_where_the_size_stays() -> None:
    at = lambda ratio: resized(jnp.asarray(history(4, 1.2, 0.5)), jnp.asarray(4), ratio)
    one = jnp.asarray(1.0)
    _, tangent = jax.jvp(at, (one,), (one,))
    np.testing.assert_allclose(tangent, (at(one + 1e-5) - at(one - 1e-5)) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("order", range(1, 5))
def test_a_history_is_advanced_by_the_correction_of_its_prediction(order: int) -> None:
    """A polynomial of one order more has the correction that is its difference of that order."""
    exact = history(order + 1, 1.3, 0.1)
    before = differences_of(polynomial(order + 1, 1.2 - 0.1 * np.arange(order + 1, -1.0, -1.0)))
    before = np.concatenate([before, np.zeros((4 - order, 2))])
    found = advanced(jnp.asarray(before), jnp.asarray(order), jnp.asarray(exact[order]))
    np.testing.assert_allclose(found[: order + 1], exact[: order + 1], rtol=1e-9)
    # The difference of the next order is zero.
    np.testing.assert_allclose(found[order + 1 : order + 2], 0, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_dense_output_is_the_polynomial_of_the_order(order: int) -> None:
    ends = (np.asarray([1, 2]) * polynomial(order, t) for t in (1.1, 1.2))
    rows = jnp.asarray(history(order, 1.2, 0.1)).at[order:].set(0)[1:]
    interpolation = BackwardDifferenceInterpolation(1.1, 1.2, *map(jnp.asarray, ends), differences=rows)
    for t in (1.1, 1.13, 1.2):
        found = interpolation.evaluate(jnp.asarray(t))
        np.testing.assert_allclose(found, np.asarray([1, 2]) * polynomial(order, t), rtol=1e-12)


def _field(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -y[0] + 0.1 * jnp.sin(t) * y[1]])


@pytest.mark.parametrize("order", [pytest.param(k, marks=slow_unless(k == 3)) for k in ORDERS])
def test_the_formula_of_each_order_has_this_order(order: int) -> None:
    """From an exact history, with constant steps."""
    solver, term = rungax.BDF(max_order=order), rungax.ODETerm(_field)
    exact = rungax.diffeqsolve(
        term, rungax.Dopri8(), 0.0, 3.0, None, jnp.array([1.0, 0.3]), saveat=rungax.SaveAt(dense=True),
        stepsize_controller=rungax.PIDController(1e-13, 1e-13),
    )  # fmt: skip
    start, end = 1.5, 3.0

    @jax.jit
    def error(size: Any, number: Any) -> Any:
        values = jax.vmap(exact.evaluate)(start - size * jnp.arange(order, -1.0, -1.0))
        rows = jnp.stack([jnp.diff(values, n=n, axis=0)[-1] for n in range(1, order + 1)])
        state = solver.init(term, start, start + size, values[-1], None)
        numbers = jnp.array([order, order, order], jnp.int32)
        state = eqx.tree_at(lambda s: (s.differences, s.numbers), state, (rows, numbers))

        def body(i: Any, carry: Any) -> Any:
            y, state = carry
            made = solver.step(term, start + i * size, start + (i + 1) * size, y, None, state, False)
            return made[0], made[3]

        y, _ = lax.fori_loop(0, number, body, (values[-1], state))
        return jnp.max(jnp.abs(y - exact.evaluate(end)))

    numbers = np.array([32, 64, 128]) if order < 5 else np.array([24, 48, 96])
    errors = [float(error((end - start) / n, n)) for n in numbers]
    assert abs(np.log2(errors[1] / errors[2]) - order) < 0.2, errors


@jax.jit
def stiff_solve(rate: Any, rtol: Any) -> rungax.Solution:
    """A solution that ends in a slow oscillation after a transient."""
    return rungax.diffeqsolve(
        lambda t, y, rate: -rate * (y - jnp.cos(t)) - jnp.sin(t), rungax.BDF(), 0.0, 6.0, None, jnp.array([2.0]), rate,
        stepsize_controller=rungax.PIDController(rtol, rtol), max_steps=4096,
        saveat=rungax.SaveAt(t1=True, solver_state=True),
    )  # fmt: skip


def test_a_smooth_solution_is_solved_by_a_high_order() -> None:
    fine, coarse = (stiff_solve(jnp.asarray(1e4), jnp.asarray(rtol)) for rtol in (1e-10, 1e-4))
    assert int(fine.solver_state.order) >= 4
    assert int(fine.stats["num_steps"]) < 600
    for solution, rtol in ((fine, 1e-10), (coarse, 1e-4)):
        assert abs(float(solution.ys[-1, 0]) - np.cos(6.0)) < 20 * rtol


@pytest.mark.slow
def test_batch_elements_choose_their_own_orders() -> None:
    rates, rtols = jnp.array([1.0, 1e6, 1e4]), jnp.array([1e-3, 1e-9, 1e-6])
    together = jax.jit(jax.vmap(stiff_solve))(rates, rtols)
    orders = np.asarray(together.solver_state.numbers)[:, 0]
    assert len(set(orders.tolist())) > 1, "the case must need several orders"
    for i in range(rates.size):
        alone = stiff_solve(rates[i], rtols[i])
        found = jax.tree.map(lambda x, i=i: x[i], (together.ys, together.stats["num_steps"]))
        assert_trees_close(found, (alone.ys, alone.stats["num_steps"]), rtol=1e-10)


@pytest.mark.slow
def test_the_order_is_one_after_a_jump() -> None:
    """The field changes its sign at one."""
    solution = rungax.diffeqsolve(
        lambda t, y, args: jnp.where(t < 1, -y, y), rungax.BDF(), 0.0, 2.0, None, jnp.array([1.0]),
        stepsize_controller=rungax.ClipStepSizeController(rungax.PIDController(1e-6, 1e-6), jump_ts=[1.0]),
        saveat=rungax.SaveAt(steps=True), max_steps=512,
    )  # fmt: skip
    np.testing.assert_allclose(solution.ys[np.isfinite(solution.ts)][-1], 1.0, atol=1e-4)
    sizes = np.diff(np.asarray(solution.ts)[np.isfinite(solution.ts)])
    after = np.asarray(solution.ts)[np.isfinite(solution.ts)][:-1] >= 1.0
    assert sizes[after][0] < 0.2 * sizes[~after][-4:].max(), "a step of order one is short"


@pytest.mark.slow
def test_constant_steps_raise_the_order_and_a_longer_step_lowers_it() -> None:
    solver, term = rungax.BDF(), rungax.ODETerm(lambda t, y, args: -y)

    def orders(times: list[float]) -> list[int]:
        state, y, found = solver.init(term, times[0], times[1], jnp.array([1.0]), None), jnp.array([1.0]), []
        for t0, t1 in itertools.pairwise(times):
            y, _, _, state, _ = eqx.filter_jit(solver.step)(term, t0, t1, y, None, state, False)
            found.append(int(state.last_order))
        return found

    constant = orders([0.1 * i for i in range(16)])
    assert constant == [1, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    assert orders([*(0.1 * i for i in range(8)), 0.76, 0.85, 1.15])[-3:] == [5, 2, 1]


@pytest.mark.parametrize("order", [0, 6, 2.0, True, "5"])
def test_the_highest_order_is_an_integer_from_1_to_5(order: Any) -> None:
    with pytest.raises(ValueError, match=r"`BDF\(max_order=...\)`") as raised:
        rungax.BDF(max_order=order)
    message = str(raised.value)
    assert "Expected: an integer from 1 to 5" in message
    assert f"Found:    {order!r}" in message
    assert "Leave it out for 5." in message


def test_the_number_of_iterations_is_checked() -> None:
    with pytest.raises(ValueError, match="`root_find_max_steps`"):
        rungax.BDF(root_find_max_steps=1)


def _robertson(solver: Any, rates: Any, rtol: float, adjoint: Any) -> rungax.Solution:
    return rungax.diffeqsolve(
        ROBERTSON.field, solver, 0.0, 10.0, 1e-2, jnp.asarray(ROBERTSON.y0), rates, max_steps=4096, adjoint=adjoint,
        stepsize_controller=rungax.PIDController(rtol, 1e-4 * rtol),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("solver", [rungax.BDF(), rungax.Auto(stiff=rungax.BDF())], ids=name)
def test_steps_made_again_for_derivatives_have_the_orders_that_they_had(solver: Any) -> None:
    """The first step is far too long; a rejection changes when the order is chosen, and no rejection is made again."""
    rates = jnp.asarray(ROBERTSON.args)
    found = [
        jax.jit(jax.grad(lambda rates, adjoint=adjoint: _robertson(solver, rates, 1e-6, adjoint).ys[-1, 0]))(rates)
        for adjoint in (rungax.RecursiveCheckpointAdjoint(), rungax.DirectAdjoint())
    ]
    assert_trees_close(*found, rtol=1e-6)
    value = jax.jit(lambda rates: _robertson(solver, rates, 1e-9, rungax.RecursiveCheckpointAdjoint()).ys[-1, 0])
    for i, change in enumerate(1e-3 * np.asarray(rates)):
        difference = (value(rates.at[i].add(change)) - value(rates.at[i].add(-change))) / (2 * change)
        np.testing.assert_allclose(found[0][i], difference, rtol=1e-3)


@pytest.mark.slow
def test_auto_chooses_orders_and_sizes_by_its_stiff_method() -> None:
    solve = lambda solver: _robertson(solver, jnp.asarray(ROBERTSON.args), 1e-6, rungax.DirectAdjoint())
    auto, alone = (solve(solver) for solver in (rungax.Auto(stiff=rungax.BDF()), rungax.BDF()))
    np.testing.assert_allclose(auto.ys, alone.ys, rtol=1e-5)
    assert int(auto.stats["num_steps"]) < 1.3 * int(alone.stats["num_steps"])


# The numbers of SciPy's accepted steps, and its errors divided by the tolerance.
SCIPY = {("1e-4", 0): (168, 6.25), ("1e-6", 0): (327, 4.35), ("1e-8", 0): (666, 3.84)}
SCIPY |= {("1e-4", 1): (328, 0.46), ("1e-6", 1): (649, 0.59), ("1e-8", 1): (1304, 0.83)}


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["HIRES", "Robertson"])
def test_steps_and_errors_are_those_of_scipy(index: int) -> None:
    """Accepted steps at most 1.1 times as many, and errors at most 2.5 times as large."""
    problem = (HIRES, ROBERTSON_LONG)[index]

    @jax.jit
    def solve(rtol: Any) -> rungax.Solution:
        return rungax.diffeqsolve(
            problem.field, rungax.BDF(), problem.t0, problem.t1, None, jnp.asarray(problem.y0), problem.args,
            stepsize_controller=rungax.PIDController(rtol, 1e-4 * rtol), max_steps=4096,
        )  # fmt: skip

    for rtol, (steps, bound) in ((float(key[0]), value) for key, value in SCIPY.items() if key[1] == index):
        solution, reference = solve(jnp.asarray(rtol)), np.asarray(problem.reference)
        error = (np.asarray(solution.ys[-1]) - reference) / (1e-4 * rtol + rtol * np.abs(reference))
        assert int(solution.stats["num_accepted_steps"]) <= 1.1 * steps
        assert np.sqrt(np.mean(error**2)) <= 2.5 * bound
        if problem is ROBERTSON_LONG:
            assert abs(float(solution.ys[-1].sum()) - 1) < 1e-12


@pytest.mark.slow
def test_a_step_of_the_same_size_depends_on_its_end() -> None:
    """Its history is resized by one, which has a derivative too."""
    solver, term = rungax.BDF(), rungax.ODETerm(lambda t, y, args: -y * (1 + y))

    def end_of(t: Any) -> Any:
        state, y = solver.init(term, 0.0, 0.1, jnp.array([1.0]), None), jnp.array([1.0])
        for t0, t1 in itertools.pairwise([0.0, 0.1, 0.2, 0.3, t]):
            y, _, _, state, _ = solver.step(term, t0, t1, y, None, state, False)
        return y[0]

    end_of, t = jax.jit(end_of), jnp.asarray(0.4)
    _, found = jax.jvp(end_of, (t,), (jnp.ones_like(t),))
    np.testing.assert_allclose(found, (end_of(t + 1e-5) - end_of(t - 1e-5)) / 2e-5, rtol=1e-4)
