"""Type aliases that are used throughout the library."""

from typing import Any

from jaxtyping import Array, Bool, Float, Int, PyTree

type Y = PyTree[Any]
"""A state: any pytree of inexact arrays."""

type Args = PyTree[Any]
"""The `args` of `diffeqsolve`, which are passed on to the vector field."""

type DenseInfo = dict[str, PyTree[Any]]
"""The data of a step that an interpolation needs in addition to the times of its ends."""

type RealScalar = float | Float[Array, ""]
type IntScalar = int | Int[Array, ""]
type BoolScalar = bool | Bool[Array, ""]
type Time = Float[Array, ""]
