"""`vmap` of a solve equals a loop over its batch elements, whatever the steps, the end and the result of each."""

from collections.abc import Callable
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax import ODETerm, PIDController, SaveAt, SubSaveAt, Tsit5, diffeqsolve

TS = jnp.linspace(0.0, 1.0, 5)
SUBS = {
    "all": SubSaveAt(t0=True, t1=True, steps=True),
    "some": SubSaveAt(steps=3, t1=True),
}


def _relaxation(t: Any, y: Any, rate: Any) -> Any:
    return rate * (jnp.cos(t) - y)


RELAXATION = ODETerm(_relaxation)


def solve(rate: Any, t1: Any, *, dt0: Any = None, rtol: Any = 1e-4, max_steps: int = 64, fixed: bool = False) -> Any:
    controller = rungax.ConstantStepSize() if fixed else PIDController(rtol=rtol, atol=1e-6)
    # `ts` lie on the way to the batch element's own `t1`.
    saveat = SaveAt(subs={**SUBS, "times": SubSaveAt(ts=TS * t1)}, dense=True)
    solution = diffeqsolve(
        RELAXATION, Tsit5(), 0.0, t1, dt0, jnp.zeros(2), rate, stepsize_controller=controller, saveat=saveat,
        max_steps=max_steps, throw=False,
    )  # fmt: skip
    middle = jax.vmap(solution.evaluate)(TS * t1)
    code = jax.tree.leaves(solution.result)[0]
    return solution.ts, solution.ys, solution.num_steps, solution.num_accepted_steps, code, middle


def adaptive(rate: Any, t1: Any, dt0: Any) -> Any:
    return solve(rate, t1, dt0=dt0)


def fixed(rate: Any, t1: Any, dt0: Any) -> Any:
    return solve(rate, t1, dt0=dt0, fixed=True)


@cache
def compiled(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`function` of a batch and of one element; for batches of one size these are two programs."""
    return jax.jit(jax.vmap(function)), jax.jit(function)


def compare(function: Callable[..., Any], *batch: Any) -> Any:
    """`vmap` of `function` against a loop, by value; the latter's result."""
    of_batch, one = compiled(function)
    together = of_batch(*batch)
    apart = [one(*(values[i] for values in batch)) for i in range(len(batch[0]))]
    apart = jax.tree.map(lambda *leaves: np.stack(leaves), *apart)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), together, apart)
    return apart


def test_elements_with_different_numbers_of_steps() -> None:
    rates, steps = jnp.asarray([0.1, 3.0, 20.0, 20.0]), jnp.asarray([0.5, 0.5, 1.0, 0.01])
    _, _, num_steps, num_accepted, codes, _ = compare(adaptive, rates, jnp.ones(4), steps)
    assert len(set(num_steps.tolist())) == 4
    assert (num_steps > num_accepted).any()
    assert not codes.any()


def test_elements_with_different_ends_in_both_directions_and_none() -> None:
    ends = jnp.asarray([1.0, -0.5, 0.0, 0.25])
    ts, _, num_steps, _, codes, _ = compare(adaptive, jnp.asarray([3.0, 3.0, 3.0, 0.1]), ends, 0.1 * ends)
    assert num_steps[2] == 0
    np.testing.assert_array_equal(ts["some"][0][np.isfinite(ts["some"][0])][-1], 1.0)
    np.testing.assert_array_equal(ts["times"], np.outer(ends, TS))
    assert not codes.any()


def test_elements_that_fail_and_others_that_do_not() -> None:
    rates, steps = jnp.asarray([0.1, 0.1, jnp.nan, 0.1]), jnp.asarray([0.25, 0.01, 0.25, 0.5])
    _, ys, _, _, codes, _ = compare(fixed, rates, jnp.ones(4), steps)
    okay = rungax.RESULTS.successful
    results = [okay, rungax.RESULTS.max_steps_reached, rungax.RESULTS.nonfinite, okay]
    assert codes.tolist() == [int(jax.tree.leaves(result)[0]) for result in results]
    assert np.isfinite(ys["times"][0]).all()


def test_elements_with_different_fixed_steps() -> None:
    ends, steps = jnp.asarray([1.0, 1.0, 1.0, -1.0]), jnp.asarray([0.5, 0.25, 0.03, -0.1])
    _, _, num_steps, _, _, _ = compare(fixed, jnp.ones(4), ends, steps)
    assert num_steps.tolist() == [2, 4, 34, 10]


@pytest.mark.slow  # `transforms/test_vmap.py` has a batch of tolerances too
def test_elements_that_differ_in_their_tolerance_only() -> None:
    tolerances = lambda rtol: solve(jnp.asarray(3.0), jnp.asarray(1.0), rtol=rtol)
    _, _, num_steps, _, _, _ = compare(tolerances, jnp.asarray([1e-2, 1e-5]))
    assert num_steps[0] < num_steps[1]


@pytest.mark.slow
def test_vmap_within_vmap() -> None:
    rates, ends = jnp.asarray([0.1, 20.0]), jnp.asarray([1.0, 0.5])
    inner = jax.vmap(adaptive, in_axes=(0, None, None))
    together = jax.jit(jax.vmap(inner, in_axes=(None, 0, 0)))(rates, ends, 0.5 * ends)
    _, one = compiled(adaptive)
    for i, end in enumerate(ends):
        for j, rate in enumerate(rates):
            element = jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], together)
            alone = one(rate, end, 0.5 * end)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), element, alone)


@pytest.mark.parametrize("bad", [2.0, jnp.nan])
def test_one_failed_element_raises_for_all(bad: float) -> None:
    def end(rate: jax.Array) -> jax.Array:
        solution = diffeqsolve(
            RELAXATION, Tsit5(), 0.0, 1.0, 0.5, jnp.zeros(2), rate, stepsize_controller=PIDController(1e-4, 1e-6),
            max_steps=3,
        )  # fmt: skip
        return solution.ys

    ends = eqx.filter_jit(jax.vmap(end))
    assert np.isfinite(ends(jnp.asarray([0.0, 0.01]))).all()
    with pytest.raises((RuntimeError, ValueError), match="1 of 2 batch elements failed: 1"):
        jax.block_until_ready(ends(jnp.asarray([0.0, 100.0 if bad == 2.0 else bad])))
