"""Increments and Lévy areas of a Brownian path `B` over an interval `[s, u]` of length `h`.

| name | definition | law |
|---|---|---|
| `W` | `B_u - B_s` | N(0, h) |
| `H` | `(1/h) ∫ (B_r - B_s - (r-s)/h W) dr`, the space-time Lévy area | N(0, h/12) |
| `K` | `(1/h²) ∫ (B_r - B_s - (r-s)/h W) (h/2 - (r-s)) dr`, the space-time-time Lévy area | N(0, h/720) |

The three are independent of each other, and of those over any interval that does not overlap. Up to factors, they are
the first three Legendre coefficients of the noise `dB` on the interval.

Real and imaginary parts of complex entries are independent, with half the variance each: `E|W|² = h`.
"""

import equinox as eqx
from jaxtyping import PyTree


class AbstractBrownianIncrement(eqx.Module):
    """The increment `W` of a Brownian path over an interval of length `dt`; subclasses may add Lévy areas.

    Attributes
    ----------
    dt
        The end of the interval minus its start, negative for an increment backwards in time: a pytree like `W` of
        scalars, each with the real dtype of the leaf of `W`.
    W
        The increment: a pytree of arrays.

    See Also
    --------
    BrownianIncrement : the class that paths return.
    """

    dt: eqx.AbstractVar[PyTree]
    W: eqx.AbstractVar[PyTree]


class AbstractSpaceTimeLevyArea(AbstractBrownianIncrement):
    r"""The increment and the space-time Lévy area `H`; subclasses may add more.

    $$H = \frac1h \int_s^{s+h} \Big(B_r - B_s - \frac{r - s}{h} W\Big)\,\mathrm{d}r$$

    Attributes
    ----------
    dt, W
        See `AbstractBrownianIncrement`.
    H
        The area: a pytree like `W`.

    See Also
    --------
    SpaceTimeLevyArea : the class that paths return.
    """

    H: eqx.AbstractVar[PyTree]


class AbstractSpaceTimeTimeLevyArea(AbstractSpaceTimeLevyArea):
    r"""The increment, the space-time Lévy area and the space-time-time Lévy area `K`; subclasses may add more.

    $$K = \frac{1}{h^2} \int_s^{s+h} \Big(B_r - B_s - \frac{r - s}{h} W\Big) \Big(\frac h2 - (r - s)\Big)\,\mathrm{d}r$$

    Attributes
    ----------
    dt, W, H
        See `AbstractSpaceTimeLevyArea`.
    K
        The area: a pytree like `W`.

    See Also
    --------
    SpaceTimeTimeLevyArea : the class that paths return.
    """

    K: eqx.AbstractVar[PyTree]


class BrownianIncrement(AbstractBrownianIncrement):
    """The increment `W ~ N(0, dt)` of a Brownian path over an interval.

    Parameters
    ----------
    dt
        The length of the interval: a pytree like `W` of real scalars.
    W
        The increment: a pytree of arrays.

    Examples
    --------
    >>> import rungax
    >>> rungax.BrownianIncrement(dt=0.1, W=-0.3).W
    -0.3
    """

    dt: PyTree
    W: PyTree


class SpaceTimeLevyArea(AbstractSpaceTimeLevyArea):
    """The increment `W ~ N(0, dt)` over an interval and its space-time Lévy area `H ~ N(0, dt/12)`, independent.

    Parameters
    ----------
    dt
        The length of the interval: a pytree like `W` of real scalars.
    W, H
        The increment and its space-time Lévy area: pytrees of arrays with the same structure.

    References
    ----------
    J. Foster, T. Lyons, H. Oberhauser, *An optimal polynomial approximation of Brownian motion*, SIAM Journal on
    Numerical Analysis 58 (2020), definition 4.2.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath(
    ...     (3,), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea
    ... )
    >>> increment = path.evaluate(0.0, 0.1, use_levy=True)
    >>> increment.W.shape, increment.H.shape
    ((3,), (3,))
    """

    dt: PyTree
    W: PyTree
    H: PyTree


class SpaceTimeTimeLevyArea(AbstractSpaceTimeTimeLevyArea):
    """The increment `W ~ N(0, dt)` and the Lévy areas `H ~ N(0, dt/12)` and `K ~ N(0, dt/720)`, all independent.

    Parameters
    ----------
    dt
        The length of the interval: a pytree like `W` of real scalars.
    W, H, K
        The increment, its space-time and its space-time-time Lévy area: pytrees of arrays with the same structure.

    References
    ----------
    A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high
    order SDE solvers*, arXiv:2405.06464, section 2.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath(
    ...     (3,), jax.random.key(0), levy_area=rungax.SpaceTimeTimeLevyArea
    ... )
    >>> increment = path.evaluate(0.0, 0.1, use_levy=True)
    >>> increment.W.shape, increment.K.shape
    ((3,), (3,))
    """

    dt: PyTree
    W: PyTree
    H: PyTree
    K: PyTree
