"""The tape holds the accepted steps and no others, in the memory it is given, and halving it changes no derivative."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import rungax
from rungax import (
    Bosh3,
    ConstantStepSize,
    Euler,
    Heun,
    ODETerm,
    PIDController,
    RecursiveCheckpointAdjoint,
    SaveAt,
    StepTo,
    Tsit5,
    diffeqsolve,
)

from ..catalogue import slow_unless
from ..compare import assert_trees_close
from ..fakes import CountedField
from ..problems.fields import ARGS, pendulum
from ..tracing.hlo import compiled_text, count_loops, custom_calls_in_loops
from .measure import accepted_times, weigh

Y0 = np.asarray([1.0, 0.5])
INPUTS = (Y0, ARGS)
TS = np.asarray([0.0, 0.21, 0.21, 1.3, 2.0])

SAVES: dict[str, SaveAt] = {
    "t1": SaveAt(t1=True),
    "ts": SaveAt(ts=TS),
    "steps": SaveAt(ts=TS, steps=3),
    "dense": SaveAt(dense=True),
}
PID: dict[str, Any] = {"dt0": None, "stepsize_controller": PIDController(rtol=1e-5, atol=1e-6)}
FIXED: dict[str, Any] = {"dt0": 0.05, "stepsize_controller": ConstantStepSize()}


def solve(inputs: Any, **options: Any) -> rungax.Solution:
    """About forty steps from 0 to 2."""
    y0, args = inputs
    settings: dict[str, Any] = {"t1": 2.0, "max_steps": 100, "solver": Bosh3(), **FIXED, **options}
    field = settings.pop("field", pendulum)
    return diffeqsolve(ODETerm(field), t0=0.0, y0=y0, args=args, **settings)


def loss(inputs: Any, **options: Any) -> jax.Array:
    solution = solve(inputs, **options)
    if solution.interpolation is not None:
        return weigh(jax.vmap(solution.evaluate)(jnp.asarray(TS)))
    return weigh(solution.ys)


@cache
def whole_gradient(save: str) -> Any:
    """The gradient by a tape that holds every step."""
    return gradient(saveat=SAVES[save])(INPUTS)


def gradient(adjoint: Any = None, **options: Any) -> Callable[[Any], Any]:
    adjoint = RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    return jax.jit(jax.grad(lambda inputs: loss(inputs, adjoint=adjoint, **options)))


# ---------------------------------------------------------------------------------------------------------- halving

HALVED = RecursiveCheckpointAdjoint(checkpoints=4)

# The same steps are made again, by another program.
ROUNDING = {"rtol": 1e-11, "atol": 1e-13}


@pytest.mark.parametrize(
    ("checkpoints", "save"),
    [
        (2, "dense"),
        pytest.param(4, "ts", marks=pytest.mark.slow),
        pytest.param(7, "t1", marks=pytest.mark.slow),  # a budget in bytes is of six
        (40, "t1"),
        pytest.param(64, "t1", marks=pytest.mark.slow),
    ],
)
def test_halving_changes_nothing(checkpoints: int, save: str) -> None:
    """Forty steps: on a tape of two states, of a few, of as many, of more."""
    found = gradient(RecursiveCheckpointAdjoint(checkpoints=checkpoints), saveat=SAVES[save])(INPUTS)
    assert_trees_close(found, whole_gradient(save), **ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("control", [PID, FIXED], ids=["PID", "fixed"])
@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES.keys())
@pytest.mark.parametrize("checkpoints", [2, 3, 4, 6, 8, 10, 16, 38, 40, 42, 98, 100, 200])
def test_halving_changes_nothing_in_full(checkpoints: int, save: SaveAt, control: dict[str, Any]) -> None:
    found = gradient(RecursiveCheckpointAdjoint(checkpoints=checkpoints), saveat=save, **control)(INPUTS)
    assert_trees_close(found, gradient(saveat=save, **control)(INPUTS), **ROUNDING)


@pytest.mark.parametrize("num_steps", [1, 3, 4, 5, 8, 9, 16, 17, 31, 33, 64, 65])
def test_halving_at_every_count_of_steps(num_steps: int) -> None:
    """Around each count at which a tape of four fills up; one program for all."""
    inputs = (INPUTS, np.asarray(2.0 / num_steps))
    halved, whole = (gradient_by_step(checkpoints)(inputs) for checkpoints in (4, None))
    assert_trees_close(halved, whole, **ROUNDING)


@cache
def gradient_by_step(checkpoints: int | None) -> Callable[[Any], Any]:
    adjoint = RecursiveCheckpointAdjoint(checkpoints=checkpoints)
    return jax.jit(jax.grad(lambda x: loss(x[0], dt0=x[1], adjoint=adjoint, solver=Heun(), saveat=SAVES["ts"])))


@pytest.mark.slow
def test_halving_in_elements_that_halve_at_different_times() -> None:
    scale = np.asarray([0.1, 1.0, 5.0, 20.0])
    elements = Y0 * scale[:, None], jax.tree.map(lambda x: x * scale, ARGS)

    def function(inputs: Any, adjoint: Any) -> tuple[jax.Array, Any]:
        solution = solve(inputs, **PID, saveat=SAVES["ts"], max_steps=400, adjoint=adjoint)
        return weigh(solution.ys), solution.num_accepted_steps

    halved, whole = (
        jax.jit(jax.vmap(jax.grad(lambda x, a=adjoint: function(x, a), has_aux=True)))(elements)
        for adjoint in (HALVED, RecursiveCheckpointAdjoint())
    )
    assert len(set(halved[1].tolist())) == 4
    assert_trees_close(halved, whole, rtol=1e-10, atol=1e-12)


def test_a_budget_in_bytes_is_so_many_checkpoints() -> None:
    by_bytes = gradient(RecursiveCheckpointAdjoint(budget=6 * Y0.nbytes + 3))
    by_count = gradient(RecursiveCheckpointAdjoint(checkpoints=6))
    assert by_bytes.lower(INPUTS).as_text() == by_count.lower(INPUTS).as_text()
    assert_trees_close(by_bytes(INPUTS), whole_gradient("t1"), **ROUNDING)


@pytest.mark.slow
def test_second_derivatives_and_forward_mode_of_a_halved_tape() -> None:
    def end(y0: Any, adjoint: Any = HALVED) -> jax.Array:
        return loss((y0, ARGS), adjoint=adjoint, solver=Euler(), max_steps=50)

    def slope(y0: Any) -> Any:
        gradient = jax.grad(end)(y0, RecursiveCheckpointAdjoint())
        return gradient, gradient

    hessian, gradient = jax.jit(jax.jacfwd(slope, has_aux=True))(Y0)
    np.testing.assert_allclose(jax.jit(jax.hessian(end))(Y0), hessian, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(end))(Y0), gradient, rtol=1e-10)


# ------------------------------------------------------------------------------------------------------------ memory


def temporary_bytes(max_steps: int, size: int, adjoint: Any, **options: Any) -> int:
    """What the gradient of a solve of `size` numbers needs besides inputs and outputs, by the compiler's account."""

    def end(y0: Any) -> jax.Array:
        field = lambda t, y, args: -jnp.sin(y)
        settings = {"saveat": SaveAt(t1=True), "max_steps": max_steps, "throw": False, "adjoint": adjoint, **options}
        ys = diffeqsolve(ODETerm(field), Euler(), 0.0, 1.0, 0.01, y0, **settings).ys
        assert ys is not None
        return jnp.sum(ys)

    analysis = jax.jit(jax.grad(end)).lower(jnp.zeros(size)).compile().memory_analysis()
    return analysis.temp_size_in_bytes


