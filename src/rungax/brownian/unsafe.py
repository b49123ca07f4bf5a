"""A Brownian path without memory: every interval asked gets its own draw."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar, compiled
from .base import AbstractBrownianPath, Layout, layout_of, query_time, shape_of, typed_key
from .increments import AbstractBrownianIncrement, BrownianIncrement
from .normals import vector_of_times


class UnsafeBrownianPath(AbstractBrownianPath):
    """A Brownian path whose increments are drawn for the interval asked, independently of all others.

    That is right for fixed steps that each ask for their own interval, once, and cheapest there. It is wrong
    where intervals overlap, for increments over them do not add up: not with steps that may be rejected, nor
    with solvers that look at parts of their step.

    The draw is a function of the key and the two times, so the same interval gives the same increment again.

    Parameters
    ----------
    shape
        A tuple of integers, or a pytree of `jax.ShapeDtypeStruct` of real or complex floating-point dtypes.
    key
        The random key.
    levy_area
        `BrownianIncrement`, `SpaceTimeLevyArea` or `SpaceTimeTimeLevyArea`: what the path can be asked for; by default
        the least.

    Attributes
    ----------
    t0, t1
        Minus and plus infinity.

    Raises
    ------
    ValueError
        If a shape, the key or `levy_area` is not as said above.

    Differentiability
    -----------------
    With respect to the times asked: none, a `RuntimeError`.

    Cost
    ----
    One draw.

    Examples
    --------
    >>> import jax
    >>> import rungax
    >>> path = rungax.UnsafeBrownianPath((), jax.random.key(0))
    >>> bool(path.evaluate(0.0, 0.1) == path.evaluate(0.0, 0.1))
    True
    >>> bool(path.evaluate(0.0, 0.1) + path.evaluate(0.1, 0.2) == path.evaluate(0.0, 0.2))
    False
    """

    t0: RealScalar
    t1: RealScalar
    key: jax.Array
    levy_area: type[AbstractBrownianIncrement] = eqx.field(static=True)
    layout: Layout

    def __init__(
        self,
        shape: tuple[int, ...] | PyTree[jax.ShapeDtypeStruct],
        key: jax.Array,
        levy_area: type[AbstractBrownianIncrement] = BrownianIncrement,
    ):
        self.layout = layout_of(shape, levy_area)
        self.t0, self.t1 = -float("inf"), float("inf")
        self.key, self.levy_area = typed_key(key), levy_area

    @property
    def shape(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of the path's values."""
        return shape_of(self.layout)

    @property
    def remembers(self) -> bool:
        """No."""
        return False

    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """A draw for the interval from `t0` to `t1`, with `t0` alone from 0 to `t0`; NaN if it ends before it begins.

        Parameters
        ----------
        t0, t1
            Times, scalars.
        left
            Ignored.
        use_levy
            Whether to return all of `levy_area` instead of `W` alone.

        Returns
        -------
        PyTree or AbstractBrownianIncrement
            `W`, a pytree of arrays of `shape`; or all of `levy_area`.
        """
        del left
        increment = _drawn(self, 0.0, t0) if t1 is None else _drawn(self, t0, t1)
        return increment if use_levy else increment.W


@compiled
def _drawn(path: UnsafeBrownianPath, t0: RealScalar, t1: RealScalar) -> AbstractBrownianIncrement:
    start, end = query_time(t0, "t0"), query_time(t1, "t1")
    dt, layout = end - start, path.layout
    noise = layout.rows(vector_of_times(path.key, (start, end), layout.size, layout.dtype))
    return layout.increment(layout.bridge.fresh(noise, jnp.sqrt(dt).astype(layout.dtype)), dt)
