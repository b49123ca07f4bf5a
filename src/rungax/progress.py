"""Progress meters, which show the covered part of the interval while a solve runs.

A meter consists of three traced functions and a state that they pass on. `ProgressRecorder` calls them from the loop. A
solve without a meter has no such recorder, and its program has no host callback.
"""

import abc
import importlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree

from .jaxkit import (
    AbstractChecked,
    BoolScalar,
    Condition,
    IntScalar,
    RealScalar,
    Time,
    any_element,
    call_user,
    check_structure,
    shown,
)
from .jaxkit.slowest_element import slowest_element
from .plan import AbstractRecorder, Plan
from .step import State, Step


class AbstractProgressMeter[MeterState](eqx.Module):
    """A display of the progress of a solve.

    To define your own, subclass it and implement `init`, `step` and `close`. All three are traced into the program, so
    they must use `jax.debug.print` or `jax.debug.callback` to show something. Under `vmap` there is one meter for the
    whole batch, under `shard_map` one for each device.

    Attributes
    ----------
    is_shown
        Whether the meter shows anything. If not, the three functions are never called.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rungax
    >>> class CountAttempts(rungax.AbstractProgressMeter):
    ...     def init(self):
    ...         return jnp.asarray(0)
    ...
    ...     def step(self, state, progress):
    ...         return state + 1
    ...
    ...     def close(self, state):
    ...         jax.debug.print("{} attempts", state)
    """

    is_shown: ClassVar[bool] = True

    @abc.abstractmethod
    def init(self) -> MeterState:
        """The state before the first attempt: a pytree of arrays or numbers."""

    @abc.abstractmethod
    def step(self, state: MeterState, progress: RealScalar) -> MeterState:
        """The state after an attempt, whether its step was accepted or not.

        Parameters
        ----------
        state
            The value of `init` or of the last `step`.
        progress
            The covered fraction of the interval, from 0 to 1: a scalar in the default float dtype. Under `vmap`, the
            fraction of the slowest batch element. Always 0 if the interval is infinite.

        Returns
        -------
        state
            The new state, with the structure, shapes and dtypes of the old one.
        """

    @abc.abstractmethod
    def close(self, state: MeterState) -> None:
        """Finish the display after the last attempt; called once, whether or not the solve succeeded."""


class NoProgressMeter(AbstractProgressMeter[None]):
    """A meter that shows nothing and adds nothing to the program: the default.

    See Also
    --------
    TextProgressMeter, TqdmProgressMeter : meters that show something.

    Examples
    --------
    >>> import rungax
    >>> meter = rungax.NoProgressMeter()
    """

    is_shown: ClassVar[bool] = False

    def init(self) -> None:
        """The empty state."""

    def step(self, state: None, progress: RealScalar) -> None:
        """The empty state."""
        del state, progress

    def close(self, state: None) -> None:
        """Do nothing."""
        del state


