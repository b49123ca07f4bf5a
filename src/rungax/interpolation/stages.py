"""Dense output of Runge–Kutta methods: polynomials in time with the stages as coefficients."""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Y, scaled
from .base import AbstractLocalInterpolation, fraction


class ExtensionCoefficients(Protocol):
    """The coefficients of a continuous extension."""

    @property
    def weights(self) -> np.ndarray:
        """The coefficient matrix, with a row for each stage and a column for each power."""
        ...


class StageInterpolation(AbstractLocalInterpolation):
    r"""The dense output of a Runge–Kutta method, $y_0 + \theta \sum_i k_i \sum_j w_{ij} (2\theta - 1)^j$.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends. The coefficients are such that the polynomial ends at `y1`, so `y1` itself is not used.
    k
        The stages, each like `y0` and already multiplied by the length of the step.
    extension
        The coefficients $w$.
    """

    t0: RealScalar
    t1: RealScalar
    y0: Y
    y1: Y
    k: tuple[Y, ...]
    extension: ExtensionCoefficients = eqx.field(static=True)

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the polynomial at `t`."""
        theta = fraction(t, self.t0, self.t1)

        def leaf(y0: jax.Array, *k: jax.Array) -> jax.Array:
            s = theta.astype(y0.real.dtype)
            # One stage at a time, with scalar weights: under `vmap` XLA fuses this, but not a matrix product.
            weights = (_horner(row, 2 * s - 1) for row in self.extension.weights)
            total = sum((scaled(w, stage) for w, stage in zip(weights, k, strict=True)), jnp.zeros_like(y0))
            return y0 + scaled(s, total)

        return jax.tree.map(leaf, self.y0, *self.k)


def _horner(coefficients: np.ndarray, u: jax.Array) -> jax.Array:
    value = jnp.full_like(u, float(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        value = value * u + float(coefficient)
    return value
