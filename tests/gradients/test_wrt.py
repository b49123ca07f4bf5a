"""A solve can be differentiated with respect to everything that it depends on smoothly, and ignores the rest.

That is: states and arguments of any structure, what a field captures or holds, and every time. Error control chooses
steps, and the choice has no derivative: where times move, difference quotients move the steps that it chose along.
"""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rungax
from rungax import (
    Bosh3,
    ClipStepSizeController,
    ConstantStepSize,
    Euler,
    Heun,
    ODETerm,
    PIDController,
    SaveAt,
    StepTo,
    Tsit5,
    diffeqsolve,
)

from ..compare import assert_trees_close
from ..problems.fields import ARGS, STATES, decay, in_double, pendulum
from .measure import accepted_times, assert_derivative, direction_like, stretched, weigh

Y0 = np.asarray([1.0, 0.5])
PID = PIDController(rtol=1e-4, atol=1e-5)


def solve(field: Any = pendulum, y0: Any = Y0, args: Any = ARGS, **options: Any) -> rungax.Solution:
    """By Heun's method in steps of 0.15 from 0 to 1, unless given otherwise."""
    settings: dict[str, Any] = {
        "solver": Heun(),
        "t0": 0.0,
        "t1": 1.0,
        "dt0": 0.15,
        "max_steps": 32,
        "stepsize_controller": ConstantStepSize(),
        **options,
    }
    if isinstance(settings["stepsize_controller"], StepTo):
        settings["dt0"] = None
    return diffeqsolve(ODETerm(field), y0=y0, args=args, **settings)


# ------------------------------------------------------------------------------------------------ states and arguments


@pytest.mark.parametrize(
    "span",
    [pytest.param((0.0, 1.0), id="forwards", marks=pytest.mark.slow), pytest.param((1.0, -0.2), id="backwards")],
)
@pytest.mark.parametrize("kind", ["array", "complex", pytest.param("pytree", marks=pytest.mark.slow)])
def test_states_and_arguments(kind: str, span: tuple[float, float]) -> None:
    """All states forwards are in `test_pairwise.py`, too."""
    field, y0 = STATES[kind]
    t0, t1 = span

    def loss(inputs: Any) -> jax.Array:
        return weigh(solve(field, *inputs, t0=t0, t1=t1, dt0=0.15 * np.sign(t1 - t0)).ys)

    assert_derivative(loss, (y0, ARGS), rtol=1e-9)


def test_single_precision_gives_the_double_precision_gradient_rounded() -> None:
    """Of the state's dtype for the state, of the arguments' for the arguments."""

    def loss(y0: Any, args: Any) -> jax.Array:
        return weigh(solve(pendulum, y0, args).ys)

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    single = gradient(STATES["float32"][1], ARGS)
    assert single[0].dtype == np.float32
    assert single[1]["push"].dtype == np.float64
    assert_trees_close(in_double(single), gradient(Y0, ARGS), rtol=1e-5, atol=1e-6)


def test_a_holomorphic_derivative_and_the_real_system_of_twice_the_size() -> None:
    def field(t: Any, z: Any, args: Any) -> Any:
        return args * z + jnp.cos(t).astype(z.dtype) * z**2

    def as_real(t: Any, y: Any, args: Any) -> Any:
        rate = field(t, jax.lax.complex(y[0], y[1]), args)
        return jnp.stack([rate.real, rate.imag])

    z0, args = np.asarray(0.4 + 0.2j), np.asarray(-0.3 + 1.2j)

    def end(z0: Any) -> Any:
        return solve(field, z0, args).ys[0]

    def real_end(y0: Any) -> Any:
        y1 = solve(as_real, y0, args).ys[0]
        return y1, y1

    jacobian, y1 = map(np.asarray, jax.jit(jax.jacfwd(real_end, has_aux=True))(np.asarray([z0.real, z0.imag])))
    for mode in (jax.jacfwd, jax.jacrev):
        slope = jax.jit(mode(end, holomorphic=True))(z0)
        expected = np.asarray([[slope.real, -slope.imag], [slope.imag, slope.real]])
        np.testing.assert_allclose(jacobian, expected, rtol=1e-12)
    # A real function of it: JAX's gradient is the conjugate of the direction of ascent.
    gradient = jax.jit(jax.grad(lambda z0: jnp.abs(end(z0)) ** 2))(z0)
    real_gradient = 2 * y1 @ jacobian
    np.testing.assert_allclose([gradient.real, -gradient.imag], real_gradient, rtol=1e-12)


