"""Solvers make single steps.

Each family has a folder with `step.py`, the formulas of a step, and `methods.py`, the methods. Their coefficients are
in `tableaus`.
"""

from .base import (
    AbstractAdaptiveSolver as AbstractAdaptiveSolver,
    AbstractImplicitSolver as AbstractImplicitSolver,
    AbstractItoSolver as AbstractItoSolver,
    AbstractSolver as AbstractSolver,
    AbstractStratonovichSolver as AbstractStratonovichSolver,
)
from .multistep.bdf import BDF as BDF
from .rosenbrock.methods import ROS3P as ROS3P, Rodas4 as Rodas4, Rodas5P as Rodas5P, Rosenbrock23 as Rosenbrock23
from .rosenbrock.step import AbstractRosenbrock as AbstractRosenbrock
from .runge_kutta.base import AbstractRungeKutta as AbstractRungeKutta, CalculateJacobian as CalculateJacobian
from .runge_kutta.diagonally_implicit.methods import (
    TRBDF2 as TRBDF2,
    ImplicitEuler as ImplicitEuler,
    Kvaerno3 as Kvaerno3,
    Kvaerno4 as Kvaerno4,
    Kvaerno5 as Kvaerno5,
)
from .runge_kutta.diagonally_implicit.step import (
    AbstractDIRK as AbstractDIRK,
    AbstractESDIRK as AbstractESDIRK,
    AbstractSDIRK as AbstractSDIRK,
)
from .runge_kutta.explicit.euler import Euler as Euler
from .runge_kutta.explicit.methods import (
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
from .runge_kutta.explicit.step import AbstractERK as AbstractERK
from .runge_kutta.imex.methods import KenCarp3 as KenCarp3, KenCarp4 as KenCarp4, KenCarp5 as KenCarp5, Sil3 as Sil3
from .runge_kutta.imex.step import AbstractIMEXRK as AbstractIMEXRK
from .stochastic.euler_heun import EulerHeun as EulerHeun
from .stochastic.langevin.methods import ALIGN as ALIGN, QUICSORT as QUICSORT, ShOULD as ShOULD
from .stochastic.langevin.step import AbstractFosterLangevinSRK as AbstractFosterLangevinSRK
from .stochastic.milstein.methods import ItoMilstein as ItoMilstein, StratonovichMilstein as StratonovichMilstein
from .stochastic.reversible_heun import ReversibleHeun as ReversibleHeun
from .stochastic.sri.methods import SRIW1 as SRIW1
from .stochastic.srk.methods import (
    SEA as SEA,
    SRA1 as SRA1,
    GeneralShARK as GeneralShARK,
    ShARK as ShARK,
    SlowRK as SlowRK,
    SPaRK as SPaRK,
)
from .stochastic.srk.step import AbstractSRK as AbstractSRK
from .stochastic.weak.methods import DRI1 as DRI1
from .symplectic.composition import AbstractSymmetricComposition as AbstractSymmetricComposition
from .symplectic.leapfrog_midpoint import LeapfrogMidpoint as LeapfrogMidpoint
from .symplectic.methods import (
    KahanLi8 as KahanLi8,
    SemiImplicitEuler as SemiImplicitEuler,
    VelocityVerlet as VelocityVerlet,
    Yoshida4 as Yoshida4,
)
from .tableaus.types.butcher import ButcherTableau as ButcherTableau, MultiButcherTableau as MultiButcherTableau
from .tableaus.types.rosenbrock import RosenbrockTableau as RosenbrockTableau
from .tableaus.types.stochastic import (
    AdditiveCoeffs as AdditiveCoeffs,
    GeneralCoeffs as GeneralCoeffs,
    StochasticButcherTableau as StochasticButcherTableau,
)
from .wrappers.auto import Auto as Auto
from .wrappers.base import AbstractWrappedSolver as AbstractWrappedSolver
from .wrappers.half import HalfSolver as HalfSolver
