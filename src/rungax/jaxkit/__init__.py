"""Extensions of JAX that the library needs; all private or version-dependent JAX is used here and nowhere else."""

from .batching import (
    any_element as any_element,
    any_other_element as any_other_element,
    match_varying as match_varying,
    optimization_barrier as optimization_barrier,
    update_if as update_if,
)
from .captured import Captured as Captured
from .clock import (
    clip_next_end as clip_next_end,
    clip_to_end as clip_to_end,
    grid_time as grid_time,
    is_at_most as is_at_most,
    is_in_grid_step as is_in_grid_step,
    is_stuck as is_stuck,
    just_after as just_after,
    just_before as just_before,
    number_of_steps as number_of_steps,
    resolution as resolution,
)
from .compiled import compiled as compiled
from .conditions import (
    AbstractChecked as AbstractChecked,
    Condition as Condition,
    all_hold as all_hold,
    checked_objects as checked_objects,
    operand as operand,
    require as require,
    violation as violation,
)
from .dependence import dependence as dependence
from .derivatives import (
    constant_where as constant_where,
    nan_derivative_where as nan_derivative_where,
    with_derivatives_of as with_derivatives_of,
)
from .errors import InvalidValueError as InvalidValueError, raise_where as raise_where
from .flat import FlatSpace as FlatSpace
from .forward_only import forward_only as forward_only
from .messages import (
    as_array as as_array,
    check_parameters as check_parameters,
    is_finite as is_finite,
    kind_of as kind_of,
    known as known,
    layout as layout,
    not_finite as not_finite,
    shape_and_dtype as shape_and_dtype,
    shown as shown,
    warn_deprecated as warn_deprecated,
    warn_user as warn_user,
)
from .staging import (
    is_debugging as is_debugging,
    is_staging as is_staging,
    is_transforming as is_transforming,
)
from .structures import check_structure as check_structure, in_words as in_words
from .sweep import (
    LinearPrograms as LinearPrograms,
    Program as Program,
    jvp_skipping_zeros as jvp_skipping_zeros,
    known_zero as known_zero,
    scaled_derivative as scaled_derivative,
    scaled_tangent as scaled_tangent,
    sweep as sweep,
    zero_tangent as zero_tangent,
)
from .traced_function import (
    TracedFunction as TracedFunction,
    standing_for as standing_for,
    trace_once as trace_once,
    without_captures as without_captures,
)
from .trees import (
    accumulation as accumulation,
    add as add,
    all_finite as all_finite,
    as_times as as_times,
    broadcast_to_tree as broadcast_to_tree,
    cast_like as cast_like,
    combination as combination,
    complex_dtype as complex_dtype,
    finite_or_one as finite_or_one,
    inexact_dtype as inexact_dtype,
    is_traced as is_traced,
    scaled as scaled,
    select as select,
    single_power as single_power,
    strong as strong,
    time_dtype as time_dtype,
    with_fields as with_fields,
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
from .user_functions import call_user as call_user
from .wrapper import in_wrapper as in_wrapper
