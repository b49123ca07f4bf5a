"""Values that raise an explanatory error when they are differentiated in reverse mode."""

from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def forward_only(x: jax.Array, message: str) -> jax.Array:
    """`x`, but differentiating it in reverse mode raises a `ValueError` with `message`."""
    return _forward_only.bind(x, message=message)


_forward_only = Primitive("forward_only")
_forward_only.def_impl(lambda x, message: x)
_forward_only.def_abstract_eval(lambda x, message: x)
mlir.register_lowering(_forward_only, lambda context, x, message: [x])


def _jvp(primals: tuple[Any], tangents: tuple[Any], *, message: str) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    return forward_only(x, message), t if type(t) is ad.Zero else forward_only(t, message)


def _transpose(cotangent: Any, x: Any, *, message: str) -> Any:
    raise ValueError(message)


def _batch(args: tuple[Any], dims: tuple[Any], *, message: str) -> tuple[Any, Any]:
    return forward_only(args[0], message), dims[0]


ad.primitive_jvps[_forward_only] = _jvp
ad.primitive_transposes[_forward_only] = _transpose
batching.primitive_batchers[_forward_only] = _batch
