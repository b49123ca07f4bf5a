"""The interpolation over a step that one of two methods has made."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ...interpolation import AbstractLocalInterpolation
from ...jaxkit import DenseInfo, RealScalar, select


class Interpolations(eqx.Module):
    """A maker of interpolations over steps of either method.

    Parameters
    ----------
    nonstiff, stiff
        The makers of each method's own.
    """

    nonstiff: Callable[..., AbstractLocalInterpolation]
    stiff: Callable[..., AbstractLocalInterpolation]

    def __call__(
        self, *, t0: RealScalar, t1: RealScalar, is_stiff: Array, nonstiff: DenseInfo, stiff: DenseInfo
    ) -> "EitherInterpolation":
        """The interpolation over a step."""
        # The dense information of the other method is zero; a step of length zero keeps derivatives finite too.
        plain = self.nonstiff(t0=t0, t1=jnp.where(is_stiff, t0, t1), **nonstiff)
        other = self.stiff(t0=t0, t1=jnp.where(is_stiff, t1, t0), **stiff)
        return EitherInterpolation(t0, t1, is_stiff, plain, other)


class EitherInterpolation(AbstractLocalInterpolation):
    """One of two interpolations over a step.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    is_stiff
        True if the stiff method made the step.
    nonstiff, stiff
        The interpolations of the two methods.
    """

    t0: RealScalar
    t1: RealScalar
    is_stiff: Array
    nonstiff: AbstractLocalInterpolation
    stiff: AbstractLocalInterpolation

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the interpolation of the method that made the step."""
        return select(self.is_stiff, self.stiff.evaluate(t), self.nonstiff.evaluate(t))