def test_arguments_of_every_kind_stand_beside_those_that_are_differentiated() -> None:
    noise = 0.1 * jax.random.normal(jax.random.key(3), (2,))

    def field(t: Any, y: Any, args: Any) -> Any:
        assert args["name"] == "decay"
        assert args["power"] == 2
        draw = 0.1 * jax.random.normal(args["key"], (2,))
        chosen = args["table"][args["index"]]
        return jnp.where(args["mask"], -args["rate"] * y ** args["power"], chosen * y) + draw

    args = {
        "name": "decay",
        "power": 2,
        "flag": True,
        "nothing": None,
        "function": jnp.sin,
        "key": jax.random.key(3),
        "old key": jax.random.PRNGKey(3),
        "index": jnp.asarray(1),
        "mask": jnp.asarray([True, False]),
        "table": np.asarray([0.2, -0.4]),
        "rate": np.asarray(0.7),
    }

    def plain(inputs: Any) -> jax.Array:
        y0, rate, table = inputs
        field = lambda t, y, _: jnp.stack([-rate * y[0] ** 2, table[1] * y[1]]) + noise
        return weigh(solve(field, y0, None).ys)

    def loss(inputs: Any) -> jax.Array:
        y0, rate, table = inputs
        return weigh(solve(field, y0, {**args, "rate": rate, "table": table}).ys)

    inputs = (Y0, args["rate"], args["table"])
    expected = jax.jit(jax.grad(plain))(inputs)
    for gradient in (jax.grad, jax.jacfwd):
        assert_trees_close(jax.jit(gradient(loss))(inputs), expected, rtol=1e-10, atol=1e-12)
    # As leaves of what is differentiated itself, those that cannot move have no derivative or an empty one.
    arrays, rest = eqx.partition(args, eqx.is_array)
    whole = jax.jit(jax.grad(lambda arrays: weigh(solve(field, Y0, eqx.combine(arrays, rest)).ys), allow_int=True))
    found = whole(arrays)
    assert_trees_close((found["rate"], found["table"]), expected[1:], rtol=1e-10, atol=1e-12)
    assert all(found[name].dtype == jax.dtypes.float0 for name in ("index", "mask", "key", "old key"))


@pytest.mark.parametrize("second", [jax.jacfwd, pytest.param(jax.grad, marks=pytest.mark.slow)])
def test_a_second_derivative_beside_integers_and_keys(second: Any) -> None:
    def field(t: Any, y: Any, args: Any) -> Any:
        rate, key, index = args
        return -rate * y * jnp.stack([y[0], jax.random.uniform(key)])[index]

    def end(rate: Any) -> jax.Array:
        return jnp.sum(solve(field, Y0, (rate, jax.random.key(0), jnp.asarray(0)), dt0=0.05).ys)

    def formula(rate: Any) -> jax.Array:
        # The first component is y' = -rate y², and the second is multiplied by it.
        return jnp.sum(Y0 / (1 + rate * Y0[0]))

    expected = float(jax.jit(jax.grad(jax.grad(formula)))(0.4))
    assert jax.jit(second(jax.grad(end)))(0.4) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_what_a_field_captures() -> None:
    """Traced values of the caller, of a caller of the caller, and of a function that the field calls."""

    def loss(inputs: Any) -> jax.Array:
        y0, args = inputs
        push = args["push"]

        def outer(stiffness: Any) -> jax.Array:
            shift = 2 * push

            def spring(y: Any) -> Any:
                return -stiffness * jnp.sin(y[0]) - args["damping"] * y[1]

            def field(t: Any, y: Any, _: Any) -> Any:
                return jnp.stack([y[1], 0.5 * shift * jnp.cos(t) + spring(y)])

            save = lambda t, y, _: y * push
            return weigh(solve(field, y0, None, solver=Euler(), saveat=SaveAt(t1=True, fn=save)).ys)

        return outer(args["stiffness"])

    def explicit(inputs: Any) -> jax.Array:
        y0, args = inputs
        save = lambda t, y, args: y * args["push"]
        return weigh(solve(pendulum, y0, args, solver=Euler(), saveat=SaveAt(t1=True, fn=save)).ys)

    inputs = (Y0, ARGS)
    direction = direction_like(inputs)
    (gradient, moved), (expected, moved_explicit) = (
        jax.jit(lambda x, f=f: jax.jvp(jax.grad(f), (x,), (direction,)))(inputs) for f in (loss, explicit)
    )
    for found in (gradient, jax.grad(loss)(inputs), jax.jit(jax.jacfwd(loss))(inputs)):
        assert_trees_close(found, expected, rtol=1e-12)
    assert_trees_close(moved, moved_explicit, rtol=1e-10)


