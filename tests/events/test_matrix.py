"""Events with every way of saving, every adjoint and both directions: one of them at a time differs from the first.

The state decays, `y' = -a y` (backwards it grows), from `y0`; where it passes a level it is multiplied, or the solve
ends. Values are compared with the closed form at the times that were saved, and derivatives with difference quotients.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import Event, SaveAt, SubSaveAt

from ..catalogue import slow_unless
from ..gradients.measure import assert_derivative, difference_quotient, direction_like, weigh

NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)
BISECTION = optx.Bisection(rtol=1e-13, atol=1e-13)
LEVEL, FACTOR = 0.45, 2.5
INPUTS = (np.asarray(1.0), np.asarray(0.9))  # y0 and a


def level(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y - LEVEL


def negative(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y < 0


def grown(t: Any, y: Any, args: Any) -> Any:
    return FACTOR * y


class Case(NamedTuple):
    """One solve; a case differs from the first in the fields that it sets."""

    event: Event = Event(level, NEWTON, effect=grown)
    saveat: SaveAt = SaveAt(ts=(0.2, 0.5, 0.9, 1.3, 1.9))
    adjoint: Any = rungax.RecursiveCheckpointAdjoint()
    reverse: bool = True
    sign: float = 1.0


def solve(case: Case, inputs: Any) -> rungax.Solution:
    """In steps of a fortieth: no event falls on the end of one, nor leaves its step when the inputs move a little."""
    y0, a = inputs

    def turned(sub: SubSaveAt) -> SubSaveAt:
        ts = None if sub.ts is None else jax.tree.map(lambda t: case.sign * jnp.asarray(t), sub.ts)
        return SubSaveAt(t0=sub.t0, t1=sub.t1, ts=ts, steps=sub.steps, fn=sub.fn)

    saveat = SaveAt(subs=jax.tree.map(turned, case.saveat.subs, is_leaf=lambda x: isinstance(x, SubSaveAt)))
    return rungax.diffeqsolve(
        rungax.ODETerm(lambda t, y, args: -case.sign * args * y), rungax.Tsit5(), 0.0, case.sign * 2.0,
        case.sign * 0.025, y0, a, saveat=saveat, event=case.event, adjoint=case.adjoint, max_steps=128,
    )  # fmt: skip


def exact(t: np.ndarray, inputs: Any, ends: bool) -> np.ndarray:
    """The state after a time `t` of travel: it falls to the level, and then again and again from `FACTOR` times that.

    At the very time of an event it is the level: what was saved there is the state before the jump.
    """
    y0, a = (float(x) for x in inputs)
    first, again = np.log(y0 / LEVEL) / a, np.log(FACTOR) / a
    used = np.isfinite(t)
    since = np.where(used, t, 0.0) - first
    jumps = np.floor(since / again - 1e-9) + 1
    y = np.where(since < 1e-9, LEVEL * np.exp(-a * since), LEVEL * np.exp(-a * (since - jumps * again)))
    return np.where(used & ~(ends & (since > 1e-9)), y, np.inf)


FIRST = Case()
ENDING = Event(level, NEWTON)
SAVES = {
    "t1": SubSaveAt(t1=True),
    "t0, ts, t1": SubSaveAt(t0=True, ts=(0.3, 0.9, 1.7), t1=True),
    "steps": SubSaveAt(steps=True),
    "steps=3, t1": SubSaveAt(steps=3, t1=True),
    "fn": SubSaveAt(ts=(0.3, 1.0), fn=lambda t, y, args: y),
}
EVERYTHING = SaveAt(subs=SAVES)
CASES: dict[str, Case] = {
    "first": FIRST,
    "saves everything": FIRST._replace(saveat=EVERYTHING),
    "ends, saves everything": FIRST._replace(event=ENDING, saveat=EVERYTHING),
    "Bisection": FIRST._replace(event=Event(level, BISECTION, effect=grown)),
    "downwards": FIRST._replace(event=Event(level, NEWTON, direction=False, effect=grown)),
    "never upwards": FIRST._replace(event=Event(level, NEWTON, direction=True)),
    "interior": FIRST._replace(event=Event(level, BISECTION, effect=grown, interior=3)),
    "ends": FIRST._replace(event=ENDING),
    "ends, Bisection": FIRST._replace(event=Event(level, BISECTION)),
    "one of two": FIRST._replace(event=Event((negative, level), NEWTON, effect=(None, grown), direction=(None, False))),
    "backwards": FIRST._replace(sign=-1.0),
    "backwards, ends": FIRST._replace(sign=-1.0, event=ENDING),
    "checkpoints": FIRST._replace(adjoint=rungax.RecursiveCheckpointAdjoint(checkpoints=4)),
    "direct": FIRST._replace(adjoint=rungax.DirectAdjoint()),
    "forward": FIRST._replace(adjoint=rungax.ForwardMode(), reverse=False),
    "ends, checkpoints": FIRST._replace(event=ENDING, adjoint=rungax.RecursiveCheckpointAdjoint(checkpoints=4)),
    "ends, direct": FIRST._replace(event=ENDING, adjoint=rungax.DirectAdjoint()),
    "ends, forward": FIRST._replace(event=ENDING, adjoint=rungax.ForwardMode(), reverse=False),
    "ends, reversible": FIRST._replace(
        event=ENDING, adjoint=rungax.ReversibleAdjoint(), saveat=SaveAt(ts=(0.2, 0.5), t1=True)
    ),
}  # fmt: skip


# Closed forms show the derivatives of events that end a solve, and of what is saved before, in `test_gradients.py`.
DERIVATIVES = [pytest.param(case, id=name, marks=slow_unless(name == "backwards")) for name, case in CASES.items()]


def has_an_end(case: Case) -> bool:
    return case.event.effect is None and case.event.direction is not True


REPEATS = (
    *("first", "Bisection", "ends", "ends, Bisection", "backwards, ends", "downwards"),
    *("checkpoints", "forward", "ends, checkpoints", "ends, direct", "ends, forward"),
    *("direct", "saves everything", "ends, reversible"),
)
"""Their values are among those of another case or of one in `test_ending.py`, or come from the same program."""
VALUES = [pytest.param(case, id=name, marks=slow_unless(name not in REPEATS)) for name, case in CASES.items()]


@pytest.mark.parametrize("case", VALUES)
def test_values_are_those_of_the_closed_form(case: Case) -> None:
    if case.event.direction is True:
        pytest.skip("nothing happens: the derivative alone is of interest")
    solution = jax.jit(lambda inputs: solve(case, inputs))(INPUTS)
    for ts, ys in zip(jax.tree.leaves(solution.ts), jax.tree.leaves(solution.ys), strict=True):
        travelled = np.where(np.isinf(ts), np.inf, case.sign * np.asarray(ts))
        expected = exact(travelled, INPUTS, has_an_end(case))
        np.testing.assert_allclose(ys, expected, rtol=1e-6 if "Reversible" in str(case.adjoint) else 1e-9)
    ended = solution.result == rungax.RESULTS.event_occurred
    assert bool(ended) == has_an_end(case)


@pytest.mark.parametrize("case", DERIVATIVES)
def test_derivatives_are_those_of_difference_quotients(case: Case) -> None:
    def loss(inputs: Any) -> jax.Array:
        solution = solve(case, inputs)
        return weigh((solution.ts, solution.ys))

    if case.reverse:
        assert_derivative(loss, INPUTS, rtol=2e-6, h=1e-4)
        return
    direction = direction_like(INPUTS)
    quotient = difference_quotient(jax.jit(loss), INPUTS, direction, h=1e-4)
    found = jax.jit(lambda inputs: jax.jvp(loss, (inputs,), (direction,))[1])(INPUTS)
    np.testing.assert_allclose(found, quotient, rtol=2e-6)
