"""What is wrong before the first step is told there: a state that is not finite, tolerances, times off by roundings."""

import pathlib
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import RESULTS, ConstantStepSize, Heun, PIDController, SaveAt, StepTo, SubSaveAt, diffeqsolve

PID = PIDController(rtol=1e-3, atol=1e-6)
STATE = {"a": jnp.ones((2, 2)), "b": jnp.asarray(1.0)}
CONTROLLERS = {"constant": (ConstantStepSize(), 0.5), "given": (StepTo([0.0, 0.5, 1.0]), None), "adaptive": (PID, 0.5)}


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


def spoiled(value: float) -> dict[str, jax.Array]:
    return {**STATE, "a": STATE["a"].at[1, 0].set(value)}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_state_that_is_not_finite_ends_the_solve_before_its_first_step(name: str) -> None:
    controller, dt0 = CONTROLLERS[name]

    def solve(y0: Any, throw: bool = False) -> rungax.Solution:
        return diffeqsolve(
            decay, Heun(), 0.0, 1.0, dt0, y0, stepsize_controller=controller, max_steps=8, throw=throw
        )  # fmt: skip

    bad = [spoiled(value) for value in (np.nan, -np.inf)]
    for y0, value in zip(bad, ("nan", "-inf"), strict=True):
        with pytest.raises(ValueError, match="`y0` must be finite") as error:
            solve(y0, throw=True)
        assert isinstance(error.value, RuntimeError)
        assert f"y0['a'][1, 0] = {value}" in str(error.value)
    assert solve(bad[0]).result == RESULTS.nonfinite
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), STATE, *bad)
    solve_batch = jax.jit(jax.vmap(solve))
    solutions = solve_batch(batch)
    assert (solutions.result == RESULTS.nonfinite).tolist() == [False, True, True]
    assert np.isfinite(solutions.ys["a"][0]).all()
    # With constant and given steps a batch shares its times: its elements stop before the first step together.
    alone = solve_batch(jax.tree.map(lambda leaf: leaf[jnp.asarray([1, 2, 1])], batch))
    assert (alone.result == RESULTS.nonfinite).tolist() == [True, True, True]
    assert alone.num_steps.tolist() == [0, 0, 0]
    assert name != "adaptive" or (solutions.num_steps > 0).tolist() == [True, False, False]


# ------------------------------------------------------------------------------------------------------- times to save


@jax.jit
def values_at(ts: jax.Array, t0: Any, t1: Any) -> rungax.Solution:
    dt0 = (t1 - t0) / 4
    return diffeqsolve(lambda t, y, args: y, Heun(), t0, t1, dt0, 1.0, saveat=SaveAt(ts=ts), max_steps=8, throw=False)


def off(t: float, roundings: float, dtype: str = "float64") -> float:
    return t * (1 + roundings * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 3.0), (3.0, 1.0), (-2.0, -1.0)])
def test_times_outside_by_a_few_roundings_are_the_ends(t0: float, t1: float) -> None:
    beyond = 4 * np.spacing(max(abs(t0), abs(t1))) * np.sign(t1 - t0)
    solution, exact = (values_at(jnp.asarray(ts), t0, t1) for ts in ([t0 - beyond, t1 + beyond], [t0, t1]))
    assert solution.result == RESULTS.successful
    assert solution.ts.tolist() == [t0, t1]
    assert solution.ys.tolist() == exact.ys.tolist()
    assert np.isfinite(exact.ys).all()
    assert values_at(jnp.asarray([t0, t1 + 10 * beyond]), t0, t1).result == RESULTS.invalid_input


def test_known_times_outside_by_roundings_are_accepted_and_others_refused() -> None:
    for dtype in ("float32", "float64"):
        t1 = jnp.asarray(0.7, dtype)
        for throw in (True, False):
            solve = lambda end, t1=t1, throw=throw: diffeqsolve(
                decay, Heun(), jnp.zeros_like(t1), t1, 0.5, jnp.ones((), t1.dtype), saveat=SaveAt(ts=[end]),
                max_steps=8, throw=throw,
            )  # fmt: skip
            solution = solve(np.asarray(off(float(t1), 3, dtype), dtype))
            assert solution.ts == t1
            assert np.isfinite(solution.ys).all()
            with pytest.raises(ValueError, match=r"SaveAt\(ts=...\)"):
                solve(np.asarray(off(float(t1), 30, dtype), dtype))


