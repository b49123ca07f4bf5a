"""A progress meter is called for each attempt with the progress of the slowest batch element, and changes no result.

The tests read the captured output. A solve with fixed steps covers known fractions of its interval, so complete outputs
are compared.
"""

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import rungax
from rungax import progress
from rungax.jaxkit.slowest_element import slowest_element

from ..catalogue import slow_unless


def decay(t: Any, y: Any, args: Any) -> Any:
    return -y


def solve(y0: Any = 1.0, t1: Any = 1.0, dt0: Any = 0.25, **options: Any) -> rungax.Solution:
    return rungax.diffeqsolve(decay, rungax.Euler(), 0.0, t1, dt0, y0, throw=False, **options)


class Record(rungax.AbstractProgressMeter):
    """A meter that records every call on the host; its state counts attempts and starts as a Python number."""

    note: Callable[[Any], None]

    def init(self) -> int:
        return 0

    def step(self, state: jax.Array, progress: jax.Array) -> jax.Array:
        jax.debug.callback(lambda state, progress: self.note((int(state), float(progress))), state, progress)
        return state + 1

    def close(self, state: jax.Array) -> None:
        jax.debug.callback(lambda state: self.note(int(state)), state)


class Stateless(rungax.AbstractProgressMeter):
    """A meter without state, so that its callbacks depend on nothing but the loop itself."""

    note: Callable[[str], None]

    def init(self) -> None:
        return None

    def step(self, state: None, progress: jax.Array) -> None:
        jax.debug.callback(lambda progress: self.note("step"), progress)

    def close(self, state: None) -> None:
        jax.debug.callback(lambda: self.note("close"))


