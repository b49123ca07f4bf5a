"""A chain of solves with few attempts each makes the attempts of one solve: times, states and counts, bit for bit.

With noise the states may differ by roundings: the increments of a Brownian path are rounded as each program fuses them.
Each solve ends by `max_steps` and hands its states to the next one, which is given no `dt0`.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from hypothesis import given, settings, strategies as st

import rungax
from rungax import ClipStepSizeController, ControlTerm, MultiTerm, ODETerm, PIDController, SubSaveAt, diffeqsolve

from ..catalogue import ROSENBROCK, slow_unless

KEYS = ("solver_state", "controller_state", "made_jump")
SAVEAT = rungax.SaveAt(subs={"end": SubSaveAt(t1=True), "steps": SubSaveAt(steps=True)}, **dict.fromkeys(KEYS, True))
MOST = 512


def push(t: Any, y: Any, args: Any) -> Any:
    """An oscillator whose rate changes with time, and which is pushed from time `args["jump"]` on."""
    pushed = jnp.where((t < args["jump"]) == (args["sign"] > 0), 0.0, 0.5).astype(y.dtype)
    return args["rate"].astype(y.dtype) * jnp.stack([y[1], -y[0] * (1 + jnp.sin(3 * t).astype(y.dtype))]) + pushed


def noisy(args: Any) -> MultiTerm[Any]:
    t0, t1 = args["t0"], args["t1"]
    ends = jnp.minimum(t0, t1), jnp.maximum(t0, t1)
    tree = rungax.VirtualBrownianTree(*ends, 1e-4, (), jax.random.key(7), rungax.SpaceTimeLevyArea)
    return MultiTerm(ODETerm(push), ControlTerm(lambda t, y, args: 0.5 * jnp.sin(3 * y), tree))


class Growing(rungax.AbstractStepSizeController[Any, Any]):
    """A controller as for Diffrax: the size grows with each attempt; every third attempt is rejected, and halved."""

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, Any]:
        return t0 + dt0, (dt0, jnp.asarray(0))

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1: Any, args: Any, error: Any, order: Any, state: Any
    ) -> tuple[Any, Any, Any, Any, Any, Any]:
        size, count = state
        keep = count % 3 != 1
        size = jnp.where(keep, 1.45 * size, 0.5 * (t1 - t0))
        next_t0 = jnp.where(keep, t1, t0)
        return keep, next_t0, next_t0 + size, jnp.asarray(False), (size, count + 1), rungax.RESULTS.successful


class Wrapping(rungax.AbstractAdaptiveStepSizeController[Any, Any]):
    """A controller around another, as for Diffrax: with the protocol's three methods alone."""

    controller: Any
    rtol: Any
    atol: Any
    norm: Callable[[Any], Any] = optx.rms_norm

    def wrap(self, direction: Any) -> "Wrapping":
        return Wrapping(self.controller.wrap(direction), self.rtol, self.atol, self.norm)

    def init(self, *args: Any) -> Any:
        return self.controller.init(*args)

    def adapt_step_size(self, *args: Any) -> Any:
        return self.controller.adapt_step_size(*args)


def pid(args: Any, **kwargs: Any) -> PIDController:
    return PIDController(rtol=args["tol"], atol=0.1 * args["tol"], **kwargs)


def all_coefficients(args: Any) -> PIDController:
    return pid(args, pcoeff=0.3, icoeff=0.3, dcoeff=0.1)


def clipped(args: Any) -> ClipStepSizeController:
    stops = args["t0"] + (args["t1"] - args["t0"]) * jnp.asarray([0.15, 0.4, 0.41, 0.8], args["t0"].dtype)
    return ClipStepSizeController(all_coefficients(args), stops, args["jump"][None], store_rejected_steps=8)


