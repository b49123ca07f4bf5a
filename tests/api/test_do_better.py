"""The section "Do better" of the description of the interface, line by line: each quoted above the test that holds it.

One small test a line, so that the promise and its proof are read together; the folders test each at length.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, PartitionSpec as P

import rungax
from rungax import (
    RESULTS,
    ControlTerm,
    Event,
    HalfSolver,
    MultiTerm,
    ODETerm,
    PIDController,
    SaveAt,
    Tsit5,
    diffeqsolve,
)

from ..catalogue import IMPLICIT, ROSENBROCK, SPLIT, name, terms_for
from ..fakes import CountedField
from ..nonlinear.test_failed_stages import fails_on_long_steps, undemanding

ONE = jnp.asarray(1.0)
PID = PIDController(rtol=1e-8, atol=1e-10)
NEWTON = optx.Newton(rtol=1e-12, atol=1e-12)


def decay(t: Any, y: Any, args: Any) -> Any:
    return -y


def clock(t: Any, y: Any, args: Any) -> Any:
    return jnp.ones_like(y)


# ------------------------------------------------------------------------------------------------------- the first step


def first_step_by_hand(rate: float, rtol: float, atol: float, order: int) -> float:
    """Hairer, Nørsett, Wanner II.4 for y' = -rate y from y = 1."""
    scale = atol + rtol
    d0, d1 = 1 / scale, rate / scale
    h0 = 0.01 * d0 / d1
    d2 = rate * (rate * h0) / scale / h0
    return min(100 * h0, (0.01 / max(d1, d2)) ** (1 / order))


@pytest.mark.parametrize("t1", [1.0, -1.0])
def test_the_first_step_is_chosen(t1: float) -> None:
    """`dt0=None` really runs the initial-step algorithm, forwards and backwards."""
    sign = np.sign(t1)
    controller = PIDController(rtol=1e-6, atol=1e-6)
    for rate in (0.5, 5.0):
        solution = diffeqsolve(
            lambda t, y, rate: -rate * y, Tsit5(), 0.0, t1, None, ONE, float(sign * rate),
            stepsize_controller=controller, saveat=SaveAt(steps=True), max_steps=1, throw=False,
        )  # fmt: skip
        assert int(solution.stats["num_accepted_steps"]) == 1
        expected = sign * first_step_by_hand(rate, 1e-6, 1e-6, order=5)
        np.testing.assert_allclose(solution.ts[0], expected, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------ true time


def test_everybody_sees_the_true_time() -> None:
    """Event functions, save functions and controls see true time when `t1 < t0`."""
    asked: list[Any] = []

    def square(t0: Any, t1: Any) -> Any:
        asked.append((t0, t1))
        return t1**2 - t0**2

    # y = t² along its control, read where the event finds t = 0.5 on the way from 2 to 0.
    term = ControlTerm(lambda t, y, args: jnp.ones_like(y), square)
    event = Event(lambda t, y, args, *, t0, t1, dt0, **kwargs: t - 0.25 * (t0 + t1) * -dt0 / 0.25, NEWTON)
    saveat = SaveAt(t0=True, t1=True, steps=True, fn=lambda t, y, args: (t, y))
    solution = diffeqsolve(
        term, rungax.Euler(), 2.0, 0.0, -0.25, jnp.asarray(4.0), saveat=saveat, event=event, max_steps=16
    )
    times, states = (np.asarray(x)[np.isfinite(x)] for x in solution.ys)
    np.testing.assert_allclose(times, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5], rtol=1e-12)
    np.testing.assert_array_equal(times, np.asarray(solution.ts)[: len(times)])
    np.testing.assert_allclose(states, times**2, rtol=1e-12)
    assert asked


# ----------------------------------------------------------------------------------------------------------- increments

TS = np.asarray([0.0, 0.5, 2.0])
KNOTS = {"a": np.asarray([1.0, -1.0, 4.0]), "b": (np.asarray([[0.0, 1.0], [2.0, 2.0], [3.0, 0.0]]),)}


