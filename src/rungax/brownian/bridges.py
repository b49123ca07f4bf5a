"""Brownian bridges: the values over an interval from those over its two parts, and the other way round.

An interval of length `h` is split into a left part of length `l = a h` and a right part of length `r = b h`,
`a + b = 1`. `values` are the first one, two or three of `W`, `H`, `K` (see `increments`), each a vector. `noise` has
the same shape and holds standard normals.

**Joining** the parts is an identity between integrals, for every path:

    W = W₁ + W₂
    h H = l H₁ + r H₂ + (r W₁ - l W₂) / 2
    h² K = l² K₁ + r² K₂ + l r (H₁ - H₂) / 2 + (r - l) (r W₁ - l W₂) / 12

**Splitting** draws from the Gaussian law of the parts given the whole. Scaled to variance one, `W, H, K` are the
coefficients of the noise on the interval in the Legendre polynomials of degree 0, 1, 2, whose restrictions to a part
are polynomials of the same degrees. So the conditional means are (without the terms of `H` or `K` that are not given)

    W₁ = a W + 6 a b H + 60 a b (b - a) K      W₂ = b W - 6 a b H - 60 a b (b - a) K
    H₁ = a² H + 30 a² b K                      H₂ = b² H - 30 a b² K
    K₁ = a³ K                                  K₂ = b³ K

and the deviations from them are spanned by an orthonormal basis of those piecewise polynomials that are orthogonal to
the polynomials on the whole interval. There are as many basis functions as rows, each with its own standard normal, the
same for both parts. The basis is chosen so that the last normal enters only the last row and the last two normals only
the last two rows, and so that no entry is a difference of nearly equal numbers, however short one part is.

References
----------
A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high order
SDE solvers*, arXiv:2405.06464: the same laws in section 4 and its appendix. The formulas here were derived again from
the Legendre polynomials, and `tests/distribution/test_bridges.py` checks them against the covariances of the integrals.
"""

import abc
from math import sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..jaxkit import RealScalar, shown
from .increments import AbstractBrownianIncrement, BrownianIncrement, SpaceTimeLevyArea, SpaceTimeTimeLevyArea

type Values = tuple[Float[Array, " size"], ...]


class AbstractBridge(eqx.Module):
    """The law of the values over two parts of an interval given the whole, and the whole from the two parts."""

    @property
    @abc.abstractmethod
    def deviations(self) -> tuple[float, ...]:
        """The standard deviation of each row on an interval of length one."""

    @abc.abstractmethod
    def halves(self, whole: Values, noise: Values, root_h: RealScalar) -> tuple[Values, Values]:
        """The two halves of an interval of length `root_h²`, drawn given the whole: `split` at the midpoint."""

    @abc.abstractmethod
    def split(
        self, whole: Values, noise: Values, root_h: RealScalar, a: RealScalar, b: RealScalar
    ) -> tuple[Values, Values]:
        """The parts of lengths `a h` and `b h`, `h = root_h²` and `a + b = 1`, drawn given the whole."""

    @abc.abstractmethod
    def join(self, left: Values, right: Values, l: RealScalar, r: RealScalar) -> Values:
        """The whole with the parts `left` of length `l` and `right` of length `r`; a length may be 0."""

    def unconditional(self, noise: Values, root_h: RealScalar) -> Values:
        """Values over an interval of length `root_h²`, drawn without any condition from standard normals."""
        return tuple((d * root_h) * z for d, z in zip(self.deviations, noise, strict=True))

    def reversed(self, values: Values) -> Values:
        """The values over the interval from its end to its start: `-W`, `H`, `-K`."""
        return tuple(-x if i % 2 == 0 else x for i, x in enumerate(values))


class BrownianBridge(AbstractBridge):
    """The bridge of increments `W`."""

    @property
    def deviations(self) -> tuple[float, ...]:
        return (1.0,)

    def halves(self, whole: Values, noise: Values, root_h: RealScalar) -> tuple[Values, Values]:
        (W,), (z,) = whole, noise
        mean, deviation = 0.5 * W, (0.5 * root_h) * z
        return (mean + deviation,), (mean - deviation,)

    def split(
        self, whole: Values, noise: Values, root_h: RealScalar, a: RealScalar, b: RealScalar
    ) -> tuple[Values, Values]:
        (W,), (z,) = whole, noise
        deviation = (root_h * jnp.sqrt(a * b)) * z
        return (a * W + deviation,), (b * W - deviation,)

    def join(self, left: Values, right: Values, l: RealScalar, r: RealScalar) -> Values:
        del l, r
        return (left[0] + right[0],)


