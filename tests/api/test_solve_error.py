"""A failed solve raises `SolveError` where it is executed, and a compiled program an error that ends with its report.

Where it is executed means under eager `vmap` and derivatives too, in any order.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import rungax

from ..catalogue import slow_unless

BAD, GOOD = 1.0, -1.0
"""Rates of growth with which the solve below fails, and reaches its end."""


def field(t: Any, y: Any, rate: Any) -> Any:
    return jax.tree.map(lambda y: y - t * jnp.where(rate > 0, jnp.nan, 0.0), y)


def end(rate: Any) -> Any:
    y0 = {"a": jnp.ones(2), "b": jnp.asarray(2.0)}
    solution = rungax.diffeqsolve(
        field, rungax.Heun(), 0.0, 1.0, 0.5, y0, rate, stepsize_controller=rungax.PIDController(1e-3, 1e-3),
    )  # fmt: skip
    return solution.ys["b"][-1] + rate


ONE_ROW, ROWS = np.asarray([GOOD, BAD, BAD]), np.asarray([[GOOD, GOOD], [GOOD, BAD], [BAD, GOOD]])
REPORT = (
    "`RESULTS.nonfinite`",
    "The vector field is not finite",
    "['a'][0] = nan, ['a'][1] = nan, ['b'] = nan",
    "Square roots and logarithms",
    "come to t = 0.0, the next step being 0.",
    "y['a'] = [1., 1.], y['b'] = 2.",
    "`throw=False`",
)
"""What the report says of every element, compiled or not."""

WAYS: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "alone": (end, BAD, "The solve failed: `RESULTS.nonfinite`"),
    "vmap": (jax.vmap(end), ONE_ROW, "2 of 3 batch elements failed: 1, 2.\nElement 1: "),
    "vmap twice": (jax.vmap(jax.vmap(end)), ROWS, "2 of 6 batch elements failed: (1, 1), (2, 0).\nElement (1, 1): "),
    "grad": (jax.grad(end), BAD, "The solve failed: `RESULTS.nonfinite`"),
    "value and grad": (jax.value_and_grad(end), BAD, "The solve failed: `RESULTS.nonfinite`"),
    "jacfwd": (jax.jacfwd(end), BAD, "The solve failed: `RESULTS.nonfinite`"),
    "vmap of grad": (jax.vmap(jax.grad(end)), ONE_ROW, "2 of 3 batch elements failed: 1, 2.\nElement 1: "),
    "grad of vmap": (
        jax.grad(lambda rate: jnp.sum(jax.vmap(end)(rate))), ONE_ROW, "2 of 3 batch elements failed: 1, 2.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n in ("alone", "vmap twice"))) for n in WAYS])
def test_where_it_is_executed_it_is_raised(name: str) -> None:
    function, rate, first = WAYS[name]
    jax.block_until_ready(function(jnp.full_like(jnp.asarray(rate), GOOD)))
    with pytest.raises(rungax.SolveError) as error:
        function(jnp.asarray(rate))
    said = str(error.value)
    assert said.startswith(first)
    for words in REPORT:
        assert words in said
    assert isinstance(error.value, RuntimeError)


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless(n == "vmap twice")) for n in WAYS])
def test_a_compiled_program_ends_with_the_same_report(name: str) -> None:
    function, rate, first = WAYS[name]
    program = jax.jit(function)
    jax.block_until_ready(program(jnp.full_like(jnp.asarray(rate), GOOD)))
    for _ in range(2):
        with pytest.raises((RuntimeError, ValueError)) as error:
            jax.block_until_ready(program(jnp.asarray(rate)))
        before, said = str(error.value).rsplit("SolveError: ", 1)
        assert said.startswith(first)
        assert said.rstrip().endswith("`Solution.result` says how it ended.")
        for words in REPORT:
            assert words in said
        assert "quinox" not in said
        assert "equinox" not in before.lower().replace("equinox/_jit.py", "")


def test_a_device_of_a_mesh_raises_for_its_part() -> None:
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    spec = PartitionSpec("x")
    program = jax.jit(jax.shard_map(jax.vmap(end), mesh=mesh, in_specs=spec, out_specs=spec))
    assert np.isfinite(program(jnp.full(4, GOOD))).all()
    with pytest.raises((RuntimeError, ValueError), match=r"(?s)1 of 2 batch elements failed: 1\..*`throw=False`"):
        jax.block_until_ready(program(jnp.asarray([GOOD, BAD, GOOD, GOOD])))
    with contextlib.suppress(RuntimeError, ValueError):
        jax.effects_barrier()  # JAX keeps the error of a program on several devices for the next one to wait


def test_more_than_five_elements_are_counted() -> None:
    with pytest.raises(rungax.SolveError, match=r"7 of 7 batch elements failed: 0, 1, 2, 3, 4 and 2 more\."):
        jax.vmap(end)(jnp.full(7, BAD))


def test_an_unbatched_solve_in_a_batch_is_one() -> None:
    with pytest.raises(rungax.SolveError, match="The solve failed: "):
        jax.vmap(lambda x: x * end(BAD))(jnp.ones(3))


def test_a_platform_without_callbacks_says_what_to_do() -> None:
    program = jax.jit(end).trace(BAD)
    with pytest.raises(RuntimeError, match=r"no callbacks to the host\.\nExpected: `throw=False`"):
        program.lower(lowering_platforms=("METAL",))


def test_a_program_that_does_not_throw_has_no_callback() -> None:
    solve = lambda y0: rungax.diffeqsolve(lambda t, y, args: -y, rungax.Heun(), 0.0, 1.0, 0.5, y0, throw=False).ys
    assert "callback" not in jax.jit(solve).lower(1.0).as_text()


def test_the_result_is_printed_in_words() -> None:
    solve = lambda rate: (
        rungax.diffeqsolve(lambda t, y, args: rate * y, rungax.Heun(), 0.0, 1.0, 0.5, 1.0, throw=False).result
    )
    assert "The solve reached the end of its interval." in str(solve(-1.0))
    of_batch = str(jax.vmap(solve)(jnp.asarray([-1.0, np.inf])))
    assert "The solve reached the end of its interval." in of_batch
    assert "Nonfinite" in of_batch


def test_results_are_those_of_optimistix_by_name() -> None:
    for name in ("successful", "max_steps_reached"):
        ours, theirs = getattr(rungax.RESULTS, name), getattr(rungax.RESULTS.__mro__[1], name)
        assert rungax.RESULTS.promote(theirs) == ours


def test_a_filtered_program_raises_it_too() -> None:
    with pytest.raises((RuntimeError, ValueError), match=r"SolveError: The solve failed: `RESULTS.nonfinite`"):
        eqx.filter_jit(end)(jnp.asarray(BAD))
