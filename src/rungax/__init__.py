"""Solvers for ordinary, stochastic and controlled differential equations in JAX, for use with `jit`, `vmap` and `grad`.

The names below are the complete public interface, in the order in which a user meets them.
"""
# ruff: noqa: I001  (imports are in reading order, not sorted)

from .solve import diffeqsolve as diffeqsolve
from .solution import Solution as Solution
from .results import (
    RESULTS as RESULTS,
    is_okay as is_okay,
    is_successful as is_successful,
    is_event as is_event,
)
from .terms import (
    AbstractTerm as AbstractTerm,
    ODETerm as ODETerm,
    ControlTerm as ControlTerm,
    MultiTerm as MultiTerm,
    UnderdampedLangevinDriftTerm as UnderdampedLangevinDriftTerm,
    UnderdampedLangevinDiffusionTerm as UnderdampedLangevinDiffusionTerm,
)
from .paths import (
    AbstractPath as AbstractPath,
    AbstractGlobalInterpolation as AbstractGlobalInterpolation,
    LinearInterpolation as LinearInterpolation,
    CubicInterpolation as CubicInterpolation,
    linear_interpolation as linear_interpolation,
    rectilinear_interpolation as rectilinear_interpolation,
    backward_hermite_coefficients as backward_hermite_coefficients,
)
from .brownian import (
    AbstractBrownianPath as AbstractBrownianPath,
    VirtualBrownianTree as VirtualBrownianTree,
    UnsafeBrownianPath as UnsafeBrownianPath,
    AbstractBrownianIncrement as AbstractBrownianIncrement,
    BrownianIncrement as BrownianIncrement,
    AbstractSpaceTimeLevyArea as AbstractSpaceTimeLevyArea,
    SpaceTimeLevyArea as SpaceTimeLevyArea,
    AbstractSpaceTimeTimeLevyArea as AbstractSpaceTimeTimeLevyArea,
    SpaceTimeTimeLevyArea as SpaceTimeTimeLevyArea,
)
from .solvers import (
    AbstractSolver as AbstractSolver,
    AbstractAdaptiveSolver as AbstractAdaptiveSolver,
    AbstractImplicitSolver as AbstractImplicitSolver,
    AbstractItoSolver as AbstractItoSolver,
    AbstractStratonovichSolver as AbstractStratonovichSolver,
    AbstractRungeKutta as AbstractRungeKutta,
    AbstractERK as AbstractERK,
    AbstractDIRK as AbstractDIRK,
    AbstractSDIRK as AbstractSDIRK,
    AbstractESDIRK as AbstractESDIRK,
    AbstractIMEXRK as AbstractIMEXRK,
    AbstractRosenbrock as AbstractRosenbrock,
    CalculateJacobian as CalculateJacobian,
    ButcherTableau as ButcherTableau,
    MultiButcherTableau as MultiButcherTableau,
    RosenbrockTableau as RosenbrockTableau,
    Euler as Euler,
    Heun as Heun,
    Midpoint as Midpoint,
    Ralston as Ralston,
    RK4 as RK4,
    Bosh3 as Bosh3,
    Tsit5 as Tsit5,
    Dopri5 as Dopri5,
    Dopri8 as Dopri8,
    Vern6 as Vern6,
    Vern7 as Vern7,
    Vern8 as Vern8,
    Vern9 as Vern9,
    ImplicitEuler as ImplicitEuler,
    TRBDF2 as TRBDF2,
    Kvaerno3 as Kvaerno3,
    Kvaerno4 as Kvaerno4,
    Kvaerno5 as Kvaerno5,
    KenCarp3 as KenCarp3,
    KenCarp4 as KenCarp4,
    KenCarp5 as KenCarp5,
    Sil3 as Sil3,
    Rosenbrock23 as Rosenbrock23,
    ROS3P as ROS3P,
    Rodas4 as Rodas4,
    Rodas5P as Rodas5P,
    Auto as Auto,
    AbstractWrappedSolver as AbstractWrappedSolver,
    HalfSolver as HalfSolver,
    EulerHeun as EulerHeun,
    ReversibleHeun as ReversibleHeun,
    LeapfrogMidpoint as LeapfrogMidpoint,
    AbstractSymmetricComposition as AbstractSymmetricComposition,
    SemiImplicitEuler as SemiImplicitEuler,
    VelocityVerlet as VelocityVerlet,
    Yoshida4 as Yoshida4,
    KahanLi8 as KahanLi8,
    ItoMilstein as ItoMilstein,
    StratonovichMilstein as StratonovichMilstein,
    SRIW1 as SRIW1,
    DRI1 as DRI1,
    AbstractSRK as AbstractSRK,
    StochasticButcherTableau as StochasticButcherTableau,
    AdditiveCoeffs as AdditiveCoeffs,
    GeneralCoeffs as GeneralCoeffs,
    SEA as SEA,
    SRA1 as SRA1,
    ShARK as ShARK,
    SPaRK as SPaRK,
    GeneralShARK as GeneralShARK,
    SlowRK as SlowRK,
    AbstractFosterLangevinSRK as AbstractFosterLangevinSRK,
    ALIGN as ALIGN,
    ShOULD as ShOULD,
    QUICSORT as QUICSORT,
)
from .nonlinear import (
    VeryChord as VeryChord,
    with_stepsize_controller_tols as with_stepsize_controller_tols,
    SmallLU as SmallLU,
    BandedLU as BandedLU,
    BandedLinearOperator as BandedLinearOperator,
    Banded as Banded,
    holomorphic_tag as holomorphic_tag,
)
from .controllers import (
    AbstractStepSizeController as AbstractStepSizeController,
    AbstractAdaptiveStepSizeController as AbstractAdaptiveStepSizeController,
    ConstantStepSize as ConstantStepSize,
    StepTo as StepTo,
    PIDController as PIDController,
    ClipStepSizeController as ClipStepSizeController,
)
from .saving import (
    SaveAt as SaveAt,
    SubSaveAt as SubSaveAt,
    save_y as save_y,
    SolverInternals as SolverInternals,
)
from .events import Event as Event, steady_state_event as steady_state_event
from .adjoints import (
    AbstractAdjoint as AbstractAdjoint,
    RecursiveCheckpointAdjoint as RecursiveCheckpointAdjoint,
    DirectAdjoint as DirectAdjoint,
    ForwardMode as ForwardMode,
    BacksolveAdjoint as BacksolveAdjoint,
    adjoint_rms_seminorm as adjoint_rms_seminorm,
    ImplicitAdjoint as ImplicitAdjoint,
    ReversibleAdjoint as ReversibleAdjoint,
)
from .interpolation import (
    AbstractLocalInterpolation as AbstractLocalInterpolation,
    LocalLinearInterpolation as LocalLinearInterpolation,
    ThirdOrderHermitePolynomialInterpolation as ThirdOrderHermitePolynomialInterpolation,
    FourthOrderPolynomialInterpolation as FourthOrderPolynomialInterpolation,
    DenseInterpolation as DenseInterpolation,
)
from .citation import citation as citation, citation_rules as citation_rules
from .progress import (
    AbstractProgressMeter as AbstractProgressMeter,
    NoProgressMeter as NoProgressMeter,
    TextProgressMeter as TextProgressMeter,
    TqdmProgressMeter as TqdmProgressMeter,
)

__version__ = "0.1.0"
