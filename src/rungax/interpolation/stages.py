"""Dense output of Runge–Kutta methods: polynomials in time with the stages as coefficients."""

from typing import Any, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpy.polynomial.polynomial as P
from jaxtyping import PyTree

from ..jaxkit import RealScalar, Y, combination, scaled
from .base import AbstractLocalInterpolation, bridge, fraction


class ExtensionCoefficients(Protocol):
    """The coefficients of a continuous extension."""

    @property
    def weights(self) -> np.ndarray:
        """The coefficient matrix, with a row for each stage and a column for each power."""
        ...


class StageInterpolation(AbstractLocalInterpolation):
    r"""The dense output of a Runge–Kutta method, $y_0 + \theta \sum_i k_i \sum_j w_{ij} (2\theta - 1)^j$.

    It is evaluated as the straight line from $y_0$ to $y_1$ and $\theta (1 - \theta)$ times a polynomial, which is
    exact at both ends of the step: there, the sum over stages with large coefficients has rounding errors.

    Parameters
    ----------
    t0, t1
        Ends of the step.
    y0, y1
        States at the ends. The coefficients are such that the polynomial ends at `y1`.
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

    @classmethod
    def from_k(cls, *, t0: RealScalar, t1: RealScalar, y0: Y, y1: Y, k: Y, extension: ExtensionCoefficients) -> Self:
        """The interpolation from stages that are stacked along the first axis of each leaf."""
        stages = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], k) for i in range(len(extension.weights)))
        return cls(t0=t0, t1=t1, y0=y0, y1=y1, k=stages, extension=extension)

    @property
    def coeffs(self) -> PyTree[jax.Array]:
        r"""The coefficients of the polynomial in $\theta$, highest power first along the first axis of each leaf."""
        rows = _in_powers_of_theta(self.extension.weights)[::-1]

        def leaf(y0: jax.Array, *k: jax.Array) -> jax.Array:
            return jnp.stack([*(combination(row, k) for row in rows), y0])

        return jax.tree.map(leaf, self.y0, *self.k)

    def value(self, t: RealScalar) -> PyTree[Any]:
        """The value of the polynomial at `t`."""
        theta = fraction(t, self.t0, self.t1)
        rows = _inner(self.extension.weights)

        def leaf(y0: jax.Array, y1: jax.Array, *k: jax.Array) -> jax.Array:
            # The dtype of `y1`: in a step by hand `y0` may be a number, or of integers.
            u = 2 * jnp.asarray(theta).astype(jnp.finfo(jnp.result_type(y1)).dtype) - 1
            # One stage at a time, with scalar weights: under `vmap` XLA fuses this, but not a matrix product.
            terms = (scaled(_horner(row, u), stage) for row, stage in zip(rows, k, strict=True) if row.any())
            return bridge(theta, y0, y1, sum(terms, jnp.zeros_like(y1)))

        return jax.tree.map(leaf, self.y0, self.y1, *self.k)


def _inner(weights: np.ndarray) -> np.ndarray:
    r"""Coefficients of $(p_i(u) - p_i(1)) / (1 - \theta)$ in powers of u, with $p_i(u) = \sum_j w_{ij} u^j$."""
    # The quotient of u^j - 1 and u - 1 is 1 + u + ... + u^(j-1).
    return -2 * np.cumsum(weights[:, :0:-1], axis=1)[:, ::-1]


def _in_powers_of_theta(weights: np.ndarray) -> np.ndarray:
    r"""Coefficients of $\sum_j w_{ij} (2 \theta - 1)^j$ in powers of theta, a row for each power."""
    powers = np.stack(
        [np.pad(P.polypow([-1.0, 2.0], j), (0, weights.shape[1] - 1 - j)) for j in range(weights.shape[1])]
    )
    return powers.T @ weights.T


def _horner(coefficients: np.ndarray, u: jax.Array) -> jax.Array:
    value = jnp.full_like(u, float(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        value = value * u + float(coefficient)
    return value
