"""Where the description of the interface judges a behaviour elsewhere a defect, **[D]**, Rungax does the right thing.

One small test for each such place, in their order; the docstrings quote them.
"""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    RESULTS,
    AbstractBrownianIncrement,
    AbstractBrownianPath,
    ControlTerm,
    Event,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    SpaceTimeTimeLevyArea,
    diffeqsolve,
)

from ..catalogue import name, terms_for
from ..nonlinear.test_failed_stages import fails_on_long_steps, undemanding

ONE = jnp.asarray(1.0)
NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)


def decay(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(jnp.negative, y)


def clock(t: Any, y: Any, args: Any) -> Any:
    return jnp.ones_like(y)


def test_complex_states_are_nothing_to_warn_of() -> None:
    """All warnings are `UserWarning`: … complex input **[D]**."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = diffeqsolve(decay, rungax.Bosh3(), 0.0, 1.0, 0.1, jnp.asarray(1j))
    np.testing.assert_allclose(solution.ys[0], 1j * np.exp(-1), rtol=1e-4)


@pytest.mark.parametrize("solver", [rungax.Heun(), rungax.Sil3()], ids=name)
def test_leaves_of_unlike_dtypes(solver: Any) -> None:
    """Leaves of unlike dtype work in `Euler`, fail in every Runge–Kutta solver **[D]**."""
    y0 = {"a": jnp.ones(2, "float32"), "b": ONE}
    ys = diffeqsolve(terms_for(solver, decay), solver, 0.0, 1.0, 0.05, y0).ys
    assert [leaf.dtype.name for leaf in jax.tree.leaves(ys)] == ["float32", "float64"]
    for leaf in jax.tree.leaves(ys):
        np.testing.assert_allclose(leaf, np.full_like(leaf, np.exp(-1)), rtol=1e-2)


# ----------------------------------------------------------------------------------------------------------- backwards


class Given(AbstractBrownianPath):
    """The same normals as the noise of whatever interval is asked for."""

    normals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    t0: float = eqx.field(default=-10.0, static=True)
    t1: float = eqx.field(default=10.0, static=True)
    levy_area: type[AbstractBrownianIncrement] = eqx.field(default=SpaceTimeTimeLevyArea, static=True)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        h = jnp.asarray(t1 - t0)
        W, H, K = (x * jnp.sqrt(h / n) for x, n in zip(self.normals, (1.0, 12.0, 720.0), strict=True))
        return SpaceTimeTimeLevyArea(h, W, H, K) if use_levy else W


SRK = (rungax.SEA, rungax.SRA1, rungax.ShARK, rungax.SPaRK, rungax.GeneralShARK, rungax.SlowRK)


@pytest.mark.parametrize("cls", SRK, ids=lambda cls: cls.__name__)
def test_the_drift_has_its_sign_backwards(cls: Any) -> None:
    """`SEA SRA1 ShARK SPaRK GeneralShARK SlowRK` integrate the drift with the wrong sign **[D]**."""
    terms = MultiTerm(ODETerm(decay), ControlTerm(lambda t, y, args: ONE, Given()))
    y1 = diffeqsolve(terms, cls(), 1.0, 0.0, -0.02, ONE).ys[0]
    np.testing.assert_allclose(y1, np.e, rtol=2e-2)


@pytest.mark.parametrize("cls", [rungax.ALIGN, rungax.ShOULD, rungax.QUICSORT], ids=lambda cls: cls.__name__)
def test_langevin_solvers_undo_their_step(cls: Any) -> None:
    """`ALIGN ShOULD QUICSORT` fall to first order, because `H` is negated too **[D]**.

    A step there and the step back along the same noise meet up to the method's local error, of order 2.5 or more; with
    the wrong sign of `H` they miss each other by the size of `H`, the power 1.5 of the step in place, 0.5 in speed.
    """
    path = Given((0.7, -1.1, 0.6))
    terms = MultiTerm(
        rungax.UnderdampedLangevinDriftTerm(1.0, 1.0, lambda x, args: 2 * x * (x**2 - 1)),
        rungax.UnderdampedLangevinDiffusionTerm(1.0, 1.0, path),
    )
    y0 = (ONE, jnp.asarray(0.5))

    @jax.jit
    def step(t0: Any, t1: Any, y: Any) -> Any:
        ys = diffeqsolve(terms, cls(), t0, t1, t1 - t0, y, max_steps=1, throw=False).ys
        return jax.tree.map(lambda leaf: leaf[0], ys)

    lengths = np.asarray([2.0**-4, 2.0**-6, 2.0**-8])
    missed = [np.asarray(step(h, 0.0, step(0.0, h, y0))) - np.asarray(y0) for h in lengths]
    place, speed = (np.polyfit(np.log(lengths), np.log(np.abs(m)), 1)[0] for m in np.transpose(missed))
    assert min(place, speed) > 2.0


def test_events_see_true_times_backwards() -> None:
    """**[D]** backwards: … events see `-t` and negated `t0, t1, dt0`."""
    told: list[Any] = []

    def condition(t: Any, y: Any, args: Any, *, t0: Any, t1: Any, dt0: Any, **kwargs: Any) -> Any:
        told.append(None)
        return t - (0.25 * t0 + 0.75 * t1 + 0.0 * dt0) * jnp.sign(-dt0)

    solution = diffeqsolve(clock, rungax.Euler(), 3.0, 1.0, -0.4, jnp.asarray(3.0), event=Event(condition, NEWTON))
    assert told
    np.testing.assert_allclose((solution.ts[0], solution.ys[0]), (1.5, 1.5), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------- steps


def test_fixed_steps_visit_the_multiples_of_the_step() -> None:
    """`dt0=0.3` on [0,1] gives .3 .5 .75 1. The documentation promises .3 .6 .9 1 **[D]**."""
    for sign in (1.0, -1.0):
        solution = diffeqsolve(
            decay, rungax.Euler(), 0.0, sign, 0.3 * sign, ONE, saveat=SaveAt(steps=True), max_steps=4
        )
        np.testing.assert_allclose(solution.ts, sign * np.asarray([0.3, 0.6, 0.9, 1.0]), rtol=1e-15)


def test_the_first_step_follows_the_problem() -> None:
    """Initial step: meant for a bare `ODETerm`; anything else gets 0.01. (In 0.7.2 everything gets 0.01 **[D]**.)"""

    def first(rate: float) -> float:
        solution = diffeqsolve(
            lambda t, y, rate: -rate * y, rungax.Bosh3(), 0.0, 100.0, None, ONE, rate, saveat=SaveAt(steps=True),
            stepsize_controller=PIDController(rtol=1e-6, atol=1e-6), max_steps=1, throw=False,
        )  # fmt: skip
        return float(solution.ts[0])

    # A hundredth of the larger of slope and curvature, in units of the tolerance 2e-6, to the power of one third.
    for rate in (0.01, 10.0):
        np.testing.assert_allclose(first(rate), (0.01 * 2e-6 / max(rate, rate**2)) ** (1 / 3), rtol=1e-6)


# --------------------------------------------------------------------------------------------------------------- events


def test_the_earlier_event_of_a_step_ends_it() -> None:
    """Exactly one `True` in `event_mask`: the first in tree order, even if another was earlier **[D]**."""
    passes = lambda level: lambda t, y, args, **kwargs: y - level
    for levels, earlier in (((0.8, 0.7), (False, True)), ((0.7, 0.8), (True, False))):
        event = Event(tuple(passes(level) for level in levels), NEWTON)
        solution = diffeqsolve(clock, rungax.Euler(), 0.0, 2.0, 0.5, jnp.asarray(0.0), event=event)
        assert tuple(bool(fired) for fired in solution.event_mask) == earlier
        np.testing.assert_allclose(solution.ts[0], 0.7, rtol=1e-12)


@pytest.mark.parametrize("event", [None, Event(lambda t, y, args, **kwargs: y > 0.7)], ids=["none", "boolean"])
def test_the_last_step_is_saved_once(event: Any) -> None:
    """The final point is written for `t1=True` or if … (so with no event, or a bool one, it is saved twice **[D]**)."""
    saveat = SaveAt(steps=True, t1=True)
    solution = diffeqsolve(
        clock, rungax.Euler(), 0.0, 1.0, 0.25, jnp.asarray(0.0), saveat=saveat, event=event, max_steps=7
    )
    expected = [0.25, 0.5, 0.75, 1.0] if event is None else [0.25, 0.5, 0.75]
    np.testing.assert_allclose(np.asarray(solution.ts)[np.isfinite(solution.ts)], expected, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(solution.ys)[np.isfinite(solution.ys)], expected, rtol=1e-14)


# ------------------------------------------------------------------------------------------------------- terms, solvers


def test_complex_arrays_are_not_conjugated() -> None:
    """The array form conjugates a complex field, so gives wrong answers **[D]**."""
    field, control = jnp.asarray([[1j, 2 + 1j]]), jnp.asarray([1.0 + 0j, 1j])
    term = ControlTerm(lambda t, y, args: field, lambda t0, t1: jnp.asarray(t1 - t0, complex) * control)
    y1 = diffeqsolve(term, rungax.Euler(), 0.0, 1.0, 0.5, jnp.zeros(1, complex)).ys[0]
    np.testing.assert_allclose(y1, [1j + (2 + 1j) * 1j], rtol=1e-14)


def test_a_failed_stage_of_implicit_euler_rejects_the_step() -> None:
    """`ImplicitEuler` leaves the error as it is, so a failed solve can end an adaptive run **[D]**."""
    solution = diffeqsolve(
        decay, rungax.ImplicitEuler(root_finder=fails_on_long_steps()), 0.0, 1.0, 1.0, jnp.ones(2),
        stepsize_controller=undemanding(), max_steps=64, throw=False,
    )  # fmt: skip
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 1


@pytest.mark.parametrize("rates", [(-1.0, -0.5), (-1e-3, -1e3)], ids=str)
def test_rounding_is_no_divergence(rates: tuple[float, float]) -> None:
    """`VeryChord` reports divergence on rounding noise (KenCarp, linear ODE, …, fixed step) **[D]**."""
    explicit, implicit = (ODETerm(lambda t, y, args, r=r: r * y) for r in rates)
    finder = rungax.VeryChord(rtol=1e-5, atol=1e-6)
    y0 = jnp.linspace(1.0, 3.0, 5)
    solution = diffeqsolve(
        MultiTerm(explicit, implicit), rungax.KenCarp4(root_finder=finder), 0.0, 2.0, 0.01, y0, throw=False
    )
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.ys[0], np.asarray(y0) * np.exp(2 * sum(rates)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", [rungax.TRBDF2(), rungax.Sil3()], ids=name)
def test_step_doubling_of_implicit_solvers(solver: Any) -> None:
    """`HalfSolver`: … Round any implicit solver it fails **[D]**."""
    controller = PIDController(rtol=1e-5, atol=1e-7)
    solution = diffeqsolve(
        terms_for(solver, lambda t, y, args: -50 * (y - jnp.cos(t)), explicit=0), rungax.HalfSolver(solver), 0.0, 2.0,
        None, ONE, stepsize_controller=controller,
    )  # fmt: skip
    exact = (50 * 50 * np.cos(2.0) + 50 * np.sin(2.0)) / (50 * 50 + 1)
    np.testing.assert_allclose(solution.ys[0], exact, rtol=1e-4)
