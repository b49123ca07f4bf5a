"""How one step is made."""

from .auto import Auto as Auto
from .base import (
    AbstractAdaptiveSolver as AbstractAdaptiveSolver,
    AbstractImplicitSolver as AbstractImplicitSolver,
    AbstractItoSolver as AbstractItoSolver,
    AbstractSolver as AbstractSolver,
    AbstractStratonovichSolver as AbstractStratonovichSolver,
)
from .composition import (
    AbstractSymmetricComposition as AbstractSymmetricComposition,
    KahanLi8 as KahanLi8,
    VelocityVerlet as VelocityVerlet,
    Yoshida4 as Yoshida4,
)
from .euler import Euler as Euler
from .euler_heun import EulerHeun as EulerHeun
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
from .half_solver import AbstractWrappedSolver as AbstractWrappedSolver, HalfSolver as HalfSolver
from .imex import KenCarp3 as KenCarp3, KenCarp4 as KenCarp4, KenCarp5 as KenCarp5, Sil3 as Sil3
from .implicit import (
    TRBDF2 as TRBDF2,
    ImplicitEuler as ImplicitEuler,
    Kvaerno3 as Kvaerno3,
    Kvaerno4 as Kvaerno4,
    Kvaerno5 as Kvaerno5,
)
from .implicit_rk import (
    AbstractDIRK as AbstractDIRK,
    AbstractESDIRK as AbstractESDIRK,
    AbstractIMEXRK as AbstractIMEXRK,
    AbstractSDIRK as AbstractSDIRK,
)
from .langevin import ALIGN as ALIGN, QUICSORT as QUICSORT, ShOULD as ShOULD
from .langevin_rk import AbstractFosterLangevinSRK as AbstractFosterLangevinSRK
from .leapfrog_midpoint import LeapfrogMidpoint as LeapfrogMidpoint
from .milstein import ItoMilstein as ItoMilstein, StratonovichMilstein as StratonovichMilstein
from .reversible_heun import ReversibleHeun as ReversibleHeun
from .rosenbrock import ROS3P as ROS3P, Rodas4 as Rodas4, Rodas5P as Rodas5P, Rosenbrock23 as Rosenbrock23
from .rosenbrock_step import AbstractRosenbrock as AbstractRosenbrock
from .rosenbrock_tableau import RosenbrockTableau as RosenbrockTableau
from .runge_kutta import AbstractRungeKutta as AbstractRungeKutta, CalculateJacobian as CalculateJacobian
from .sri import SRIW1 as SRIW1
from .stochastic import (
    SEA as SEA,
    SRA1 as SRA1,
    GeneralShARK as GeneralShARK,
    ShARK as ShARK,
    SlowRK as SlowRK,
    SPaRK as SPaRK,
)
from .stochastic_rk import AbstractSRK as AbstractSRK
from .stochastic_tableau import (
    AdditiveCoeffs as AdditiveCoeffs,
    GeneralCoeffs as GeneralCoeffs,
    StochasticButcherTableau as StochasticButcherTableau,
)
from .symplectic import SemiImplicitEuler as SemiImplicitEuler
from .tableau import ButcherTableau as ButcherTableau, MultiButcherTableau as MultiButcherTableau
from .weak import DRI1 as DRI1
