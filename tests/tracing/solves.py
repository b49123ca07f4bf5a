"""A small solve whose field counts its traces, and the ways of solving that the tests of tracing vary."""

from typing import Any

import numpy as np

import rungax

from ..fakes import CountedTraces
from ..problems.fields import damped_pendulum

Y0 = np.asarray([1.0, 0.5])
DAMPING = 0.1


def counted_pendulum() -> CountedTraces:
    """A new object, which no program has been compiled for."""
    return CountedTraces(damped_pendulum)


def adaptive(tolerance: float = 1e-6) -> dict[str, Any]:
    return {"stepsize_controller": rungax.PIDController(rtol=tolerance, atol=tolerance)}


def solve(field: Any, y0: Any = Y0, args: Any = DAMPING, t1: Any = 1.0, dt0: Any = 0.1, **options: Any) -> Any:
    """By Tsit5 from 0 to 1 with fixed steps of 0.1, unless given otherwise."""
    solver = options.pop("solver", rungax.Tsit5())
    return rungax.diffeqsolve(rungax.ODETerm(field), solver, 0.0, t1, dt0, y0, args, **options)
