"""A failed solve raised a plain `RuntimeError` where called eagerly, and Equinox's subclass of it only under `jit`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import pytest

from rungax import Heun, diffeqsolve


@pytest.mark.parametrize("wrap", [lambda f: f, eqx.filter_jit], ids=["eager", "filter_jit"])
def test_it_is_equinoxs(wrap: Callable[[Any], Any]) -> None:
    solve = wrap(lambda y0: diffeqsolve(lambda t, y, args: -y, Heun(), 0.0, 1.0, 0.1, y0, max_steps=2).ys)
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of solver steps"):
        solve(jnp.asarray(1.0))