class Network(eqx.Module):
    """A field with parameters, an activation and a width that is an integer."""

    mlp: eqx.nn.MLP
    scale: jax.Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.scale * self.mlp(jnp.concatenate([y, jnp.asarray(t)[None]])) - args * y


def test_the_parameters_of_a_network_inside_the_term() -> None:
    make = eqx.filter_jit(lambda key: Network(eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=key), jnp.asarray(1.5)))
    network = make(jax.random.key(0))
    parameters, static = eqx.partition(network, eqx.is_inexact_array)

    def loss(parameters: Any) -> jax.Array:
        field = eqx.combine(parameters, static)
        ts = np.asarray([0.4, 1.0])
        return weigh(solve(field, Y0, jnp.asarray(0.3), solver=Euler(), saveat=SaveAt(ts=ts)).ys)

    expected = assert_derivative(loss, parameters, rtol=1e-8)
    whole = eqx.filter_jit(eqx.filter_grad(lambda network: loss(eqx.filter(network, eqx.is_inexact_array))))(network)
    assert_trees_close(eqx.filter(whole, eqx.is_array), expected, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------------- times

FORWARDS, BACKWARDS = (0.1, 1.0), (1.0, -0.2)
SAVED = pytest.mark.parametrize(
    ("save", "span"),
    [
        ("ts, steps", BACKWARDS),
        pytest.param("dense", FORWARDS, marks=pytest.mark.slow),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("t1", FORWARDS), ("ts, steps", FORWARDS)]),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("t1", BACKWARDS), ("dense", BACKWARDS)]),
    ],
    ids=str,
)


@SAVED
def test_every_time_of_a_solve_with_fixed_steps(save: str, span: tuple[float, float]) -> None:
    """The ends, the step and the saved times: the grid is `t0 + i dt0`, its last step shortened to end on `t1`."""
    t0, t1 = span
    dt0 = 0.17 * np.sign(t1 - t0)
    ts = t0 + (t1 - t0) * np.asarray([0.22, 0.6, 0.93])

    def loss(times: Any) -> jax.Array:
        t0, t1, dt0, ts = times
        saveat = {"t1": SaveAt(t1=True), "ts, steps": SaveAt(ts=ts, steps=True), "dense": SaveAt(dense=True)}[save]
        solution = solve(solver=Bosh3(), t0=t0, t1=t1, dt0=dt0, saveat=saveat)
        if save == "dense":
            return weigh((jax.vmap(solution.evaluate)(ts), jax.vmap(solution.derivative)(ts)))
        return weigh((solution.ts, solution.ys))

    assert_derivative(loss, (np.asarray(t0), np.asarray(t1), np.asarray(dt0), ts), rtol=1e-8, h=1e-4)


def test_the_times_of_step_to() -> None:
    ts = np.asarray([0.0, 0.1, 0.3, 0.35, 0.7, 1.0])

    def loss(times: Any) -> jax.Array:
        controller = StepTo(times)
        saveat = SaveAt(ts=np.asarray([0.32, 0.9]), steps=True)
        solution = solve(t0=times[0], t1=times[-1], stepsize_controller=controller, saveat=saveat)
        return weigh((solution.ts, solution.ys))

    assert_derivative(loss, ts, rtol=1e-8)


@pytest.mark.slow
@SAVED
def test_every_time_of_an_adaptive_solve(save: str, span: tuple[float, float]) -> None:
    """Steps keep their places between the two ends; saved times move by themselves."""
    t0, t1 = span
    ts = t0 + (t1 - t0) * np.asarray([0.22, 0.6, 0.93])

    def saved(times: Any, **options: Any) -> jax.Array:
        t0, t1, ts = times
        saveat = {"t1": SaveAt(t1=True), "ts, steps": SaveAt(ts=ts, steps=True), "dense": SaveAt(dense=True)}[save]
        solution = solve(t0=t0, t1=t1, saveat=saveat, **{"solver": Bosh3(), **options})
        if save == "dense":
            return weigh((jax.vmap(solution.evaluate)(ts), jax.vmap(solution.derivative)(ts)))
        return weigh((solution.ts, solution.ys))

    options: dict[str, Any] = {"solver": Bosh3(), "stepsize_controller": PID, "dt0": None}
    grid = accepted_times(solve(t0=t0, t1=t1, saveat=SaveAt(t0=True, steps=True), **options))
    times = (np.asarray(t0), np.asarray(t1), ts)

    def on_the_grid(times: Any) -> jax.Array:
        return saved(times, stepsize_controller=StepTo(stretched(grid, times[0], times[1])))

    assert_derivative(lambda times: saved(times, **options), times, on_the_grid, rtol=1e-7, h=1e-4)