def locally(cls: Any) -> Any:
    row = lambda i: jax.tree.map(lambda x: jnp.asarray(x[i]), KNOTS)
    y0, y1, k0 = row(0), row(1), row(2)
    if cls is rungax.LocalLinearInterpolation:
        return cls(t0=0.0, t1=2.0, y0=y0, y1=y1)
    if cls is rungax.ThirdOrderHermitePolynomialInterpolation:
        return cls(t0=0.0, t1=2.0, y0=y0, y1=y1, k0=k0, k1=y0)
    return cls(t0=0.0, t1=2.0, y0=y0, y1=y1, k=jax.tree.map(lambda *x: jnp.stack(x), y0, k0))


class Quartic(rungax.FourthOrderPolynomialInterpolation):
    c_mid = np.asarray([0.2, 0.3])


def solved() -> Any:
    field = lambda t, y, args: jax.tree.map(jnp.negative, y)
    y0 = jax.tree.map(lambda x: x[0], KNOTS)
    return diffeqsolve(field, Tsit5(), 0.0, 2.0, 0.5, y0, saveat=SaveAt(dense=True), max_steps=8)


INTERPOLATIONS: dict[str, Callable[[], Any]] = {
    "linear": lambda: rungax.LinearInterpolation(TS, KNOTS),
    "cubic": lambda: rungax.CubicInterpolation(TS, rungax.backward_hermite_coefficients(TS, KNOTS)),
    "solution": solved,
    "dense": lambda: solved().interpolation,
    "local linear": lambda: locally(rungax.LocalLinearInterpolation),
    "Hermite": lambda: locally(rungax.ThirdOrderHermitePolynomialInterpolation),
    "quartic": lambda: locally(Quartic),
}


@pytest.mark.parametrize("kind", INTERPOLATIONS)
def test_an_increment_of_any_pytree(kind: str) -> None:
    """`evaluate(t0, t1)` works on any pytree, for every interpolation."""
    path = INTERPOLATIONS[kind]()
    increment = path.evaluate(0.3, 1.7)
    expected = jax.tree.map(jnp.subtract, path.evaluate(1.7), path.evaluate(0.3))
    assert jax.tree.structure(increment) == jax.tree.structure(KNOTS)
    assert any(float(jnp.abs(leaf).max()) > 0.1 for leaf in jax.tree.leaves(increment))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), increment, expected)


# ------------------------------------------------------------------------------------------------------ noise backwards

KEYS = jax.random.split(jax.random.key(7), 100)


def additive_noise(path: Any) -> Any:
    return MultiTerm(ODETerm(lambda t, y, args: jnp.sin(y) - t), ControlTerm(lambda t, y, args: jnp.cos(t), path))


def langevin(path: Any) -> Any:
    return MultiTerm(
        rungax.UnderdampedLangevinDriftTerm(1.0, 1.0, lambda x, args: 2 * x * (x**2 - 1)),
        rungax.UnderdampedLangevinDiffusionTerm(1.0, 1.0, path),
    )