# Per step that may be made: its two ends, and what copies of them the compiler makes.
TIMES = 2 * 8
COPIES = 3


@pytest.mark.parametrize("size", [1000, pytest.param(3, marks=pytest.mark.slow)])
def test_the_memory_of_a_bounded_tape_grows_by_times_only(size: int) -> None:
    adjoint = RecursiveCheckpointAdjoint(checkpoints=8)
    small, large = (temporary_bytes(max_steps, size, adjoint) for max_steps in (10_000, 20_000))
    assert large - small <= COPIES * TIMES * 10_000


def test_the_memory_of_a_bounded_tape_is_its_states() -> None:
    states = 10_000 * 8
    few, more = (temporary_bytes(10_000, 10_000, RecursiveCheckpointAdjoint(checkpoints=n)) for n in (8, 24))
    assert 0.9 * 16 * states <= more - few <= 4 * 16 * states  # a second level holds as many again
    # Stages, cotangents and segments: some tens of states besides.
    assert few <= (8 * 4 + 40) * states + COPIES * TIMES * 10_000


def test_the_memory_of_a_whole_tape_is_a_state_for_every_step() -> None:
    small, large = (temporary_bytes(max_steps, 100, RecursiveCheckpointAdjoint()) for max_steps in (500, 1000))
    assert 500 * 100 * 8 <= large - small <= 2.1 * 500 * (100 * 8 + TIMES)