CONTROLLERS: Mapping[str, Callable[[Any], Any]] = {
    "constant": lambda args: rungax.ConstantStepSize(),
    "given": lambda args: rungax.StepTo(jnp.linspace(args["t0"], args["t1"], 24)),
    "integral": pid,
    "all coefficients": all_coefficients,
    "bounded": lambda args: pid(args, dtmin=1e-3, dtmax=0.09, force_dtmin=True),
    "clipped": clipped,
    "retrying": lambda args: ClipStepSizeController(all_coefficients(args), store_rejected_steps=8),
    "of a user": lambda args: Growing(),
    "wrapped by a user": lambda args: Wrapping(all_coefficients(args), args["tol"], args["tol"]),
}
SOLVERS: Mapping[str, Any] = {
    "Heun": rungax.Heun(),
    "Tsit5": rungax.Tsit5(),
    "Dopri8": rungax.Dopri8(),
    "Kvaerno3": rungax.Kvaerno3(),
    "Kvaerno5": rungax.Kvaerno5(),
    "half": rungax.HalfSolver(rungax.Midpoint()),
    "Auto": rungax.Auto(),
    "SPaRK": rungax.SPaRK(),
    "SlowRK": rungax.SlowRK(),
    "ReversibleHeun": rungax.ReversibleHeun(),
    **{type(solver).__name__: solver for solver in ROSENBROCK},
}
NOISY = ("SPaRK", "SlowRK", "ReversibleHeun")


def effects(name: str) -> rungax.Event | None:
    """Events that are found by search: one that ends, others that change the state and know how often they have."""
    if name == "":
        return None
    condition = lambda t, y, args, **kwargs: y[0] - 0.3
    effect = lambda t, y, args, index: jnp.stack([y[0], -y[1] - 0.01 * jnp.asarray(index, y.dtype)])
    finder = optx.Newton(rtol=1e-10, atol=1e-10)
    if name == "ends":
        return rungax.Event(condition, finder, direction=False)
    return rungax.Event(condition, finder, direction=False, effect=effect, interior=2 * (name == "inside"))


class Programs(NamedTuple):
    """The one solve, the first of a chain, and a further one, as functions of the arguments."""

    whole: Callable[..., Any]
    first: Callable[..., Any]
    further: Callable[..., Any]


@cache
def programs(solver: str, controller: str, attempts: int, gives_dt0: bool, event: str = "") -> Programs:
    def solve(args: Any, t0: Any, y0: Any, dt0: Any, max_steps: int, states: Mapping[str, Any]) -> rungax.Solution:
        terms = noisy(args) if solver in NOISY else ODETerm(push)
        return diffeqsolve(
            terms, SOLVERS[solver], t0, args["t1"], dt0, y0, args, saveat=SAVEAT, max_steps=max_steps, throw=False,
            stepsize_controller=CONTROLLERS[controller](args), event=effects(event), **states,
        )  # fmt: skip

    def start(args: Any, max_steps: int) -> rungax.Solution:
        return solve(args, args["t0"], args["y0"], args["dt0"] if gives_dt0 else None, max_steps, {})

    further = lambda args, t0, y0, states: solve(args, t0, y0, None, attempts, states)
    return Programs(
        jax.jit(lambda args: start(args, MOST)), jax.jit(lambda args: start(args, attempts)), jax.jit(further)
    )


class Chain(NamedTuple):
    """The times and states of all accepted steps, the number of attempts, and the last solve."""

    ts: np.ndarray
    ys: np.ndarray
    num_steps: int
    last: rungax.Solution


def chained(program: Programs, args: Any) -> Chain:
    solution, ts, ys, num_steps = program.first(args), [], [], 0
    for _ in range(MOST + 1):
        made = int(solution.num_accepted_steps)
        ts.append(np.asarray(solution.ts["steps"])[:made])
        ys.append(np.asarray(solution.ys["steps"])[:made])
        num_steps += int(solution.num_steps)
        if solution.result != rungax.RESULTS.max_steps_reached:
            break
        states = {key: getattr(solution, key) for key in KEYS}
        solution = program.further(args, solution.ts["end"][-1], solution.ys["end"][-1], states)
    return Chain(np.concatenate(ts), np.concatenate(ys), num_steps, solution)


