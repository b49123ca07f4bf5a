"""Random conditions: an effect that changes nothing happens as often as the computed solution passes zero."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from hypothesis import assume, given, settings, strategies as st

import rungax
from rungax import ConstantStepSize, Event, PIDController, SaveAt, diffeqsolve

from ..catalogue import REVERSIBLE, SOLVERS, SYMPLECTIC, WRAPPERS, estimates_error, name, terms_for

END, SAMPLES, LONGEST = 11.0, 1201, 0.5
FREQUENT = ("Euler", "Tsit5", "Kvaerno3")


def circle(t: Any, y: Any, args: Any) -> Any:
    """Position and speed, and the number of effects."""
    return jnp.stack([y[1], -y[0], jnp.zeros_like(y[0])])


CIRCLE_APART = (
    rungax.ODETerm(lambda t, p, args: p * jnp.asarray([1.0, 0.0])),
    rungax.ODETerm(lambda t, q, args: -q * jnp.asarray([1.0, 0.0])),
)
"""The same for solvers for pairs: position and number, speed and nothing."""


def position_speed_number(y: Any) -> tuple[Any, Any, Any]:
    return (y[0][0], y[1][0], y[0][1]) if isinstance(y, tuple) else (y[0], y[1], y[2])


def one_more(t: Any, y: Any, args: Any) -> Any:
    if isinstance(y, tuple):
        return y[0] + jnp.asarray([0.0, 1.0]), y[1]
    return y + jnp.asarray([0.0, 0.0, 1.0])


def condition(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    """The height above a level, in a direction."""
    angle, level = args
    x, v, _ = position_speed_number(y)
    return x * jnp.cos(angle) + v * jnp.sin(angle) - level


@functools.cache
def program(solver: Any, is_adaptive: bool, direction: bool | None, interior: int) -> Callable[..., Any]:
    """The number of effects in a solve to a time, its result, and the values of the condition at many times."""
    pair = solver in SYMPLECTIC
    terms = CIRCLE_APART if pair else terms_for(solver, circle)
    y0 = (jnp.asarray([1.0, 0.0]), jnp.zeros(2)) if pair else jnp.asarray([1.0, 0.0, 0.0])
    event = Event(condition, optx.Newton(1e-9, 1e-9), direction, one_more, interior=interior)
    controller = PIDController(rtol=1e-4, atol=1e-6, dtmax=LONGEST) if is_adaptive else ConstantStepSize()

    def solve(t1: Any, dt0: Any, angle: Any, level: Any) -> Any:
        solution = diffeqsolve(
            terms, solver, 0.0, t1, dt0, y0, (angle, level), event=event, stepsize_controller=controller,
            saveat=SaveAt(t1=True, dense=True), max_steps=4096, throw=False,
        )  # fmt: skip
        ts = jnp.linspace(0.0, 1.0, SAMPLES) * t1
        values = jax.vmap(lambda t: condition(t, solution.evaluate(t), (angle, level)))(ts)
        end = jax.tree.map(lambda y: y[0], solution.ys)
        return position_speed_number(end)[2], solution.result == rungax.RESULTS.successful, values

    return jax.jit(solve)


def cases() -> list[Any]:
    """Each solver with fixed and, if it estimates its error, with adaptive steps; in one direction, or in both."""
    found: list[Any] = []
    for solver in (*SOLVERS, *SYMPLECTIC, *REVERSIBLE, *WRAPPERS):
        adapts = solver not in SYMPLECTIC + REVERSIBLE and estimates_error(solver)
        for is_adaptive in (False, True) if adapts else (False,):
            often = name(solver) in FREQUENT and (is_adaptive or not adapts)
            marks = [] if often else [pytest.mark.slow]
            how = "adaptive" if is_adaptive else "constant"
            found.append(pytest.param(solver, is_adaptive, None, 0, id=f"{name(solver)}-{how}", marks=marks))
    found.append(pytest.param(rungax.Bosh3(), False, True, 0, id="upwards", marks=pytest.mark.slow))
    found.append(pytest.param(rungax.Bosh3(), False, False, 8, id="downwards, interior"))
    return found


@pytest.mark.parametrize(("solver", "is_adaptive", "direction", "interior"), cases())
def test_as_many_effects_as_passages(solver: Any, is_adaptive: bool, direction: bool | None, interior: int) -> None:
    run = program(solver, is_adaptive, direction, interior)

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(
        way=st.sampled_from([1.0, -1.0]),
        angle=st.floats(0.0, 6.28),
        level=st.floats(-0.8, 0.8),
        step=st.floats(0.03, 0.05) | st.just(0.04),
    )
    def check(way: float, angle: float, level: float, step: float) -> None:
        longer = 10.0 if interior else 1.0  # with times inside the steps they may be longer than the roots are apart
        number, is_successful, values = run(way * END, way * step * longer, angle, level)
        values = np.asarray(values)
        # Passages near the ends, and extremes near zero, may be counted either way.
        turns = values[1:-1][np.sign(np.diff(values[1:])) != np.sign(np.diff(values[:-1]))]
        assume(np.min(np.abs([values[0], values[-1], *turns])) > 1e-4)
        changes = np.diff(np.sign(values))
        counts = {None: changes != 0, True: changes > 0, False: changes < 0}[direction]
        assert is_successful
        assert int(number) == np.sum(counts)

    check()
