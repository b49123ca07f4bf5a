"""Every controller is the same under transformations, in both directions of time, in two parts, and in all modes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

from ..catalogue import CONTROLLERS, slow_unless
from ..compare import assert_trees_close
from ..gradients.measure import weigh
from ..problems.ordinary import CLOCKED_TORUS

T0, T1 = 1.5, -0.5
# Step sizes are powers in single precision, which another program may round differently.
ROUNDING = {"rtol": 3e-7, "atol": 3e-7}


def driven(t: Any, y: Any, args: Any) -> Any:
    """The field with another phase: if it were even in time, a wrong sign of time would not show."""
    return CLOCKED_TORUS.field(t + 1, y, args)


def mirrored(t: Any, y: Any, args: Any) -> Any:
    return -driven(-t, y, args)


class Subject:
    """A controller on a nonlinear problem; its programs are compiled once."""

    def __init__(self, name: str):
        self.choose = CONTROLLERS[name]

    def solve(self, t0: Any, t1: Any, y0: Any, field: Any = driven, **options: Any) -> rungax.Solution:
        """Every step is saved."""
        controller, dt0 = self.choose(t0, t1)
        call = {"saveat": rungax.SaveAt(t0=True, steps=True, t1=True), "max_steps": 64, "throw": False, **options}
        return rungax.diffeqsolve(field, rungax.Tsit5(), t0, t1, dt0, y0, stepsize_controller=controller, **call)

    def steps(self, t0: Any, t1: Any, y0: Any) -> tuple[Any, Any]:
        solution = self.solve(t0, t1, y0)
        return solution.ts, solution.ys

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        return jax.jit(self.steps)


START = CLOCKED_TORUS.exact(T0 + 1) if CLOCKED_TORUS.exact is not None else None
INPUTS = (np.asarray(T0), np.asarray(T1), START)


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def with_controllers(often: tuple[str, ...]) -> pytest.MarkDecorator:
    """Every controller as the subject; those not named in `often` are slow."""
    controllers = [pytest.param(name, marks=slow_unless(name in often)) for name in CONTROLLERS]
    return pytest.mark.parametrize("subject", controllers, indirect=True, scope="module")


OFTEN = ("StepTo", "PID, clipped")
"""Without "PID", which the last one is with other stops, and without constant steps, which the same tests of solvers
and of ways of saving make.
"""


@with_controllers(("StepTo",))
def test_jit_is_eager(subject: Subject) -> None:
    ts, ys = subject.compiled(*INPUTS)
    assert T1 in ts, "the solve did not come to its end"
    assert_trees_close(subject.steps(*INPUTS), (ts, ys), **ROUNDING)


@with_controllers(OFTEN)
def test_vmap_is_a_loop(subject: Subject) -> None:
    """Over ends in both directions and states, so that batch elements make different numbers of steps."""
    batch = np.array([1.5, 1.5, -1.0]), np.array([-0.5, 1.0, 0.5]), np.stack([START, 2 * START, START])
    together = jax.jit(jax.vmap(subject.steps))(*batch)
    for i in range(3):
        found = jax.tree.map(lambda x, i=i: x[i], together)
        assert_trees_close(found, subject.compiled(*(x[i] for x in batch)), **ROUNDING)


@with_controllers(OFTEN)
def test_backwards_it_is_the_mirror_image(subject: Subject) -> None:
    """From 1.5 to -0.5, and from -1.5 to 0.5 with the mirrored field."""
    found = subject.compiled(*INPUTS)
    solution = jax.jit(lambda t0, t1, y0: subject.solve(t0, t1, y0, mirrored))(-T0, -T1, START)
    times = jnp.where(jnp.isinf(solution.ts), solution.ts, -solution.ts)
    assert_trees_close(found, (times, solution.ys), rtol=1e-12, atol=1e-12)


@with_controllers(("PID, clipped",))
def test_all_modes_of_differentiation_agree(subject: Subject) -> None:
    """Forward and reverse mode along a direction; the steps that a controller chose are fixed."""

    def loss(y0: Any) -> jax.Array:
        return weigh(subject.solve(*INPUTS[:2], y0, saveat=rungax.SaveAt(t1=True)).ys)

    direction = np.array([0.3, -0.7, 0.5])
    both = jax.jit(lambda y0: (jax.grad(loss)(y0) @ direction, jax.jvp(loss, (y0,), (direction,))[1]))
    reverse, forward = both(START)
    assert abs(reverse) > 1e-3
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
