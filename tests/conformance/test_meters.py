"""Every progress meter leaves the solve and its derivatives as they are, in any program."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import pytest

import rungax

from ..catalogue import METERS, slow_unless
from ..compare import assert_trees_close
from ..problems.fields import ARGS, pendulum
from .examples import START


def solve(meter: rungax.AbstractProgressMeter, y0: Any, t1: float = 1.0) -> Any:
    solution = rungax.diffeqsolve(
        pendulum, rungax.Bosh3(), 0.0, t1, t1 / 8, y0, ARGS, progress_meter=meter, max_steps=8, throw=False
    )
    return solution.ys


USES: dict[str, Callable[[rungax.AbstractProgressMeter, Any], Any]] = {
    "value": solve,
    "backwards": lambda meter, y0: solve(meter, y0, -1.0),
    "vmap": lambda meter, y0: jax.vmap(lambda scale: solve(meter, scale * y0))(np.asarray([1.0, 2.0])),
    "gradient": lambda meter, y0: jax.grad(lambda y0: solve(meter, y0).sum())(y0),
    "jvp": lambda meter, y0: jax.jvp(lambda y0: solve(meter, y0), (y0,), (y0,)),
}


@cache
def compiled(name: str, use: str) -> Callable[[Any], Any]:
    return jax.jit(partial(USES[use], METERS[name]()))


# Both meters that show something are called by the same code; `progress/` tests each.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=slow_unless(name == "TextProgressMeter")) for name in METERS]
)
def test_values_and_derivatives_are_those_without_a_meter(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for use in USES:
        found, expected = compiled(name, use)(START), compiled("NoProgressMeter", use)(START)
        jax.effects_barrier()
        assert_trees_close(found, expected, rtol=1e-13, atol=1e-13)
    shown = "".join(capfd.readouterr())
    assert ("100.00%" in shown) == (name != "NoProgressMeter")
