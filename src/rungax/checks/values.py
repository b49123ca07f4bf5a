"""Conditions on the values of times: evaluated on the host if they are known, and by the program."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from ..call import Call
from ..jaxkit import Condition, Y, all_finite, not_finite
from ..saving.saveat import subs_of
from ..terms import brownian_paths

ROUNDINGS = 8
"""The number of roundings by which a time may lie outside of the interval that it belongs to."""


def conditions(
    xp: Any,
    t0: Any,
    t1: Any,
    dt0: Any,
    times: list[Any],
    call: Call,
    ends: list[tuple[Any, Any]],
) -> Iterator[Condition]:
    """The conditions on the values of times, in operations of `xp`."""
    for name, t in (("t0", t0), ("t1", t1)):
        yield _is_time(xp, name, t)
    if dt0 is not None:
        yield _leads_onwards(t0, t1, dt0)
    # Of the program's dtype: on the host known times are in float64.
    slack = ROUNDINGS * float(jnp.finfo(call.time_dtype()).eps) if times or ends else 0.0
    for ts in times:
        yield from _saved_time_conditions(xp, t0, t1, ts, call, slack)
    yield _times_of_controller(t0, t1, call)
    for begin, end in ends:
        yield _path_condition(xp, t0, t1, begin, end, slack)


def finite_state(y0: Y) -> Condition:
    """The condition that the initial state is finite."""
    return Condition(
        y0,
        lambda: all_finite(y0),
        "`y0` must be finite.",
        lambda: (
            f"\nExpected: numbers\nFound:    {not_finite('y0', y0)}\n"
            "With `throw=False` the solve makes no step, and its result is `RESULTS.nonfinite`."
        ),
    )


def _is_time(xp: Any, name: str, t: Any) -> Condition:
    """The condition that `t0` is finite, or `t1` a number."""
    return Condition(
        t,
        lambda: xp.isfinite(t) if name == "t0" else t == t,
        f"`{name}` must be a number.",
        lambda: f"\nExpected: a time\nFound:    {t}",
    )


def _leads_onwards(t0: Any, t1: Any, dt0: Any) -> Condition:
    return Condition(
        (t0, t1, dt0),
        # Their product may be too small for a floating-point number.
        lambda: ((dt0 > 0) & (t1 > t0)) | ((dt0 < 0) & (t1 < t0)) | ((t0 == t1) & (dt0 == dt0)),
        "`dt0` must lead from `t0` towards `t1`, and not be zero.",
        lambda: (
            f"\nExpected: {'positive' if t1 > t0 else 'negative'}, as t0={t0} and t1={t1}\nFound:    dt0={dt0}\n"
            "Change its sign, or swap `t0` and `t1`."
        ),
    )


def _times_of_controller(t0: Any, t1: Any, call: Call) -> Condition:
    controller, continued = call.controller, call.resumed.controller_state is not None
    return Condition(
        (t0, t1, controller),
        lambda: controller.continued_times_fit(t0, t1) if continued else controller.times_fit(t0, t1),
        f"The times of `{type(controller).__name__}` must lead from `t0` to `t1`, strictly monotone.",
        lambda: (
            f"\nExpected: {'up to' if continued else 'first'} {t0}, last {t1}\nFound:    {controller}\n"
            "Give the controller the times of this solve."
        ),
    )


def _path_condition(xp: Any, t0: Any, t1: Any, begin: Any, end: Any, rounding: float) -> Condition:
    """The condition that a Brownian path reaches from one end of the solve to the other, up to rounding."""

    def reaches() -> Any:
        lower, upper = xp.minimum(t0, t1), xp.maximum(t0, t1)
        slack = rounding * xp.maximum(xp.abs(begin), xp.abs(end))
        # A solve without end is stopped by something else, perhaps within the path.
        reaches = (begin - slack <= lower) & ((upper <= end + slack) | xp.isinf(upper))
        # The slack of an unbounded path is NaN.
        return reaches | (xp.isinf(begin) & xp.isinf(end))

    def found() -> str:
        lower, upper = min(t0, t1), max(t0, t1)
        return (
            f"\nExpected: from {lower} to {upper}\n"
            f"Found:    from {begin} to {end}\n"
            f"Give the path the ends of the solve, `VirtualBrownianTree({lower}, {upper}, ...)`."
        )

    return Condition((t0, t1, begin, end), reaches, "A Brownian path must reach over the whole solve.", found)


def ends_of_paths(terms: Any) -> list[tuple[Any, Any]]:
    """The ends of all Brownian paths in `terms`."""
    return [(path.t0, path.t1) for path in brownian_paths(terms)]


def saved_times(call: Call) -> list[Any]:
    """The requested times of each `SubSaveAt` that has some."""
    return [sub.ts for sub in subs_of(call.saveat) if sub.ts is not None]


def _saved_time_conditions(xp: Any, t0: Any, t1: Any, ts: Any, call: Call, rounding: float) -> Iterator[Condition]:
    def lie_between() -> Any:
        # Up to rounding; the solve takes those outside as its ends.
        slack = rounding * xp.maximum(xp.abs(t0), xp.where(xp.isinf(t1), 0.0, xp.abs(t1)))
        # Comparing so that a NaN fails.
        return xp.all((ts >= xp.minimum(t0, t1) - slack) & (ts <= xp.maximum(t0, t1) + slack))

    # A compiled program says this and no more, and knows the ends only if they are constants of it.
    here = f", here {call.t0} and {call.t1}" if type(call.t0) is type(call.t1) is float else ""
    yield Condition(
        (t0, t1, ts),
        lie_between,
        f"`SaveAt(ts=...)` must lie between `t0` and `t1`{here}.",
        lambda: (
            f"\nExpected: from {min(t0, t1)} to {max(t0, t1)}\n"
            f"Found:    from {ts.min()} to {ts.max()}\nLeave out the times outside, or enlarge the interval."
        ),
    )
    steps = lambda: (ts[1:] - ts[:-1]) * xp.where(t1 >= t0, 1, -1).astype(ts.dtype)

    def out_of_order() -> str:
        at = int((steps() < 0).argmax())
        return (
            f"\nExpected: {'increasing' if t1 >= t0 else 'decreasing'}, as t0={t0} and t1={t1}\n"
            f"Found:    ts[{at}:][:2] = {ts[at:][:2]}\n"
            f"Sort them: `jnp.sort(ts)`{'' if t1 >= t0 else '[::-1]'}."
        )

    yield Condition(
        (t0, t1, ts),
        lambda: xp.all(steps() >= 0),
        "`SaveAt(ts=...)` must be sorted in the direction of travel.",
        out_of_order,
    )
