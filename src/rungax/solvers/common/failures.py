"""The reasons why no step from a state succeeds, however short."""

from typing import Any

import equinox as eqx

from ...jaxkit import all_finite
from ...results import RESULTS, Result, choose


def failure_of_field(value: Any) -> Result:
    """The failure of every step from where the vector field has this value: one that is not finite."""
    return choose(_is_finite(value), RESULTS.successful, RESULTS.nonfinite)


def failure_of_derivative(value: Any) -> Result:
    """The failure of every step that uses this value of a derivative of the vector field: one that is not finite."""
    return choose(_is_finite(value), RESULTS.successful, RESULTS.nonfinite_jacobian)


def _is_finite(value: Any) -> Any:
    # A field with several drivers may hold linear operators, which have functions among their leaves.
    return all_finite(eqx.filter(value, eqx.is_inexact_array))
