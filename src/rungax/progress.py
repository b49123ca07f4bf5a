"""Progress meters: how much of its interval a solve has covered, shown while it runs.

A meter is three traced functions and the state between them. `ProgressRecorder` drives one from the loop, and is there
only if there is something to show: a solve without a meter holds nothing of this, and no host callback.
"""

import abc
import importlib
import itertools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree

from .jaxkit import BoolScalar, IntScalar, RealScalar, Time, any_element, is_traced
from .jaxkit.slowest_element import slowest_element
from .step import AbstractRecorder, Plan, State, Step


class AbstractProgressMeter[MeterState](eqx.Module):
    """Shows how far a solve has come.

    Subclass it for a meter of your own: give `init`, `step` and `close`. All three are traced into the program, so they
    show something by `jax.debug.print` or `jax.debug.callback`. Under `vmap` there is one meter for all lanes, under
    `shard_map` one for each device.

    Attributes
    ----------
    is_shown
        Whether there is anything to show; without, the three functions are never called.

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
        """The meter's state before the first attempt: a pytree of arrays or numbers."""

    @abc.abstractmethod
    def step(self, state: MeterState, progress: RealScalar) -> MeterState:
        """The state after an attempt, kept or not.

        Parameters
        ----------
        state
            What `init` or the last `step` returned.
        progress
            The part of the interval that is covered, from 0 to 1, a scalar in the default dtype of floats; of all
            `vmap` lanes that of the slowest. Always 0 where the interval has no end.

        Returns
        -------
        state
            Of the same structure, shapes and dtypes as before.
        """

    @abc.abstractmethod
    def close(self, state: MeterState) -> None:
        """Called once the solve has ended, successful or not."""


class NoProgressMeter(AbstractProgressMeter[None]):
    """Shows nothing, and adds nothing to the program: the default.

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
        """Nothing."""

    def step(self, state: None, progress: RealScalar) -> None:
        """Nothing."""
        del state, progress

    def close(self, state: None) -> None:
        """Nothing."""
        del state


class TextProgressMeter(AbstractProgressMeter[jax.Array]):
    """Prints percentages, one to a line: 0 %, whenever enough was covered since the last line, and 100 %.

    A solve that ends early, by a failure or an event, shows how far it came and not 100 %.

    Parameters
    ----------
    minimum_increase
        The part of the interval that must be covered before the next line; 0.02 makes at most about fifty.

    Raises
    ------
    ValueError
        If `minimum_increase` is negative or NaN.

    Cost
    ----
    A comparison per attempt, and a host callback per line.

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

    def __check_init__(self) -> None:
        if not is_traced(self.minimum_increase) and not self.minimum_increase >= 0:
            raise ValueError(
                "`TextProgressMeter(minimum_increase=...)` is the part of the interval from one line to the next.\n"
                f"Expected: a number from 0 to 1\nFound:    {self.minimum_increase!r}\nUse 0.02 for a line every 2 %."
            )

    def init(self) -> jax.Array:
        """The progress last shown: negative, for nothing was yet."""
        # The first attempt shows 0 %: a callback from here could run at any time, after the loop too.
        return jnp.full((), -1.0)

    def step(self, state: jax.Array, progress: RealScalar) -> jax.Array:
        """The progress last shown, perhaps just now."""
        is_first, shown = state < 0, jnp.maximum(state, 0)
        enough = progress - shown > jnp.asarray(self.minimum_increase).astype(shown.dtype)
        due = enough | ((progress == 1) & (shown < 1))
        _call_if(is_first | due, _print_percentages, is_first, due, progress)
        return jnp.where(due, progress, shown)

    def close(self, state: jax.Array) -> None:
        """Nothing: the last line has been printed."""
        del state


class _BarState(eqx.Module):
    bar: IntScalar
    attempts: IntScalar


