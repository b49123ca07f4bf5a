"""Derivatives of the time of an event, of the state there and of what comes after its effect, against closed forms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    Bosh3,
    DirectAdjoint,
    Event,
    ForwardMode,
    ImplicitAdjoint,
    Kvaerno3,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    SaveAt,
    Tsit5,
    diffeqsolve,
    steady_state_event,
)

from ..compare import assert_trees_close

NEWTON = optx.Newton(rtol=1e-13, atol=1e-13)
TIGHT = PIDController(rtol=1e-10, atol=1e-12)

MODES: dict[str, tuple[Any, Callable[..., Any]]] = {
    "reverse": (RecursiveCheckpointAdjoint(), jax.jacrev),
    "reverse, two checkpoints": (RecursiveCheckpointAdjoint(checkpoints=2), jax.jacrev),
    "reverse, forward": (RecursiveCheckpointAdjoint(), jax.jacfwd),
    "direct": (DirectAdjoint(), jax.jacrev),
    "forward": (ForwardMode(), jax.jacfwd),
}


def modes(*quick: str) -> Any:
    """Every mode; only the `quick` ones are not slow."""
    each = [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in MODES]
    return pytest.mark.parametrize("mode", each)


def exact_derivative(formula: Callable[..., Any], p: Any) -> Any:
    return jax.jit(jax.jacrev(formula))(p)


def value_and(jacobian: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The value and the Jacobian, in one program."""

    def both(p: Any) -> Any:
        out = function(p)
        return out, out

    derivatives = jax.jit(jacobian(both, has_aux=True))
    return lambda p: derivatives(p)[::-1]


# ---------------------------------------------------------------------------------------- a stone that hits a ramp
#
# y'' = -g from height and speed at t0, until the height is level + slope * t. Bosh3 solves it exactly.

STONE = {"height": 1.0, "speed": 0.5, "g": 9.0, "level": 0.2, "slope": 0.3, "t0": 0.0}
STONE = {name: jnp.asarray(value) for name, value in STONE.items()}


def fall(t: Any, y: Any, args: Any) -> Any:
    return jnp.stack([y[1], -args["g"]])


