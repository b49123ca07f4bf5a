"""Random small systems give the solution, the saved values and the events that SciPy gives at a much tighter tolerance.

A system is linear and trigonometric with cubic damping, which keeps it bounded in the direction of travel. Its
coefficients, the interval, the direction, the tolerance, the times to save at and the levels of the events are drawn at
random. They are arguments of one compiled program for each dimension, dtype and method.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import rungax

from ..catalogue import slow_unless

SAVED, SAMPLES, OFF = 6, 600, 1e9
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")


class System(NamedTuple):
    """The coefficients of a system of `n` equations, and the sign of the direction of travel."""

    matrix: Any
    forcing: Any
    coupling: Any
    damping: Any
    frequency: Any
    sign: Any


class Case(NamedTuple):
    """A system, its initial state, the interval, the times to save at as fractions of it, tolerance, and events.

    The first condition ends the solve where it passes its level in either direction; the second where it passes
    upwards; at each passage of the third the state stays as it is and is counted.
    """

    system: System
    y0: Any
    t0: Any
    length: Any
    fractions: Any
    tolerance: Any
    levels: Any


def field(xp: Any, t: Any, y: Any, system: System) -> Any:
    linear = xp.sum(system.matrix * y[None, :], axis=1)
    forced = system.forcing * xp.sin(system.frequency * t + 1)
    return system.sign * (linear + forced + system.coupling * xp.sin(y[::-1]) - system.damping * y * y * y)


# ------------------------------------------------------------------------------------------------------------- Rungax


@functools.cache
def program(solver: Any) -> Callable[..., Any]:
    """The compiled solve of a case. The last entry of its state counts the passages of the third condition."""

    def counted(t: Any, y: Any, system: System) -> Any:
        return jnp.append(field(jnp, t, y[:-1], system), jnp.zeros_like(y[-1]))

    def passes(which: int) -> Callable[..., Any]:
        return lambda t, y, args, **kwargs: y[0] - args[1][which]

    @jax.jit
    def solve(case: Case) -> Any:
        t1 = case.t0 + case.system.sign * case.length
        saveat = rungax.SaveAt(ts=case.t0 + case.fractions * (t1 - case.t0))
        ts = rungax.SubSaveAt(ts=saveat.subs.ts), rungax.SubSaveAt(t1=True)
        event = rungax.Event(
            (passes(0), passes(1), passes(2)),
            optx.Newton(rtol=1e-8, atol=1e-8),
            direction=(None, True, None),
            effect=(None, None, lambda t, y, args: y.at[-1].add(1)),
            interior=16,
        )
        solution = rungax.diffeqsolve(
            lambda t, y, args: counted(t, y, args[0]),
            solver,
            case.t0,
            t1,
            None,
            jnp.append(case.y0, jnp.zeros_like(case.t0)),
            (case.system, case.levels),
            saveat=rungax.SaveAt(subs=ts),
            stepsize_controller=rungax.PIDController(case.tolerance, case.tolerance),
            event=event,
            max_steps=8192,
            throw=False,
        )
        is_event = solution.result == rungax.RESULTS.event_occurred
        return solution.ts, solution.ys, solution.stats, rungax.is_okay(solution.result), is_event, solution.event_mask

    return solve


# -------------------------------------------------------------------------------------------------------------- SciPy


class Reference(NamedTuple):
    """The solution as a function of the distance from `t0`, and the growth of a small change of the initial state."""

    at: Callable[[Any], np.ndarray]
    growth: float
    size: float


def reference(case: Case) -> Reference:
    """SciPy's solution of a case, and of a neighbour 1e-6 away."""
    n, system = case.y0.size, case.system

    def both(s: float, y: np.ndarray) -> np.ndarray:
        t = case.t0 + system.sign * s
        return np.concatenate([system.sign * field(np, t, part, system) for part in (y[:n], y[n:])])

    start = np.concatenate([case.y0, case.y0 + 1e-6])
    solved = solve_ivp(both, (0.0, float(case.length)), start, "DOP853", rtol=1e-11, atol=1e-12, dense_output=True)
    samples = solved.sol(np.linspace(0.0, case.length, SAMPLES))
    growth = np.abs(samples[n:] - samples[:n]).max() / 1e-6
    return Reference(lambda s: solved.sol(s)[:n], max(1.0, growth), 1.0 + np.abs(samples[:n]).max())


