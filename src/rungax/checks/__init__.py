"""Validation of a call."""

from .equation import check_terms as check_terms
from .foreign import explaining_arguments as explaining_arguments
from .mass import check_mass as check_mass
from .stages import (
    argument_types as argument_types,
    as_terms as as_terms,
    before_tracing as before_tracing,
    inside_trace as inside_trace,
    known_state as known_state,
    known_values as known_values,
    traced_conditions as traced_conditions,
    values_are_valid as values_are_valid,
    values_of_parts as values_of_parts,
)