def problem(
    sign: float = 1.0, dtype: Any = np.float64, rate: float = 3.0, tol: float = 3e-3, dt0: float = 0.09, **kwargs: Any
) -> dict[str, jax.Array]:
    ends = {"t0": 0.2, "t1": 0.2 + 1.9 * sign, "jump": 0.2 + 0.7 * sign}
    numbers = {**ends, "sign": sign, "rate": rate, "tol": tol, "dt0": dt0 * sign, **kwargs}
    args = {name: jnp.asarray(x, dtype) for name, x in numbers.items()}
    return {**args, "y0": jnp.asarray([1.0, -0.2], dtype)}


def assert_equal(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found, expected)


def assert_equal_up_to_roundings(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    roundings = 32 * np.finfo(expected.dtype).eps if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(found, expected, rtol=roundings, atol=roundings)


def assert_same(program: Programs, args: Any, of_states: Callable[[Any, Any], None] = assert_equal) -> rungax.Solution:
    """The one solve, which the chain equals; `of_states` compares what is not a time or a number of steps."""
    whole, chain = program.whole(args), chained(program, args)
    made = int(whole.num_accepted_steps)
    assert chain.num_steps == int(whole.num_steps)
    np.testing.assert_array_equal(chain.ts, np.asarray(whole.ts["steps"])[:made])
    of_states(chain.ys, np.asarray(whole.ys["steps"])[:made])
    assert chain.last.result == whole.result
    np.testing.assert_array_equal(chain.last.ts["end"], whole.ts["end"])
    last, expected = ((s.ys["end"], *(getattr(s, key) for key in KEYS)) for s in (chain.last, whole))
    jax.tree.map(of_states, last, expected)
    return whole


def case(solver: str, controller: str, *, attempts: int = 1, gives_dt0: bool = True, dtype: Any = np.float64) -> Any:
    values = (solver, controller, attempts, gives_dt0, dtype)
    return pytest.param(*values, id="-".join(str(x) for x in values), marks=slow_unless(values in OFTEN))


OFTEN = (
    ("Tsit5", "constant", 1, True, np.float64),
    ("Heun", "given", 1, False, np.float64),
    ("Tsit5", "clipped", 1, True, np.float64),
    ("Heun", "of a user", 1, True, np.float64),
    ("Kvaerno3", "all coefficients", 1, False, np.float32),
)
CASES = [
    case(solver, controller, attempts=attempts, gives_dt0=controller != "given", dtype=dtype)
    for solver, controllers in {
        "Heun": tuple(CONTROLLERS),
        "Tsit5": tuple(CONTROLLERS),
        **{name: ("constant", "given", "clipped") for name in SOLVERS if name not in ("Heun", "Tsit5")},
        **dict.fromkeys(("SlowRK", "ReversibleHeun"), ("constant", "given")),
    }.items()
    for controller in controllers
    for attempts, dtype in ((1, np.float64), (1, np.float32), (3, np.float64))
]
CASES += [
    case(solver, controller, gives_dt0=False, dtype=dtype)
    for solver in ("Kvaerno3", "Tsit5", "SPaRK")
    for controller in ("integral", "all coefficients")
    for dtype in (np.float64, np.float32)
]


@pytest.mark.parametrize(("solver", "controller", "attempts", "gives_dt0", "dtype"), CASES)
def test_a_chain_makes_the_attempts_of_one_solve(
    solver: str, controller: str, attempts: int, gives_dt0: bool, dtype: Any
) -> None:
    program = programs(solver, controller, attempts, gives_dt0)
    for sign in (1.0, -1.0):
        # The first step of an adaptive solve is far too long, so that the first solves of the chain are rejections.
        is_fixed = controller in ("constant", "given", "of a user")
        of_states = assert_equal_up_to_roundings if solver in NOISY else assert_equal
        whole = assert_same(program, problem(sign, dtype, dt0=0.09 if is_fixed else 1.5), of_states)
        assert whole.result == rungax.RESULTS.successful
        if gives_dt0 and controller in ("integral", "all coefficients"):
            assert int(whole.stats["num_rejected_steps"]) > 0


RANDOM = [
    pytest.param(controller, marks=slow_unless(controller == "retrying"))
    for controller in ("retrying", "clipped", "integral")
]


@pytest.mark.parametrize("controller", RANDOM)
def test_chains_for_random_problems(controller: str) -> None:
    program = programs("Tsit5", controller, 1, gives_dt0=True)
    rejected = []

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(
        sign=st.sampled_from([1.0, -1.0]),
        rate=st.floats(0.1, 8.0),
        log_tol=st.floats(-7.0, -1.0),
        dt0=st.floats(1e-3, 4.0),
        fractions=st.tuples(st.floats(-2.0, 2.0), st.floats(0.0, 1.0)),
    )
    def check(sign: float, rate: float, log_tol: float, dt0: float, fractions: tuple[float, float]) -> None:
        t0, jump = fractions[0], fractions[0] + 1.9 * sign * fractions[1]
        ends = {"t0": t0, "t1": t0 + 1.9 * sign, "jump": jump}
        whole = assert_same(program, problem(sign, rate=rate, tol=10**log_tol, dt0=dt0, **ends))
        rejected.append(int(whole.stats["num_rejected_steps"]))

    check()
    assert sum(rejected) > len(rejected)


@pytest.mark.parametrize(
    ("event", "controller"),
    [
        ("goes on", "all coefficients"),
        *(
            pytest.param(event, controller, marks=pytest.mark.slow)
            for event in ("ends", "goes on", "inside")
            for controller in CONTROLLERS
            if (event, controller) != ("goes on", "all coefficients")
        ),
    ],
)
def test_a_chain_goes_on_with_a_search_for_an_event(event: str, controller: str) -> None:
    is_fixed = controller in ("constant", "given", "of a user")
    program = programs("Tsit5", controller, 1, is_fixed and controller != "given", event)
    for sign in (1.0, -1.0):
        whole = assert_same(program, problem(sign))
        assert whole.result == (rungax.RESULTS.event_occurred if event == "ends" else rungax.RESULTS.successful)
        # A search takes attempts, in the middle of which the solves of the chain end.
        assert int(whole.stats["num_rejected_steps"]) >= 2


def test_chains_of_a_batch_at_different_places() -> None:
    """With the last time of `steps`, which lies before a jump, as the start; and one program for all solves but one."""
    saveat = rungax.SaveAt(t1=True, steps=True, **dict.fromkeys(KEYS, True))

    def solve(args: Any, t0: Any, y0: Any, dt0: Any, max_steps: int, states: Mapping[str, Any]) -> rungax.Solution:
        return diffeqsolve(
            ODETerm(push), rungax.Heun(), t0, args["t1"], dt0, y0, args, stepsize_controller=clipped(args),
            saveat=saveat, max_steps=max_steps, throw=False, **states,
        )  # fmt: skip

    def further(args: Any, solution: rungax.Solution) -> tuple[rungax.Solution, None]:
        states = {key: getattr(solution, key) for key in KEYS}
        after = solve(args, solution.ts[0], solution.ys[0], None, 1, states)
        has_ended = solution.result == rungax.RESULTS.successful
        return jax.tree.map(lambda x, y: jnp.where(has_ended, x, y), solution, after), None

    @jax.jit
    @jax.vmap
    def chain_and_whole(args: Any) -> tuple[rungax.Solution, rungax.Solution]:
        first = solve(args, args["t0"], args["y0"], args["dt0"], 1, {})
        chain, _ = jax.lax.scan(lambda s, _: further(args, s), first, length=MOST)
        return chain, solve(args, args["t0"], args["y0"], args["dt0"], MOST, {})

    batch = [problem(sign, rate=rate, dt0=dt0) for sign, rate, dt0 in ((1.0, 1.0, 1.5), (-1.0, 6.0, 0.01))]
    args = jax.tree.map(lambda *x: jnp.stack(x), *batch)
    chain, whole = chain_and_whole(args)
    assert (chain.result == rungax.RESULTS.successful).all()
    assert (whole.num_steps != whole.num_steps[0]).any()
    last = whole.num_accepted_steps - 1
    np.testing.assert_array_equal(chain.ts[:, 0], args["t1"])
    np.testing.assert_array_equal(chain.ys[:, 0], whole.ys[np.arange(2), last])
    jax.tree.map(np.testing.assert_array_equal, chain.controller_state, whole.controller_state)
