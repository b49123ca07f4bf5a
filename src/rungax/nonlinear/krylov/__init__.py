"""GMRES for the linear systems of implicit steps, and its preconditioners."""

from .algebra import KrylovAlgebra as KrylovAlgebra
from .preconditioners import BlockDiagonal as BlockDiagonal
from .solver import Krylov as Krylov
