"""Between two steps, and over all steps."""

from .base import AbstractLocalInterpolation as AbstractLocalInterpolation
from .dense import DenseInterpolation as DenseInterpolation
from .hermite import (
    FourthOrderPolynomialInterpolation as FourthOrderPolynomialInterpolation,
    ThirdOrderHermitePolynomialInterpolation as ThirdOrderHermitePolynomialInterpolation,
)
from .linear import LocalLinearInterpolation as LocalLinearInterpolation
from .stages import StageInterpolation as StageInterpolation
