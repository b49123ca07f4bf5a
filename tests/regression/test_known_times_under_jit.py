"""Known times of a controller that a compiled function closes over are checked there, by value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rungax

PID = rungax.PIDController(rtol=1e-6, atol=1e-6)


def end(controller: rungax.AbstractStepSizeController[Any, Any], dt0: float | None = None) -> jax.Array:
    field = lambda t, y, args: jnp.where(t < 0.5, 1.0, 0.0)
    return rungax.diffeqsolve(field, rungax.Heun(), 0.0, 1.0, dt0, 0.0, stepsize_controller=controller).ys[-1]


@pytest.mark.parametrize("name", ["step_ts", "jump_ts"])
def test_times_of_a_clipped_controller(name: str) -> None:
    controller = rungax.ClipStepSizeController(PID, **{name: jnp.asarray([0.5])})
    np.testing.assert_allclose(jax.jit(lambda: end(controller))(), 0.5, rtol=1e-6)


def test_wrong_times_raise_there_too() -> None:
    controller = rungax.StepTo(jnp.asarray([0.0, 0.7]))
    with pytest.raises(RuntimeError, match="must lead from `t0` to `t1`"):
        jax.jit(lambda: end(controller))()
