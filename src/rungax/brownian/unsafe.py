"""A Brownian path whose increments are drawn independently for every interval."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..jaxkit import RealScalar, compiled, known
from .base import AbstractBrownianPath, Layout, layout_of, query_time, shape_of, typed_key
from .increments import AbstractBrownianIncrement, BrownianIncrement
from .normals import vector_of_times


class UnsafeBrownianPath(AbstractBrownianPath[Any]):
    """A Brownian path whose increments over different intervals are drawn independently, even if these overlap.

    This is right, and cheapest, for fixed steps if each step asks once for the increment over its own interval. It is
    wrong where intervals overlap, because the increments over them do not add up: do not use it with steps that may be
    rejected, or with solvers that ask for parts of a step.

    A draw is a function of the key and the two times, so the same interval always gives the same increment.

    Parameters
    ----------
    shape
        The shape of an increment: a tuple of integers, or a pytree of `jax.ShapeDtypeStruct` with real or complex
        floating-point dtypes.
    key
        The random key.
    levy_area
        The kind of increment that the path returns: `BrownianIncrement`, the cheapest, `SpaceTimeLevyArea` or
        `SpaceTimeTimeLevyArea`.

    Attributes
    ----------
    t0, t1
        Minus and plus infinity.

    Raises
    ------
    ValueError
        If `shape`, `key` or `levy_area` is not as described above.

    Differentiability
    -----------------
    Differentiating with respect to the times of a query raises a `RuntimeError`.

    Cost
    ----
    One draw for each call.

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
    def increments_add_up(self) -> bool:
        """False: increments over adjacent intervals are drawn independently of the increment over both."""
        return False

    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """The increment from `t0` to `t1`, or from 0 to `t0` if `t1` is not given; NaN if the end is before the start.

        Parameters
        ----------
        t0, t1
            Times, scalars.
        left
            Ignored.
        use_levy
            Whether to return an instance of `levy_area` instead of `W` alone.

        Returns
        -------
        PyTree or AbstractBrownianIncrement
            `W`, a pytree of arrays of `shape`; or an instance of `levy_area`.
        """
        del left
        increment = _draw(self, 0.0, t0) if t1 is None else _draw(self, t0, t1)
        return increment if known(use_levy, "`use_levy`") else increment.W


@compiled
def _draw(path: UnsafeBrownianPath, t0: RealScalar, t1: RealScalar) -> AbstractBrownianIncrement:
    start, end = query_time(t0, "t0"), query_time(t1, "t1")
    dt, layout = end - start, path.layout
    noise = layout.rows(vector_of_times(path.key, (start, end), layout.size, layout.dtype))
    return layout.increment(layout.bridge.unconditional(noise, jnp.sqrt(dt).astype(layout.dtype)), dt)
