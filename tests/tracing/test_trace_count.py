"""The vector field is traced once per compilation, whatever the stages, the saving and the direction.

The time to compile a solve of a large field follows the number of its traces. Two would be allowed.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from .solves import adaptive, counted_pendulum, solve

AT_MOST = 1
TS = np.linspace(0.0, 1.0, 100)

SOLVES: dict[str, dict[str, Any]] = {
    "adaptive": adaptive(),
    "adaptive, ts": {"saveat": rungax.SaveAt(ts=TS), **adaptive()},
    "first step chosen": {"dt0": None, **adaptive()},
    "fixed": {},
    "Dopri8, ts": {"solver": rungax.Dopri8(), "saveat": rungax.SaveAt(ts=TS), **adaptive()},
    "backwards": {"t1": -1.0, "dt0": -0.1, **adaptive()},
    "dense": {"saveat": rungax.SaveAt(dense=True), "max_steps": 64, **adaptive()},
    "steps of a function": {
        "saveat": rungax.SaveAt(steps=True, fn=lambda t, y, args: y[0]),
        "max_steps": 64,
        **adaptive(),
    },
}


@pytest.mark.parametrize("options", SOLVES.values(), ids=SOLVES.keys())
def test_the_field_is_traced_once(options: dict[str, Any]) -> None:
    field = counted_pendulum()
    jax.jit(lambda: solve(field, **options).ys).lower()
    assert 1 <= field.num_traces <= AT_MOST


def test_the_field_is_traced_once_under_vmap() -> None:
    field = counted_pendulum()
    jax.jit(jax.vmap(lambda y0: solve(field, y0, **adaptive()).ys)).lower(np.ones((3, 2)))
    assert 1 <= field.num_traces <= AT_MOST


def test_an_eager_call_traces_once_and_a_second_not_at_all() -> None:
    field = counted_pendulum()
    solve(field)
    assert 1 <= field.num_traces <= AT_MOST
    first = field.num_traces
    solve(field)
    assert field.num_traces == first


def test_outputs_that_need_the_same_of_a_step_share_it_in_the_replay() -> None:
    """Dopri8 evaluates the field for dense output: once more a loop for another output, but not in the reverse one."""

    def solve(y0: Any, num_outputs: int) -> Any:
        subs = [rungax.SubSaveAt(ts=jnp.linspace(0.0, 0.5, 3 + i)) for i in range(num_outputs)]
        solution = rungax.diffeqsolve(
            lambda t, y, args: jnp.tan(y), rungax.Dopri8(), 0.0, 0.5, 0.1, y0, saveat=rungax.SaveAt(subs=subs),
            max_steps=8, throw=False,
        )  # fmt: skip
        return sum(jnp.sum(ys) for ys in solution.ys)

    def evaluations(function: Any, num_outputs: int) -> int:
        text = jax.jit(function, static_argnums=1).lower(jnp.asarray(0.5), num_outputs).as_text()
        return text.count("chlo.tan ") + text.count("stablehlo.tan ")

    of_solve, of_gradient = (evaluations(f, 2) - evaluations(f, 1) for f in (solve, jax.grad(solve)))
    assert of_solve > 0
    assert of_gradient == of_solve
