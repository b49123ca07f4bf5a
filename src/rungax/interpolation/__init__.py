"""Interpolation over one step, and over all steps of a solve."""

from .base import AbstractLocalInterpolation as AbstractLocalInterpolation
from .dense import DenseInterpolation as DenseInterpolation
from .hermite import (
    FourthOrderPolynomialInterpolation as FourthOrderPolynomialInterpolation,
    ThirdOrderHermitePolynomialInterpolation as ThirdOrderHermitePolynomialInterpolation,
)
from .linear import LocalLinearInterpolation as LocalLinearInterpolation
from .stages import StageInterpolation as StageInterpolation
