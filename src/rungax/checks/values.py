"""Conditions on the values of times, on the host if they are known and else in the program."""

from collections.abc import Callable, Iterator
from typing import Any

from ..call import Call
from ..saving.saveat import subs_of
from ..terms import (
    brownian_paths,
)


def conditions(
    xp: Any,
    t0: Any,
    t1: Any,
    dt0: Any,
    times: list[Any],
    call: Call,
    ends: list[tuple[Any, Any]],
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Conditions on the values, each with the message for the case that it does not hold."""
    for name, t, number in (("t0", t0, xp.isfinite(t0)), ("t1", t1, t1 == t1)):
        yield number, lambda name=name, t=t: f"`{name}` must be a number.\nExpected: a time\nFound:    {t}"
    if dt0 is not None:
        yield (
            # Their product may be too small for a floating-point number.
            ((dt0 > 0) & (t1 > t0)) | ((dt0 < 0) & (t1 < t0)) | ((t0 == t1) & (dt0 == dt0)),
            lambda: (
                f"`dt0` must lead from `t0` towards `t1`, and not be zero.\n"
                f"Expected: {'positive' if t1 > t0 else 'negative'}, as t0={t0} and t1={t1}\nFound:    dt0={dt0}\n"
                "Change its sign, or swap `t0` and `t1`."
            ),
        )
    for ts in times:
        yield from _saved_time_conditions(xp, t0, t1, xp.asarray(ts))
    controller, continued = call.controller, call.resumed.controller_state is not None
    ok = controller.continued_times_fit(t0, t1) if continued else controller.times_fit(t0, t1)
    yield (
        ok,
        lambda: (
            f"The times of `{type(controller).__name__}` must lead from `t0` to `t1`, strictly monotone.\n"
            f"Expected: {'up to' if continued else 'first'} {t0}, last {t1}\nFound:    {controller}\n"
            "Give the controller the times of this solve."
        ),
    )
    for begin, end in ends:
        yield _path_condition(xp, t0, t1, begin, end)


def _path_condition(xp: Any, t0: Any, t1: Any, begin: Any, end: Any) -> tuple[Any, Callable[[], str]]:
    """The condition that a Brownian path reaches from one end of the solve to the other, up to rounding."""
    lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
    slack = 8 * float(xp.finfo(t0.dtype).eps) * xp.maximum(xp.abs(begin), xp.abs(end))
    # A solve without end is stopped by something else, perhaps within the path.
    reaches = (begin - slack <= lower) & ((upper <= end + slack) | xp.isinf(upper))
    # The slack of an unbounded path is NaN.
    fits = reaches | (xp.isinf(begin) & xp.isinf(end))
    return (
        fits,
        lambda: (
            f"A Brownian path must reach over the whole solve.\nExpected: from {lower} to {upper}\n"
            f"Found:    from {begin} to {end}\n"
            f"Give the path the ends of the solve, `VirtualBrownianTree({lower}, {upper}, ...)`."
        ),
    )


def ends_of_paths(terms: Any) -> list[tuple[Any, Any]]:
    """The ends of all Brownian paths in `terms`."""
    return [(path.t0, path.t1) for path in brownian_paths(terms)]


def saved_times(call: Call) -> list[Any]:
    """The requested times of each `SubSaveAt` that has some."""
    return [sub.ts for sub in subs_of(call.saveat) if sub.ts is not None]


def _saved_time_conditions(xp: Any, t0: Any, t1: Any, ts: Any) -> Iterator[tuple[Any, Callable[[], str]]]:
    lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
    # Comparing so that a NaN fails.
    yield (
        xp.all((ts >= lower) & (ts <= upper)),
        lambda: (
            f"`SaveAt(ts=...)` must lie between `t0` and `t1`.\nExpected: from {lower} to {upper}\n"
            f"Found:    from {ts.min()} to {ts.max()}\nLeave out the times outside, or enlarge the interval."
        ),
    )
    steps = (ts[1:] - ts[:-1]) * xp.where(t1 >= t0, 1, -1).astype(ts.dtype)
    yield (
        xp.all(steps >= 0),
        lambda: (
            "`SaveAt(ts=...)` must be sorted in the direction of travel.\n"
            f"Expected: {'increasing' if t1 >= t0 else 'decreasing'}, as t0={t0} and t1={t1}\n"
            f"Found:    ts[{int((steps < 0).argmax())}:][:2] = {ts[int((steps < 0).argmax()) :][:2]}\n"
            f"Sort them: `jnp.sort(ts)`{'' if t1 >= t0 else '[::-1]'}."
        ),
    )
