"""The protocol of a path: something with a value, or at least an increment, at every time of an interval."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar


class AbstractPath[Control](eqx.Module):
    """A function of time on an interval, with values in a pytree of arrays.

    Subclass it for a driver of your own: give `t0`, `t1` and `evaluate`, and `derivative` if not that of `evaluate`.

    Attributes
    ----------
    t0, t1
        Ends of the interval: fields or properties.

    See Also
    --------
    LinearInterpolation, CubicInterpolation, VirtualBrownianTree : paths through data, and a random one.

    Examples
    --------
    A force that swings, and the equation that it drives:

    >>> import jax.numpy as jnp
    >>> import rungax
    >>> class Swing(rungax.AbstractPath):
    ...     t0: float = 0.0
    ...     t1: float = 10.0
    ...
    ...     def evaluate(self, t0, t1=None, left=True):
    ...         return jnp.sin(t0) if t1 is None else jnp.sin(t1) - jnp.sin(t0)
    >>> term = rungax.ControlTerm(lambda t, y, args: 2.0, Swing())
    >>> y1 = rungax.diffeqsolve(term, rungax.Euler(), 0.0, 1.0, 0.1, 0.0).ys[-1]
    >>> print(f"{y1 - 2 * jnp.sin(1.0):.4f}")
    0.0000
    """

    t0: eqx.AbstractVar[RealScalar]
    t1: eqx.AbstractVar[RealScalar]

    @abc.abstractmethod
    def evaluate(self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True) -> PyTree[Any]:
        """The value at `t0`, or with `t1` the increment from `t0` to `t1`.

        Parameters
        ----------
        t0, t1
            Times, real scalars; use `jax.vmap` for many.
        left
            At a jump, whether to take the limit from the left.

        Returns
        -------
        PyTree
            Of arrays, the same structure, shapes and dtypes at all times.
        """

    def initial_carry(self) -> PyTree[Any] | None:
        """What a solve carries from step to step so that `move` is cheaper than `evaluate`; by default nothing."""

    def move(self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar) -> tuple[PyTree[Any], PyTree[Any]]:
        """All that this path tells of the interval from `t0` to `t1`, and the carry at `t1`.

        Asked only of paths with something to carry, step after step in the direction of travel, which may be
        backwards. It must be what `evaluate` says, up to rounding.
        """
        raise NotImplementedError(f"A `{type(self).__name__}` carries nothing, so nothing moves it.")

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative with respect to time; by default that of `evaluate`.

        Parameters
        ----------
        t
            A time, a real scalar.
        left
            At a jump or a kink, whether to take the limit from the left.

        Returns
        -------
        PyTree
            Like the values of the path.

        Raises
        ------
        NotImplementedError
            If the path has none, as a Brownian one.
        """
        t = jnp.asarray(float(t) if isinstance(t, int) else t)
        return jax.jvp(lambda t: self.evaluate(t, left=left), (t,), (jnp.ones_like(t),))[1]
