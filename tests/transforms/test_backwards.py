"""A solve backwards in time is the mirror image of a solve forwards, and everybody is shown the true time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax

from ..catalogue import CONTROLLERS, ONE_OF_A_KIND, estimates_error, order, terms_for
from ..compare import assert_trees_close
from ..problems.ordinary import BELL, CLOCKED_TORUS

T0, T1 = 1.5, -0.5


def mirrored(t: Any, y: Any, args: Any) -> Any:
    return -CLOCKED_TORUS.field(-t, y, args)


def solve(backwards: bool, saveat: rungax.SaveAt, controller: str = "PID, dt0=None") -> rungax.Solution:
    """From 1.5 to -0.5, or the same seen in a mirror: from -1.5 to 0.5 with the mirrored field."""
    assert CLOCKED_TORUS.exact is not None
    sign = 1 if backwards else -1
    stepsize_controller, dt0 = CONTROLLERS[controller](sign * T0, sign * T1)
    field = CLOCKED_TORUS.field if backwards else mirrored
    return rungax.diffeqsolve(
        field,
        rungax.Tsit5(),
        sign * T0,
        sign * T1,
        dt0,
        CLOCKED_TORUS.exact(T0),
        saveat=saveat,
        stepsize_controller=stepsize_controller,
        max_steps=128,
    )


def with_time(sign: int) -> Any:
    """A function to save that depends on time, in a mirror or not."""
    return lambda t, y, args: {"time": sign * t, "product": sign * t * y}


# Each kind of output for times with the sign of `sign`: what is saved must not depend on it, its times change theirs.
KINDS = {
    "t0": lambda sign: rungax.SaveAt(t0=True),
    "t1": lambda sign: rungax.SaveAt(t1=True),
    "ts": lambda sign: rungax.SaveAt(ts=sign * np.array([1.5, 1.0, 1.0, 0.1, -0.2, -0.5])),
    "steps": lambda sign: rungax.SaveAt(steps=True),
    "every third step": lambda sign: rungax.SaveAt(steps=3, t1=True),
    "fn": lambda sign: rungax.SaveAt(t0=True, ts=sign * np.array([0.7]), steps=True, t1=True, fn=with_time(sign)),
    "subs": lambda sign: rungax.SaveAt(
        subs=(rungax.SubSaveAt(ts=sign * np.array([0.4])), [rungax.SubSaveAt(t1=True, fn=with_time(sign))])
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_values_are_mirrored(kind: str) -> None:
    found, expected = solve(True, KINDS[kind](1)), solve(False, KINDS[kind](-1))
    assert_trees_close(found.ys, expected.ys, rtol=1e-12, atol=1e-12)
    times = jax.tree.map(lambda t: jnp.where(jnp.isinf(t), t, -t), expected.ts)
    assert_trees_close(found.ts, times, rtol=1e-12, atol=1e-12)
    assert_trees_close(found.stats, expected.stats)


def test_dense_output_is_mirrored() -> None:
    found, expected = solve(True, rungax.SaveAt(dense=True)), solve(False, rungax.SaveAt(dense=True))
    times = jnp.linspace(T0, T1, 9)
    assert_trees_close(jax.vmap(found.evaluate)(times), jax.vmap(expected.evaluate)(-times), rtol=1e-12, atol=1e-12)
    increments = jax.vmap(found.evaluate)(times[:-1], times[1:])
    assert_trees_close(increments, jax.vmap(expected.evaluate)(-times[:-1], -times[1:]), rtol=1e-12, atol=1e-12)
    slopes = jax.vmap(expected.derivative)(-times)
    assert_trees_close(jax.vmap(found.derivative)(times), -slopes, rtol=1e-9, atol=1e-9)
    for outside in (T0 + 0.01, T1 - 0.01):
        assert np.isnan(found.evaluate(outside)).all()


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_controllers_are_mirrored(controller: str) -> None:
    saveat = rungax.SaveAt(t0=True, steps=True, t1=True)
    found, expected = solve(True, saveat, controller), solve(False, saveat, controller)
    assert_trees_close(found.ys, expected.ys, rtol=1e-12, atol=1e-12)
    assert_trees_close(found.ts, jnp.where(jnp.isinf(expected.ts), expected.ts, -expected.ts), rtol=1e-12, atol=1e-12)


def test_saved_function_sees_the_true_time() -> None:
    saveat = rungax.SaveAt(t0=True, ts=[1.0, 0.25], steps=True, t1=True, fn=lambda t, y, args: (t, args * t))
    solution = rungax.diffeqsolve(BELL.field, rungax.Tsit5(), 1.0, 0.0, -0.25, 0.5, 3.0, saveat=saveat, max_steps=8)
    assert list(solution.ts[:8]) == [1.0, 1.0, 0.75, 0.5, 0.25, 0.25, 0.0, np.inf]
    assert_trees_close(solution.ys, (solution.ts, 3 * solution.ts))


def test_field_sees_the_true_time() -> None:
    """What a field returns for its time alone is integrated as such: y' = t from 2 to 1 loses 3/2."""
    solution = rungax.diffeqsolve(lambda t, y, args: t, rungax.Tsit5(), 2.0, 1.0, -0.5, 0.0)
    np.testing.assert_allclose(solution.ys, [-1.5], rtol=1e-15)
    assert list(solution.ts) == [1.0]