@pytest.mark.parametrize(
    ("solver", "terms", "y0", "order"),
    [
        pytest.param(rungax.ShARK(), additive_noise, ONE, 1.5, id="ShARK"),
        pytest.param(rungax.ALIGN(), langevin, (ONE, ONE), 2.0, id="ALIGN"),
    ],
)
def test_solvers_for_noise_keep_their_order_backwards(solver: Any, terms: Any, y0: Any, order: float) -> None:
    """Stochastic and Langevin solvers keep their order backwards in time."""

    def end(dt0: Any, key: Any) -> Any:
        path = rungax.VirtualBrownianTree(0.0, 1.0, 2.0**-10, (), key, rungax.SpaceTimeLevyArea)
        return diffeqsolve(terms(path), solver, 1.0, 0.0, dt0, y0, max_steps=None, throw=False).ys

    ends = jax.jit(jax.vmap(jax.vmap(end, (None, 0)), (0, None)))
    steps = np.asarray([2.0**-3, 2.0**-4, 2.0**-5, 2.0**-9])
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(ends(-steps, KEYS))]
    errors = np.sqrt(sum(np.mean((leaf[:3] - leaf[3]) ** 2, axis=(1, 2)) for leaf in leaves))
    slope = np.polyfit(np.log(steps[:3]), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.25  # with the wrong sign of H it is at most one


# ---------------------------------------------------------------------------------------------------------- fixed steps


def test_a_fixed_step_visits_its_multiples() -> None:
    """A fixed step of 0.3 on [0, 1] visits 0.3, 0.6, 0.9, 1."""
    solution = diffeqsolve(decay, rungax.Heun(), 0.0, 1.0, 0.3, ONE, saveat=SaveAt(steps=True), max_steps=4)
    np.testing.assert_allclose(solution.ts, [0.3, 0.6, 0.9, 1.0], rtol=1e-15)


# --------------------------------------------------------------------------------------------------------------- events


def test_nothing_reaches_past_an_event_and_the_earlier_wins() -> None:
    """After an event nothing reaches past it: dense output, saves and saved states end at the event.

    Of two events in one step the earlier in time wins.
    """
    passes = lambda level: lambda t, y, args, **kwargs: y - level
    event = Event({"a": passes(1.4), "b": passes(1.3), "c": passes(9.0)}, NEWTON)
    saveat = SaveAt(
        subs={"end": rungax.SubSaveAt(t1=True), "ts": rungax.SubSaveAt(ts=[0.5, 1.25, 1.35, 1.5, 2.0]),
              "steps": rungax.SubSaveAt(steps=True)},
        dense=True, solver_state=True,
    )  # fmt: skip
    solution = diffeqsolve(clock, Tsit5(), 0.0, 2.0, 0.5, jnp.asarray(0.0), saveat=saveat, event=event, max_steps=8)
    assert {key: bool(fired) for key, fired in solution.event_mask.items()} == {"a": False, "b": True, "c": False}
    kept = {key: np.asarray(ts)[np.isfinite(ts)] for key, ts in solution.ts.items()}
    np.testing.assert_allclose(kept["end"], [1.3], rtol=1e-12)
    np.testing.assert_allclose(kept["ts"], [0.5, 1.25], rtol=1e-12)
    np.testing.assert_allclose(kept["steps"], [0.5, 1.0, 1.3], rtol=1e-12)
    jax.tree.map(lambda ts, ys: np.testing.assert_allclose(ts, ys, rtol=1e-12), dict(solution.ts), dict(solution.ys))
    np.testing.assert_allclose(solution.evaluate(1.3), 1.3, rtol=1e-12)
    assert np.isnan(solution.evaluate(1.31))
    np.testing.assert_allclose(solution.interpolation.t1, 1.3, rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- implicit solvers

ITERATING = [rungax.ImplicitEuler, rungax.Kvaerno3, rungax.KenCarp3, rungax.Sil3]
"""One class of each kind; `tests/nonlinear/test_failed_stages.py` has them all."""


def linear(t: Any, y: Any, args: Any) -> Any:
    return jax.tree.map(lambda leaf: -leaf, y)


@pytest.mark.parametrize("cls", ITERATING, ids=lambda cls: cls.__name__)
def test_a_failed_stage_rejects_the_step(cls: Any) -> None:
    """A failed stage solve rejects the step for every implicit solver."""
    solver = cls(root_finder=fails_on_long_steps())
    solution = diffeqsolve(
        terms_for(solver, decay, explicit=0), solver, 0.0, 1.0, 1.0, jnp.ones(2), stepsize_controller=undemanding(),
        max_steps=64, throw=False,
    )  # fmt: skip
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_rejected_steps"]) >= 1


@pytest.mark.parametrize("solver", [rungax.ImplicitEuler()], ids=name)
def test_step_doubling_of_an_implicit_solver(solver: Any) -> None:
    """`HalfSolver` wraps implicit solvers too. `y0` leaves may differ in dtype."""
    y0 = {"a": jnp.ones(2, "float32"), "b": ONE, "c": jnp.asarray(1j)}
    controller = PIDController(rtol=1e-4, atol=1e-6)
    terms = terms_for(solver, linear, explicit=0.5)
    ys = diffeqsolve(terms, HalfSolver(solver), 0.0, 1.0, 0.1, y0, stepsize_controller=controller).ys
    assert [leaf.dtype.name for leaf in jax.tree.leaves(ys)] == ["float32", "float64", "complex128"]
    jax.tree.map(lambda y1, y: np.testing.assert_allclose(y1[0], np.exp(-1) * np.asarray(y), rtol=1e-2), ys, y0)


@pytest.mark.parametrize("solver", [rungax.Dopri5(), rungax.TRBDF2(), ROSENBROCK[0]], ids=name)
def test_leaves_of_unlike_dtypes(solver: Any) -> None:
    """`y0` leaves may differ in dtype."""
    y0 = (jnp.ones(2, "float32"), ONE)
    ys = diffeqsolve(linear, solver, 0.0, 1.0, 0.05, y0).ys
    assert [leaf.dtype.name for leaf in ys] == ["float32", "float64"]
    jax.tree.map(lambda y: np.testing.assert_allclose(y, np.full_like(y, np.exp(-1)), rtol=1e-3), ys)


@pytest.mark.parametrize("solver", IMPLICIT + SPLIT, ids=name)
def test_no_tolerances_need_be_given(solver: Any) -> None:
    """Implicit solvers work with a fixed step and no tolerances given, with sensible defaults."""
    # Nonlinear and stiff: 1 / (1 + t) attracts its neighbours at the rate of a thousand.
    field = lambda t, y, args: -1e3 * (y - 1 / (1 + t)) * (1 + y * y) - 1 / (1 + t) ** 2
    terms = terms_for(solver, field, explicit=0)
    y1 = diffeqsolve(terms, solver, 0.0, 1.0, 0.1, ONE).ys[0]
    np.testing.assert_allclose(y1, 0.5, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------ complex numbers


@pytest.mark.parametrize("operator", [False, True])
def test_complex_matrices_are_not_conjugated(operator: bool) -> None:
    """Complex matrix fields in `ControlTerm` are not conjugated."""
    matrix = jnp.asarray([[1j, 2.0], [0.5 - 1j, 3j]])
    control = jnp.asarray([1.0 + 1j, 2.0])
    term = ControlTerm(
        lambda t, y, args: lx.MatrixLinearOperator(matrix) if operator else matrix,
        lambda t0, t1: jnp.asarray(t1 - t0, complex) * control,
    )
    expected = np.asarray(matrix) @ np.asarray(control)
    np.testing.assert_allclose(term.vf_prod(0.0, jnp.zeros(2, complex), None, control), expected, rtol=1e-14)
    y1 = diffeqsolve(term, rungax.Euler(), 0.0, 1.0, 0.5, jnp.zeros(2, complex)).ys[0]
    np.testing.assert_allclose(y1, expected, rtol=1e-14)


@pytest.mark.parametrize("solver", [Tsit5(), rungax.Kvaerno3()], ids=name)
def test_gradients_of_complex_states(solver: Any) -> None:
    """No warning and correct gradients for complex states, explicit and implicit."""

    def energy(y0: Any, rate: Any) -> Any:
        field = lambda t, y, rate: rate * y
        return jnp.real(diffeqsolve(field, solver, 0.0, 1.0, None, y0, rate, stepsize_controller=PID).ys[0] * (1 - 2j))

    y0, rate = jnp.asarray(1 + 0.5j), jnp.asarray(-0.3 + 2j)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jax.grad(energy, argnums=(0, 1))(y0, rate)
    exact = lambda y0, rate: jnp.real(y0 * jnp.exp(rate) * (1 - 2j))
    np.testing.assert_allclose(found, jax.grad(exact, argnums=(0, 1))(y0, rate), rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------- derivatives


def test_every_mode_of_differentiation() -> None:
    """`jvp`, `jacfwd`, `hessian` work with the default adjoint."""

    def end(rate: Any) -> Any:
        return diffeqsolve(lambda t, y, a: -a * y, rungax.Heun(), 0.0, 1.0, 0.25, ONE, rate, max_steps=4).ys[0]

    one_step = lambda rate: 1 - rate / 4 + (rate / 4) ** 2 / 2
    exact = lambda rate: one_step(rate) ** 4
    np.testing.assert_allclose(jax.jvp(end, (1.5,), (2.0,)), jax.jvp(exact, (1.5,), (2.0,)), rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(end)(1.5), jax.grad(exact)(1.5), rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(end)(1.5), jax.hessian(exact)(1.5), rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- single precision


def test_time_in_single_precision() -> None:
    """`float32` never loops forever near `t1`; time keeps enough precision."""
    f32 = np.float32
    one = jnp.asarray(1.0, "float32")
    # Adding 0.001 ten thousand times in float32 misses 10 by far; the steps are as many as fit and end there.
    fixed = diffeqsolve(decay, rungax.Euler(), f32(0), f32(10), f32(1e-3), one, max_steps=None, throw=False)
    assert int(fixed.stats["num_steps"]) == 10_000
    assert float(fixed.ts[0]) == 10.0
    # Steps of a few roundings, without a bound on their number.
    tight = PIDController(rtol=1e-7, atol=1e-9)
    for t0, t1 in ((1e5, 1e5 + 0.0625), (1e5 + 0.0625, 1e5)):
        solution = diffeqsolve(
            decay, Tsit5(), f32(t0), f32(t1), None, one, stepsize_controller=tight, max_steps=None, throw=False
        )
        assert solution.result == RESULTS.successful
        assert float(solution.ts[0]) == t1
        np.testing.assert_allclose(solution.ys[0], np.exp(t0 - t1), rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------- compilation


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The names of all programs compiled during the test."""
    names: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_other_values_need_no_other_program(compilations: list[str]) -> None:
    """A changed `rtol`, `atol`, `t1` or Python-float argument does not recompile."""
    field = CountedField(lambda t, y, rate: -rate * y)
    term = ODETerm(field)

    def end(rtol: float, atol: float, t1: float, rate: float) -> Any:
        controller = PIDController(rtol=rtol, atol=atol)
        return diffeqsolve(term, Tsit5(), 0.0, t1, 0.1, ONE, rate, stepsize_controller=controller).ys

    end(1e-3, 1e-6, 1.0, 1.0)
    traces = field.num_traces
    assert compilations
    compilations.clear()
    for values in ((1e-4, 1e-6, 1.0, 1.0), (1e-3, 1e-7, 1.0, 1.0), (1e-3, 1e-6, 2.0, 1.0), (1e-3, 1e-6, 1.0, 2.0)):
        y1 = end(*values)
        np.testing.assert_allclose(y1[0], np.exp(-values[2] * values[3]), rtol=1e-2)
    assert compilations == []
    assert field.num_traces == traces


def quiet(y0: Any) -> Any:
    """A solve for a pair, without callbacks."""
    field = lambda t, y, args: jnp.stack([y[1], -jnp.sin(y[0])])
    return diffeqsolve(field, Tsit5(), 0.0, 1.0, None, y0, stepsize_controller=PID, throw=False).ys[0]


LANES = np.linspace(0.5, 2.0, 8).reshape(4, 2)


def test_shards() -> None:
    """Inside `shard_map`, with the persistent compilation cache, and through `jax.export`: works with `throw=False`."""
    mesh = jax.make_mesh((4,), ("lanes",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = jax.jit(jax.shard_map(jax.vmap(quiet), mesh=mesh, in_specs=P("lanes"), out_specs=P("lanes")))
    np.testing.assert_allclose(sharded(LANES), jax.vmap(quiet)(LANES), rtol=1e-7)


def test_export() -> None:
    """Inside `shard_map`, with the persistent compilation cache, and through `jax.export`: works with `throw=False`."""
    pytest.importorskip("flatbuffers", reason="jax.export writes programs with flatbuffers")
    exported = jax.export.deserialize(jax.export.export(jax.jit(quiet))(LANES[0]).serialize())
    np.testing.assert_allclose(exported.call(LANES[1]), quiet(LANES[1]), rtol=1e-7)


def test_the_persistent_cache(tmp_path: Any) -> None:
    """Inside `shard_map`, with the persistent compilation cache, and through `jax.export`: works with `throw=False`."""
    own = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
        "jax_enable_compilation_cache": True,
    }
    before = {option: getattr(jax.config, option) for option in own}
    kept = lambda: {path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")}
    try:
        for option, value in own.items():
            jax.config.update(option, value)
        compilation_cache.reset_cache()
        first = jax.jit(lambda y0: quiet(y0))(LANES[0])
        written = kept()
        # A function that JAX has not compiled before, of the same text: found again, so nothing more is written.
        second = jax.jit(lambda y0: quiet(y0))(LANES[0])
    finally:
        for option, value in before.items():
            jax.config.update(option, value)
        compilation_cache.reset_cache()
    assert any("lambda" in entry for entry in written)
    assert kept() == written
    assert jnp.array_equal(first, second)