class FakeBar:
    """A substitute for a bar of tqdm, with the members that `TqdmProgressMeter` uses."""

    def __init__(self) -> None:
        self.n = 0.0
        self.shown: list[float] = []
        self.closed = 0

    def refresh(self) -> None:
        assert not self.closed
        self.shown.append(self.n)

    def close(self) -> None:
        self.closed += 1
        self.shown.append(self.n)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The lines printed since the last call."""

    def read() -> list[str]:
        jax.effects_barrier()
        return capsys.readouterr().out.split()

    return read


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[FakeBar]:
    """The bars that were made, each in place of one of tqdm."""
    made: list[FakeBar] = []

    def make() -> FakeBar:
        made.append(FakeBar())
        return made[-1]

    monkeypatch.setattr(progress, "_make_bar", make)
    return made


QUARTERS = ["0.00%", "25.00%", "50.00%", "75.00%", "100.00%"]
METERS = [rungax.TextProgressMeter(), rungax.TqdmProgressMeter(refresh_steps=1)]


def test_text_prints_zero_each_increase_and_a_hundred(lines: Callable[[], list[str]]) -> None:
    meter = rungax.TextProgressMeter()
    solve(progress_meter=meter)
    assert lines() == QUARTERS
    jax.jit(lambda y0: solve(y0, progress_meter=meter).ys)(1.0)
    assert lines() == QUARTERS
    jax.vmap(lambda y0: solve(y0, progress_meter=meter).ys)(jnp.ones(3))
    assert lines() == QUARTERS


def test_text_prints_only_when_progress_grew_by_more_than_the_minimum(lines: Callable[[], list[str]]) -> None:
    solve(progress_meter=rungax.TextProgressMeter(0.3))
    assert lines() == ["0.00%", "50.00%", "100.00%"]
    solve(progress_meter=rungax.TextProgressMeter(0.25))  # each step covers exactly 0.25, which is not more
    assert lines() == ["0.00%", "50.00%", "100.00%"]
    solve(progress_meter=rungax.TextProgressMeter(2.0))
    assert lines() == ["0.00%", "100.00%"]


def test_text_of_a_backward_solve_counts_up(lines: Callable[[], list[str]]) -> None:
    solve(t1=-1.0, dt0=-0.25, progress_meter=rungax.TextProgressMeter())
    assert lines() == QUARTERS


def test_text_of_a_failed_solve_does_not_claim_a_hundred(lines: Callable[[], list[str]]) -> None:
    solve(max_steps=2, progress_meter=rungax.TextProgressMeter())
    assert lines() == ["0.00%", "25.00%", "50.00%"]


def test_text_of_float32_times_with_float64_default(lines: Callable[[], list[str]]) -> None:
    single = jnp.float32
    meter = rungax.TextProgressMeter()
    rungax.diffeqsolve(decay, rungax.Euler(), single(0), single(1), single(0.25), single(1), progress_meter=meter)
    assert lines() == QUARTERS


def test_one_meter_for_a_batch_shows_the_slowest_element(lines: Callable[[], list[str]]) -> None:
    """The elements make two and four steps; the fast one stays at 100 % until the other ends."""
    meter = rungax.TextProgressMeter()
    ends = jnp.asarray([0.5, 1.0])
    solution = jax.jit(jax.vmap(lambda t1: solve(t1=t1, progress_meter=meter)))(ends)
    assert solution.stats["num_steps"].tolist() == [2, 4]
    assert lines() == QUARTERS
    jax.vmap(jax.vmap(lambda t1: solve(t1=t1, progress_meter=meter).ys))(ends[:, None])
    assert lines() == QUARTERS


def test_slowest_element_reduces_every_axis_and_has_no_derivative() -> None:
    values = jnp.asarray([[0.5, 0.25], [0.75, 1.0]])
    assert jax.vmap(jax.vmap(slowest_element))(values).tolist() == [[0.25] * 2] * 2
    assert slowest_element(0.5) == 0.5
    assert jax.grad(slowest_element)(0.5) == 0


def test_a_users_meter_is_stepped_on_every_attempt_and_closed_at_the_end() -> None:
    calls: list[Any] = []
    meter = Record(calls.append)
    controller = rungax.PIDController(rtol=1e-8, atol=1e-8)
    solution = rungax.diffeqsolve(
        decay,
        rungax.Tsit5(),
        0.0,
        1.0,
        1.0,
        1.0,
        stepsize_controller=controller,
        saveat=rungax.SaveAt(steps=True, t1=True),
        progress_meter=meter,
    )
    jax.effects_barrier()
    *steps, closed = calls
    num_steps, num_rejected = int(solution.stats["num_steps"]), int(solution.stats["num_rejected_steps"])
    assert num_rejected > 0
    assert closed == num_steps
    assert [state for state, _ in steps] == list(range(num_steps))
    values = [value for _, value in steps]
    assert values[0] == 0  # the first attempt was rejected
    assert len(set(values) - {0}) == num_steps - num_rejected
    assert values == sorted(values)
    assert values[-1] == 1
    saved = solution.ts[jnp.isfinite(solution.ts)]
    assert jnp.allclose(jnp.asarray(sorted(set(values) - {0})), saved)


def test_meter_without_state_is_closed_after_the_last_step() -> None:
    calls: list[Any] = []
    meter = Stateless(calls.append)
    jax.jit(lambda y0: solve(y0, progress_meter=meter).ys)(1.0)
    jax.effects_barrier()
    assert calls == ["step"] * 4 + ["close"]
    calls.clear()
    jax.vmap(lambda t1: solve(t1=t1, progress_meter=meter).ys)(jnp.asarray([0.5, 1.0]))
    jax.effects_barrier()
    assert calls == ["step"] * 4 + ["close"]


def test_progress_is_zero_where_the_interval_has_no_end() -> None:
    calls: list[Any] = []
    meter = Record(calls.append)
    solve(t1=jnp.inf, max_steps=3, progress_meter=meter)
    jax.effects_barrier()
    assert calls == [(0, 0.0), (1, 0.0), (2, 0.0), 3]


def test_an_empty_interval_has_no_attempt() -> None:
    calls: list[Any] = []
    meter = Record(calls.append)
    solve(t1=0.0, progress_meter=meter)
    jax.effects_barrier()
    assert calls == [0]


def test_no_meter_adds_nothing_to_the_program() -> None:
    def program(**options: Any) -> str:
        return jax.jit(lambda y0: solve(y0, **options).ys).lower(1.0).as_text()

    assert program() == program(progress_meter=rungax.NoProgressMeter())
    assert "callback" not in program()
    assert "callback" in program(progress_meter=rungax.TextProgressMeter())


def test_a_changed_minimum_increase_does_not_retrace(lines: Callable[[], list[str]]) -> None:
    traces: list[None] = []

    def field(t: Any, y: Any, args: Any) -> Any:
        traces.append(None)
        return -y

    for increase in (0.1, 0.3):
        meter = rungax.TextProgressMeter(increase)
        rungax.diffeqsolve(field, rungax.Euler(), 0.0, 1.0, 0.25, 1.0, progress_meter=meter)
        if increase == 0.1:
            first = len(traces)
    assert len(traces) == first
    assert lines() == [*QUARTERS, "0.00%", "50.00%", "100.00%"]


def test_tqdm_draws_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    solve(progress_meter=rungax.TqdmProgressMeter(refresh_steps=2))
    jax.effects_barrier()
    drawn = [text.split("|")[0].strip() for text in capsys.readouterr().err.split("\r")]
    assert drawn[1] == "0.00%"
    assert drawn[2:4] == ["25.00%", "75.00%"]
    assert drawn[-1] == "100.00%"


@pytest.mark.parametrize(
    ("dt0", "refresh_steps", "expected"),
    [
        (0.025, 20, [0, 2.5, 52.5, 100]),
        (0.025, 10, [0, 2.5, 27.5, 52.5, 77.5, 100]),
        (0.25, 20, [0, 25, 100]),
        (0.25, 1, [0, 25, 50, 75, 100, 100]),
    ],
)
def test_tqdm_draws_as_often_as_diffrax(
    dt0: float, refresh_steps: int, expected: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """These are the percentages that version 0.7.2 draws."""
    solve(dt0=dt0, progress_meter=rungax.TqdmProgressMeter(refresh_steps=refresh_steps))
    jax.effects_barrier()
    drawn = [text.split("%")[0] for text in capsys.readouterr().err.split("\r") if "%" in text]
    assert [float(number) for number in drawn] == expected


@pytest.mark.parametrize(("minimum_increase", "expected"), [(0.02, 44), (0.1, 11)])
def test_text_prints_as_often_as_diffrax(
    minimum_increase: float, expected: int, lines: Callable[[], list[str]]
) -> None:
    solve(dt0=0.01, progress_meter=rungax.TextProgressMeter(minimum_increase))
    found = lines()
    assert len(found) == expected
    assert (found[0], found[-1]) == ("0.00%", "100.00%")


def test_tqdm_draws_at_the_first_attempt_every_few_and_at_the_end(bars: list[FakeBar]) -> None:
    solve(dt0=0.1, progress_meter=rungax.TqdmProgressMeter(refresh_steps=4))
    jax.effects_barrier()
    (bar,) = bars
    assert bar.shown == pytest.approx([10, 50, 90, 100])
    assert bar.closed == 1


@pytest.mark.parametrize("where", ["one program", "a loop", "threads"])
def test_every_solve_has_a_bar_of_its_own(bars: list[FakeBar], where: str) -> None:
    meter = rungax.TqdmProgressMeter(refresh_steps=1)

    @jax.jit
    def once(y0: jax.Array) -> jax.Array:
        return solve(y0, progress_meter=meter).ys

    if where == "one program":
        jax.jit(lambda y0: (once(y0), once(y0), once(2 * y0)))(1.0)
    elif where == "a loop":
        jax.lax.map(once, jnp.ones(2))
    else:
        threads = [threading.Thread(target=once, args=(1.0,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    jax.effects_barrier()
    assert [bar.shown for bar in bars] == [[25, 50, 75, 100, 100]] * len(bars)
    assert [bar.closed for bar in bars] == [1] * (3 if where == "one program" else 2)


def test_missing_tqdm_is_an_error_on_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ValueError, match="pip install tqdm"):
        rungax.TqdmProgressMeter()


@pytest.mark.parametrize("refresh_steps", [0, -1, 2.5, True])
def test_bad_refresh_steps_are_refused(refresh_steps: Any) -> None:
    with pytest.raises(ValueError, match="positive integer"):
        rungax.TqdmProgressMeter(refresh_steps)


@pytest.mark.parametrize("minimum_increase", [-0.1, float("nan")])
def test_bad_minimum_increase_is_refused(minimum_increase: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        rungax.TextProgressMeter(minimum_increase)


DERIVATIVES: dict[str, Callable[..., Any]] = {
    "jvp": lambda f: jax.jvp(f, (1.0, 1.0), (1.0, 0.5)),
    "gradient": lambda f: jax.grad(f, (0, 1))(1.0, 1.0),
    "gradient of a batch": lambda f: jax.jit(jax.grad(lambda y: jax.vmap(f, (0, None))(y, 1.0).sum()))(jnp.ones(2)),
    "gradient of checkpoint": lambda f: jax.jit(jax.grad(jax.checkpoint(f)))(1.0, 1.0),
}


TEXT, TQDM = METERS
REPEATS = (("jvp", "text"), ("gradient", "text"), ("gradient of a batch", "tqdm"), ("gradient of checkpoint", "tqdm"))
"""Each derivative is seen with the other meter too."""
WITH_METERS = [
    pytest.param(derivative, meter, id=f"{name}-{kind}", marks=slow_unless((name, kind) not in REPEATS))
    for name, derivative in DERIVATIVES.items()
    for kind, meter in (("text", TEXT), ("tqdm", TQDM))
]


@pytest.mark.parametrize(("derivative", "meter"), WITH_METERS)
def test_derivatives_are_those_without_a_meter(
    derivative: Callable[..., Any],
    meter: rungax.AbstractProgressMeter,
    bars: list[FakeBar],
    lines: Callable[[], list[str]],
) -> None:
    def end(meter: rungax.AbstractProgressMeter) -> Callable[[Any, Any], jax.Array]:
        return lambda y0, t1: solve(y0, t1, progress_meter=meter).ys[0]

    found, expected = derivative(end(meter)), derivative(end(rungax.NoProgressMeter()))
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, found, expected)))
    assert "100.00%" in lines() or (bars[0].shown[-1] == 100 and bars[0].closed == 1)


@pytest.mark.parametrize("meter", METERS, ids=["text", "tqdm"])
def test_a_meter_inside_a_scan_that_is_differentiated_backwards(
    meter: rungax.AbstractProgressMeter, bars: list[FakeBar], lines: Callable[[], list[str]]
) -> None:
    """The recorder alone, in a scan that JAX differentiates with respect to its times."""
    recorder = progress.ProgressRecorder(meter)

    def total(end: jax.Array) -> jax.Array:
        plan: Any = SimpleNamespace(problem=SimpleNamespace(t0=jnp.zeros(()), t1=end))

        def body(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
            t, record = carry
            step: Any = SimpleNamespace(t0=t, t1=t + end / 4)
            return (step.t1, recorder.record(plan, record, step, True, 0)), None

        state: Any = SimpleNamespace(num_steps=jnp.asarray(4))
        (t, record), _ = jax.lax.scan(body, (jnp.zeros(()), recorder.init(plan, state)), None, length=4)
        recorder.finish(plan, record, state)
        return t**2

    assert jax.jit(jax.grad(total))(3.0) == pytest.approx(6.0)
    assert "100.00%" in lines() or bars[0].shown[-1] == 100
