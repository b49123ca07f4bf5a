"""Every progress meter leaves the solve and its derivatives as they are, in any program."""

from typing import Any

import jax
import numpy as np
import pytest

import rungax

from ..catalogue import METERS
from ..compare import assert_trees_close
from ..problems.fields import ARGS, pendulum
from .examples import START


def solve(meter: rungax.AbstractProgressMeter, y0: Any, t1: float = 1.0) -> Any:
    solution = rungax.diffeqsolve(
        pendulum, rungax.Bosh3(), 0.0, t1, t1 / 8, y0, ARGS, progress_meter=meter, max_steps=8, throw=False
    )
    return solution.ys


@pytest.mark.parametrize("name", METERS)
def test_values_and_derivatives_are_those_without_a_meter(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    meter = METERS[name]()
    for function in (
        lambda meter, y0: solve(meter, y0),
        lambda meter, y0: solve(meter, y0, -1.0),
        lambda meter, y0: jax.vmap(lambda scale: solve(meter, scale * y0))(np.asarray([1.0, 2.0])),
        lambda meter, y0: jax.grad(lambda y0: solve(meter, y0).sum())(y0),
        lambda meter, y0: jax.jvp(lambda y0: solve(meter, y0), (y0,), (y0,)),
    ):
        found = jax.jit(lambda y0, function=function: function(meter, y0))(START)
        expected = jax.jit(lambda y0, function=function: function(rungax.NoProgressMeter(), y0))(START)
        jax.effects_barrier()
        assert_trees_close(found, expected, rtol=1e-13, atol=1e-13)
    shown = "".join(capfd.readouterr())
    assert ("100.00%" in shown) == (name != "NoProgressMeter")
