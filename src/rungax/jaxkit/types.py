"""Names for the kinds of value that flow through the library."""

from typing import Any

from jaxtyping import Array, Bool, Float, Int, PyTree

type Y = PyTree[Any]
"""A state: any pytree of inexact arrays."""

type Args = PyTree[Any]
"""Whatever the user hands to the vector field."""

type DenseInfo = dict[str, PyTree[Any]]
"""What an interpolation needs to know of a step besides its ends."""

type RealScalar = float | Float[Array, ""]
type IntScalar = int | Int[Array, ""]
type BoolScalar = bool | Bool[Array, ""]
type Time = Float[Array, ""]