def test_the_budget_bounds_the_memory_of_a_long_solve() -> None:
    """By default 16 MiB of states; what else there is grows by times."""
    small, large = (temporary_bytes(max_steps, 10_000, RecursiveCheckpointAdjoint()) for max_steps in (2_000, 200_000))
    assert large - small <= COPIES * TIMES * 198_000 + 16 * 2**20
    assert large <= 4 * 16 * 2**20 + COPIES * TIMES * 200_000


def test_no_memory_grows_with_a_large_bound_on_steps() -> None:
    """A hundred steps, of 10⁷, 10⁸ or of all that can be counted."""
    adjoint = RecursiveCheckpointAdjoint(checkpoints=8)
    sizes = [temporary_bytes(max_steps, 3, adjoint) for max_steps in (10**7, 10**8, 2**31 - 1)]
    assert max(sizes) - min(sizes) <= 4096
    assert max(sizes) <= 2 * COPIES * TIMES * 2**17


# --------------------------------------------------------------------------------------------------------- stretches

STRETCHED = 103
"""A bound on the number of steps that no other test has: programs are stored by it."""


@pytest.fixture
def in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tapes have room for the times of eight steps, where they had room for those of 2¹⁷."""
    monkeypatch.setattr("rungax.saving.tape.WHOLE_STEPS", 1)
    monkeypatch.setattr("rungax.saving.tape.STRETCH_STEPS", 8)


@pytest.mark.usefixtures("in_stretches")
@pytest.mark.parametrize(
    ("mode", "adjoint", "max_steps"),
    [
        (jax.grad, RecursiveCheckpointAdjoint(), STRETCHED),
        (jax.jacfwd, RecursiveCheckpointAdjoint(), STRETCHED),
        pytest.param(jax.grad, HALVED, STRETCHED, marks=pytest.mark.slow),
        pytest.param(jax.grad, RecursiveCheckpointAdjoint(), None, marks=pytest.mark.slow),
        pytest.param(jax.grad, rungax.DirectAdjoint(), STRETCHED, marks=pytest.mark.slow),
    ],
)
def test_a_solve_in_stretches_has_the_same_derivatives(mode: Any, adjoint: Any, max_steps: int | None) -> None:
    options = {"adjoint": adjoint, "max_steps": max_steps, "saveat": SAVES["ts"]}
    found = jax.jit(mode(lambda inputs: loss(inputs, **options)))(INPUTS)
    assert_trees_close(found, whole_gradient("ts"), **ROUNDING)


@pytest.mark.slow
@pytest.mark.usefixtures("in_stretches")
@pytest.mark.parametrize("kind", ["PID, vmap", "reversible", "hessian", "effect", "failed"])
def test_a_solve_in_stretches_has_the_same_derivatives_in_full(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with a tape that holds the times of all steps."""
    bounce = rungax.Event(
        lambda t, y, args, **kwargs: y[0] - 0.2,
        optx.Newton(1e-10, 1e-10),
        effect=lambda t, y, args, index: y + 0.3 + index.astype(float),
    )
    options: dict[str, dict[str, Any]] = {
        "PID, vmap": {**PID, "saveat": SAVES["dense"]},
        "reversible": {"adjoint": rungax.ReversibleAdjoint(), "saveat": SAVES["steps"]},
        "hessian": {"solver": Euler(), "saveat": SAVES["ts"]},
        "effect": {**PID, "event": bounce},
        "failed": {"saveat": SAVES["ts"], "throw": False, "dt0": 0.15, "field": lambda t, y, args: 8 * y**2},
    }
    elements = jax.tree.map(lambda x: np.stack([0.3 * x, x, 2 * x]), INPUTS)

    def derivative(max_steps: int) -> Any:
        function = lambda inputs: loss(inputs, max_steps=max_steps, **options[kind])
        if kind == "hessian":
            return jax.jit(jax.hessian(lambda y0: function((y0, ARGS))))(Y0)
        gradient = jax.grad(function)
        return jax.jit(jax.vmap(gradient))(elements) if "vmap" in kind else jax.jit(gradient)(INPUTS)

    found = derivative(STRETCHED)
    monkeypatch.setattr("rungax.saving.tape.WHOLE_STEPS", 2**20)
    assert_trees_close(found, derivative(STRETCHED + 1), rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("in_stretches")
def test_elements_that_need_one_stretch_and_several_have_their_tangents() -> None:
    def end(rate: jax.Array) -> tuple[jax.Array, Any]:
        solution = diffeqsolve(
            lambda t, y, rate: -rate * jnp.sin(rate * t), rungax.Tsit5(), 0.0, 1.0, None, jnp.asarray(1.0), rate,
            stepsize_controller=rungax.PIDController(rtol=1e-5, atol=1e-5), max_steps=STRETCHED,
        )  # fmt: skip
        return solution.ys[-1], solution.num_accepted_steps

    rates = jnp.asarray([0.5, 12.0])
    found, steps = jax.jit(jax.vmap(jax.jacfwd(end, has_aux=True)))(rates)
    assert steps[0] <= 8 < steps[1]
    np.testing.assert_allclose(found, -jnp.sin(rates), atol=1e-3)


# ---------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("checkpoints", [1, 0, -3])
def test_fewer_than_two_checkpoints(checkpoints: int) -> None:
    with pytest.raises(ValueError, match=r"(?s)checkpoints.*at least 2.*Found: +-?\d"):
        RecursiveCheckpointAdjoint(checkpoints=checkpoints)


@pytest.mark.parametrize("budget", [0, 1, 2 * Y0.nbytes - 1])
def test_a_budget_below_two_states(budget: int) -> None:
    with pytest.raises(ValueError, match=rf"(?s)budget.*two states.*at least {2 * Y0.nbytes} bytes.*Found: +{budget}"):
        gradient(RecursiveCheckpointAdjoint(budget=budget))(INPUTS)


def test_an_integer_argument_cannot_be_differentiated() -> None:
    with pytest.raises(TypeError, match=r"(?s)real- or complex-valued inputs.*int"):
        jax.grad(lambda n: loss((Y0, ARGS), field=lambda t, y, args: -n.astype(float) * y))(jnp.asarray(2))


# ---------------------------------------------------------------------------------------------------- without a bound


@pytest.mark.slow
@pytest.mark.parametrize("save", ["t1", "ts"])
def test_first_derivatives_without_a_bound_on_steps(save: str) -> None:
    unbounded = {"saveat": SAVES[save], "max_steps": None, **PID}
    expected = gradient(saveat=SAVES[save], **PID)(INPUTS)
    assert_trees_close(gradient(**unbounded)(INPUTS), expected, **ROUNDING)
    assert_trees_close(jax.jit(jax.jacfwd(lambda x: loss(x, **unbounded)))(INPUTS), expected, rtol=1e-10, atol=1e-12)
    elements = jax.tree.map(lambda x: np.stack([x, 2 * x]), INPUTS)
    found, expected = (jax.jit(jax.vmap(gradient(**o)))(elements) for o in (unbounded, {"saveat": SAVES[save], **PID}))
    assert_trees_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("second", [lambda f: jax.jacfwd(jax.grad(f)), lambda f: jax.grad(lambda x: jax.grad(f)(x)[0])])
def test_second_derivatives_ask_for_a_bound_on_steps(second: Callable[..., Any]) -> None:
    function = second(lambda y0: loss((y0, ARGS), max_steps=None, solver=Euler()))
    with pytest.raises(ValueError, match="max_steps"):
        function(Y0)
    with pytest.raises(ValueError, match="max_steps"):
        jax.jit(function)(Y0)


# ---------------------------------------------------------------------------------------------------- rejected steps


def steep(t: Any, y: Any, args: Any) -> Any:
    """Still until t = 1, then with a jolt that a controller meets with rejections."""
    return -args["damping"] * y + 40 * args["push"] * jnp.exp(-(((t - 1.0) / 0.05) ** 2)) * jnp.cos(3 * y)


JOLT: dict[str, Any] = {"field": steep, "max_steps": 200, **PID}


def test_the_gradient_is_that_of_the_chain_of_accepted_steps() -> None:
    """The steps are made again one after the other in plain JAX, which differentiates that by itself."""
    solution = solve(INPUTS, saveat=SaveAt(t0=True, steps=True), **JOLT)
    grid = accepted_times(solution)
    assert int(solution.stats["num_rejected_steps"]) >= 5
    assert int(solution.num_accepted_steps) == grid.size - 1

    def unrolled(inputs: Any) -> jax.Array:
        y, args = inputs

        def step(y: Any, ends: Any) -> tuple[Any, None]:
            t, h = ends[0], ends[1] - ends[0]
            # Bogacki and Shampine's method, Appl. Math. Lett. 2 (1989), 321-325.
            k1 = steep(t, y, args)
            k2 = steep(t + h / 2, y + h / 2 * k1, args)
            k3 = steep(t + 3 * h / 4, y + 3 * h / 4 * k2, args)
            return y + h * (2 * k1 + 3 * k2 + 4 * k3) / 9, None

        y, _ = jax.lax.scan(step, y, np.stack([grid[:-1], grid[1:]], axis=1))
        return weigh(y[None])

    found, expected = (jax.jit(jax.value_and_grad(f))(INPUTS) for f in (lambda x: loss(x, **JOLT), unrolled))
    assert_trees_close(found, expected, rtol=1e-9)
    by_steps = gradient(**{**JOLT, "stepsize_controller": StepTo(grid)})(INPUTS)
    assert_trees_close(by_steps, expected[1], rtol=1e-9)


def test_a_gradient_evaluates_the_field_in_accepted_steps_only() -> None:
    """Beyond the solve, by Bosh3, at most four evaluations for each accepted step, and none for those rejected."""
    field = CountedField(steep)
    options = {**JOLT, "field": field}
    solution = jax.block_until_ready(jax.jit(lambda x: solve(x, **options))(INPUTS))
    in_solve = field.num_calls
    jax.block_until_ready(jax.jit(jax.grad(lambda x: loss(x, **options)))(INPUTS))
    in_gradient = field.num_calls - in_solve
    accepted, tried = int(solution.num_accepted_steps), int(solution.num_steps)
    assert tried - accepted >= 5
    assert 3 * tried <= in_solve <= 3 * tried + 4
    assert in_gradient - in_solve <= 4 * accepted + 4


# ---------------------------------------------------------------------------------------------------------- programs

REPEATED = ("t1", "ts")
"""What `dense, vmap` shows as well, with all values."""

PROGRAMS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "t1": (2, jax.grad(lambda x: loss(x, throw=False, solver=Tsit5(), **PID))),
    "ts": (2, jax.grad(lambda x: loss(x, throw=False, saveat=SAVES["ts"], **PID))),
    "halved": (3, jax.grad(lambda x: loss(x, throw=False, adjoint=RecursiveCheckpointAdjoint(checkpoints=8)))),
    "dense, vmap": (2, jax.vmap(jax.grad(lambda x: loss(x, throw=False, solver=Heun(), saveat=SAVES["dense"], **PID)))),
    "hessian": (2, jax.jacfwd(jax.grad(lambda x: loss(x, throw=False, solver=Euler(), max_steps=32)))),
    "jvp": (2, lambda x: jax.jvp(lambda x: loss(x, throw=False), (x,), (x,))[1]),
}


@pytest.mark.parametrize(
    ("num_loops", "program"),
    [pytest.param(*case, id=name, marks=slow_unless(name not in REPEATED)) for name, case in PROGRAMS.items()],
)
def test_no_custom_call_in_the_loops_of_a_gradient(
    num_loops: int, program: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    inputs = jax.tree.map(lambda x: np.stack([x, x]), INPUTS) if "vmap" in request.node.name else INPUTS
    text = compiled_text(program, inputs)
    assert count_loops(text) >= num_loops
    assert custom_calls_in_loops(text) == set()
    assert "callback" not in text
