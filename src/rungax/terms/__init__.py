"""Terms: the parts of an equation, each a vector field and its driver."""

from .base import (
    AbstractTerm as AbstractTerm,
    Consistency as Consistency,
    MassKind as MassKind,
    Noise as Noise,
    Terms as Terms,
    brownian_paths as brownian_paths,
    has_mass as has_mass,
    is_stochastic as is_stochastic,
    is_term as is_term,
    leaf_terms as leaf_terms,
    stops_of as stops_of,
)
from .bounded import evaluated_up_to as evaluated_up_to
from .control import ControlTerm as ControlTerm
from .directed import (
    DirectedTerm as DirectedTerm,
    bind_increments as bind_increments,
    in_direction_of_travel as in_direction_of_travel,
    start_drivers as start_drivers,
    with_structure as with_structure,
)
from .jacobian_sparsity import jacobian_sparsity as jacobian_sparsity
from .langevin import (
    UnderdampedLangevinDiffusionTerm as UnderdampedLangevinDiffusionTerm,
    UnderdampedLangevinDriftTerm as UnderdampedLangevinDriftTerm,
)
from .multi import MultiTerm as MultiTerm
from .ode import ODETerm as ODETerm
from .structure import (
    contr_options as contr_options,
    describe as describe,
    fits as fits,
    mismatches as mismatches,
    required_parts as required_parts,
)
from .untraced import UntracedTerm as UntracedTerm
from .wrapped import AbstractWrappedTerm as AbstractWrappedTerm
