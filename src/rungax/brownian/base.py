"""The protocol of Brownian paths, and the conversion of their flat values to the pytrees that users see."""

import abc
from math import sqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from ..jaxkit import FlatSpace, RealScalar, as_array, kind_of, known_zero, shown, zero_tangent
from ..paths import AbstractPath
from .bridges import AbstractBridge, Values, bridge_of
from .increments import AbstractBrownianIncrement, AbstractSpaceTimeTimeLevyArea


class AbstractBrownianPath[Control](AbstractPath[Control]):
    """A path of Brownian motion: a random driver whose values are pytrees of arrays.

    To define your own, subclass it and implement `t0`, `t1`, `levy_area` and `evaluate`. The latter must be a
    function of the times alone: called again with the same times, it must return the same increment.

    Attributes
    ----------
    t0, t1
        Ends of the interval on which the path is defined.
    levy_area
        The class of the increments that `evaluate(..., use_levy=True)` returns. Solvers check that it has what they
        need.

    See Also
    --------
    VirtualBrownianTree, UnsafeBrownianPath : the paths that Rungax has.
    """

    levy_area: eqx.AbstractVar[type[AbstractBrownianIncrement]]

    @property
    def increments_add_up(self) -> bool:
        """True if the increments over two adjacent intervals add up to the increment over both."""
        return True

    @property
    def resolution(self) -> float | None:
        """The smallest distance of times at which increments have the right law; `None` if unknown or zero."""
        return None

    @abc.abstractmethod
    def evaluate(
        self, t0: RealScalar, t1: RealScalar | None = None, left: bool = True, use_levy: bool = False
    ) -> PyTree[Any] | AbstractBrownianIncrement:
        """The increment from `t0` to `t1`, or from the beginning of the path to `t0` if `t1` is not given.

        Parameters
        ----------
        t0, t1
            Times, scalars. The path cannot be differentiated with respect to them.
        left
            Ignored: Brownian motion is continuous.
        use_levy
            Whether to return an instance of `levy_area` instead of `W` alone.

        Returns
        -------
        PyTree or AbstractBrownianIncrement
            `W`, a pytree of arrays; or an instance of `levy_area`.
        """

    def derivative(self, t: RealScalar, left: bool = True) -> PyTree[Any]:
        """Raise a `NotImplementedError`: a Brownian path has no derivative."""
        del t, left
        raise NotImplementedError(f"A `{type(self).__name__}` has no derivative with respect to time.")


class Layout(eqx.Module):
    """The layout of the flat `values` that bridges work on, and their conversion to the increments that users see.

    All leaves lie side by side in one vector, real before imaginary parts, so that one draw fills a whole pytree.
    """

    space: FlatSpace
    levy_area: type[AbstractBrownianIncrement] = eqx.field(static=True)
    bridge: AbstractBridge

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of `values`: the widest of all leaves, at least float32."""
        with jax.numpy_dtype_promotion("standard"):
            return jnp.promote_types(self.space.dtype, jnp.float32)

    @property
    def size(self) -> int:
        """The number of entries of `values`."""
        return len(self.bridge.deviations) * self.space.size

    def rows(self, vector: jax.Array) -> Values:
        """`vector`, split into the rows of `values` or of their noise."""
        return tuple(jnp.split(vector, len(self.bridge.deviations)))

    def increment(self, values: Values, dt: jax.Array) -> AbstractBrownianIncrement:
        """The instance of `levy_area` with these values over an interval of length `dt`."""
        trees = [self._tree(row) for row in values]
        lengths = jax.tree.map(lambda x: dt.astype(jnp.finfo(x.dtype).dtype), trees[0])
        return self.levy_area(lengths, *trees)

    def _tree(self, row: jax.Array) -> PyTree[Any]:
        """The pytree of `W`, `H` or `K`; real and imaginary parts have half the variance each."""
        return jax.tree.map(lambda x: sqrt(0.5) * x if jnp.iscomplexobj(x) else x, self.space.unravel(row))


def layout_of(shape: Any, levy_area: type[AbstractBrownianIncrement]) -> Layout:
    """The layout for a user's `shape`: a tuple of integers, or a pytree of `jax.ShapeDtypeStruct`."""
    bridge = bridge_of(levy_area)
    if _is_shape(shape):
        shape = jax.ShapeDtypeStruct(shape, jnp.result_type(float))
    for path, leaf in jax.tree.leaves_with_path(shape):
        _check_leaf(leaf, f"shape{jax.tree_util.keystr(path)}")
    return Layout(space=FlatSpace(shape), levy_area=levy_area, bridge=bridge)


def shape_of(layout: Layout) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes and dtypes of the leaves of `W`."""
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in layout.space.leaves]
    return jax.tree.unflatten(layout.space.structure, leaves)


def check_no_complex_K(layout: Layout) -> None:
    """Raise a `ValueError` if `K` is asked for with complex leaves, which a tree does not offer."""
    kinds = {dtype for _, dtype in layout.space.leaves if jnp.issubdtype(dtype, jnp.complexfloating)}
    if kinds and issubclass(layout.levy_area, AbstractSpaceTimeTimeLevyArea):
        raise ValueError(
            f"`levy_area={layout.levy_area.__name__}` needs real leaves in `shape`; found {kinds.pop()}.\n"
            "Use `SpaceTimeLevyArea`, or two real leaves of half the variance each."
        )


def typed_key(key: Any) -> jax.Array:
    """`key` as one typed key; JAX's older keys, of two integers, are accepted."""
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            wrapped = jnp.asarray(key)
        elif key.dtype == jnp.uint32 and key.ndim > 0:
            wrapped = jr.wrap_key_data(jnp.asarray(key))
        else:
            raise ValueError(f"`key` must be a random key, as from `jax.random.key(0)`; found an array of {key.dtype}.")
        if wrapped.ndim == 0:
            return wrapped
        raise ValueError(f"`key` must be one key; found an array of keys of shape {wrapped.shape}. Use `jax.vmap`.")
    raise ValueError(f"`key` must be a random key, as from `jax.random.key(0)`; found {kind_of(key)}.")


def query_time(t: Any, name: str) -> jax.Array:
    """The time `t` of a query as the widest float, with an error if it is differentiated."""
    t = as_array(t, f"`{name}`", "a scalar")
    if t.ndim != 0:
        raise ValueError(f"`{name}` must be a scalar; found shape {t.shape}. Use `jax.vmap`.")
    return _constant_time(jnp.asarray(t).astype(jnp.result_type(float)))


@jax.custom_jvp
def _constant_time(t: jax.Array) -> jax.Array:
    return t


def _refuse_derivative(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    # A Brownian path has no derivative anywhere, and a derivative of zero would be wrong for functions of increments.
    if not known_zero(tangents[0]):
        raise RuntimeError("A Brownian path cannot be differentiated with respect to the times of its values.")
    return _constant_time(primals[0]), zero_tangent(primals[0])


_constant_time.defjvp(_refuse_derivative, symbolic_zeros=True)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(n, int) for n in shape)


def _check_leaf(leaf: Any, name: str) -> None:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        raise ValueError(
            "`shape` must be a tuple of integers or a pytree of `jax.ShapeDtypeStruct`;"
            f" found `{name}` = {shown(leaf)}."
        )
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        raise ValueError(f"`{name}` must have a real or complex floating-point dtype; found {leaf.dtype}.")
