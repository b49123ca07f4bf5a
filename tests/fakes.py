"""Fakes: a solver that reports what it is shown, a controller that follows a script, fields that count their calls.

A solve of the fakes has the state `fake_y0()`. The solver advances `"time"` by the length of each step, and writes into
`"seen"` what it was shown; the controller judges by its script and logs what the solver saw, one row an attempt. That
log is controller state, which no rejection reverts.

For implicit methods there are a Jacobian that logs its evaluations, a root finder that fails on long steps, and error
control that accepts every step whose equations are solved.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float

import rungax
from rungax import LocalLinearInterpolation, ODETerm

SEEN = ("t0", "t1", "made_jump", "solver_state", "time")
FAKE_TERM = ODETerm(lambda t, y, args: jax.tree.map(jnp.zeros_like, y))


def fake_y0() -> dict[str, Array]:
    return {"time": jnp.asarray(0.0), "seen": jnp.zeros(len(SEEN))}


class FakeSolver(rungax.AbstractSolver[Array]):
    """Knows nothing of the equation. Its state counts the steps accepted since it was made; a failure ends an attempt.

    `fails` is the number of the accepted step (counted from 0) at which each attempt fails, -1 for none.
    """

    term_structure: ClassVar[Any] = rungax.AbstractTerm
    interpolation_cls = LocalLinearInterpolation
    fails: int = -1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Array:
        return jnp.asarray(0)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Array, made_jump: Any
    ) -> tuple[Any, Any, Any, Array, Any]:
        numbers = (t0, t1, made_jump, solver_state, y0["time"])
        seen = jnp.stack([jnp.asarray(x).astype(jnp.result_type(t0)) for x in numbers])
        y1 = {"time": y0["time"] + (t1 - t0), "seen": seen}
        result = rungax.RESULTS.where(
            solver_state == self.fails, rungax.RESULTS.internal_error, rungax.RESULTS.successful
        )
        return y1, None, {"y0": y0, "y1": y1}, solver_state + 1, result

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def order(self, terms: Any) -> int:
        return 1


class Script(NamedTuple):
    """One line of a script: the verdict on an attempt, and when the next attempt ends.

    `gap` is how far the next step starts past the end of this one, and makes it a jump unless zero.
    """

    keep: bool
    next_t1: float
    gap: float = 0.0
    fails: bool = False


class ScriptState(eqx.Module):
    attempt: Array
    log: Float[Array, "attempts 5"]


class FakeController(rungax.AbstractAdaptiveStepSizeController[ScriptState, Any]):
    """Judges the i-th attempt by the i-th line of its script, whatever its error; holds no times, so `wrap` is nothing.

    It states tolerances so that it may stand inside a `ClipStepSizeController`, and uses none.
    """

    first_t1: Float[Array, ""]
    keep: Bool[Array, " lines"]
    next_t1: Float[Array, " lines"]
    gap: Float[Array, " lines"]
    fails: Bool[Array, " lines"]
    rtol: float = 1e-3
    atol: float = 1e-6
    norm: Callable[[Any], Any] = jnp.max
    jumps: bool = True

    @property
    def can_jump(self) -> bool:
        return self.jumps

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: Any, dt0: Any, args: Any, func: Any, error_order: Any
    ) -> tuple[Any, ScriptState]:
        log = jnp.full((self.keep.size, len(SEEN)), jnp.nan, t0.dtype)
        return jnp.asarray(self.first_t1).astype(t0.dtype), ScriptState(jnp.asarray(0), log)

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any, error_order: Any, state: Any
    ) -> tuple[Any, Any, Any, Any, ScriptState, Any]:
        i = state.attempt
        keep, next_t1, gap, fails = (jnp.asarray(x)[i] for x in (self.keep, self.next_t1, self.gap, self.fails))
        next_t1, gap = next_t1.astype(t1.dtype), gap.astype(t1.dtype)
        log = state.log.at[i].set(y1_candidate["seen"])
        next_t0 = jnp.where(keep, t1 + gap, t0)
        result = rungax.RESULTS.where(fails, rungax.RESULTS.internal_error, rungax.RESULTS.successful)
        return keep, next_t0, next_t1, gap > 0, ScriptState(i + 1, log), result


def scripted(first_t1: float, *lines: Script, jumps: bool = True) -> FakeController:
    """The controller whose first attempt ends at `first_t1` and that follows `lines`, then gives up.

    All scripts have the same shapes, so that they share one compiled program.
    """
    padding = (Script(False, np.nan),) * (8 - len(lines))
    columns = (np.asarray(column) for column in zip(*lines, *padding, strict=True))
    return FakeController(np.asarray(first_t1), *columns, jumps=jumps)


class CountedTraces:
    """A vector field that counts its calls in Python, which are its traces."""

    def __init__(self, field: Callable[[Any, Any, Any], Any]):
        self.field = field
        self.num_traces = 0

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        self.num_traces += 1
        return self.field(t, y, args)


class CountedField(CountedTraces):
    """A vector field that counts its traces and, once `jax.effects_barrier` returns, its evaluations."""

    def __init__(self, field: Callable[[Any, Any, Any], Any]):
        super().__init__(field)
        self._num_calls = 0

    @property
    def num_calls(self) -> int:
        jax.effects_barrier()
        return self._num_calls

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        jax.debug.callback(self._count)
        return super().__call__(t, y, args)

    def _count(self) -> None:
        self._num_calls += 1


class LoggedJacobian:
    """A `jacobian` that records the times at which it is evaluated."""

    def __init__(self, jacobian: Callable[..., Any]):
        self.jacobian = jacobian
        self._times: list[float] = []

    @property
    def times(self) -> list[float]:
        """The recorded times, sorted."""
        jax.effects_barrier()
        return sorted(self._times)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        jax.debug.callback(lambda t: self._times.append(float(t)), t)
        return self.jacobian(t, y, args)


def undemanding(**options: Any) -> rungax.PIDController:
    """Error control that accepts every step whose equations are solved, and makes the next one as long as allowed."""
    return rungax.PIDController(rtol=1e9, atol=1e9, **options)


def strict_chord() -> rungax.VeryChord:
    """A root finder for `undemanding`, whose tolerances it must not take."""
    return rungax.VeryChord(rtol=1e-8, atol=1e-8)


class FailsOnLongSteps(optx.Newton):
    """Newton's iteration, which in steps longer than `limit` diverges at once, or never ends if `never_ends`."""

    limit: float = 0.3
    never_ends: bool = False

    def terminate(self, fn: Any, y: Any, args: Any, options: Any, state: Any, tags: Any) -> Any:
        ended, result = super().terminate(fn, y, args, options, state, tags)
        fails = args.step_size > self.limit
        if self.never_ends:
            return ended & ~fails, result
        failure = optx.RESULTS.where(fails, optx.RESULTS.nonlinear_divergence, result)
        return ended | fails, failure


def fails_on_long_steps(never_ends: bool = False) -> FailsOnLongSteps:
    return FailsOnLongSteps(rtol=1e-8, atol=1e-8, never_ends=never_ends)