@pytest.mark.slow
def test_derivatives_with_respect_to_times_are_those_of_the_solution() -> None:
    """y(t) = y0 exp(-a (t - t0)), whose derivatives with respect to all times are known.

    With every run: on fixed steps above, with jumps below, and of a stiff equation in `test_stiff.py`.
    """
    rate, start = 0.8, np.asarray(1.5)

    def values(times: Any) -> jax.Array:
        solution: Any = diffeqsolve(
            ODETerm(decay),
            Tsit5(),
            times["t0"],
            times["t1"],
            0.1,
            start,
            rate,
            stepsize_controller=PIDController(rtol=1e-10, atol=1e-12),
            saveat=SaveAt(ts=times["ts"], t1=True, dense=True),
            max_steps=64,
        )
        return jnp.append(solution.ys, solution.evaluate(times["ts"][1]))

    def formula(times: Any) -> jax.Array:
        at = jnp.concatenate([times["ts"], times["t1"][None], times["ts"][1:]])
        return jnp.exp(-rate * (at - times["t0"])) * start

    times = {"t0": np.asarray(0.2), "t1": np.asarray(1.4), "ts": np.asarray([0.3, 0.9])}
    expected = jax.jit(jax.jacrev(formula))(times)
    gradient = jax.jit(jax.grad(lambda times, weights: weights @ values(times)))
    slope = jax.jit(lambda times, direction: jax.jvp(values, (times,), (direction,))[1])
    flat, unravel = ravel_pytree(times)
    rows = [gradient(times, weights) for weights in np.eye(4)]
    assert_trees_close(jax.tree.map(lambda *x: np.stack(x), *rows), expected, rtol=1e-6, atol=1e-8)
    columns = [slope(times, unravel(jnp.asarray(direction))) for direction in np.eye(flat.size)]
    expected_columns = np.concatenate([np.reshape(x, (4, -1)) for x in jax.tree.leaves(expected)], axis=1)
    np.testing.assert_allclose(np.stack(columns, axis=1), expected_columns, rtol=1e-6, atol=1e-8)


def _end_at(ts: Any, direction: Any) -> Any:
    rate, dt0 = np.asarray(0.5), direction * 0.2
    return solve(decay, np.asarray(2.0), rate, t1=direction, dt0=dt0, saveat=SaveAt(ts=ts)).ys


END_BY_TIME = [jax.jit(mode(_end_at)) for mode in (jax.jacfwd, jax.jacrev)]


@pytest.mark.parametrize("direction", [1.0, -1.0], ids=["forwards", "backwards"])
def test_a_time_as_first_and_last_and_only(direction: float) -> None:
    """Saved times on the ends of the solve and on a time of the grid, from which the interpolation goes on."""
    grid = direction * np.asarray([0.0, 0.4, 0.4, 1.0])

    expected = np.diag(-0.5 * 2 * np.exp(-0.5 * grid))
    for jacobian in END_BY_TIME:
        np.testing.assert_allclose(jacobian(grid, direction), expected, rtol=1e-2)


@pytest.mark.slow
def test_ramp_across_a_jump() -> None:
    """y' = 3 once t > 1: the end moves with `t1` at that rate, and not at all with `t0`."""

    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.where(t > args["jump"], 3.0, 0.0)

    def end(times: Any) -> jax.Array:
        controller = ClipStepSizeController(PID, jump_ts=times["jump"][None])
        options: dict[str, Any] = {"stepsize_controller": controller, "dt0": None, "max_steps": 64, "solver": Bosh3()}
        ys = solve(field, np.asarray(0.0), times, t0=times["t0"], t1=times["t1"], **options).ys
        return ys[0]

    times = {"t0": np.asarray(0.0), "t1": np.asarray(2.0), "jump": np.asarray(1.0)}
    for mode in (jax.grad, jax.jacfwd):
        slopes = jax.jit(mode(end))(times)
        assert slopes["t1"] == pytest.approx(3.0, rel=1e-9)
        assert slopes["t0"] == pytest.approx(0.0, abs=1e-9)
        assert slopes["jump"] == pytest.approx(-3.0, rel=1e-9)


