"""A saved function whose value is a constant made `SaveAt(fn=...)` fail: the constant came without a shape."""

import jax.numpy as jnp

from rungax import SaveAt, Tsit5, diffeqsolve


def test_a_saved_function_may_return_a_constant() -> None:
    saveat = SaveAt(t1=True, fn=lambda t, y, args: {"three": jnp.asarray(3), "half": jnp.asarray(0.5)})
    solution = diffeqsolve(lambda t, y, args: -y, Tsit5(), 0.0, 1.0, 0.25, jnp.ones(2), saveat=saveat)
    assert int(solution.ys["three"][0]) == 3
    assert float(solution.ys["half"][0]) == 0.5
