"""The arguments of `diffeqsolve`, as one record."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .adjoints import AbstractAdjoint
from .controllers import AbstractStepSizeController
from .events import Event
from .jaxkit import Args, BoolScalar, RealScalar, Time, Y, time_dtype
from .progress import AbstractProgressMeter
from .saving import SaveAt
from .saving.saveat import subs_of
from .setup import Resumed
from .solvers import AbstractSolver


class Call(NamedTuple):
    """The arguments of `diffeqsolve`, and whether the values with which they were made are valid."""

    terms: PyTree[Any]
    solver: AbstractSolver[Any]
    t0: RealScalar
    t1: RealScalar
    dt0: RealScalar | None
    y0: Y
    args: Args
    saveat: SaveAt
    controller: AbstractStepSizeController[Any, Any]
    adjoint: AbstractAdjoint
    event: Event | None
    max_steps: int | None
    progress_meter: AbstractProgressMeter[Any]
    resumed: Resumed
    parts_are_valid: bool | BoolScalar = True

    @classmethod
    def of(
        cls,
        *,
        t0: RealScalar,
        t1: RealScalar,
        dt0: RealScalar | None,
        stepsize_controller: AbstractStepSizeController[Any, Any],
        solver_state: PyTree[Any],
        controller_state: PyTree[Any],
        made_jump: BoolScalar | None,
        **others: Any,
    ) -> Self:
        """The record of arguments by the names that `diffeqsolve` gives them; times that are integers become floats."""
        t0, t1 = (float(t) if type(t) is int else t for t in (t0, t1))
        dt0 = float(dt0) if type(dt0) is int else dt0
        resumed = Resumed(solver_state, controller_state, made_jump)
        return cls(t0=t0, t1=t1, dt0=dt0, controller=stepsize_controller, resumed=resumed, **others)

    def time_dtype(self) -> np.dtype[Any]:
        """The dtype of time in the solve."""
        given = [self.t0, self.t1, self.dt0, *(sub.ts for sub in subs_of(self.saveat))]
        return time_dtype(*(t for t in given if t is not None))

    def times(self) -> tuple[Time, Time, Time | None]:
        """`t0`, `t1` and `dt0` as arrays of the dtype of time in the solve."""
        dtype = self.time_dtype()
        t0, t1 = jnp.asarray(self.t0, dtype), jnp.asarray(self.t1, dtype)
        return t0, t1, None if self.dt0 is None else jnp.asarray(self.dt0, dtype)
