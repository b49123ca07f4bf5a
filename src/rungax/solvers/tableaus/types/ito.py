"""Coefficients of stochastic Runge–Kutta methods for Itô equations, in Rößler's notation.

Row `i` of a matrix holds the weights in the argument of stage `i`. Matrices named `A` have weights of the drift, those
named `B` weights of the diffusion. Matrices numbered 0 are for arguments of the drift, those numbered 1 and 2 for
arguments of the diffusion.
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
    """The coefficients of a method.

    Tableaus are compared and hashed by identity, so that one can be a static argument.

    Parameters
    ----------
    reference
        The source.
    A0, B0
        Weights in the arguments of the drift, strictly lower triangular.
    A1, B1
        Weights in the arguments of the diffusion, strictly lower triangular.
    alpha
        Weights of the drift.
    beta
        Weights of the diffusion, one row for each of four random variables.
    B2
        For weak methods, weights of the other sources' stages in the second arguments of the diffusion.
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
        # The only way to set a field of a frozen dataclass.
        for name, value in (("A0", A0), ("B0", B0), ("A1", A1), ("B1", B1), ("alpha", alpha), ("beta", beta)):
            object.__setattr__(self, name, np.asarray(value, np.float64))
        object.__setattr__(self, "B2", None if B2 is None else np.asarray(B2, np.float64))
        object.__setattr__(self, "reference", reference)

    @property
    def num_stages(self) -> int:
        """Number of stages of the drift, and of the diffusion."""
        return self.alpha.size

    @property
    def c0(self) -> Floats:
        """Nodes of the drift, for equations that depend on time."""
        return self.A0.sum(axis=1)

    @property
    def c1(self) -> Floats:
        """Nodes of the diffusion."""
        return self.A1.sum(axis=1)
