"""A Python integer in the state was refused, though it says nothing of a dtype: it is taken as a float."""

from typing import Any

import jax
import numpy as np
import pytest

from rungax import Tsit5, diffeqsolve


@pytest.mark.parametrize("state", [2, {"a": 1, "b": 1.0}], ids=str)
@pytest.mark.parametrize("time", ["float32", "float64"])
def test_a_python_integer_counts_as_a_float(state: Any, time: str) -> None:
    field = lambda t, y, args: jax.tree.map(lambda x: -x, y)
    ys = diffeqsolve(field, Tsit5(), np.asarray(0.0, time), np.asarray(1.0, time), 0.1, state).ys

    def check(y: Any, y0: float) -> None:
        assert y.dtype == time
        np.testing.assert_allclose(y[0], np.exp(-1) * y0, rtol=1e-5)

    jax.tree.map(check, ys, state)
