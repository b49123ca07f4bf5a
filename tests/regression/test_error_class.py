"""A failed solve raised a plain `RuntimeError` where called eagerly, not Equinox's subclass of it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from rungax import Heun, diffeqsolve


@pytest.mark.parametrize("transform", [lambda f: f, jax.jacfwd], ids=["eager", "differentiated"])
def test_it_is_equinoxs(transform: Callable[[Any], Any]) -> None:
    solve = transform(lambda y0: diffeqsolve(lambda t, y, args: -y, Heun(), 0.0, 1.0, 0.1, y0, max_steps=2).ys)
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of solver steps"):
        solve(jnp.asarray(1.0))