def passages(ref: Reference, length: float, level: float) -> np.ndarray:
    """The distances from `t0` at which the first entry passes `level`, with the sign of each passage."""
    s = np.linspace(0.0, length, SAMPLES)
    values = ref.at(s)[0] - level
    found = np.flatnonzero(values[1:] * values[:-1] < 0)
    height = lambda s: float(ref.at(s)[0]) - level
    return np.array([(brentq(height, s[i], s[i + 1], xtol=1e-13), np.sign(values[i + 1])) for i in found]).reshape(
        -1, 2
    )


def is_clear(ref: Reference, length: float, level: float, error: float) -> bool:
    """True if a solution with this error has the passages of the reference: transversal and apart from each other."""
    s = np.linspace(0.0, length, SAMPLES)
    values = ref.at(s)[0] - level
    slopes = np.gradient(values, s)
    near = np.abs(values) < 0.02 * np.ptp(values) + error
    far_at_ends = not (near[0] or near[-1])
    apart = np.diff(passages(ref, length, level)[:, 0], prepend=-1.0)
    return (
        far_at_ends and bool((np.abs(slopes[near]) * length > 0.1 * np.ptp(values)).all()) and bool((apart > 0.1).all())
    )


# -------------------------------------------------------------------------------------------------------- comparison


def error_bound(case: Case, ref: Reference, num_steps: int) -> float:
    """Two tolerances for each step and twenty for a long one, grown as the reference's neighbour; and rounding."""
    rounding = 4 * float(np.finfo(case.y0.dtype).eps)
    return 2 * (float(case.tolerance) + rounding) * (10 + num_steps) * ref.size * ref.growth


def doubled(case: Case) -> Case:
    """The numbers of a case in double precision, which holds them exactly."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), case)


def with_clear_events(case: Case, ref: Reference, kinds: tuple[bool, ...]) -> Case:
    """A case whose levels, given as fractions of the range of the first entry, are heights; without unclear ones."""
    values = ref.at(np.linspace(0.0, float(case.length), SAMPLES))[0]
    error = error_bound(case, ref, 5)
    levels = [float(np.asarray(values.min() + x * np.ptp(values), case.y0.dtype)) for x in case.levels]
    used = [k and is_clear(ref, float(case.length), h, error) for k, h in zip(kinds, levels, strict=True)]
    heights = [h if use else OFF for h, use in zip(levels, used, strict=True)]
    return case._replace(levels=np.asarray(heights, case.y0.dtype))


def check(solver: Any, case: Case, ref: Reference, inside: float = 1.0) -> None:
    """Compare a case with its reference; values inside steps may be less exact than at their ends by a factor."""
    (ts, ends), (ys, last), stats, okay, is_event, mask = jax.tree.map(np.asarray, program(solver)(case))
    length, exact = float(case.length), doubled(case)
    assert okay, "the solve failed"
    bound = error_bound(case, ref, int(stats["num_accepted_steps"]))
    ending, upwards, counted = (passages(ref, length, float(level)) for level in exact.levels)
    first = [p[0, 0] if len(p) else np.inf for p in (ending, upwards[upwards[:, 1] > 0])]
    expected = min(first)
    distances = exact.system.sign * (np.asarray(ts, np.float64) - exact.t0)
    end = exact.system.sign * (float(ends[0]) - exact.t0)
    rate = np.abs(np.diff(ref.at(np.clip([expected - 1e-6, expected + 1e-6], 0, length))[0]))[0] / 2e-6
    if np.isfinite(expected):
        slack = bound / max(rate, 1e-30) + 1e-6 + 1e-6 * abs(exact.t0)
        assert is_event, f"no event, expected one at {expected}"
        assert abs(end - expected) <= slack
        if abs(first[0] - first[1]) > 2 * slack:
            assert [bool(x) for x in mask] == [first[0] < first[1], first[1] < first[0], False]
    else:
        assert not is_event, f"an event at {end}, expected none"
        rounding = 4 * float(np.finfo(case.y0.dtype).eps) * (abs(exact.t0) + length)
        np.testing.assert_allclose(end, length, atol=rounding, rtol=0)
    before = np.isfinite(distances)
    targets = exact.fractions * length
    assert (before | (targets > end - 1e-4)).all(), "a time to save at was left out"
    if before.any():
        np.testing.assert_allclose(ys[before][:, :-1], ref.at(distances[before]).T, atol=inside * bound, rtol=0)
    np.testing.assert_allclose(last[0][:-1], ref.at(end), atol=bound, rtol=0)
    unsure = np.abs(counted[:, 0] - end) < 1e-3
    if not unsure.any():
        assert last[0][-1] == (counted[:, 0] < end).sum()


@st.composite
def cases(draw: st.DrawFn, n: int, dtype: np.dtype[Any]) -> tuple[Case, tuple[bool, ...]]:
    """A case whose levels are fractions of a range, and which of its events are used."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = (-8.0, -3.0) if dtype == FLOAT64 else (-4.5, -3.0)
    system = System(
        matrix=rng.uniform(-1.5, 1.5, (n, n)),
        forcing=rng.uniform(-2.0, 2.0, n) * draw(st.booleans()),
        coupling=rng.uniform(-2.0, 2.0, n) * draw(st.booleans()),
        damping=rng.uniform(0.1, 1.0),
        frequency=rng.uniform(0.0, 4.0),
        sign=draw(st.sampled_from([1.0, -1.0])),
    )
    fractions = np.sort(rng.uniform(0.0, 1.0, SAVED))
    fractions[0], fractions[-1] = draw(st.sampled_from([(0.0, 1.0), (fractions[1], fractions[-2])]))
    case = Case(
        system=system,
        y0=rng.uniform(-2.0, 2.0, n),
        t0=rng.uniform(-5.0, 5.0) * draw(st.booleans()),
        length=10.0 ** rng.uniform(-2.0, 1.0),
        fractions=fractions,
        tolerance=10.0 ** rng.uniform(low, high),
        levels=rng.uniform(0.1, 0.9, 3),
    )
    return jax.tree.map(lambda x: np.asarray(x, dtype), case), tuple(draw(st.tuples(*[st.booleans()] * 3)))