class TextProgressMeter(AbstractProgressMeter[jax.Array], AbstractChecked):
    """A meter that prints percentages, one on each line.

    It prints 0 %, a new line whenever enough of the interval was covered since the last one, and 100 %. A solve that
    ends early, by a failure or an event, does not print 100 %.

    Parameters
    ----------
    minimum_increase
        The fraction of the interval that must be covered before the next line is printed. With 0.02 there are at most
        about fifty lines.

    Raises
    ------
    ValueError
        If `minimum_increase` is negative or NaN.

    Cost
    ----
    A comparison for each attempt, and a host callback for each line.

    Examples
    --------
    >>> import rungax
    >>> solution = rungax.diffeqsolve(
    ...     lambda t, y, args: -y,
    ...     rungax.Tsit5(),
    ...     t0=0.0,
    ...     t1=1.0,
    ...     dt0=0.25,
    ...     y0=1.0,
    ...     progress_meter=rungax.TextProgressMeter(minimum_increase=0.4),
    ... )
    0.00%
    50.00%
    100.00%
    """

    minimum_increase: RealScalar = 0.02

    def value_conditions(self) -> Iterator[Condition]:
        """`minimum_increase` is not negative."""
        least = self.minimum_increase
        yield Condition(
            least,
            lambda: least >= 0,
            "`TextProgressMeter(minimum_increase=...)` is the fraction of the interval from one line to the next.",
            lambda: f"\nExpected: a number from 0 to 1\nFound:    {shown(least)}\nUse 0.02 for a line every 2 %.",
        )

    def init(self) -> jax.Array:
        """The state before the first line: the progress last shown, where a negative number means none."""
        # 0 % is shown by the first attempt, because a callback from here could run at any time, even after the loop.
        return jnp.full((), -1.0)

    def step(self, state: jax.Array, progress: RealScalar) -> jax.Array:
        """The progress last shown, after printing a line if it is time to."""
        is_first, shown = state < 0, jnp.maximum(state, 0)
        enough = progress - shown > jnp.asarray(self.minimum_increase).astype(shown.dtype)
        is_due = enough | ((progress == 1) & (shown < 1))
        _call_if(is_first | is_due, _print_percentages, is_first, is_due, progress)
        return jnp.where(is_due, progress, shown)

    def close(self, state: jax.Array) -> None:
        """Do nothing: the last line has been printed."""
        del state


class _BarState(eqx.Module):
    bar: IntScalar
    attempts: IntScalar
    progress: RealScalar


class TqdmProgressMeter(AbstractProgressMeter[_BarState]):
    """A meter that draws a progress bar with the package `tqdm`, which must be installed.

    If a solve ends early, by a failure or an event, the bar stays at the last progress.

    Parameters
    ----------
    refresh_steps
        The number of attempts from one drawing of the bar to the next. It is also drawn empty before the first attempt,
        after it, and at the end. Each drawing interrupts the program, so values below about ten slow down a small
        problem.

    Raises
    ------
    ValueError
        If `tqdm` is not installed, or `refresh_steps` is not a positive integer.

    Cost
    ----
    An addition and a comparison for each attempt, and a host callback for each update of the bar.

    Examples
    --------
    >>> import rungax
    >>> meter = rungax.TqdmProgressMeter(refresh_steps=50)
    """

    refresh_steps: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        steps = self.refresh_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(
                "`TqdmProgressMeter(refresh_steps=n)` updates its bar every n attempts.\n"
                f"Expected: a positive integer\nFound:    {shown(steps)}\nUse 20 if in doubt."
            )
        try:
            importlib.import_module("tqdm")
        except ImportError as error:
            raise ValueError(
                "`TqdmProgressMeter` draws with the package tqdm.\nExpected: tqdm to be installed\n"
                f"Found:    {error}\nInstall it (`pip install tqdm`), or use `TextProgressMeter()`."
            ) from error

    def init(self) -> _BarState:
        """The number of a new bar, and a count of attempts such that the first attempt draws it."""
        # The callback is not pure, but an `io_callback` may not be used under `jax.checkpoint`. XLA never merges calls
        # without arguments, so each solve in a program has its own number; the iterations of a loop may share one.
        bar = jax.pure_callback(_bars.new_number, jax.ShapeDtypeStruct((), np.int32))
        return _BarState(bar, jnp.asarray(self.refresh_steps - 1, jnp.int32), jnp.zeros(()))

    def step(self, state: _BarState, progress: RealScalar) -> _BarState:
        """The number of the bar and the count of attempts, after updating the bar if it is time to."""
        attempts = state.attempts + 1
        is_due = jnp.asarray(attempts >= self.refresh_steps)
        _call_if(is_due, _bars.show, state.bar, progress)
        return _BarState(state.bar, jnp.where(is_due, 0, attempts), jnp.asarray(progress))

    def close(self, state: _BarState) -> None:
        """Draw the bar with the last progress and close it; it stays on the screen."""
        jax.debug.callback(_bars.close, state.bar, state.progress)


