"""Slopes of errors: the order of a method as an experiment sees it."""

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 0.15
"""How far a measured order may be from the stated one."""


def slope(steps: ArrayLike, errors: ArrayLike) -> float:
    """The exponent p of `errors = C * steps ** p`, by least squares over all of them."""
    steps, errors = np.asarray(steps, float), np.asarray(errors, float)
    assert steps.size >= 3, f"a slope through {steps.size} points shows nothing"
    assert np.all(errors > 0), errors
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def graded_order(steps: ArrayLike, errors: ArrayLike, rounding: ArrayLike) -> float:
    """The exponent at which the errors of `problems.GRADED` vanish, read off its first component that has any.

    `errors` has shape (steps, components), relative to the components. Each component's error is a single power of the
    step, so the exponent is clean at every size above `rounding`, which broadcasts against `errors`.
    """
    errors = np.asarray(errors)
    for component in range(errors.shape[1]):
        seen = (errors > 10 * np.asarray(rounding))[:, component]
        if seen.sum() >= 3:
            return slope(np.asarray(steps)[seen], errors[seen, component])
        assert not seen.any(), f"component {component + 1} is neither clean nor exact: {errors[:, component]}"
    raise AssertionError(f"no error above rounding in any component: {errors}")