PROGRAMS: dict[str, tuple[Any, int, np.dtype[Any], float]] = {
    "Tsit5 of 2": (rungax.Tsit5(), 2, FLOAT64, 1.0),
    "Kvaerno5 of 3": (rungax.Kvaerno5(), 3, FLOAT64, 10.0),
    "Tsit5 of 1 in float32": (rungax.Tsit5(), 1, FLOAT32, 1.0),
    "Dopri8 of 3": (rungax.Dopri8(), 3, FLOAT64, 1.0),
    "Bosh3 of 1": (rungax.Bosh3(), 1, FLOAT64, 1.0),
    "Rodas5P of 2": (rungax.Rodas5P(), 2, FLOAT64, 1.0),
    "Auto of 2": (rungax.Auto(), 2, FLOAT64, 1.0),
    "Kvaerno3 of 2 in float32": (rungax.Kvaerno3(), 2, FLOAT32, 1.0),
}
"""Method, dimension, dtype, and how much less exact values inside steps are: Kvaerno5 has an interpolant of order 3."""

QUICK, MANY = 34, 250
"""Cases for each program: with the first three, 102 in the quick suite; 2000 in the slow one."""


def compare(name: str, number: int) -> None:
    solver, n, dtype, inside = PROGRAMS[name]

    @hypothesis.given(cases(n, dtype))
    @hypothesis.settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    def run(drawn: tuple[Case, tuple[bool, ...]]) -> None:
        case, kinds = drawn
        ref = reference(doubled(case))
        check(solver, with_clear_events(case, ref, kinds), ref, inside)

    run()


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_unless("float32" not in n)) for n in list(PROGRAMS)[:3]])
def test_a_hundred_random_systems(name: str) -> None:
    compare(name, QUICK)


def test_what_is_wrong_is_seen() -> None:
    """A coefficient that is wrong by a hundredth, and so is a level."""
    system = System(np.array([[0.0, 1.0], [-1.0, 0.0]]), np.zeros(2), np.zeros(2), *map(np.asarray, (0.1, 1.0, -1.0)))
    fractions = np.linspace(0.0, 1.0, SAVED)
    t0, length, tolerance = np.asarray(0.5), np.asarray(6.0), np.asarray(1e-6)
    case = Case(system, np.array([1.0, 0.0]), t0, length, fractions, tolerance, np.array([OFF, OFF, 0.2]))
    ref, solver = reference(case), PROGRAMS["Tsit5 of 2"][0]
    check(solver, case, ref)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(solver, case, reference(case._replace(system=system._replace(damping=np.asarray(0.101)))))
    ending = case._replace(levels=np.array([0.2, OFF, OFF]))
    check(solver, ending, ref)
    late = Reference(lambda s: ref.at(s) + np.array([[0.01], [0.0]]).reshape((2,) + (1,) * np.ndim(s)), 1.0, ref.size)
    with pytest.raises(AssertionError):
        check(solver, ending, late)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_two_thousand_random_systems(name: str) -> None:
    compare(name, MANY)
