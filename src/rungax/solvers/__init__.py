"""How one step is made."""

from .base import AbstractAdaptiveSolver as AbstractAdaptiveSolver, AbstractSolver as AbstractSolver
from .euler import Euler as Euler
from .explicit import (
    RK4 as RK4,
    Bosh3 as Bosh3,
    Dopri5 as Dopri5,
    Dopri8 as Dopri8,
    Heun as Heun,
    Midpoint as Midpoint,
    Ralston as Ralston,
    Tsit5 as Tsit5,
    Vern6 as Vern6,
    Vern7 as Vern7,
    Vern8 as Vern8,
    Vern9 as Vern9,
)
from .explicit_rk import AbstractERK as AbstractERK
from .tableau import ButcherTableau as ButcherTableau, MultiButcherTableau as MultiButcherTableau
