"""The arguments of `diffeqsolve`, as one record."""

from typing import Any, NamedTuple

from jaxtyping import PyTree

from .adjoints import AbstractAdjoint
from .controllers import AbstractStepSizeController
from .events import Event
from .jaxkit import Args, RealScalar, Y
from .progress import AbstractProgressMeter
from .saving import SaveAt
from .setup import Resumed
from .solvers import AbstractSolver


class Call(NamedTuple):
    """The arguments of `diffeqsolve`."""

    terms: PyTree[Any]
    solver: AbstractSolver[Any]
    t0: RealScalar
    t1: RealScalar
    dt0: RealScalar | None
    y0: Y
    args: Args
    saveat: SaveAt
    controller: AbstractStepSizeController[Any]
    adjoint: AbstractAdjoint
    event: Event | None
    max_steps: int | None
    progress_meter: AbstractProgressMeter[Any]
    resumed: Resumed
