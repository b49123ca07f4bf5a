"""`vmap` of a solve equals a Python loop over solves, by value, in everything a solve returns."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import rungax

from ..catalogue import name, terms_for
from ..compare import assert_trees_close
from ..problems.ordinary import LOTKA_VOLTERRA
from .outcome import Outcome, everything, outcome

SIZE = 4
# Batch elements share a program but not its rounding. Step sizes are chosen in single precision, so where the error
# decides about them the times of the steps agree to seven digits.
ROUNDING = {"rtol": 3e-7, "atol": 3e-7}


class Inputs(NamedTuple):
    """What batch elements may differ in."""

    y0: Any
    args: Any
    t1: Any
    ts: Any
    rtol: Any


def solve(inputs: Inputs, solver: rungax.AbstractSolver[Any] = rungax.Tsit5()) -> rungax.Solution:
    return rungax.diffeqsolve(
        terms_for(solver, LOTKA_VOLTERRA.field),
        solver,
        0.0,
        inputs.t1,
        None,
        inputs.y0,
        inputs.args,
        saveat=everything(inputs.ts),
        stepsize_controller=rungax.PIDController(rtol=inputs.rtol, atol=inputs.rtol),
        max_steps=32,
        throw=False,
    )


def solve_all(inputs: Inputs, solver: rungax.AbstractSolver[Any] = rungax.Tsit5()) -> Outcome:
    return outcome(solve(inputs, solver))


one = jax.jit(solve_all)

SHARED = Inputs(
    y0=jnp.asarray(LOTKA_VOLTERRA.y0),
    args=jax.tree.map(jnp.asarray, LOTKA_VOLTERRA.args),
    t1=jnp.asarray(2.0),
    ts=jnp.asarray([0.0, 0.3, 0.3, 1.1, 2.0]),
    rtol=jnp.asarray(1e-4),
)

# One batch element of t1 has no interval, one goes backwards; one batch element of rtol runs out of steps.
ENDS = jnp.asarray([2.0, 0.0, -1.0, 0.25])
VARIED = Inputs(
    y0=jnp.asarray([[10.0, 5.0], [0.0, 1.0], [5.0, 20.0], [1.0, 1.0]]),
    args=jax.tree.map(lambda x: x * jnp.linspace(0.5, 2.0, SIZE), SHARED.args),
    t1=ENDS,
    ts=ENDS[:, None] * jnp.asarray([[0.0, 0.2, 0.2, 0.9, 1.0]]),
    rtol=jnp.asarray([1e-2, 1e-11, 1e-4, 1e-6]),
)

# Times go together with the end of the interval that they lie in.
CHOICES = {"y0": ("y0",), "args": ("args",), "t1 and ts": ("t1", "ts"), "ts": ("ts",), "rtol": ("rtol",)}


def varied(names: tuple[str, ...]) -> tuple[Inputs, Inputs]:
    """Inputs of which those named have batch elements, and the axes that say so."""
    inputs = SHARED._replace(**{name: getattr(VARIED, name) for name in names})
    if names == ("ts",):
        inputs = inputs._replace(ts=jnp.abs(VARIED.ts))  # all within the interval that they share
    return inputs, Inputs(*(0 if name in names else None for name in Inputs._fields))


def element(inputs: Inputs, axes: Inputs, i: int) -> Inputs:
    values = (
        value if axis is None else jax.tree.map(lambda x: x[i], value) for value, axis in zip(inputs, axes, strict=True)
    )
    return Inputs(*values)


def stacked(outcomes: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outcomes)


def assert_elements_are_a_loop(
    function: Callable[[Inputs], Any], together: Callable[[Inputs], Any], inputs: Inputs, axes: Inputs
) -> None:
    expected = stacked([function(element(inputs, axes, i)) for i in range(SIZE)])
    assert_trees_close(together(inputs), expected, **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_vmap_over_one_input(choice: str) -> None:
    inputs, axes = varied(CHOICES[choice])
    assert_elements_are_a_loop(one, jax.jit(jax.vmap(solve_all, in_axes=(axes,))), inputs, axes)


def test_elements_differ_where_the_tests_rely_on_it() -> None:
    """Numbers of steps, one of them none, and successes, one of them none."""
    inputs, axes = varied(CHOICES["t1 and ts"])
    steps = [int(one(element(inputs, axes, i)).counts["num_steps"]) for i in range(SIZE)]
    assert steps[1] == 0
    assert len(set(steps)) == SIZE
    inputs, axes = varied(CHOICES["rtol"])
    assert [bool(one(element(inputs, axes, i)).okay) for i in range(SIZE)] == [True, False, True, True]


def test_vmap_over_all_inputs_at_once() -> None:
    axes = Inputs(0, 0, 0, 0, 0)
    assert_elements_are_a_loop(one, jax.jit(jax.vmap(solve_all)), VARIED, axes)


# One of each family, with all its state; the others only repeat it.
FAMILIES = [
    rungax.Kvaerno3(),
    rungax.KenCarp4(),
    rungax.Rodas5P(),
    pytest.param(rungax.ImplicitEuler(), marks=pytest.mark.slow),
    pytest.param(rungax.Kvaerno5(), marks=pytest.mark.slow),
    pytest.param(rungax.Sil3(), marks=pytest.mark.slow),
    pytest.param(rungax.ROS3P(), marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("solver", FAMILIES, ids=name)
def test_vmap_with_solvers_for_stiff_equations(solver: rungax.AbstractSolver[Any]) -> None:
    """Batch elements converge, reject, and renew their Jacobians each for itself."""
    function = partial(solve_all, solver=solver)
    inputs = VARIED._replace(rtol=jnp.asarray([1e-2, 1e-11, 1e-3, 1e-3]))
    alone = jax.jit(function)
    expected = stacked([alone(element(inputs, Inputs(0, 0, 0, 0, 0), i)) for i in range(SIZE)])
    found = jax.jit(jax.vmap(function))(inputs)
    assert_trees_close(found.counts, expected.counts)
    assert_trees_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # `loop/test_batch_elements.py` has one too
def test_vmap_within_vmap() -> None:
    inputs = SHARED._replace(y0=VARIED.y0, rtol=VARIED.rtol)
    inner, outer = Inputs(0, None, None, None, None), Inputs(None, None, None, None, 0)
    found = jax.jit(jax.vmap(jax.vmap(solve_all, in_axes=(inner,)), in_axes=(outer,)))(inputs)
    rows = [element(inputs, outer, i) for i in range(SIZE)]
    expected = stacked([stacked([one(element(row, inner, j)) for j in range(SIZE)]) for row in rows])
    assert_trees_close(found, expected, **ROUNDING)


ask_each = jax.jit(jax.vmap(outcome))


def test_vmap_without_jit() -> None:
    """It gives one solution, whose elements can be asked one by one."""
    inputs, axes = varied(CHOICES["rtol"])
    assert_elements_are_a_loop(one, lambda x: ask_each(jax.vmap(solve, in_axes=(axes,))(x)), inputs, axes)


@pytest.mark.slow
def test_vmap_of_everything_without_jit() -> None:
    inputs, axes = varied(CHOICES["y0"])
    assert_elements_are_a_loop(one, jax.vmap(solve_all, in_axes=(axes,)), inputs, axes)


@pytest.mark.slow
def test_solutions_with_elements_can_be_asked_one_by_one() -> None:
    inputs, axes = varied(CHOICES["y0"])
    solutions = jax.jit(jax.vmap(solve, in_axes=(axes,)))(inputs)
    expected = stacked([one(element(inputs, axes, i)) for i in range(SIZE)])
    assert_trees_close(ask_each(solutions), expected, **ROUNDING)
