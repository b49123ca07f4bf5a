"""Equations inside a step: stages, Newton's iteration, small linear systems."""

from .banded import BandedLinearOperator as BandedLinearOperator
from .banded_lu import BandedLU as BandedLU
from .block_tridiagonal import BlockTridiagonal as BlockTridiagonal
from .consistency import (
    consistent as consistent,
    is_consistent as is_consistent,
    worst_equations as worst_equations,
)
from .constraint_field import consistent_slope as consistent_slope, differential_slope as differential_slope
from .index import index_is_one as index_is_one
from .jacobian import AbstractJacobian as AbstractJacobian, Vector as Vector
from .krylov import BlockDiagonal as BlockDiagonal, Krylov as Krylov
from .linear import (
    AbstractField as AbstractField,
    AbstractLinearAlgebra as AbstractLinearAlgebra,
    LinearAlgebra as LinearAlgebra,
    LinearSolver as LinearSolver,
    LinearSystem as LinearSystem,
    check_linear_solver as check_linear_solver,
    declared_band as declared_band,
    for_other_systems as for_other_systems,
    for_problem as for_problem,
    improvement as improvement,
    linear_algebra as linear_algebra,
    needs_matrix as needs_matrix,
    pattern_of_vectors as pattern_of_vectors,
    solve as solve,
    structure_of as structure_of,
)
from .lu import SmallLU as SmallLU
from .mass import (
    mass_operator as mass_operator,
    structure_of_mass as structure_of_mass,
    with_structure_of_mass as with_structure_of_mass,
)
from .newton import FullNewtonStages as FullNewtonStages, NewtonStages as NewtonStages, ReuseRules as ReuseRules
from .null_spaces import (
    AbstractNullSpaces as AbstractNullSpaces,
    is_regular as is_regular,
    null_spaces as null_spaces,
)
from .root_finders import (
    AbstractStageFinder as AbstractStageFinder,
    VeryChord as VeryChord,
    check_max_iterations as check_max_iterations,
    check_root_finder as check_root_finder,
    missing_tolerances as missing_tolerances,
    resolved as resolved,
    stage_solver as stage_solver,
    with_stepsize_controller_tols as with_stepsize_controller_tols,
)
from .sparse import SparseLinearOperator as SparseLinearOperator
from .sparse_jacobian import SparseJacobian as SparseJacobian, disagree as disagree
from .sparse_lu import SparseLU as SparseLU, is_sparse_lu_available as is_sparse_lu_available
from .stage import (
    AbstractStageSolver as AbstractStageSolver,
    Stage as Stage,
    StageSolution as StageSolution,
    StepStart as StepStart,
    solve_stage as solve_stage,
)
from .tags import Banded as Banded, holomorphic_tag as holomorphic_tag
from .tolerances import (
    ErrorWeights as ErrorWeights,
    Tolerances as Tolerances,
    default_tolerances as default_tolerances,
    like_state as like_state,
)