@pytest.mark.parametrize("direction", [-1.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_all_times_around_jumps_and_stops(direction: float) -> None:
    """A field that is pushed between two jumps, which move, and a stop on its kink: against the tight solution."""

    def field(t: Any, y: Any, args: Any) -> Any:
        on, off, rate = args
        s = direction * t
        return direction * (jnp.where((s > on) & (s < off), 3.0, 0.5) * jnp.cos(s) - rate * y)

    def end(times: Any) -> jax.Array:
        on, off, stop = times["jumps"][0], times["jumps"][1], times["stop"]
        controller = ClipStepSizeController(
            PIDController(rtol=1e-9, atol=1e-11),
            jump_ts=direction * jnp.stack([off, on]),
            step_ts=direction * stop[None],
        )
        t0, t1 = direction * times["t0"], direction * times["t1"]
        options: dict[str, Any] = {"stepsize_controller": controller, "dt0": None, "max_steps": 128, "solver": Tsit5()}
        return solve(field, np.asarray(0.3), (on, off, times["rate"]), t0=t0, t1=t1, **options).ys[0]

    def formula(times: Any) -> jax.Array:
        """Between jumps y = e^(-a s) y(start) + p (e^(a s) (a cos s + sin s))' / (1 + a²), piece by piece."""
        a = times["rate"]

        def antiderivative(s: Any) -> Any:
            return jnp.exp(a * s) * (a * jnp.cos(s) + jnp.sin(s)) / (1 + a**2)

        pieces = [times["t0"], times["jumps"][0], times["jumps"][1], times["t1"]]
        pushed = [antiderivative(b) - antiderivative(s) for s, b in pairwise(pieces)]
        weight = 0.5 * pushed[0] + 3.0 * pushed[1] + 0.5 * pushed[2]
        return jnp.exp(-a * times["t1"]) * (jnp.exp(a * times["t0"]) * 0.3 + weight)

    times = {
        "t0": np.asarray(0.1),
        "t1": np.asarray(2.0),
        "jumps": np.asarray([0.5, 1.3]),
        "stop": np.asarray(0.9),
        "rate": np.asarray(0.8),
    }
    value, by_reverse = jax.jit(jax.value_and_grad(end))(times)
    exact, expected = jax.jit(jax.value_and_grad(formula))(times)
    assert float(value) == pytest.approx(float(exact), rel=1e-8)
    for found in (by_reverse, jax.jit(jax.jacfwd(end))(times)):
        assert_trees_close(found, expected, rtol=1e-6, atol=1e-6)


def test_tolerances_have_no_derivative() -> None:
    """Error control chooses steps, and a choice has none."""

    def end(rtol: Any, y0: Any) -> jax.Array:
        controller = PIDController(rtol=rtol, atol=1e-5)
        return weigh(solve(y0=y0, solver=Bosh3(), dt0=None, stepsize_controller=controller).ys)

    slope, rest = jax.jit(jax.grad(end, (0, 1)))(np.asarray(1e-4), Y0)
    assert slope == 0
    assert_trees_close(rest, jax.jit(jax.grad(end, 1))(1e-4, Y0), rtol=1e-12)


def test_the_first_step_of_an_adaptive_solve_has_no_derivative() -> None:
    def end(dt0: Any) -> jax.Array:
        return weigh(solve(solver=Bosh3(), dt0=dt0, stepsize_controller=PID).ys)

    for mode in (jax.grad, jax.jacfwd):
        assert jax.jit(mode(end))(np.asarray(0.1)) == 0


def test_a_chain_of_two_solves() -> None:
    """The time and the state where one ends are where the other starts."""

    def loss(inputs: Any) -> jax.Array:
        y0, args, middle = inputs
        first = solve(y0=y0, args=args, t1=middle, dt0=0.1)
        assert first.ys is not None
        return weigh(solve(y0=first.ys[0], args=args, t0=first.t1, t1=1.0, dt0=0.1).ys)

    assert_derivative(loss, (Y0, ARGS, np.asarray(0.44)), rtol=1e-8)
