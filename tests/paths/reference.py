"""Reference implementations for missing data, with loops over entries and knots and with SciPy."""

from typing import NamedTuple

import numpy as np
import scipy.interpolate


class Series(NamedTuple):
    """Times and the values at them, NaN where missing."""

    ts: np.ndarray
    ys: np.ndarray


def replaced(series: Series, start: complex | None, fill_end: bool) -> Series:
    """The series with its first value replaced by `start` and its last one repeated if `fill_end`."""
    ys = series.ys.copy()
    if start is not None and np.isnan(ys[0]):
        ys[0] = start
    for i in range(1, len(ys)):
        if fill_end and np.isnan(ys[i:]).all():
            ys[i] = ys[i - 1]
    return Series(series.ts, ys)


def observations(series: Series) -> Series:
    """The series without missing values."""
    seen = ~np.isnan(series.ys)
    return Series(series.ts[seen], series.ys[seen])


def filled_linearly(series: Series) -> np.ndarray:
    """The values, with missing ones between two observations interpolated linearly."""
    ys = series.ys.copy()
    for i in range(len(ys)):
        before = [j for j in range(i) if not np.isnan(series.ys[j])]
        after = [j for j in range(i + 1, len(ys)) if not np.isnan(series.ys[j])]
        if np.isnan(ys[i]) and before and after:
            a, b = before[-1], after[0]
            slope = (series.ys[b] - series.ys[a]) / (series.ts[b] - series.ts[a])
            ys[i] = series.ys[a] + slope * (series.ts[i] - series.ts[a])
    return ys


def filled_forward(ys: np.ndarray) -> np.ndarray:
    """The values, with missing ones replaced by the last observation."""
    ys = ys.copy()
    for i in range(1, len(ys)):
        if np.isnan(ys[i]):
            ys[i] = ys[i - 1]
    return ys


def corners(series: Series) -> Series:
    """The corners of the path that moves first in time and then in value."""
    ys = filled_forward(series.ys)
    points = [(series.ts[0], ys[0])]
    for i in range(1, len(ys)):
        points += [(series.ts[i], ys[i - 1]), (series.ts[i], ys[i])]
    times, values = zip(*points, strict=True)
    return Series(np.array(times), np.array(values))


def hermite(series: Series, deriv0: complex | None) -> scipy.interpolate.CubicHermiteSpline | None:
    """The spline through the observations, with slopes from the observation before; `None` for fewer than two."""
    seen = observations(series)
    if len(seen.ts) < 2:
        return None
    slopes = np.diff(seen.ys) / np.diff(seen.ts)
    is_known = deriv0 is not None and not np.isnan(series.ys[0])
    first = deriv0 if is_known else slopes[0]
    return scipy.interpolate.CubicHermiteSpline(seen.ts, seen.ys, np.array([first, *slopes]), extrapolate=False)