def test_a_control_an_event_and_a_saved_function_see_the_true_time() -> None:
    """y = t² along its control, read where the event finds t = 0.5 on the way from 2 to 0."""
    term = rungax.ControlTerm(lambda t, y, args: jnp.ones_like(y), lambda t0, t1: t1**2 - t0**2)
    finder = optx.Newton(rtol=1e-12, atol=1e-12)
    event = rungax.Event(lambda t, y, args, *, t0, t1, dt0, **kwargs: t + 0.25 * (t0 + t1) * dt0 / 0.25, finder)
    saveat = rungax.SaveAt(t0=True, t1=True, steps=True, fn=lambda t, y, args: (t, y))
    solution = rungax.diffeqsolve(
        term, rungax.Euler(), 2.0, 0.0, -0.25, np.asarray(4.0), saveat=saveat, event=event, max_steps=16
    )
    times, states = (np.asarray(x)[np.isfinite(x)] for x in solution.ys)
    np.testing.assert_allclose(times, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(times, np.asarray(solution.ts)[: len(times)])
    np.testing.assert_allclose(states, times**2, rtol=1e-12)


@pytest.mark.parametrize("solver", ONE_OF_A_KIND)
def test_there_and_back(solver: rungax.AbstractSolver[Any]) -> None:
    """To 0.5 and back again: both ways the error is no larger than the method's."""
    adaptive = estimates_error(solver)
    controller = rungax.PIDController(rtol=1e-6, atol=1e-8) if adaptive else rungax.ConstantStepSize()

    @jax.jit
    def final(t0: jax.Array, t1: jax.Array, y0: jax.Array) -> jax.Array:
        dt0 = None if adaptive else (t1 - t0) / 512
        terms = terms_for(solver, BELL.field)
        return rungax.diffeqsolve(terms, solver, t0, t1, dt0, y0, stepsize_controller=controller).ys[-1]

    assert BELL.exact is not None
    a, b = jnp.asarray(0.0), jnp.asarray(0.5)
    there = final(a, b, jnp.asarray(1.0))
    back = final(b, a, there)
    # After a step whose local error is the tolerance, a first-order method has a global error of its square root.
    tolerance = (1e-3 if order(solver) == 1 else 1e-4) if adaptive else 2e-3
    np.testing.assert_allclose(there, BELL.exact(0.5), rtol=tolerance)
    np.testing.assert_allclose(back, 1.0, rtol=tolerance)
