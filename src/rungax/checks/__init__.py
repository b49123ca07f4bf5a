"""Validation of a call."""

from .foreign import explaining_arguments as explaining_arguments
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
