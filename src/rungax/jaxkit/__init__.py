"""What Rungax needs of JAX beyond its everyday interface; the only home of version-dependent or unusual JAX."""

from .clock import (
    grid_time as grid_time,
    is_stuck as is_stuck,
    land_on as land_on,
    number_of_steps as number_of_steps,
    resolution as resolution,
)
from .closed import ClosedFunction as ClosedFunction, close as close
from .compiled import compiled as compiled
from .flat import FlatSpace as FlatSpace
from .forward_only import forward_only as forward_only
from .lanes import (
    any_lane as any_lane,
    any_other_lane as any_other_lane,
    fence as fence,
    match_varying as match_varying,
)
from .sweep import (
    LinearPrograms as LinearPrograms,
    jvp_of_moving as jvp_of_moving,
    known_zero as known_zero,
    scaled_derivative as scaled_derivative,
    sweep as sweep,
    zero_tangent as zero_tangent,
)
from .trees import (
    accumulation as accumulation,
    all_finite as all_finite,
    cast_like as cast_like,
    combination as combination,
    is_traced as is_traced,
    scaled as scaled,
    select as select,
    strong as strong,
    time_dtype as time_dtype,
    without_derivatives as without_derivatives,
)
from .types import (
    Args as Args,
    BoolScalar as BoolScalar,
    DenseInfo as DenseInfo,
    IntScalar as IntScalar,
    RealScalar as RealScalar,
    Time as Time,
    Y as Y,
)
