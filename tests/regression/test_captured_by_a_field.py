"""In a step by hand, a field may capture what is differentiated by: implicit stages lost the captured value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

LOST = (
    "`solve_stage` is a custom derivative whose field still holds the captured tracer; `diffeqsolve` traces terms first"
)


@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
@pytest.mark.parametrize(
    "solver",
    [
        rungax.Tsit5(),
        rungax.Rodas5P(),
        pytest.param(rungax.Kvaerno5(), marks=pytest.mark.xfail(reason=LOST, strict=True)),
    ],
)
def test_a_captured_rate_has_its_derivative(solver: Any, mode: Any) -> None:
    def end(rate: Any) -> Any:
        term = rungax.ODETerm(lambda t, y, args: -rate * y)
        t0, t1, y0 = jnp.asarray(0.0), jnp.asarray(0.2), jnp.asarray(1.0)
        return solver.step(term, t0, t1, y0, None, solver.init(term, t0, t1, y0, None), False)[0]

    np.testing.assert_allclose(jax.jit(mode(end))(3.0), -0.2 * np.exp(-0.6), rtol=1e-3)
