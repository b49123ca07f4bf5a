"""The protocol of paths, which have a value at every time of an interval, or an increment between any two."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar, call_user


class AbstractPath[Control](eqx.Module):
    """A function of time on an interval, with values in a pytree of arrays.

    To define your own, subclass it and implement `t0`, `t1` and `evaluate`. By default `derivative` differentiates
    `evaluate`; override it where that is not right.

    Attributes
    ----------
    t0, t1
        Ends of the interval: fields or properties.

    See Also
    --------
    LinearInterpolation, CubicInterpolation : paths through data.
    VirtualBrownianTree : a random path.

    Examples
    --------
    An oscillating force, and the equation that it drives:

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
        """The value at `t0`, or the increment from `t0` to `t1` if `t1` is given.

        Parameters
        ----------
        t0, t1
            Times, real scalars; use `jax.vmap` for many.
        left
            At a jump, whether to take the limit from the left or the one from the right.

        Returns
        -------
        PyTree
            A pytree of arrays, with the same structure, shapes and dtypes at all times.
        """

    def initial_carry(self) -> PyTree[Any] | None:
        """The carry of a solve before its first step, for paths with `increment_and_carry`; `None` for others."""

    def increment_and_carry(
        self, carry: PyTree[Any], t0: RealScalar, t1: RealScalar
    ) -> tuple[PyTree[Any], PyTree[Any]]:
        """The increment from `t0` to `t1`, Lévy areas included, and the carry at `t1`.

        Override it together with `initial_carry` where increments are cheaper to compute step after step. It is called
        in the direction of travel, which may be backwards in time. Its increment must equal that of `evaluate` up to
        rounding.
        """
        raise NotImplementedError(f"A `{type(self).__name__}` carries nothing from step to step; use `evaluate`.")

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """The derivative with respect to time; by default the derivative of `evaluate`.

        Parameters
        ----------
        t
            A time, a real scalar.
        left
            At a jump or a kink, whether to take the limit from the left or the one from the right.

        Returns
        -------
        PyTree
            A pytree like the values of the path.

        Raises
        ------
        NotImplementedError
            If the path has no derivative, like a Brownian path.
        """
        t = jnp.asarray(float(t) if isinstance(t, int) else t)
        value = lambda t: call_user("a path", self.evaluate, t, left=left)
        return jax.jvp(value, (t,), (jnp.ones_like(t),))[1]
