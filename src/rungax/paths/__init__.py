"""Paths, the drivers of controlled and stochastic equations."""

from .base import AbstractPath as AbstractPath
from .global_interpolation import (
    AbstractGlobalInterpolation as AbstractGlobalInterpolation,
    CubicInterpolation as CubicInterpolation,
    LinearInterpolation as LinearInterpolation,
    over_times as over_times,
)
from .missing_data import (
    backward_hermite_coefficients as backward_hermite_coefficients,
    linear_interpolation as linear_interpolation,
    rectilinear_interpolation as rectilinear_interpolation,
)