class SpaceTimeBridge(AbstractBridge):
    """The bridge of increments `W` and space-time Lévy areas `H`."""

    @property
    def deviations(self) -> tuple[float, ...]:
        return (1.0, sqrt(1 / 12))

    def halves(self, whole: Values, noise: Values, root_h: RealScalar) -> tuple[Values, Values]:
        (W, H), (z1, z2) = whole, noise
        mean_W, dev_W = 0.5 * W, 1.5 * H + (0.25 * root_h) * z1
        mean_H, dev_H = 0.25 * H - (0.125 * root_h) * z1, (sqrt(1 / 48) * root_h) * z2
        return (mean_W + dev_W, mean_H + dev_H), (mean_W - dev_W, mean_H - dev_H)

    def split(
        self, whole: Values, noise: Values, root_h: RealScalar, a: RealScalar, b: RealScalar
    ) -> tuple[Values, Values]:
        (W, H), (z1, z2) = whole, noise
        scale = root_h * jnp.sqrt(a * b)
        d = jnp.sqrt(a**3 + b**3)
        dev_W = (6 * a * b) * H + (scale * d) * z1
        dev_H = (sqrt(1 / 12) * scale / d) * z2
        half = (0.5 * scale / d) * z1
        left = (a * W + dev_W, a**2 * (H - half) + b * dev_H)
        right = (b * W - dev_W, b**2 * (H - half) - a * dev_H)
        return left, right

    def join(self, left: Values, right: Values, l: RealScalar, r: RealScalar) -> Values:
        (W1, H1), (W2, H2) = left, right
        a, b = _fractions(l, r)
        return (W1 + W2, a * H1 + b * H2 + 0.5 * (b * W1 - a * W2))


class SpaceTimeTimeBridge(AbstractBridge):
    """The bridge of increments `W`, space-time Lévy areas `H` and space-time-time Lévy areas `K`."""

    @property
    def deviations(self) -> tuple[float, ...]:
        return (1.0, sqrt(1 / 12), sqrt(1 / 720))

    def halves(self, whole: Values, noise: Values, root_h: RealScalar) -> tuple[Values, Values]:
        (W, H, K), (z1, z2, z3) = whole, noise
        mean_W, dev_W = 0.5 * W, 1.5 * H + (0.25 * root_h) * z1
        mean_H = 0.25 * H - (0.125 * root_h) * z1
        dev_H = 3.75 * K + (sqrt(1 / 768) * root_h) * z2
        mean_K = 0.125 * K - (sqrt(1 / 3072) * root_h) * z2
        dev_K = (sqrt(1 / 2880) * root_h) * z3
        left = (mean_W + dev_W, mean_H + dev_H, mean_K + dev_K)
        return left, (mean_W - dev_W, mean_H - dev_H, mean_K - dev_K)

    def split(
        self, whole: Values, noise: Values, root_h: RealScalar, a: RealScalar, b: RealScalar
    ) -> tuple[Values, Values]:
        (W, H, K), (z1, z2, z3) = whole, noise
        m = a * b
        scale = root_h * jnp.sqrt(m)
        fifth = a**5 + b**5
        # = 1 - 8m + 20m², the variance of W₁ given all three over that given W; at least 1/5.
        p = (a**3 + b**3) * fifth + 15 * m**3
        dev_W = (6 * m) * H + (60 * m * (b - a)) * K + (scale * jnp.sqrt(p)) * z1
        z1, z2, z3 = (scale / jnp.sqrt(p)) * z1, (scale * jnp.sqrt(fifth / p)) * z2, (scale / jnp.sqrt(fifth)) * z3
        mean_K = K + ((a - b) / 12) * z1 - (sqrt(1 / 48) * m / fifth) * z2
        z3 = sqrt(1 / 720) * z3
        left = (
            a * W + dev_W,
            a**2 * (H - (0.5 * (10 * b**2 - 5 * b + 1)) * z1) + a * (30 * m) * K + (sqrt(1 / 12) * b) * z2,
            a**3 * mean_K + b**2 * z3,
        )
        right = (
            b * W - dev_W,
            b**2 * (H - (0.5 * (10 * a**2 - 5 * a + 1)) * z1) - b * (30 * m) * K - (sqrt(1 / 12) * a) * z2,
            b**3 * mean_K - a**2 * z3,
        )
        return left, right

    def join(self, left: Values, right: Values, l: RealScalar, r: RealScalar) -> Values:
        (W1, H1, K1), (W2, H2, K2) = left, right
        a, b = _fractions(l, r)
        tilt = b * W1 - a * W2
        H = a * H1 + b * H2 + 0.5 * tilt
        K = a**2 * K1 + b**2 * K2 + (0.5 * a * b) * (H1 - H2) + ((b - a) / 12) * tilt
        return (W1 + W2, H, K)


def bridge_of(levy_area: type[AbstractBrownianIncrement]) -> AbstractBridge:
    """The bridge for the values that `levy_area` holds."""
    for kind, bridge in _BRIDGES:
        if levy_area is kind:
            return bridge
    names = ", ".join(kind.__name__ for kind, _ in _BRIDGES)
    raise ValueError(f"`levy_area` must be one of {names}; found {getattr(levy_area, '__name__', shown(levy_area))}.")


_BRIDGES = (
    (BrownianIncrement, BrownianBridge()),
    (SpaceTimeLevyArea, SpaceTimeBridge()),
    (SpaceTimeTimeLevyArea, SpaceTimeTimeBridge()),
)


def _fractions(l: RealScalar, r: RealScalar) -> tuple[jax.Array, jax.Array]:
    """The lengths of the parts relative to the whole; both 0 if the whole has length 0."""
    h = jnp.asarray(l + r)
    inverse = 1 / jnp.where(h == 0, jnp.ones_like(h), h)
    return l * inverse, r * inverse
