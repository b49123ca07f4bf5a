"""The state of explicit Runge–Kutta methods from step to step, for one term and for several."""

from typing import Any, ClassVar

from jaxtyping import PyTree

from ....jaxkit import Args, RealScalar, Time, Y
from ..base import AbstractRungeKutta, CalculateJacobian

type ERKState = Any | None
"""The vector field at the start of the next step if the method's last stage is evaluated there, else `None`."""


class AbstractExplicitRK(AbstractRungeKutta[ERKState]):
    """An explicit Runge–Kutta method."""

    calculate_jacobian: ClassVar[CalculateJacobian] = CalculateJacobian.never

    def init(self, terms: PyTree[Any], t0: Time, t1: Time, y0: Y, args: Args) -> ERKState:
        """The vector field at the start for methods whose last stage is the next step's first, else no state."""
        del t1
        return terms.vf(t0, y0, args) if self.tableau.fsal else None

    def checkpoint_state(self, solver_state: ERKState) -> None:
        """No checkpoint: the first stage can be evaluated again."""
        del solver_state

    def restore(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args, checkpoint: None) -> ERKState:
        """The vector field at `t0`, `y0` for methods whose last stage is the next step's first, else no state."""
        del checkpoint
        return terms.vf(t0, y0, args) if self.tableau.fsal else None

    def func(self, terms: PyTree[Any], t0: RealScalar, y0: Y, args: Args) -> Any:
        """The vector field at `t0`, `y0`; of several terms, that of each."""
        return terms.vf(t0, y0, args)