def reaches_ramp(t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
    return y[0] - args["level"] - args["slope"] * t


def stone(p: Any, saveat: SaveAt, adjoint: Any = RecursiveCheckpointAdjoint(), **changes: Any) -> rungax.Solution:
    call: dict[str, Any] = {
        "terms": fall, "solver": Bosh3(), "t0": p["t0"], "t1": 3.0, "dt0": 0.1, "args": p, "saveat": saveat,
        "y0": jnp.stack([p["height"], p["speed"]]), "event": Event(reaches_ramp, NEWTON), "max_steps": 16, **changes,
    }  # fmt: skip
    return diffeqsolve(adjoint=adjoint, **call)


def stone_at(p: Any, t: Any) -> Any:
    s = t - p["t0"]
    return jnp.stack([p["height"] + p["speed"] * s - 0.5 * p["g"] * s * s, p["speed"] - p["g"] * s])


def stone_hits(p: Any) -> Any:
    speed = p["speed"] - p["slope"]
    gap = p["height"] - p["level"] - p["slope"] * p["t0"]
    return p["t0"] + (speed + jnp.sqrt(speed * speed + 2 * p["g"] * gap)) / p["g"]


def exact_saves(p: Any, ts: Any) -> Any:
    ts = jnp.stack(ts)
    return ts, jax.vmap(lambda t: stone_at(p, t))(ts)


@modes("reverse")
def test_time_and_state_at_the_event_and_before(mode: str) -> None:
    adjoint, jacobian = MODES[mode]
    saveat = SaveAt(t1=True, ts=jnp.asarray([0.15, 0.31, 0.9]), steps=True)

    def found(p: Any) -> Any:
        solution = stone(p, saveat, adjoint)
        assert solution.ts is not None
        return solution.ts[:7], solution.ys[:7]

    def expected(p: Any) -> Any:
        fixed = [jnp.asarray(t) for t in (0.15, 0.31)]
        steps = [p["t0"] + 0.1 * k for k in (1, 2, 3, 4)]
        order = [steps[0], fixed[0], steps[1], steps[2], fixed[1], steps[3]]
        return exact_saves(p, [*order, stone_hits(p)])

    value, derivatives = value_and(jacobian, found)(STONE)
    exact, exact_derivatives = value_and(jax.jacrev, expected)(STONE)
    assert_trees_close(value, exact, rtol=1e-9, atol=1e-11)
    assert_trees_close(derivatives, exact_derivatives, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_backwards_in_time() -> None:
    # The same motion thrown backwards from t0 = 0 to -3, with the speed and the slope turned.
    turned = {**STONE, "speed": -STONE["speed"], "slope": -STONE["slope"]}

    def found(p: Any) -> Any:
        solution = stone(p, SaveAt(t1=True), t1=-3.0, dt0=-0.1)
        return solution.ts, solution.ys

    def expected(p: Any) -> Any:
        mirror = {**p, "speed": -p["speed"], "slope": -p["slope"], "t0": -p["t0"]}
        t = -stone_hits(mirror)
        return exact_saves(p, [t])

    value, derivatives = value_and(jax.jacrev, found)(turned)
    exact, exact_derivatives = value_and(jax.jacrev, expected)(turned)
    assert_trees_close(value, exact, rtol=1e-9, atol=1e-11)
    assert_trees_close(derivatives, exact_derivatives, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("order", [pytest.param("forward over reverse", marks=pytest.mark.slow), "forward twice"])
def test_second_derivatives_of_the_time(order: str) -> None:
    def found(p: Any) -> Any:
        return stone(p, SaveAt(t1=True)).ts[0]

    second = jax.hessian if order == "forward over reverse" else lambda f: jax.jacfwd(jax.jacfwd(f))
    assert_trees_close(jax.jit(second(found))(STONE), jax.jit(jax.hessian(stone_hits))(STONE), rtol=1e-7, atol=1e-8)


@pytest.mark.slow
def test_vmap_of_grad() -> None:
    heights = jnp.asarray([0.5, 1.0, 4.0])
    found = lambda height: stone({**STONE, "height": height}, SaveAt(t1=True), max_steps=64).ts[0]
    expected = lambda height: stone_hits({**STONE, "height": height})
    assert_trees_close(
        jax.jit(jax.vmap(jax.grad(found)))(heights), jax.jit(jax.vmap(jax.grad(expected)))(heights), rtol=1e-9
    )


def test_a_condition_that_closes_over_parameters() -> None:
    def found(level: Any) -> Any:
        event = Event(lambda t, y, args, **kwargs: y[0] - level, NEWTON)
        return stone(STONE, SaveAt(t1=True), event=event).ts[0]

    expected = lambda level: stone_hits({**STONE, "level": level, "slope": jnp.asarray(0.0)})
    assert_trees_close(jax.jit(jax.grad(found))(0.3), exact_derivative(expected, 0.3), rtol=1e-9)


@pytest.mark.parametrize("solver", [Tsit5(), pytest.param(Kvaerno3(), marks=pytest.mark.slow)])
def test_adaptive_steps(solver: Any) -> None:
    # y' = rate y reaches the level at log(level / y0) / rate.
    def found(p: Any) -> Any:
        event = Event(lambda t, y, args, **kwargs: y - args["level"], NEWTON)
        tolerance = 1e-10 if isinstance(solver, Tsit5) else 1e-7
        solution = diffeqsolve(
            lambda t, y, args: args["rate"] * y, solver, 0.0, 5.0, None, p["y0"], p, event=event, max_steps=512,
            stepsize_controller=PIDController(rtol=tolerance, atol=tolerance),
        )  # fmt: skip
        return solution.ts[0]

    p = {"rate": jnp.asarray(0.7), "y0": jnp.asarray(1.2), "level": jnp.asarray(3.0)}
    expected = lambda p: jnp.log(p["level"] / p["y0"]) / p["rate"]
    rtol = 1e-7 if isinstance(solver, Tsit5) else 1e-5
    assert_trees_close(jax.jit(jax.grad(found))(p), exact_derivative(expected, p), rtol=rtol)


def test_a_boolean_event_stays_in_its_step() -> None:
    event = Event(lambda t, y, args, **kwargs: reaches_ramp(t, y, args) < 0)

    def found(p: Any) -> Any:
        solution = stone(p, SaveAt(t1=True), event=event)
        return solution.ts, solution.ys

    expected = lambda p: exact_saves(p, [p["t0"] + 0.5])
    assert_trees_close(jax.jit(jax.jacrev(found))(STONE), exact_derivative(expected, STONE), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_an_event_that_never_fires() -> None:
    never = Event(lambda t, y, args, **kwargs: y[0] + 1000.0, NEWTON)
    found = lambda event: lambda p: stone(p, SaveAt(t1=True), event=event, t1=0.55).ys[0]
    with_event, without = (jax.jit(jax.jacrev(found(event)))(STONE) for event in (never, None))
    assert_trees_close(with_event, without, rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ bouncing ball

BALL = {"height": jnp.asarray(1.0), "restitution": jnp.asarray(0.8), "g": jnp.asarray(9.81)}


def ball_field(t: Any, y: Any, args: Any) -> Any:
    """Place and speed, and the time of the last bounce."""
    return jnp.stack([y[1], -args["g"], jnp.zeros(())])


BOUNCE = Event(
    lambda t, y, args, **kwargs: y[0],
    NEWTON,
    direction=False,
    effect=lambda t, y, args: jnp.stack([y[0], -args["restitution"] * y[1], jnp.asarray(t)]),
)


def ball(p: Any, saveat: SaveAt, adjoint: Any = RecursiveCheckpointAdjoint(), **changes: Any) -> Any:
    call: dict[str, Any] = {
        "terms": ball_field, "solver": Bosh3(), "t0": 0.0, "t1": 2.0, "dt0": 0.1, "args": p, "saveat": saveat,
        "y0": jnp.stack([p["height"], jnp.zeros(()), jnp.zeros(())]), "event": BOUNCE, "max_steps": 64, **changes,
    }  # fmt: skip
    return diffeqsolve(adjoint=adjoint, **call).ys


def bounces_before(p: Any, t: float) -> int:
    """The number of impacts until `t`, which a small change of the parameters leaves as it is."""
    e, first = float(p["restitution"]), float(jnp.sqrt(2 * p["height"] / p["g"]))
    n, coming = 0, first
    while coming < t:
        n += 1
        coming += 2 * first * e**n
    return n


def ball_at(p: Any, t: float, n: int) -> Any:
    """Place and speed at `t`, after `n` impacts, and the time of the last of them."""
    e, first = p["restitution"], jnp.sqrt(2 * p["height"] / p["g"])
    if n == 0:
        return jnp.stack([p["height"] - 0.5 * p["g"] * t * t, -p["g"] * t, jnp.zeros(())])
    last = first + 2 * first * jnp.sum(e ** jnp.arange(1.0, n))
    up, s = e**n * p["g"] * first, t - last
    return jnp.stack([up * s - 0.5 * p["g"] * s * s, up - p["g"] * s, last])


BALL_TIMES = (0.3, 0.6, 1.3, 1.95)


@modes()
def test_bouncing_ball(mode: str) -> None:
    adjoint, jacobian = MODES[mode]
    found = lambda p: ball(p, SaveAt(ts=jnp.asarray(BALL_TIMES), t1=True), adjoint)
    times = [(t, bounces_before(BALL, t)) for t in (*BALL_TIMES, 2.0)]
    expected = lambda p: jnp.stack([ball_at(p, t, n) for t, n in times])
    value, derivatives = value_and(jacobian, found)(BALL)
    exact, exact_derivatives = value_and(jax.jacrev, expected)(BALL)
    assert_trees_close(value, exact, rtol=1e-9, atol=1e-9)
    assert_trees_close(derivatives, exact_derivatives, rtol=1e-6, atol=1e-8)


def test_fifty_bounces() -> None:
    p = {**BALL, "restitution": jnp.asarray(0.92)}
    end = 10.665  # a little after the fiftieth impact, when a flight takes a seventieth of a second
    found = lambda e: ball({**p, "restitution": e}, SaveAt(t1=True), t1=end, max_steps=512)[0]
    n = bounces_before(p, end)
    assert n == 50
    expected = lambda e: ball_at({**p, "restitution": e}, end, n)
    e = p["restitution"]
    assert_trees_close(jax.jit(jax.jacrev(found))(e), exact_derivative(expected, e), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_second_derivatives_across_bounces() -> None:
    found = lambda e: ball({**BALL, "restitution": e}, SaveAt(t1=True), t1=1.3)[0]
    n = bounces_before(BALL, 1.3)
    expected = lambda e: ball_at({**BALL, "restitution": e}, 1.3, n)
    e = BALL["restitution"]
    second = jax.jit(jax.jacfwd(jax.jacrev(found)))(e)
    assert_trees_close(second, exact_derivative(jax.jacrev(expected), e), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_vmap_of_grad_across_bounces() -> None:
    found = lambda h: ball({**BALL, "height": h}, SaveAt(t1=True))[0, 0]
    heights = jnp.asarray([0.4, 1.0, 30.0])
    numbers = [bounces_before({**BALL, "height": h}, 2.0) for h in heights]
    expected = lambda h, n: ball_at({**BALL, "height": h}, 2.0, n)[0]
    gradients = jnp.stack([jax.grad(expected)(h, n) for h, n in zip(heights, numbers, strict=True)])
    assert_trees_close(jax.jit(jax.vmap(jax.grad(found)))(heights), gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_an_effect_then_an_end() -> None:
    # The top of the first flight after the bounce: speed zero, downwards.
    event = Event((BOUNCE.cond_fn, lambda t, y, args, **kwargs: y[1]), NEWTON, direction=False,
                  effect=(BOUNCE.effect, None))  # fmt: skip

    def found(p: Any) -> Any:
        y0 = jnp.stack([p["height"], jnp.asarray(-1e-3), jnp.zeros(())])
        solution = diffeqsolve(
            ball_field, Bosh3(), 0.0, 2.0, 0.1, y0, p, event=event, saveat=SaveAt(t1=True), max_steps=64
        )
        return solution.ts[0], solution.ys[0, 0]

    def expected(p: Any) -> Any:
        down = jnp.sqrt(1e-6 + 2 * p["g"] * p["height"])
        up = p["restitution"] * down
        return (down - 1e-3) / p["g"] + up / p["g"], up * up / (2 * p["g"])

    value, derivatives = value_and(jax.jacrev, found)(BALL)
    exact, exact_derivatives = value_and(jax.jacrev, expected)(BALL)
    assert_trees_close(value, exact, rtol=1e-9)
    assert_trees_close(derivatives, exact_derivatives, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------------- doses and others


@pytest.mark.parametrize("adaptive", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_dose_and_time_of_dose(adaptive: bool) -> None:
    event = Event(
        lambda t, y, args, **kwargs: t - args["time"], NEWTON, direction=True,
        effect=lambda t, y, args: y + args["dose"],
    )  # fmt: skip

    def found(p: Any) -> Any:
        keywords: dict[str, Any] = {"stepsize_controller": TIGHT} if adaptive else {}
        return diffeqsolve(
            lambda t, y, args: -args["rate"] * y, Tsit5(), 0.0, 4.0, 0.05, jnp.asarray(1.0), p, event=event,
            max_steps=512, saveat=SaveAt(ts=jnp.asarray([1.0, 3.0]), t1=True), **keywords,
        ).ys  # fmt: skip

    def expected(p: Any) -> Any:
        before = jnp.exp(-p["rate"] * jnp.asarray([1.0, 3.0, 4.0]))
        late = jnp.asarray([3.0, 4.0])
        return before + jnp.concatenate([jnp.zeros(1), p["dose"] * jnp.exp(-p["rate"] * (late - p["time"]))])

    p = {"rate": jnp.asarray(0.5), "dose": jnp.asarray(2.0), "time": jnp.asarray(1.7)}
    assert_trees_close(jax.jit(jax.jacrev(found))(p), exact_derivative(expected, p), rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_finite_differences_where_there_is_no_closed_form() -> None:
    # A pushed pendulum that loses speed and is shifted whenever it passes a moving line.
    def end(p: Any) -> Any:
        event = Event(
            lambda t, y, args, **kwargs: y[0] - 0.1 * args * t,
            NEWTON,
            effect=lambda t, y, args: jnp.stack([y[0] + 0.05 * y[1] * args, -0.3 * y[1] + 0.2 * t]),
        )
        field = lambda t, y, args: jnp.stack([y[1], jnp.cos(t) * args - 3.0 * jnp.sin(y[0])])
        solution = diffeqsolve(
            field, Tsit5(), 0.0, 4.0, 0.1, jnp.stack([jnp.ones(()), p]), p, event=event, stepsize_controller=TIGHT,
            max_steps=1024,
        )  # fmt: skip
        return solution.ys[0]

    found, p, h = jax.jit(end), jnp.asarray(0.6), 1e-4
    at = lambda k: found(p + k * h)
    difference = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
    assert_trees_close(jax.jit(jax.jacrev(end))(p), difference, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_steady_state_by_the_implicit_function_theorem() -> None:
    def found(a: Any) -> Any:
        solution = diffeqsolve(
            ODETerm(lambda t, y, args: args - y**3), Tsit5(), 0.0, jnp.inf, 0.1, jnp.asarray([1.0, 0.5]), a,
            event=Event(steady_state_event()), adjoint=ImplicitAdjoint(), max_steps=512,
            stepsize_controller=PIDController(rtol=1e-8, atol=1e-9),
        )  # fmt: skip
        return solution.ys[0]

    a = jnp.asarray([2.0, 0.5])
    value, derivatives = value_and(jax.jacrev, found)(a)
    assert_trees_close(value, a ** (1 / 3), rtol=1e-6)
    assert_trees_close(derivatives, jnp.diag(a ** (-2 / 3) / 3), rtol=1e-6, atol=1e-12)


def test_dense_output_on_both_sides_of_a_jump() -> None:
    # y' = y is halved whenever it comes to 2: at log(2 / y0) and every log(2) after it.
    event = Event(lambda t, y, args, **kwargs: y - 2.0, NEWTON, effect=lambda t, y, args: 0.5 * y)

    def found(y0: Any) -> Any:
        solution = diffeqsolve(
            lambda t, y, args: y, Tsit5(), 0.0, 2.0, 0.1, y0, event=event, saveat=SaveAt(dense=True), max_steps=64
        )
        return jax.vmap(solution.evaluate)(jnp.asarray([0.5, 1.0, 1.9]))

    factors = jnp.exp(jnp.asarray([0.5, 1.0, 1.9])) / jnp.asarray([1.0, 2.0, 4.0])
    value, derivative = value_and(jax.jacrev, found)(jnp.asarray(1.0))
    assert_trees_close(value, factors, rtol=1e-7)
    assert_trees_close(derivative, factors, rtol=1e-7)


def test_elements_of_which_some_never_meet_their_event() -> None:
    def found(y0: Any, level: Any) -> Any:
        event = Event(lambda t, y, args, **kwargs: y - args, NEWTON)
        solution = diffeqsolve(lambda t, y, args: y, Tsit5(), 0.0, 2.0, 0.1, y0, level, event=event, max_steps=64)
        return solution.ts[0] + solution.ys[0]

    derivatives = jax.jit(jax.vmap(jax.grad(found), (None, 0)))(jnp.asarray(1.0), jnp.asarray([1.5, 3.0, 100.0, 0.5]))
    assert_trees_close(derivatives, jnp.asarray([-1.0, -1.0, np.exp(2.0), np.exp(2.0)]), rtol=1e-6)


# --------------------------------------------------------------------------------------------------------------- noise


def drifting(drift: Any, effect: Any, saveat: rungax.SaveAt) -> rungax.Solution:
    path = rungax.VirtualBrownianTree(0.0, 2.0, tol=0.05, shape=(), key=jax.random.key(0))
    diffusion = rungax.ControlTerm(lambda t, y, args: jnp.asarray(0.1), path)
    terms = rungax.MultiTerm(rungax.ODETerm(lambda t, y, args: args), diffusion)
    finder = optx.Newton(rtol=1e-10, atol=1e-10)
    event = rungax.Event(lambda t, y, args, **kwargs: y - 0.5, finder, direction=True, effect=effect)
    return rungax.diffeqsolve(
        terms, rungax.Heun(), 0.0, 2.0, 0.1, jnp.asarray(0.0), drift, event=event, saveat=saveat, max_steps=256
    )


EFFECTS = {"end": None, "0": lambda t, y, args: 0.0 * y, "t": lambda t, y, args: t}


@pytest.mark.parametrize(
    ("mode", "effect"),
    [
        pytest.param(jax.jacfwd, EFFECTS["0"], id="forward-0", marks=pytest.mark.slow),
        pytest.param(jax.jacrev, EFFECTS["end"], id="reverse-end"),
        pytest.param(jax.jacrev, EFFECTS["t"], id="reverse-t", marks=pytest.mark.slow),
        pytest.param(jax.jacfwd, EFFECTS["end"], id="forward-end", marks=pytest.mark.slow),
        pytest.param(jax.jacfwd, EFFECTS["t"], id="forward-t", marks=pytest.mark.slow),
        pytest.param(jax.jacrev, EFFECTS["0"], id="reverse-0", marks=pytest.mark.slow),
    ],
)
def test_with_noise_the_time_of_an_event_has_no_derivative(mode: Any, effect: Any) -> None:
    """Not a number, rather than one that is wrong; what was before the event has its derivative."""

    def kept(drift: jax.Array) -> jax.Array:
        solution = drifting(drift, effect, rungax.SaveAt(ts=[0.3], t1=True))
        assert solution.ts is not None
        return jnp.stack([solution.ys[0], solution.ys[1], *([solution.ts[1]] if effect is None else [])])

    found = jax.jit(mode(kept))(jnp.asarray(1.0))
    np.testing.assert_allclose(found[0], 0.3, rtol=1e-9)
    assert np.isnan(found[1:]).all()
