"""Coefficients of stochastic Runge–Kutta methods for Itô equations, in Rößler's notation.

Row `i` of a matrix makes the argument of stage `i`. Matrices named `A` weigh the drift, those named `B` the diffusion;
those numbered 0 make arguments of the drift, those numbered 1 and 2 arguments of the diffusion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Rows = Sequence[Sequence[float]]
type Row = Sequence[float]


@dataclass(frozen=True, eq=False, init=False)
class ItoTableau:
    """The coefficients of one method. Compared and hashed by identity, so a tableau can be a static argument.

    Parameters
    ----------
    reference
        Where they come from.
    A0, B0
        The arguments of the drift, strictly lower triangular.
    A1, B1
        The arguments of the diffusion, strictly lower triangular.
    alpha
        Weights of the drift.
    beta
        Weights of the diffusion, one row for each of four random variables.
    B2
        For weak methods, the second arguments of the diffusion, into which the stages of the other sources go.
    """

    reference: str
    A0: Floats
    B0: Floats
    A1: Floats
    B1: Floats
    alpha: Floats
    beta: Floats
    B2: Floats | None

    def __init__(
        self, *, reference: str, A0: Rows, B0: Rows, A1: Rows, B1: Rows, alpha: Row, beta: Rows, B2: Rows | None = None
    ):
        # A frozen dataclass can be written to only this way.
        for name, value in (("A0", A0), ("B0", B0), ("A1", A1), ("B1", B1), ("alpha", alpha), ("beta", beta)):
            object.__setattr__(self, name, np.asarray(value, np.float64))
        object.__setattr__(self, "B2", None if B2 is None else np.asarray(B2, np.float64))
        object.__setattr__(self, "reference", reference)

    @property
    def num_stages(self) -> int:
        """How many stages drift and diffusion have each."""
        return self.alpha.size

    @property
    def c0(self) -> Floats:
        """Nodes of the drift, which make the methods right for equations that depend on time."""
        return self.A0.sum(axis=1)

    @property
    def c1(self) -> Floats:
        """Nodes of the diffusion."""
        return self.A1.sum(axis=1)
