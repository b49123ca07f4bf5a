"""Steps end at the times in the stop queue, whoever put them there, and start anew where the equation jumps."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax
from rungax.stops import StopQueue, Stops

PID = rungax.PIDController(rtol=1e-6, atol=1e-9)
KINKS, JUMPS = (0.7, 0.2), (0.5,)


class Forcing(rungax.ODETerm):
    """A term that announces where it is not smooth."""

    kinks: Any = ()
    jumps: Any = ()

    def stops(self) -> tuple[Stops, ...]:
        return Stops(jnp.asarray(self.kinks), 2), Stops(jnp.asarray(self.jumps), 1)


def forcing(t: Any, y: Any, args: Any) -> Any:
    return jnp.where(t < 0.5, 1.0, -1.0) - y


def ends(term: Any, controller: Any, t0: float = 0.0, t1: float = 1.0) -> np.ndarray:
    saveat = rungax.SaveAt(steps=True)
    solution = rungax.diffeqsolve(
        term, rungax.Tsit5(), t0, t1, None, 0.0, saveat=saveat, stepsize_controller=controller, max_steps=64
    )
    ts = np.asarray(solution.ts)
    return ts[np.isfinite(ts)]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_a_terms_times_are_ends_of_steps(backwards: bool) -> None:
    t0, t1 = (1.0, 0.0) if backwards else (0.0, 1.0)
    found = ends(Forcing(forcing, kinks=KINKS, jumps=JUMPS), PID, t0, t1)
    assert set(KINKS) < set(found.tolist())
    assert np.nextafter(0.5, t1) in found or np.nextafter(0.5, t0) in found
    # The same times, whether the term states them or the controller holds them.
    clipped = rungax.ClipStepSizeController(PID, step_ts=KINKS, jump_ts=JUMPS)
    np.testing.assert_array_equal(found, ends(rungax.ODETerm(forcing), clipped, t0, t1))


def test_controllers_of_given_steps_refuse_a_terms_times() -> None:
    with pytest.raises(ValueError, match=r"Expected: an adaptive controller.*\nFound: +ConstantStepSize"):
        rungax.diffeqsolve(Forcing(forcing, kinks=(0.25,)), rungax.Heun(), 0.0, 1.0, 0.2, 0.0)


@pytest.mark.slow
def test_the_derivative_by_the_time_of_a_jump_is_the_closed_form() -> None:
    """For y' = -y + [t < s] from 0, y(1) = e^(s-1) - e^(-1), whose derivative by s is e^(s-1)."""

    def end(s: jax.Array) -> jax.Array:
        term = Forcing(lambda t, y, s: jnp.where(t < s, 1.0, 0.0) - y, jumps=s[None])
        solution = rungax.diffeqsolve(term, rungax.Tsit5(), 0.0, 1.0, None, 0.0, s, stepsize_controller=PID)
        return solution.ys[-1]

    s = jnp.asarray(0.4)
    expected = np.exp(0.4 - 1)
    value, gradient = jax.jit(jax.value_and_grad(end))(s)
    np.testing.assert_allclose(value, expected - np.exp(-1), rtol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(end))(s), expected, rtol=1e-5)


def directed(stops: Sequence[Stops], direction: float) -> list[Stops]:
    """`stops` in the direction of travel."""
    return [Stops(jnp.asarray(stop.times) * direction, stop.order) for stop in stops]


def test_the_queue_seen_from_the_other_end_has_the_same_stops() -> None:
    stops = [Stops(jnp.asarray(KINKS), 2), Stops(jnp.asarray(JUMPS), 1)]
    there, back = (StopQueue.of(directed(stops, direction), jnp.float64) for direction in (1.0, -1.0))
    assert there is not None
    assert back is not None
    turned = there.backwards()
    np.testing.assert_array_equal(turned.ends, back.ends)
    np.testing.assert_array_equal(turned.restarts, back.restarts)


JUMP = 0.1 + 0.2


def turns_at_the_jump(t: Any, y: Any, args: Any) -> Any:
    return jnp.where(t < JUMP, 1.0, -1.0) - y


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("place", ["before", "at", "after"])
def test_a_jump_next_to_another_stop_is_passed(place: str, backwards: bool) -> None:
    """0.1 + 0.2 is the number after 0.3: a step must end on 0.3 for both reasons, and then pass the jump."""
    jump = JUMP
    stop = {"before": 0.3, "at": jump, "after": float(np.nextafter(jump, 1.0))}[place]
    t0, t1 = (1.0, 0.0) if backwards else (0.0, 1.0)
    first, then = np.nextafter(jump, t0), np.nextafter(jump, t1)
    controller = rungax.ClipStepSizeController(PID, step_ts=[stop], jump_ts=[jump])
    solution = rungax.diffeqsolve(
        turns_at_the_jump,
        rungax.Tsit5(),
        t0,
        t1,
        None,
        0.0,
        saveat=rungax.SaveAt(dense=True, steps=True),
        stepsize_controller=controller,
        max_steps=64,
    )
    starts, found = np.asarray(solution.interpolation.starts), np.asarray(solution.ts)
    starts = starts * (t1 - t0)
    assert int(np.sum(found == first)) == 1
    assert starts[np.flatnonzero(found == first)[0] + 1] == then


def test_the_queue_seen_from_the_other_end_keeps_neighbouring_stops_together() -> None:
    jump = 0.5
    others = jnp.asarray([np.nextafter(jump, 0.0), jump, np.nextafter(jump, 1.0)])
    stops = [Stops(others, 2), Stops(jnp.asarray([jump]), 1)]
    there, back = (StopQueue.of(directed(stops, direction), jnp.float64) for direction in (1.0, -1.0))
    assert there is not None
    assert back is not None
    turned = there.backwards()
    np.testing.assert_array_equal(turned.ends, back.ends)
    np.testing.assert_array_equal(turned.restarts, back.restarts)


def test_there_is_no_queue_without_stops() -> None:
    assert StopQueue.of([], jnp.float64) is None
    assert StopQueue.of([Stops((), 1)], jnp.float64) is None
