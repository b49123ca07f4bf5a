"""Every solver and every controller, once; what to expect of a solver comes from the facts it states."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rungax

SOLVERS: tuple[rungax.AbstractSolver[Any], ...] = (
    rungax.Euler(),
    rungax.Heun(),
    rungax.Midpoint(),
    rungax.Ralston(),
    rungax.RK4(),
    rungax.Bosh3(),
    rungax.Tsit5(),
    rungax.Dopri5(),
    rungax.Dopri8(),
    rungax.Vern6(),
    rungax.Vern7(),
    rungax.Vern8(),
    rungax.Vern9(),
)

ANY_ODE = rungax.ODETerm(lambda t, y, args: y)
"""Terms to ask a solver for its orders with."""


def name(solver: object) -> str:
    return type(solver).__name__


def order(solver: rungax.AbstractSolver[Any]) -> int:
    stated = solver.order(ANY_ODE)
    assert stated is not None, f"{name(solver)} states no order"
    return stated


def estimates_error(solver: rungax.AbstractSolver[Any]) -> bool:
    return isinstance(solver, rungax.AbstractERK) and solver.tableau.b_error is not None


def error_order(solver: rungax.AbstractSolver[Any]) -> float:
    """The order of the local error estimate in the step size."""
    stated = solver.error_order(ANY_ODE)
    assert stated is not None, f"{name(solver)} states no order of its error estimate"
    return float(stated)


def dense_order(solver: rungax.AbstractSolver[Any]) -> int:
    """The order q of the dense output, whose local error is of order q + 1."""
    if isinstance(solver, rungax.AbstractERK) and solver.extension is not None:
        return solver.extension.order
    assert solver.interpolation_cls is rungax.LocalLinearInterpolation, f"{name(solver)} states no dense order"
    return 1


def rounding(solver: rungax.AbstractSolver[Any]) -> float:
    """A bound on the relative rounding error of a step, which large coefficients of both signs enlarge."""
    if not isinstance(solver, rungax.AbstractERK):
        return float(np.finfo(float).eps)
    tableau = solver.tableau
    rows = np.array([np.abs(row).sum() for row in ([0.0], *tableau.a_lower)])
    return float(np.finfo(float).eps) * (1 + np.abs(tableau.b_sol) @ (1 + rows))


KINDS = ("Euler", "RK4", "Bosh3", "Dopri8")
"""One solver of each kind: its own class, no estimate, first same as last, further stages for dense output."""

ONE_OF_A_KIND = [
    pytest.param(solver, id=name(solver), marks=() if name(solver) in KINDS else pytest.mark.slow) for solver in SOLVERS
]
"""Every solver, those that only repeat a kind marked as slow."""

ADAPTIVE = tuple(filter(estimates_error, SOLVERS))
"""The solvers that step size control works with."""

type Choice = tuple[rungax.AbstractStepSizeController[Any], Any]
"""A controller, and the `dt0` to go with it."""


def constant(t0: Any, t1: Any) -> Choice:
    """Sixteen steps."""
    return rungax.ConstantStepSize(), (t1 - t0) / 16


def step_to(t0: Any, t1: Any) -> Choice:
    """Sixteen steps, each a little longer than the one before."""
    fractions = (np.linspace(0.5, 1.5, 17) ** 2 - 0.25) / 2
    return rungax.StepTo(t0 + (t1 - t0) * jnp.asarray(fractions, jnp.result_type(t0, t1))), None


def pid(t0: Any, t1: Any) -> Choice:
    return rungax.PIDController(rtol=1e-6, atol=1e-8), (t1 - t0) / 16


def pid_from_none(t0: Any, t1: Any) -> Choice:
    """The first step by Hairer's algorithm."""
    return rungax.PIDController(rtol=1e-6, atol=1e-8, pcoeff=0.2, icoeff=0.4), None


def pid_clipped(t0: Any, t1: Any) -> Choice:
    """A time to step to, and one to start anew from."""
    controller, dt0 = pid(t0, t1)
    meet, jump = (t0 + (t1 - t0) * jnp.asarray([part], jnp.result_type(t0, t1)) for part in (0.4, 0.6))
    return rungax.ClipStepSizeController(controller, step_ts=meet, jump_ts=jump), dt0


CONTROLLERS: dict[str, Callable[[Any, Any], Choice]] = {
    "constant": constant,
    "StepTo": step_to,
    "PID": pid,
    "PID, dt0=None": pid_from_none,
    "PID, clipped": pid_clipped,
}