def test_at_the_ends_the_derivative_with_respect_to_a_saved_time_is_whole() -> None:
    ts = jnp.asarray([0.0, 1.0])
    values, slopes = jax.jvp(lambda ts: values_at(ts, 0.0, 1.0).ys, (ts,), (jnp.ones(2),))
    np.testing.assert_allclose(slopes, values, rtol=0.1)


def test_a_compiled_program_names_the_argument_and_the_interval() -> None:
    @eqx.filter_jit
    def solve(ts: jax.Array) -> Any:
        return diffeqsolve(decay, Heun(), 0.25, 1.0, 0.5, 1.0, saveat=SaveAt(subs=SubSaveAt(ts=ts)), max_steps=8).ys

    with pytest.raises(RuntimeError, match=r"`SaveAt\(ts=...\)` must lie between `t0` and `t1`, here 0.25 and 1.0"):
        jax.block_until_ready(solve(jnp.asarray([0.5, 1.5])))


# ---------------------------------------------------------------------------------------------------------- tolerances


def solve_with(controller: Any, y0: Any) -> Any:
    return diffeqsolve(decay, Heun(), 0.0, 1.0, 0.5, y0, stepsize_controller=controller, max_steps=8, throw=False).ys


def test_a_tolerance_below_the_rounding_of_the_state_warns_once() -> None:
    controller = PIDController(rtol=1e-8, atol=1e-8)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("default")
        for _ in range(3):
            solve_with(controller, {"a": jnp.ones(2), "b": jnp.ones(2, jnp.float32)})
    (warning,) = record
    assert "`rtol=1e-08` is smaller than the rounding of the state, which is 1.2e-07 in float32" in str(warning.message)
    assert pathlib.Path(warning.filename) == pathlib.Path(__file__)
    with pytest.warns(UserWarning, match="float16"):
        jax.eval_shape(lambda y0: solve_with(PIDController(rtol=1e-4, atol=1e-4), y0), jnp.ones(2, jnp.float16))


@pytest.mark.parametrize("leaf", ["a", jax.random.key(0), len])
def test_a_state_that_is_no_number_is_refused_with_a_controller_too(leaf: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="y0"):
        solve_with(PIDController(1e-10, 1e-10), (leaf, 1.0))


def test_a_tolerance_that_the_state_resolves_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rtol, dtype in ((1e-8, "float64"), (1e-6, "float32"), (0.0, "float32")):
            jax.eval_shape(lambda y0, rtol=rtol: solve_with(PIDController(rtol, 1e-9), y0), jnp.ones(2, dtype))


@pytest.mark.parametrize(
    ("rtol", "atol", "where"),
    [
        (0.0, jnp.asarray([1e-3, 0.0]), "`y[1]`"),
        (jnp.asarray([1e-3, 0.0]), 0, "`y[1]`"),
        ({"a": 0.0, "b": 1e-3}, 0.0, "`y['a']`"),
        ({"a": 0.0, "b": 1e-3}, {"a": jnp.asarray([1.0, 0.0]), "b": 0.0}, "`y['a'][1]`"),
    ],
)
def test_two_tolerances_of_zero_for_one_entry_are_refused(rtol: Any, atol: Any, where: str) -> None:
    with pytest.raises(ValueError, match="which is never zero") as error:
        PIDController(rtol, atol)
    assert f"rtol=0, atol=0 at {where}" in str(error.value)


def test_tolerances_that_a_program_finds_wrong_are_a_result() -> None:
    @jax.jit
    def result(rtol: jax.Array, atol: jax.Array) -> Any:
        controller = PIDController(rtol=rtol, atol=atol)
        return diffeqsolve(
            decay, Heun(), 0.0, 1.0, 0.5, jnp.ones(2), stepsize_controller=controller, max_steps=64, throw=False
        ).result  # fmt: skip

    right = jnp.asarray([1e-3, 0.0])
    assert result(right, right[::-1]) == RESULTS.successful
    assert result(right, right) == RESULTS.invalid_input
    assert result(-right, right[::-1]) == RESULTS.invalid_input
