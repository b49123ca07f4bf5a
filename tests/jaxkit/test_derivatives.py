"""Values with other derivatives than their own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rungax.jaxkit import constant_where


def test_what_is_computed_for_nothing_has_no_derivative() -> None:
    """Zero times an infinite slope is NaN; where the input is constant it is zero, in every mode."""

    def masked(x: Any) -> Any:
        unused = x <= 0
        y = constant_where(unused, {"x": x, "count": 3, "key": None})["x"]
        return jnp.where(unused, 0.0, jnp.sqrt(y))

    for x, slope, curvature in ((4.0, 0.25, -1 / 32), (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0)):
        assert masked(x) == max(x, 0.0) ** 0.5
        np.testing.assert_allclose([jax.grad(masked)(x), jax.jacfwd(masked)(x)], slope)
        np.testing.assert_allclose(jax.jacfwd(jax.grad(masked))(x), curvature)