class TqdmProgressMeter(AbstractProgressMeter[_BarState]):
    """A progress bar, drawn by `tqdm`, which must be installed.

    A solve that ends early, by a failure or an event, leaves its bar where it came to.

    Parameters
    ----------
    refresh_steps
        The bar is drawn at the first attempt, then after so many, and at the end. Each drawing interrupts the program,
        so values below about ten slow down a small problem.

    Raises
    ------
    ValueError
        If `tqdm` is not installed, or `refresh_steps` is not a positive integer.

    Cost
    ----
    An addition and a comparison per attempt, and a host callback per update.

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
                f"Expected: a positive integer\nFound:    {steps!r}\nUse 20 if in doubt."
            )
        try:
            importlib.import_module("tqdm")
        except ImportError as error:
            raise ValueError(
                "`TqdmProgressMeter` draws with the package tqdm.\nExpected: tqdm to be installed\n"
                f"Found:    {error}\nInstall it (`pip install tqdm`), or use `TextProgressMeter()`."
            ) from error

    def init(self) -> _BarState:
        """The number of a new bar, and of attempts since it was updated: enough for the first attempt to show it."""
        # Not pure at all, but an `io_callback` may not be used under `jax.checkpoint`. XLA never merges calls without
        # arguments, so the solves of one program have numbers of their own; the turns of a loop may share one.
        bar = jax.pure_callback(_bars.new_number, jax.ShapeDtypeStruct((), np.int32))
        return _BarState(bar, jnp.asarray(self.refresh_steps - 1, jnp.int32))

    def step(self, state: _BarState, progress: RealScalar) -> _BarState:
        """The same bar, updated if it is time to."""
        attempts = state.attempts + 1
        due = (attempts >= self.refresh_steps) | (jnp.asarray(progress) == 1)
        _call_if(due, _bars.show, state.bar, progress)
        return _BarState(state.bar, jnp.where(due, 0, attempts))

    def close(self, state: _BarState) -> None:
        """Leave the bar as it is."""
        jax.debug.callback(_bars.close, state.bar)


class ProgressRecorder(AbstractRecorder):
    """Drives a progress meter from the loop.

    Parameters
    ----------
    meter
        The meter.
    """

    meter: AbstractProgressMeter[Any]

    def init(self, plan: Plan, state: State) -> PyTree[Any]:
        """The meter's first state."""
        del plan, state
        # The first state may be made of Python numbers, those that follow are arrays.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), self.meter.init())

    def record(
        self, plan: Plan, record: PyTree[Any], step: Step, accepted: BoolScalar, index: IntScalar
    ) -> PyTree[Any]:
        """The meter's state after an attempt. A lane that has ended is where it ended, so at 1 unless it failed."""
        del index
        return self.meter.step(record, slowest_element(_progress(plan, jnp.where(accepted, step.t1, step.t0))))

    def finish(self, plan: Plan, record: PyTree[Any], state: State) -> None:
        """Nothing to hand out; close the meter."""
        del plan
        # Always true, which only the ended loop can tell: a callback is ordered by what it needs, and by nothing else.
        has_ended = any_element(state.num_steps >= 0)
        lax.cond(has_ended, lambda: self.meter.close(record), lambda: None)


def progress_recorders(meter: AbstractProgressMeter[Any]) -> tuple[ProgressRecorder, ...]:
    """What the loop needs for `meter`: a recorder, or nothing for a meter that shows nothing."""
    return (ProgressRecorder(meter),) if meter.is_shown else ()


def _progress(plan: Plan, t: Time) -> jax.Array:
    """The part of the interval that lies before `t`."""
    t0, t1 = plan.problem.t0, plan.problem.t1
    part = jnp.where(t1 > t0, (t - t0) / (t1 - t0), 1)
    # A fixed dtype, for the loop's carry must not depend on what time is made of.
    return jnp.clip(part, 0, 1).astype(float)


def _call_if(due: jax.Array, function: Callable[..., None], *args: Any) -> None:
    lax.cond(due, lambda: jax.debug.callback(function, *args), lambda: None)


def _print_percentages(is_first: Any, due: Any, progress: Any) -> None:
    if is_first:
        print("0.00%")
    if due:
        print(f"{100 * float(progress):.2f}%")


class _Bars:
    """The bars now on the screen, by a number that each running solve gets when it starts.

    A program is compiled once and may run in several threads at a time, so a bar can belong neither to the program nor
    to the meter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._bars: dict[int, Any] = {}

    def new_number(self) -> np.ndarray:
        """A number that no bar has had. JAX may ask for more of them than it uses, so no bar is made here."""
        return np.asarray(next(self._numbers) % 2**31, np.int32)

    def show(self, number: Any, progress: Any) -> None:
        """Draw the bar, which is made when first shown, or first after it was closed by the last turn of a loop."""
        with self._lock:
            bar = self._bars.get(int(number))
            if bar is None:
                bar = self._bars[int(number)] = _make_bar()
            # The progress of a solve never shrinks, but the callbacks of some devices may overtake each other.
            bar.n = max(100 * float(progress), bar.n)
            bar.refresh()

    def close(self, number: Any) -> None:
        """Let go of the bar."""
        with self._lock:
            bar = self._bars.pop(int(number), None)
        if bar is not None:
            bar.close()


def _make_bar() -> Any:
    layout = "{percentage:.2f}%|{bar}| [{elapsed}<{remaining}]"
    return importlib.import_module("tqdm").tqdm(total=100, bar_format=layout)


_bars = _Bars()
