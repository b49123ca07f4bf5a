"""What a solver is told about a Brownian path `B` over an interval `[s, u]` of length `h`.

| name | over the interval | law |
|---|---|---|
| `W` | `B_u - B_s` | N(0, h) |
| `H` | `(1/h) ∫ (B_r - B_s - (r-s)/h W) dr`, the space-time Lévy area | N(0, h/12) |
| `K` | `(1/h²) ∫ (B_r - B_s - (r-s)/h W) (h/2 - (r-s)) dr`, the space-time-time Lévy area | N(0, h/720) |

The three are independent of each other, and of those over any interval that does not overlap. They are, up to factors,
the first three Legendre coefficients of the noise `dB` on the interval.

In a complex dimension the real and the imaginary part are independent, of half the variance each: `E|W|² = h`.
"""

import equinox as eqx
from jaxtyping import PyTree


class AbstractBrownianIncrement(eqx.Module):
    """At least the increment `W` over an interval, and its length `dt`.

    Attributes
    ----------
    dt
        The end minus the start, negative for an interval asked backwards; a pytree like `W` of scalars, each in the
        real dtype of the leaf of `W`.
    W
        The increment: a pytree of arrays.

    See Also
    --------
    BrownianIncrement : the class that paths return.
    """

    dt: eqx.AbstractVar[PyTree]
    W: eqx.AbstractVar[PyTree]


class AbstractSpaceTimeLevyArea(AbstractBrownianIncrement):
    r"""The increment and at least its space-time Lévy area `H`.

    $$H = \frac1h \int_s^{s+h} \Big(B_r - B_s - \frac{r - s}{h} W\Big)\,\mathrm{d}r$$

    Attributes
    ----------
    dt, W
        As of `AbstractBrownianIncrement`.
    H
        The area: a pytree like `W`.

    See Also
    --------
    SpaceTimeLevyArea : the class that paths return.
    """

    H: eqx.AbstractVar[PyTree]


class AbstractSpaceTimeTimeLevyArea(AbstractSpaceTimeLevyArea):
    r"""The increment, its space-time and at least its space-time-time Lévy area `K`.

    $$K = \frac{1}{h^2} \int_s^{s+h} \Big(B_r - B_s - \frac{r - s}{h} W\Big) \Big(\frac h2 - (r - s)\Big)\,\mathrm{d}r$$

    Attributes
    ----------
    dt, W, H
        As of `AbstractSpaceTimeLevyArea`.
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
        The increment and its space-time Lévy area: pytrees of arrays, alike.

    References
    ----------
    J. Foster, T. Lyons, H. Oberhauser, *An optimal polynomial approximation of Brownian motion*, SIAM Journal on
    Numerical Analysis 58 (2020), definition 4.2.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath((3,), jax.random.key(0), levy_area=rungax.SpaceTimeLevyArea)
    >>> increment = path.evaluate(0.0, 0.1, use_levy=True)
    >>> increment.W.shape, increment.H.shape
    ((3,), (3,))
    """

    dt: PyTree
    W: PyTree
    H: PyTree


class SpaceTimeTimeLevyArea(AbstractSpaceTimeTimeLevyArea):
    """`W ~ N(0, dt)` over an interval, `H ~ N(0, dt/12)` and the space-time-time Lévy area `K ~ N(0, dt/720)`.

    Parameters
    ----------
    dt
        The length of the interval: a pytree like `W` of real scalars.
    W, H, K
        The increment, its space-time and its space-time-time Lévy area: pytrees of arrays, alike.

    References
    ----------
    A. Jelinčič, J. Foster, P. Kidger, *Single-seed generation of Brownian paths and integrals for adaptive and high
    order SDE solvers*, arXiv:2405.06464, section 2.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath((3,), jax.random.key(0), levy_area=rungax.SpaceTimeTimeLevyArea)
    >>> increment = path.evaluate(0.0, 0.1, use_levy=True)
    >>> increment.W.shape, increment.K.shape
    ((3,), (3,))
    """

    dt: PyTree
    W: PyTree
    H: PyTree
    K: PyTree