class ProgressRecorder(AbstractRecorder):
    """The recorder that calls a progress meter from the loop.

    Parameters
    ----------
    meter
        The meter.
    """

    meter: AbstractProgressMeter[Any]

    def init(self, plan: Plan, state: State) -> PyTree[Any]:
        """The meter's first state."""
        del plan, state
        # The first state may contain Python numbers; those of the loop are arrays.
        first = call_user("the progress meter", self.meter.init)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), first)

    def record(
        self, plan: Plan, record: PyTree[Any], step: Step, accepted: BoolScalar, index: IntScalar
    ) -> PyTree[Any]:
        """The meter's state after an attempt.

        A batch element that has ended stays at its last progress, which is 1 unless it ended early.
        """
        del index
        progress = slowest_element(_progress(plan, jnp.where(accepted, step.t1, step.t0)))
        state = call_user("the progress meter", self.meter.step, record, progress)
        what = f"`{type(self.meter).__name__}.step` must return a state of the same structure"
        check_structure(state, record, what, name="state", returned="it returned", cure="Return what `init` returns.")
        return state

    def finish(self, plan: Plan, record: PyTree[Any], state: State) -> None:
        """Close the meter; the recorder has no output."""
        del plan
        # Always true, but computed from the final state: callbacks are ordered by their data dependencies alone.
        has_ended = any_element(state.num_steps >= 0)
        lax.cond(has_ended, lambda: call_user("the progress meter", self.meter.close, record), lambda: None)


def _progress(plan: Plan, t: Time) -> jax.Array:
    """The fraction of the interval that lies before `t`."""
    t0, t1 = plan.problem.t0, plan.problem.t1
    part = jnp.where(t1 > t0, (t - t0) / (t1 - t0), 1)
    # Always the default float dtype, so that the type of the loop's carry does not depend on the dtype of time.
    return jnp.clip(part, 0, 1).astype(float)


def _call_if(condition: jax.Array, function: Callable[..., None], *args: Any) -> None:
    lax.cond(condition, lambda: jax.debug.callback(function, *args), lambda: None)


def _print_percentages(is_first: Any, is_due: Any, progress: Any) -> None:
    if is_first:
        print("0.00%")
    if is_due:
        print(f"{100 * float(progress):.2f}%")


class _Bars:
    """The open bars, by the number that each solve gets when it starts.

    A program is compiled once and may run in several threads at the same time, so neither the program nor the meter can
    hold the bar of a solve.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._bars: dict[int, Any] = {}

    def new_number(self) -> np.ndarray:
        """A number that no bar has had. JAX may ask for more numbers than it uses, so no bar is made here."""
        return np.asarray(next(self._numbers) % 2**31, np.int32)

    def show(self, number: Any, progress: Any) -> None:
        """Draw the bar. It is made here if it does not exist, or was closed by the last iteration of a loop."""
        with self._lock:
            bar = self._bars.get(int(number))
            if bar is None:
                bar = self._bars[int(number)] = _make_bar()
            _advance(bar, progress)
            bar.refresh()

    def close(self, number: Any, progress: Any) -> None:
        """Draw the bar for the last time, close it and forget its number."""
        with self._lock:
            bar = self._bars.pop(int(number), None)
        if bar is not None:
            _advance(bar, progress)
            bar.close()  # draws it


def _advance(bar: Any, progress: Any) -> None:
    # The progress of a solve never shrinks, but the callbacks of some devices may overtake each other.
    bar.n = max(100 * float(progress), bar.n)


def _make_bar() -> Any:
    layout = "{percentage:.2f}%|{bar}| [{elapsed}<{remaining}]"
    return importlib.import_module("tqdm").tqdm(total=100, bar_format=layout)


_bars = _Bars()
