"""Warnings about tolerances that the state cannot resolve."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..controllers import AbstractStepSizeController
from ..jaxkit import Y, warn_user


def warn_of_fine_tolerances(controller: AbstractStepSizeController[Any, Any], y0: Y) -> None:
    """Warn if a relative tolerance that is known is smaller than the rounding of a leaf of the state."""
    # By way of the class, because Equinox makes an object of every bound method, which every call would wait for.
    tolerances = type(controller).tolerances(controller)
    if tolerances is None or type(tolerances.rtol) is not float:
        return
    for leaf in jax.tree.leaves(y0):
        dtype, eps = _rounding(getattr(leaf, "dtype", type(leaf)), jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
        if 0 < tolerances.rtol < eps:
            warn_user(
                f"`rtol={tolerances.rtol}` is smaller than the rounding of the state, which is {eps:.1e} in {dtype}.\n"
                f"Give an `rtol` of at least {100 * eps:.0e}{'' if dtype == 'float64' else _OR_WIDER}."
            )
            return


_OR_WIDER = ', or use float64: `jax.config.update("jax_enable_x64", True)`, and `y0` in float64'


@cache
def _rounding(dtype: Any, x64: bool) -> tuple[str, float]:
    """The dtype that a leaf of the state has in a solve, and its rounding; cached, because every call asks."""
    del x64  # a key of the cache
    # What is no number is refused later.
    is_inexact = dtype in (float, complex) or jnp.issubdtype(dtype, jnp.inexact)
    found = jnp.result_type(np.zeros((), dtype if is_inexact else float))
    return str(found), float(jnp.finfo(found).eps)
